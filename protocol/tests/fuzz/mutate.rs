//! Frames altered field by field, whatever they say: protobuf as a tree, without its names.

/// Choices, out of the input; zeros where it has ended.
pub(crate) struct Draw<'a>(&'a [u8]);

impl<'a> Draw<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Draw(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// A number below `below`.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        let byte = u64::from(self.byte());
        let drawn = if below > 256 { byte << 8 | u64::from(self.byte()) } else { byte };
        drawn % below.max(1)
    }
}

/// A field's value.
#[derive(Clone)]
enum Value {
    Number(u64),
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
    Message(Vec<(u64, Value)>),
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for index in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(7 * index)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn read(mut bytes: &[u8], depth: u32) -> Option<Vec<(u64, Value)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = read_varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Value::Number(read_varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(read_varint(&mut bytes)?).ok()?;
                let (inner, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                // Text and keys may look like a message, too; it does no harm.
                match read(inner, depth + 1).filter(|fields| depth < 4 && !fields.is_empty()) {
                    Some(fields) => Value::Message(fields),
                    None => Value::Bytes(inner.to_vec()),
                }
            }
            kind @ (1 | 5) => {
                let (inner, rest) = bytes.split_at_checked(if kind == 1 { 8 } else { 4 })?;
                bytes = rest;
                Value::Fixed(inner.to_vec())
            }
            _ => return None,
        };
        fields.push((tag >> 3, value));
    }
    Some(fields)
}

fn write(fields: &[(u64, Value)], out: &mut Vec<u8>) {
    use stallmesh_protocol::codec::put_varint;
    for (number, value) in fields {
        match value {
            Value::Number(value) => {
                put_varint(out, number << 3);
                put_varint(out, *value);
            }
            Value::Fixed(bytes) => {
                put_varint(out, number << 3 | if bytes.len() == 8 { 1 } else { 5 });
                out.extend_from_slice(bytes);
            }
            Value::Bytes(bytes) => {
                put_varint(out, number << 3 | 2);
                put_varint(out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Value::Message(fields) => {
                let mut inner = Vec::new();
                write(fields, &mut inner);
                put_varint(out, number << 3 | 2);
                put_varint(out, inner.len() as u64);
                out.extend_from_slice(&inner);
            }
        }
    }
}

/// A frame with one to three of its fields altered.
pub(crate) fn mutated(frame: &[u8], draw: &mut Draw<'_>) -> Vec<u8> {
    let Some(mut fields) = read(frame, 0) else { return frame.to_vec() };
    for _ in 0..=draw.below(3) {
        alter(&mut fields, draw);
    }
    let mut out = Vec::new();
    write(&fields, &mut out);
    out
}

fn alter(fields: &mut Vec<(u64, Value)>, draw: &mut Draw<'_>) {
    if fields.is_empty() {
        fields.push((1 + draw.below(24), Value::Number(draw.below(300))));
        return;
    }
    let which = draw.below(fields.len() as u64) as usize;
    match draw.below(12) {
        0 => drop(fields.remove(which)),
        1 => {
            let again = fields[which].clone();
            fields.insert(which, again);
        }
        2 => fields[which].0 = 1 + draw.below(24),
        _ => match &mut fields[which].1 {
            Value::Message(inner) => alter(inner, draw),
            Value::Number(number) => *number = altered(*number, draw),
            Value::Fixed(bytes) => bytes[0] ^= draw.byte(),
            Value::Bytes(bytes) => match draw.below(4) {
                0 => bytes.truncate(draw.below(40) as usize),
                1 => bytes.extend_from_slice(&[draw.byte(); 40][..draw.below(40) as usize]),
                // Another device's key, or one that is nobody's.
                2 => bytes.fill(draw.below(6) as u8),
                _ => {
                    let at = draw.below(bytes.len() as u64) as usize;
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= draw.byte();
                    }
                }
            },
        },
    }
}

fn altered(number: u64, draw: &mut Draw<'_>) -> u64 {
    match draw.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => u64::MAX - draw.below(300),
        3 => u64::from(u32::MAX),
        4 => number.wrapping_add(1),
        5 => number.wrapping_sub(1),
        _ => draw.below(600),
    }
}

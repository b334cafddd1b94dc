use std::io::{self, Read, Seek, SeekFrom};

use super::super::*;

const HEAD: &str = "Handle,Title,Type,Variant SKU,Variant Price,Variant Barcode\n";

/// A file that is made while it is read: what is held of it is nobody's but the reader's.
struct Made<F> {
    rows: u64,
    row: F,
    next: u64,
    waiting: Vec<u8>,
    taken: usize,
}

impl<F: FnMut(u64) -> Vec<u8>> Made<F> {
    fn new(rows: u64, row: F) -> Self {
        Made { rows, row, next: 0, waiting: Vec::new(), taken: 0 }
    }
}

impl<F: FnMut(u64) -> Vec<u8>> Read for Made<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.waiting.len() {
            self.taken = 0;
            self.waiting = match self.next {
                0 => HEAD.into(),
                row if row <= self.rows => (self.row)(row),
                _ => return Ok(0),
            };
            self.next += 1;
        }
        let count = buffer.len().min(self.waiting.len() - self.taken);
        buffer[..count].copy_from_slice(&self.waiting[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

impl<F> Seek for Made<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        assert_eq!(to, SeekFrom::Start(0));
        (self.next, self.taken) = (0, 0);
        self.waiting.clear();
        Ok(0)
    }
}

fn rules() -> Rules {
    Rules { exponent: 2, tax: None, location: None }
}

fn good(row: u64) -> Vec<u8> {
    format!("h{row},Product {row},Type,S{row},1.50,\n").into_bytes()
}

#[test]
fn adv_151_a_large_file_is_handed_on_in_small_batches() {
    let checked = products(Made::new(20_000, good), &rules()).unwrap();
    assert_eq!(checked.summary().products, 20_000);
    let mut count = 0;
    for batch in checked {
        let batch = batch.unwrap();
        assert!(batch.len() <= 256, "{}", batch.len());
        assert_eq!(batch[0].sku, format!("S{}", count + 1));
        count += batch.len();
    }
    assert_eq!(count, 20_000);
}

#[test]
fn adv_151_an_error_in_the_last_row_leaves_nothing_behind() {
    let rows = Made::new(20_000, |row| if row == 20_000 { b"h,P,T,S,free,\n".to_vec() } else { good(row) });
    let Err(ImportError::Rows(errors)) = products(rows, &rules()) else { panic!("it was taken") };
    assert_eq!((errors.len(), errors[0].line), (1, 20_001));
    let twice = Made::new(20_000, |row| if row == 20_000 { good(1) } else { good(row) });
    let Err(ImportError::Rows(errors)) = products(twice, &rules()) else { panic!("it was taken") };
    assert!(
        errors[0].to_string().contains("line 20001") && errors[0].to_string().contains("line 2 already"),
        "{}",
        errors[0]
    );
}

#[test]
fn adv_151_more_rows_than_a_file_may_have_are_refused_where_they_begin() {
    // Pictures only: nothing is kept of them, and they count.
    let rows = Made::new(10_000_000, |_| b"h,,,,,\n".repeat(1_000));
    let Err(ImportError::TooLarge { line, .. }) = products(rows, &rules()) else { panic!("it was taken") };
    assert_eq!(line, ROWS_MAX + 2);
}

#[test]
fn adv_151_one_endless_line_is_refused_before_it_is_read() {
    for part in [&b"x"[..], b",", b"\n", b"\"\"", b"\r\n"] {
        let mut made = 0_usize;
        let rows = Made::new(100_000, |row| {
            let start: &[u8] = if row == 1 { b"h,\"" } else { b"" };
            // 100 MB in all, were it read.
            let bytes = [start, &part.repeat(1_000 / part.len())].concat();
            made += bytes.len();
            bytes
        });
        let Err(ImportError::TooLarge { line, .. }) = products(rows, &rules()) else { panic!("{part:?} was taken") };
        assert_eq!(line, 2, "{part:?}");
        assert!(made < 2_000_000, "{made} bytes of {part:?} were read");
    }
    // A field below a record's limit, and above its own.
    let rows = Made::new(1, |_| [b"h,", &b"x".repeat(300_000)[..], b",T,S,1,\n"].concat());
    assert!(matches!(products(rows, &rules()), Err(ImportError::TooLarge { line: 2, .. })));
}

#[test]
fn adv_151_encodings_and_workbooks_are_named() {
    let problem = |bytes: &[u8]| products(Cursor::new(bytes), &rules()).unwrap_err().to_string();
    let wide: Vec<u8> = HEAD.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(problem(&[&[0xff, 0xfe], &wide[..]].concat()).contains("UTF-16"));
    assert!(problem(&wide).contains("UTF-16"));
    assert!(problem(b"PK\x03\x04rest").contains("workbook"));
    assert!(problem(b"").contains("empty"));
    let latin = [HEAD.as_bytes(), b"a,Tea,T,S,1,\nb,Caf\xe9,T,S2,1,\n"].concat();
    let error = problem(&latin);
    assert!(error.contains("line 3") && error.contains("UTF-8"), "{error}");
}

#[test]
fn adv_151_a_mark_before_the_header_and_mixed_line_ends_change_nothing() {
    let file =
        "\u{feff}Handle,Title,Variant SKU,Variant Price\r\na,A,S1,1\nb,\"B\nb\",S2,2\r\n\r\nc,C,S3,3\rd,D,S4,free\r\n";
    let Err(ImportError::Rows(errors)) = products(Cursor::new(file), &rules()) else { panic!("it was taken") };
    // A record with a line break inside is one row; an empty line is none.
    assert_eq!((errors[0].row, errors.len()), (5, 1));
    assert!(errors[0].to_string().starts_with("row 5 (line "), "{}", errors[0]);
    let imported = products(Cursor::new(file.replace("free", "4")), &rules()).unwrap().all().unwrap();
    let names: Vec<&str> = imported.products.iter().map(|product| product.name.as_str()).collect();
    assert_eq!(names, ["A", "Bb", "C", "D"]);
}

#[test]
fn adv_151_a_file_that_was_cut_inside_a_text_is_noticed() {
    let file = format!("{HEAD}a,A,T,S1,1,\nb,\"B,T,S2,2,\nc,C,T,S3,3,\nd,D");
    let error = products(Cursor::new(file), &rules()).unwrap_err().to_string();
    assert!(error.contains("line 3") && error.contains("not closed"), "{error}");
    // An inch is no quotation mark.
    let inch = format!("{HEAD}a,Nail 5\" long,T,S1,1,\n");
    assert_eq!(products(Cursor::new(inch), &rules()).unwrap().all().unwrap().products[0].name, "Nail 5\" long");
}

#[test]
fn adv_151_a_column_that_is_there_twice_is_refused_if_it_is_read() {
    let error = products(Cursor::new("Handle,Title,Variant Price,VARIANT PRICE\na,A,1,2\n"), &rules()).unwrap_err();
    assert!(matches!(&error, ImportError::ColumnTwice(name) if name == "Variant Price"), "{error}");
    assert!(products(Cursor::new("Handle,Title,Variant Price,X,X\na,A,1,2,3\n"), &rules()).is_ok());
}

#[test]
fn adv_151_a_file_that_changes_meanwhile_hands_nothing_on_that_was_not_checked() {
    let changed = std::rc::Rc::new(std::cell::Cell::new(false));
    let seen = changed.clone();
    let rows = Made::new(1_000, move |row| {
        let price = if seen.get() && row == 600 { "9.99" } else { "1.50" };
        format!("h{row},Product {row},Type,S{row},{price},\n").into_bytes()
    });
    let mut checked = products(rows, &rules()).unwrap();
    changed.set(true);
    let mut handed_on = Vec::new();
    let error = loop {
        match checked.next().unwrap() {
            Ok(batch) => handed_on.extend(batch),
            Err(error) => break error,
        }
    };
    assert!(handed_on.iter().all(|product| product.price == 150));
    assert!(matches!(error, ImportError::Changed { handed_on: 512 }), "{error}");
    assert!(checked.next().is_none(), "after an error there is nothing more");
}

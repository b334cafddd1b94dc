//! What a node says while it runs: on standard error, without card numbers. What a library repeats of a request at its most
//! talkative isn't ours to choose; what is written down is.

use std::io::Write;

use tracing_subscriber::EnvFilter;

use crate::card_data;

/// Begins to write: what the environment asks for, else what the caller does.
pub(super) fn start(default: &str) {
    let filter = EnvFilter::try_from_env("STALLMESH_LOG_FILTER").unwrap_or_else(|_| default.into());
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Masked::default).try_init();
}

/// One event's line. It is written as a whole when it is dropped: a number may come in pieces.
#[derive(Debug, Default)]
struct Masked(Vec<u8>);

impl Write for Masked {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        // Nobody is left to be told that nothing can be written.
        let _ = std::io::stderr().lock().write_all(masked(&self.0).as_bytes());
    }
}

fn masked(line: &[u8]) -> String {
    card_data::mask(&String::from_utf8_lossy(line)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn a_line_keeps_all_but_a_cards_number() {
        let line = "2026-11-28T21:00:07.123456Z DEBUG links: link up peer=aa11bb22 address=/ip4/10.78.0.2/udp/7801\n";
        assert_eq!(masked(line.as_bytes()), line);
        assert_eq!(masked(b"rejected: q=4111 1111 1111 1111\n"), "rejected: q=**** **** **** 1111\n");
    }
}

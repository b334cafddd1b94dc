//! What a target is tried with: its folder, and what lies near the examples in it.

use std::path::PathBuf;

/// Defines targets: name, how often under `cargo test`, the longest input, and what must hold of it.
macro_rules! targets {
    ($($name:ident($iterations:expr, $longest:expr) $check:expr;)*) => {$(
        #[test]
        fn $name() {
            let check: fn(&[u8]) = $check;
            let examples = crate::examples::Examples::of(stringify!($name));
            let executions = std::sync::atomic::AtomicU64::new(0);
            bolero::check!(name = stringify!($name))
                .with_iterations($iterations)
                .with_max_len($longest)
                .for_each(|bytes: &[u8]| {
                    check(bytes);
                    let near = u64::from(examples.near(bytes, check));
                    executions.fetch_add(1 + near, std::sync::atomic::Ordering::Relaxed);
                });
            // A fuzzer ends the process by itself, and says it itself.
            println!("{}: {} executions", stringify!($name), executions.into_inner());
        }
    )*};
}

/// The folder of all targets of this crate.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/__fuzz__")
}

/// The examples of one target.
pub(crate) struct Examples(Vec<Vec<u8>>);

impl Examples {
    /// Those in its corpus; none where a fuzzer runs, which edits its corpus itself, and knows better where.
    pub(crate) fn of(target: &str) -> Self {
        if std::env::var_os("BOLERO_LIBFUZZER_ARGS").is_some() {
            return Examples(Vec::new());
        }
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder().join(target).join("corpus"))
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        files.sort();
        Examples(files.into_iter().filter_map(|file| std::fs::read(file).ok()).collect())
    }

    /// Edits one example as random bytes say, and tries the result.
    pub(crate) fn near(&self, plan: &[u8], check: fn(&[u8])) -> bool {
        let Some((head, edits)) = plan.split_first_chunk::<2>().filter(|_| !self.0.is_empty()) else { return false };
        let mut bytes = self.0[usize::from(u16::from_le_bytes(*head)) % self.0.len()].clone();
        for edit in edits.chunks_exact(4).take(6) {
            let at = usize::from(u16::from_le_bytes([edit[1], edit[2]]));
            let at = if bytes.is_empty() { 0 } else { at % bytes.len() };
            match edit[0] % 8 {
                _ if bytes.is_empty() => bytes.push(edit[3]),
                0 => bytes[at] ^= 1 << (edit[3] % 8),
                1 => bytes[at] = edit[3],
                2 => bytes.insert(at, edit[3]),
                3 => drop(bytes.remove(at)),
                4 => bytes.truncate(at),
                // A number that is claimed.
                5 => drop(bytes.splice(at..=at, [0xff; 9].into_iter().take(usize::from(edit[3] % 10)))),
                // A run, once more.
                6 => {
                    let run = bytes[at..].iter().copied().take(usize::from(edit[3])).collect::<Vec<u8>>();
                    drop(bytes.splice(at..at, run));
                }
                _ => {
                    let end = (at + usize::from(edit[3])).min(bytes.len());
                    drop(bytes.drain(at..end));
                }
            }
        }
        check(&bytes);
        true
    }
}

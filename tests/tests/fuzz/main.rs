//! Fuzzing of a whole node: what peers, people and files give it. See `protocol/tests/fuzz`, which says how it is run.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[macro_use]
#[path = "../../../protocol/tests/fuzz/examples.rs"]
mod examples;
#[path = "../../../protocol/tests/fuzz/mutate.rs"]
mod mutate;

mod api;
mod engine;
mod files;

/// All corpora of this folder together, in bytes.
const BYTES_MAX: u64 = 150_000;

#[test]
fn the_corpora_are_small_and_each_is_of_a_target_that_is_there() {
    let sources = [include_str!("api.rs"), include_str!("engine.rs"), include_str!("files.rs")];
    let mut bytes = 0;
    for target in std::fs::read_dir(examples::folder()).unwrap().map(|entry| entry.unwrap().path()) {
        let name = target.file_name().unwrap().to_string_lossy().into_owned();
        assert!(sources.iter().any(|source| source.contains(&format!("    {name}("))), "{name}: no such target");
        for folder in std::fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().path()) {
            let files = std::fs::read_dir(folder).unwrap();
            bytes += files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>();
        }
    }
    assert!(bytes <= BYTES_MAX, "{bytes} bytes of corpora");
}

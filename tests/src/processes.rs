//! What tests with real processes share.

use std::path::PathBuf;
use std::process::{Command, Output};

/// The `stallmesh` program beside this test.
///
/// # Panics
/// It was not built; `tests/run` builds it first.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let folder = test.parent().and_then(|deps| deps.parent()).map(PathBuf::from).unwrap_or_default();
    let program = folder.join("stallmesh");
    assert!(program.exists(), "{} is missing: run tests/run, or `cargo build --workspace` first", program.display());
    program
}

/// Runs the program to its end.
///
/// # Panics
/// It can't be started.
pub fn stallmesh(arguments: &[&str]) -> Output {
    match Command::new(program()).args(arguments).output() {
        Ok(output) => output,
        Err(error) => panic!("stallmesh {arguments:?}: {error}"),
    }
}

/// Whether a missing part of the machine is a failure.
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

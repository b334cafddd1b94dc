//! The till page's own tests and types, run by Node.js in the folder that the page was built in.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;
use std::process::Command;

/// Where the page was built; none where it was left out, which its build has said.
fn work() -> Option<&'static Path> {
    let work = option_env!("TILL_WORK").map(Path::new);
    if work.is_none() {
        assert!(std::env::var("CI").unwrap_or_default() != "true", "the till page was left out");
        eprintln!("the till page was left out: its own tests don't run");
    }
    work
}

fn run(script: &str, arguments: &[&str]) {
    let Some(work) = work() else { return };
    let output = Command::new("node").arg(work.join(script)).args(arguments).current_dir(work).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn amounts_notes_scans_and_the_outbox_are_as_their_tests_say() {
    run("node_modules/vitest/vitest.mjs", &["run"]);
}

#[test]
fn the_page_has_no_error_of_types() {
    run("node_modules/svelte-check/bin/svelte-check", &["--tsconfig", "tsconfig.json", "--fail-on-warnings"]);
}

/// The page's types are made from the interface's document: `STALLMESH_WRITE_DOCUMENTS=1 cargo test --workspace --test page`
/// writes them anew.
#[test]
fn the_pages_types_are_what_the_interfaces_document_says() {
    let Some(work) = work() else { return };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("node")
        .arg(work.join("node_modules/openapi-typescript/bin/cli.js"))
        .arg(here.join("../docs/openapi.json"))
        .current_dir(work)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = here.join("till/src/lib/api-types.ts");
    if std::env::var_os("STALLMESH_WRITE_DOCUMENTS").is_some() {
        std::fs::write(&file, &output.stdout).unwrap();
    }
    let kept = std::fs::read(&file).unwrap();
    assert!(kept == output.stdout, "{} is not what docs/openapi.json says: write it anew", file.display());
}

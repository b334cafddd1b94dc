//! The rules of the house that a machine can check: who may import what, and who knows which library.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                if name.ends_with("tests.rs") {
                    continue;
                }
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "{folder}");
    found
}

/// Code without comments and without tests.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]").next().unwrap_or_default();
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn manifest(folder: &str) -> toml::Table {
    std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap().parse().unwrap()
}

fn dependencies(folder: &str) -> Vec<String> {
    manifest(folder)
        .get("dependencies")
        .and_then(toml::Value::as_table)
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

#[test]
fn imports_run_one_way() {
    let ours = |folder: &str| -> Vec<String> {
        dependencies(folder).into_iter().filter(|name| name.starts_with("stallmesh-")).collect()
    };
    assert_eq!(ours("protocol"), Vec::<String>::new());
    assert_eq!(ours("hub-dashboard"), Vec::<String>::new());
    assert_eq!(ours("node"), ["stallmesh-protocol", "stallmesh-dashboard"].map(String::from).to_vec().tap_sorted());
}

trait TapSorted {
    fn tap_sorted(self) -> Self;
}

impl TapSorted for Vec<String> {
    fn tap_sorted(mut self) -> Self {
        self.sort();
        self
    }
}

#[test]
fn the_protocol_reads_no_clock_no_socket_no_file_and_no_generator() {
    for (name, text) in sources("protocol/src") {
        let code = code(&text);
        for forbidden in [
            "std::fs",
            "std::net",
            "std::thread",
            "std::env",
            "SystemTime",
            "Instant::now",
            "tokio",
            "async fn",
            "getrandom",
            "thread_rng",
            "OsRng",
            "println!",
        ] {
            assert!(!code.contains(forbidden), "{name} has {forbidden}");
        }
    }
    for dependency in dependencies("protocol") {
        assert!(
            !["tokio", "getrandom", "libp2p", "quinn", "redb", "axum"].contains(&dependency.as_str()),
            "{dependency}"
        );
    }
}

#[test]
fn each_library_is_known_to_one_module() {
    for (library, home) in [
        ("libp2p::", "node/src/mesh/"),
        ("redb::", "node/src/store/redb"),
        ("axum::", "node/src/api/"),
        ("hyper::", "node/src/card_reader/"),
        ("clap::", "node/src/cli/"),
        ("quinn::", "node/src/uplink/"),
        ("rustls::", "node/src/uplink/"),
    ] {
        for (name, text) in sources("node/src") {
            let derives = library == "clap::" && name.starts_with("node/src/demo/");
            if name.starts_with(home) || derives {
                continue;
            }
            let found = code(&text).lines().any(|line| {
                line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
                    .any(|word| word.starts_with(library))
            });
            assert!(!found, "{name} knows {library}");
        }
    }
}

#[test]
fn the_engine_and_all_rules_know_no_runtime_no_socket_and_no_clock() {
    for folder in ["node/src/engine", "node/src/hub", "node/src/fraud", "node/src/risk", "node/src/card_data"] {
        for (name, text) in sources(folder) {
            let code = code(&text);
            for forbidden in [
                "tokio",
                "async fn",
                "std::fs",
                "std::net",
                "std::thread",
                "SystemTime",
                "Instant::now",
                "getrandom",
                "println!",
            ] {
                assert!(!code.contains(forbidden), "{name} has {forbidden}");
            }
        }
    }
}

#[test]
fn nothing_below_the_command_line_prints() {
    for (name, text) in sources("node/src") {
        let speaks = name.starts_with("node/src/cli/") || name.starts_with("node/src/demo/");
        assert!(speaks || !code(&text).contains("println!"), "{name} prints");
    }
}

#[test]
fn there_is_no_unsafe_code_and_no_unfinished_code() {
    for folder in ["protocol/src", "node/src", "hub-dashboard/src", "tests/src"] {
        for (name, text) in sources(folder) {
            let code = code(&text);
            for forbidden in ["unsafe {", "unsafe fn", "todo!(", "unimplemented!("] {
                assert!(!code.contains(forbidden), "{name} has {forbidden}");
            }
        }
    }
}

#[test]
fn adv_106_dependencies_are_at_or_above_the_versions_that_advisories_ask_for() {
    let lock: toml::Table = std::fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let floors = [
        ("quinn-proto", [0, 11, 15]),
        ("libp2p-quic", [0, 13, 1]),
        ("hickory-proto", [0, 26, 1]),
        ("rustls-webpki", [0, 103, 13]),
        ("time", [0, 3, 47]),
        ("redb", [4, 6, 0]),
    ];
    for package in lock["package"].as_array().unwrap() {
        let (name, version) = (package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
        assert!(!["openssl", "openssl-sys", "async-std", "bincode"].contains(&name), "{name}");
        if let Some((_, floor)) = floors.iter().find(|(floor, _)| *floor == name) {
            let mut parts = [0_u64; 3];
            for (part, text) in parts.iter_mut().zip(version.split('.')) {
                *part = text.parse().unwrap();
            }
            assert!(parts >= *floor, "{name} {version}");
        }
    }
}

//! What is published of the interface: the OpenAPI document and the JSON Schemas. They are made from the code; the files in
//! `docs/` are what the code says, and what others' tools read.
//!
//! `STALLMESH_WRITE_DOCUMENTS=1 cargo test --workspace --test published` writes them anew.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod schemas;
mod shape;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// The file is what the code says.
fn check(path: &Path, text: &str) {
    if std::env::var_os("STALLMESH_WRITE_DOCUMENTS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    let line = kept.lines().zip(text.lines()).position(|(one, other)| one != other);
    assert!(
        kept == text,
        "{} is not what the code says (line {}). If the change is meant, write it anew: \
         STALLMESH_WRITE_DOCUMENTS=1 cargo test --workspace --test published",
        path.display(),
        line.unwrap_or_else(|| kept.lines().count().min(text.lines().count())) + 1,
    );
}

fn document() -> Value {
    serde_json::from_str(stallmesh_node::api::openapi::document()).unwrap()
}

#[test]
fn the_document_in_the_repository_is_what_the_code_says() {
    check(&docs().join("openapi.json"), stallmesh_node::api::openapi::document());
}

#[test]
fn the_schemas_in_the_repository_are_what_the_code_says() {
    let folder = docs().join("schemas");
    let mut known = BTreeSet::new();
    for (name, schema) in stallmesh_node::schemas::published() {
        let file = format!("{name}.json");
        check(&folder.join(&file), &format!("{}\n", serde_json::to_string_pretty(&schema).unwrap()));
        known.insert(file);
    }
    let kept = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(kept.collect::<BTreeSet<_>>(), known);
}

/// Places in a document that point to others.
fn references<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            into.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|value| references(value, into));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, into)),
        _ => {}
    }
}

#[test]
fn what_the_documents_point_to_is_there_and_what_is_there_is_pointed_to() {
    for (name, document, folder) in std::iter::once(("openapi", document(), "/components/schemas"))
        .chain(stallmesh_node::schemas::published().into_iter().map(|(name, schema)| (name, schema, "/$defs")))
    {
        let mut found = Vec::new();
        references(&document, &mut found);
        let pointed: BTreeSet<&str> = found.iter().map(|place| place.rsplit('/').next().unwrap()).collect();
        for place in &found {
            assert!(document.pointer(&place[1..]).is_some(), "{name}: nothing at {place}");
        }
        let defined = document.pointer(folder).and_then(Value::as_object);
        let defined: BTreeSet<&str> = defined.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        assert_eq!(defined, pointed, "{name}");
    }
}

//! JSON Schemas (2020-12) of the files that people write and of the quote's answer, made from the types that read them.
//!
//! A schema says shapes: which fields there are, and of which kind. What fields ask of each other (the kinds of an
//! effect, a name that must be in the catalog) the reader says, with the field that is to blame.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use crate::engine::PolicyView;
use crate::fraud::files::RulesFile;
use crate::quote::files::{Answer, BasketFile, CatalogFile, Conditions, PromotionFile};
use crate::risk::files::{PolicyFile, StallFile};

/// All of them, by the names of their files.
pub fn published() -> Vec<(&'static str, Value)> {
    vec![
        ("catalog", of::<CatalogFile>("catalog")),
        ("promotions", list_of::<PromotionFile>("promotions")),
        ("basket", of::<BasketFile>("basket")),
        ("conditions", of::<Conditions>("conditions")),
        ("answer", of::<Answer>("answer")),
        ("terms", of::<PolicyView>("terms")),
        ("fraud-rules", of::<RulesFile>("fraud-rules")),
        ("risk-policy", of::<PolicyFile>("risk-policy")),
        ("stall-limits", of::<StallFile>("stall-limits")),
    ]
}

fn of<T: ToSchema>(name: &str) -> Value {
    whole::<T>(name, json_of(&T::schema()))
}

fn list_of<T: ToSchema>(name: &str) -> Value {
    let mut items = defined::<T>();
    items.push((T::name().into_owned(), T::schema()));
    let list = json!({ "type": "array", "items": { "$ref": format!("#/$defs/{}", T::name()) } });
    with_definitions(name, list, items)
}

fn whole<T: ToSchema>(name: &str, root: Value) -> Value {
    with_definitions(name, root, defined::<T>())
}

fn defined<T: ToSchema>() -> Vec<(String, RefOr<Schema>)> {
    let mut schemas = Vec::new();
    T::schemas(&mut schemas);
    schemas
}

fn json_of(schema: &RefOr<Schema>) -> Value {
    // Nothing of it can't be written: its maps have texts for keys.
    serde_json::to_value(schema).unwrap_or_default()
}

fn with_definitions(name: &str, root: Value, mut schemas: Vec<(String, RefOr<Schema>)>) -> Value {
    schemas.sort_by(|one, other| one.0.cmp(&other.0));
    let mut document = Map::new();
    document.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    document.insert("title".into(), format!("stallmesh {name}").into());
    if let Value::Object(root) = root {
        document.extend(root);
    }
    let definitions: Map<String, Value> = schemas.into_iter().map(|(name, schema)| (name, json_of(&schema))).collect();
    if !definitions.is_empty() {
        document.insert("$defs".into(), Value::Object(definitions));
    }
    let mut document = Value::Object(document);
    point_to_definitions(&mut document);
    document
}

/// What an OpenAPI document keeps among its components stands in the schema itself.
fn point_to_definitions(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(place)) = members.get_mut("$ref")
                && let Some(name) = place.strip_prefix("#/components/schemas/")
            {
                *place = format!("#/$defs/{name}");
            }
            members.values_mut().for_each(point_to_definitions);
        }
        Value::Array(items) => items.iter_mut().for_each(point_to_definitions),
        _ => {}
    }
}

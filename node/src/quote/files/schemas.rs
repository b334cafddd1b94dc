//! Schemas of the shapes that read more than they write: a number is a text or a whole number, a list may be one name.
//! They say what is taken; what is given is the first form that each names.

use utoipa::openapi::schema::{AdditionalProperties, Array, ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::{Conditions, Number, TaxNames, TaxRateFile, Word};

/// A decimal as [`Number::parse`] takes it. Its digits and the point are 28 at most.
const DECIMAL: &str = r"^-?(?=[0-9.]{1,28}$)[0-9]+(\.[0-9]+)?$";

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn whole() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer)
}

fn null() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Null)
}

fn decimal(description: &str) -> OneOfBuilder {
    OneOfBuilder::new().item(text().pattern(Some(DECIMAL))).item(whole()).description(Some(description))
}

impl PartialSchema for Number {
    fn schema() -> RefOr<Schema> {
        decimal("A decimal as a text, like \"7.5\", or a whole number; other JSON numbers are not exact. Answers have texts.")
            .into()
    }
}

impl ToSchema for Number {}

impl PartialSchema for Word {
    fn schema() -> RefOr<Schema> {
        let description = "A word or a decimal as a text, or a whole number. Answers have texts.";
        OneOfBuilder::new().item(text()).item(whole()).description(Some(description)).into()
    }
}

impl ToSchema for Word {}

impl PartialSchema for TaxNames {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(Array::new(text()))
            .item(text())
            .item(null())
            .description(Some("Names of tax rates: a list, one name, or none. Answers have lists."))
            .into()
    }
}

impl ToSchema for TaxNames {}

impl PartialSchema for TaxRateFile {
    fn schema() -> RefOr<Schema> {
        let own = ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::SchemaType::from_iter([Type::Object, Type::Null]))
            .description(Some("Integrators' own."));
        let whole_rate = ObjectBuilder::new()
            .property("rate", Ref::from_schema_name(Number::name()))
            .property(
                "on",
                ArrayBuilder::new()
                    .items(text())
                    .description(Some("Names of taxes on whose amounts it is taken, too.")),
            )
            .property("x", own)
            .required("rate")
            .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)));
        OneOfBuilder::new()
            .item(whole_rate)
            .item(text().pattern(Some(DECIMAL)))
            .item(whole().minimum(Some(0)))
            .description(Some(
                "A tax rate: a percentage, or one that is also taken on other taxes. Answers have objects.",
            ))
            .into()
    }
}

impl ToSchema for TaxRateFile {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Number::name().into(), Number::schema()));
    }
}

impl PartialSchema for Conditions {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .additional_properties(Some(Ref::from_schema_name(Word::name())))
            .description(Some("Conditions by name: what is said of weather, demand, queues. Decimals or words."))
            .into()
    }
}

impl ToSchema for Conditions {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Word::name().into(), Word::schema()));
    }
}

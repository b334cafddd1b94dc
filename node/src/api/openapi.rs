//! What the API takes and gives, as a document (OpenAPI 3.1): made from the routes and their types.

use std::sync::OnceLock;

use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder,
    ServerBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use super::problem::{PROBLEM, ProblemView};

const ABOUT: &str = "One node of a Stallmesh market, as its own till and its integrators see it. \
Amounts are whole minor units of the market's currency, times milliseconds since 1970 where nothing else is said. \
What v1 promises, idempotency, events and paging: docs/api.md.";

const KEY: &str = "Chosen by the caller, 1 to 200 bytes: the same key with the same request is done once and answered \
alike; with another request it is a conflict.";

/// What stands before the routes.
pub(super) fn head() -> OpenApi {
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new().title("Stallmesh").version("1").description(Some(ABOUT)).license(Some(license));
    let tags = [
        ("baskets", "A sale in steps: what a basket costs, and baskets that stay on this device until they are sold"),
        ("payments", "Parts of a basket's payment, and by what they are taken, asked about or declined"),
        ("sales", "Sales of this device"),
        ("catalog", "What is for sale"),
        ("promotions", "Promotions, fees, and the conditions that they look at"),
        ("market", "Members of the market"),
        ("hub", "The market's terms, ledger and settlements"),
        ("node", "This node"),
    ];
    let tags = tags.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build());
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The token of `api.token` in the node's data directory."))
        .build();
    let cookie = ApiKeyValue::with_description("stallmesh-session", "The same token, as the node's own pages have it.");
    let components = ComponentsBuilder::new()
        .security_scheme("token", SecurityScheme::Http(bearer))
        .security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)))
        .build();
    let none: [&str; 0] = [];
    OpenApiBuilder::new()
        .info(info.build())
        .servers(Some([ServerBuilder::new().url("/").description(Some("This node.")).build()]))
        .tags(Some(tags))
        .components(Some(components))
        .security(Some([SecurityRequirement::new("token", none), SecurityRequirement::new("cookie", none)]))
        .build()
}

/// The document, as JSON.
pub fn document() -> &'static str {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        // Nothing of it can't be written: its maps have texts for keys.
        let mut text = serde_json::to_string_pretty(&whole()).unwrap_or_default();
        text.push('\n');
        text
    })
}

fn whole() -> OpenApi {
    let mut document = super::described().into_openapi();
    let components = document.components.get_or_insert_default();
    let mut schemas = vec![(ProblemView::name().into_owned(), ProblemView::schema())];
    ProblemView::schemas(&mut schemas);
    components.schemas.extend(schemas);
    components.schemas.get_mut("BasketChange").into_iter().for_each(close);
    for (path, item) in &mut document.paths.paths {
        for operation in [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten() {
            describe_problems(operation);
        }
        // A quote writes nothing.
        if path != "/v1/quote" {
            [&mut item.put, &mut item.post, &mut item.delete].into_iter().flatten().for_each(describe_key);
        }
        if path == "/v1/baskets"
            && let Some(RefOr::T(body)) = item.post.as_mut().and_then(|post| post.request_body.as_mut())
        {
            body.required = Some(Required::False);
        }
        if path == "/v1/export" {
            item.get.iter_mut().for_each(take_bytes);
        }
        if path == "/health" {
            item.get.iter_mut().for_each(|get| get.security = Some(vec![SecurityRequirement::default()]));
        }
    }
    document
}

/// Of an enumeration whose reader takes no unknown field, though nothing is made of that.
fn close(schema: &mut RefOr<Schema>) {
    let RefOr::T(Schema::OneOf(kinds)) = schema else { return };
    for kind in &mut kinds.items {
        if let RefOr::T(Schema::Object(kind)) = kind {
            kind.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        }
    }
}

/// Bytes that are no text have no schema.
fn take_bytes(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && let Some(RefOr::T(content)) = response.content.get_mut("application/octet-stream")
        {
            content.schema = None;
        }
    }
}

/// All of them fail alike.
fn describe_problems(operation: &mut Operation) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemView::name()))).build();
    let problem = ResponseBuilder::new()
        .description("It was not done: `code` says why to programs, `detail` to people.")
        .content(PROBLEM, content)
        .build();
    operation.responses.responses.insert("default".into(), problem.into());
}

fn describe_key(operation: &mut Operation) {
    let key = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(KEY))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(200))))
        .build();
    operation.parameters.get_or_insert_default().push(key.into());
}

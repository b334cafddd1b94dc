//! Sales: recorded in one call, and looked at.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use stallmesh_protocol::SaleId;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{Whole, key_of};
use super::{Api, PAGE_MAX, Problem, Reply, page, parse, parse_text, reply};
use crate::engine::{Answer, Failure, FailureCode, Request, SaleOrder, SaleView};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(sales, record_sale)).routes(routes!(sale))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// A sale id: only those that were recorded before it.
    before: Option<String>,
}

/// Sales that this device recorded, newest first
#[utoipa::path(
    get, path = "/v1/sales", tag = "sales", params(ListQuery),
    responses((status = 200, description = "One page.", body = Vec<SaleView>, headers(("link" = String, description = "The next page, if there is one: `<…>; rel=\"next\"`."))))
)]
async fn sales(State(api): State<Arc<Api>>, Query(query): Query<ListQuery>) -> Reply {
    let before = query.before.as_deref().map(parse_text::<SaleId>).transpose()?;
    let limit = page::limit(query.limit, 100, PAGE_MAX);
    match api.node.ask(Request::Sales { limit: limit + 1, before }).await {
        Answer::Sales(mut sales) => {
            let next = page::cut(&mut sales, limit).map(|last| last.sale.to_string());
            Ok(page::of(sales, "/v1/sales", &[("limit", limit.to_string())], next.map(|sale| ("before", sale))))
        }
        other => reply(other),
    }
}

/// One sale of this device
#[utoipa::path(
    get, path = "/v1/sales/{sale}", tag = "sales",
    params(("sale" = String, Path, description = "Its id: 32 hexadecimal digits.")),
    responses((status = 200, description = "As it is now.", body = SaleView))
)]
async fn sale(State(api): State<Arc<Api>>, UrlPath(sale): UrlPath<String>) -> Reply {
    reply(api.node.ask(Request::Sale(parse_text(&sale)?)).await)
}

/// Records a sale in one call
///
/// The idempotency key is needed, in the header or in the body: one key, one sale, for as long as the sale is kept.
#[utoipa::path(
    post, path = "/v1/sales", tag = "sales", request_body = SaleOrder,
    responses((status = 201, description = "It is on this device's disk.", body = SaleView))
)]
async fn record_sale(State(api): State<Arc<Api>>, headers: HeaderMap, Whole(body): Whole) -> Reply {
    let mut value: serde_json::Value = parse(&body)?;
    // The key may stand in the header, as elsewhere on the web, or in the body.
    if let (Some(key), Some(object)) = (key_of(&headers)?, value.as_object_mut()) {
        let there = object.entry("idempotency_key").or_insert_with(|| key.as_str().into());
        if *there != key {
            let detail = "idempotency_key: another one stands in the header";
            return Err(Failure::new(FailureCode::EInvalid, detail).into());
        }
    }
    let order: SaleOrder = serde_json::from_value(value)
        .map_err(|error| Problem::from(Failure::new(FailureCode::EInvalid, error.to_string())))?;
    match api.node.ask(Request::RecordSale(order)).await {
        Answer::Sale(sale) => Ok((StatusCode::CREATED, Json(sale)).into_response()),
        other => reply(other),
    }
}

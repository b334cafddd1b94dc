//! Parts of a basket's payment, and by what they are judged.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answers::Done;
use super::body::{Whole, Written, key_of};
use super::till::read_shape;
use super::{Api, PAGE_MAX, Reply, parse_text, reply};
use crate::engine::{Answer, BasketView, BlockOrder, PartOrder, Request, RulesOrder, RulesView, SignalView};
use crate::quote::Source;
use crate::risk::files::StallFile;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(take_tender))
        .routes(routes!(void_tender))
        .routes(routes!(checkout_rules, set_checkout_rules))
        .routes(routes!(narrow_risk))
        .routes(routes!(block_card))
        .routes(routes!(signals))
}

/// Takes a part of a basket's payment
///
/// `E_ASK`: a person decides; the same request with the reasons' ids in `confirmed` goes on.
#[utoipa::path(
    post, path = "/v1/baskets/{id}/tenders", tag = "payments", params(("id" = String, Path, description = "Its id: 32 hexadecimal digits.")), request_body = PartOrder,
    responses((status = 201, description = "With what is covered, and what is left.", body = BasketView))
)]
async fn take_tender(
    State(api): State<Arc<Api>>,
    UrlPath(id): UrlPath<String>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Reply {
    let (id, key) = (parse_text(&id)?, key_of(&headers)?);
    let order: PartOrder = read_shape(Source::Basket, &body)?;
    match api.node.ask(Request::TakeTender { id, order, key }).await {
        Answer::Basket(basket) => Ok((StatusCode::CREATED, Json(basket)).into_response()),
        other => reply(other),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct VoidQuery {
    /// Ids of reasons that a person lets pass, with commas between them.
    #[serde(default)]
    confirmed: String,
}

/// Voids a part of a basket's payment
///
/// Before the sale is recorded; one that was voided needn't be again.
#[utoipa::path(
    delete, path = "/v1/baskets/{id}/tenders/{number}", tag = "payments",
    params(("id" = String, Path, description = "Its id: 32 hexadecimal digits."), ("number" = u32, Path, description = "Which part."), VoidQuery),
    responses((status = 200, description = "With what is covered, and what is left.", body = BasketView))
)]
async fn void_tender(
    State(api): State<Arc<Api>>,
    UrlPath((id, number)): UrlPath<(String, u32)>,
    Query(query): Query<VoidQuery>,
    written: Written,
) -> Reply {
    let id = parse_text(&id)?;
    let confirmed = query.confirmed.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect();
    reply(written.ask(&api, Request::VoidTender { id, number, confirmed }).await)
}

/// By what payments are judged here
#[utoipa::path(
    get, path = "/v1/checkout-rules", tag = "payments",
    responses((status = 200, description = "The hub's, and what this device narrows them by.", body = RulesView))
)]
async fn checkout_rules(State(api): State<Arc<Api>>) -> Reply {
    reply(api.node.ask(Request::CheckoutRules).await)
}

/// Publishes fraud rules and the policy for cards that are taken without the hub
///
/// By a hub; what is left out stays as it is.
#[utoipa::path(
    put, path = "/v1/checkout-rules", tag = "payments", request_body = RulesOrder,
    responses((status = 200, description = "They are published.", body = Done))
)]
async fn set_checkout_rules(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let order: RulesOrder = read_shape(Source::Conditions, &written.body)?;
    reply(written.ask(&api, Request::SetCheckoutRules(order)).await)
}

/// Narrows what this device takes by card without the hub
#[utoipa::path(
    put, path = "/v1/checkout-rules/narrowed", tag = "payments", request_body = StallFile,
    responses((status = 200, description = "It holds from now on.", body = Done))
)]
async fn narrow_risk(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let file: StallFile = read_shape(Source::Conditions, &written.body)?;
    reply(written.ask(&api, Request::NarrowRisk(file)).await)
}

/// Blocks a card, or lets it go
///
/// By a hub for the market, by a stall's device for its stall.
#[utoipa::path(
    put, path = "/v1/cards/blocked", tag = "payments", request_body = BlockOrder,
    responses((status = 200, description = "It is said.", body = Done))
)]
async fn block_card(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let order: BlockOrder = read_shape(Source::Conditions, &written.body)?;
    reply(written.ask(&api, Request::BlockCard(order)).await)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SignalsQuery {
    /// At most so many; 100 where left out.
    limit: Option<usize>,
}

/// What is said about cards, devices and people at tills now
#[utoipa::path(
    get, path = "/v1/signals", tag = "payments", params(SignalsQuery),
    responses((status = 200, description = "What ends first first.", body = Vec<SignalView>))
)]
async fn signals(State(api): State<Arc<Api>>, Query(query): Query<SignalsQuery>) -> Reply {
    let limit = query.limit.unwrap_or(100).min(PAGE_MAX);
    reply(api.node.ask(Request::Signals { limit }).await)
}

//! What a till asks: quotes, baskets, promotions, and what is so now.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answers::Done;
use super::body::{Whole, Written, key_of};
use super::page::{self, PageQuery};
use super::{Api, Problem, Reply, parse_text, reply};
use crate::engine::{
    Answer, BasketOrder, BasketSale, BasketView, ConditionView, ConditionsOrder, Failure, FailureCode, PromotionView,
    PromotionsOrder, QuoteView, Request, SaleView,
};
use crate::quote::Source;
use crate::quote::files::BasketFile;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(quote))
        .routes(routes!(baskets, open_basket))
        .routes(routes!(basket, discard_basket))
        .routes(routes!(change_basket))
        .routes(routes!(sell_basket))
        .routes(routes!(promotions, publish_promotions))
        .routes(routes!(conditions, say_conditions))
}

/// Reads one of the quote's shapes: a problem names the field.
pub(super) fn read_shape<T: serde::de::DeserializeOwned>(source: Source, body: &Bytes) -> Result<T, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Failure::new(FailureCode::EInvalid, "it isn't UTF-8 text"))?;
    crate::quote::read(source, text).map_err(|problem| Failure::from(problem).into())
}

/// What a basket costs now, at this stall
///
/// It writes nothing.
#[utoipa::path(
    post, path = "/v1/quote", tag = "baskets", request_body = BasketFile,
    responses((status = 200, description = "With a sentence for each difference.", body = QuoteView))
)]
async fn quote(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let basket: BasketFile = read_shape(Source::Basket, &body)?;
    reply(api.node.ask(Request::Quote(basket)).await)
}

/// Open baskets, the one that was changed last first
#[utoipa::path(
    get, path = "/v1/baskets", tag = "baskets",
    responses((status = 200, description = "All of them: 200 at most.", body = Vec<BasketView>))
)]
async fn baskets(State(api): State<Arc<Api>>) -> Reply {
    reply(api.node.ask(Request::Baskets).await)
}

/// Opens a basket on this device
///
/// It stays there until it is sold or discarded, also over a restart. No body: an empty one.
#[utoipa::path(
    post, path = "/v1/baskets", tag = "baskets", request_body(content = BasketFile),
    responses((status = 201, description = "It is open.", body = BasketView))
)]
async fn open_basket(State(api): State<Arc<Api>>, headers: HeaderMap, Whole(body): Whole) -> Reply {
    let key = key_of(&headers)?;
    let basket: BasketFile = match body.is_empty() {
        true => BasketFile::default(),
        false => read_shape(Source::Basket, &body)?,
    };
    match api.node.ask(Request::OpenBasket { basket, key }).await {
        Answer::Basket(basket) => Ok((StatusCode::CREATED, Json(basket)).into_response()),
        other => reply(other),
    }
}

/// A basket, with what it costs now
#[utoipa::path(
    get, path = "/v1/baskets/{id}", tag = "baskets", params(("id" = String, Path, description = "Its id: 32 hexadecimal digits.")),
    responses((status = 200, description = "As it is now.", body = BasketView))
)]
async fn basket(State(api): State<Arc<Api>>, UrlPath(id): UrlPath<String>) -> Reply {
    reply(api.node.ask(Request::Basket(parse_text(&id)?)).await)
}

/// Discards an open basket
///
/// One that is gone already needn't go again; one that was sold is a conflict.
#[utoipa::path(
    delete, path = "/v1/baskets/{id}", tag = "baskets", params(("id" = String, Path, description = "Its id: 32 hexadecimal digits.")),
    responses((status = 200, description = "It is gone.", body = Done))
)]
async fn discard_basket(State(api): State<Arc<Api>>, UrlPath(id): UrlPath<String>, written: Written) -> Reply {
    reply(written.ask(&api, Request::DiscardBasket(parse_text(&id)?)).await)
}

/// Changes a basket: all of it, or nothing
#[utoipa::path(
    post, path = "/v1/baskets/{id}/changes", tag = "baskets", params(("id" = String, Path, description = "Its id: 32 hexadecimal digits.")), request_body = BasketOrder,
    responses((status = 200, description = "As it is now.", body = BasketView))
)]
async fn change_basket(
    State(api): State<Arc<Api>>,
    UrlPath(id): UrlPath<String>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Reply {
    let (id, key) = (parse_text(&id)?, key_of(&headers)?);
    let order: BasketOrder = read_shape(Source::Basket, &body)?;
    reply(api.node.ask(Request::ChangeBasket { id, order, key }).await)
}

/// Records the sale of a basket
///
/// One sale, however often it is asked for.
#[utoipa::path(
    post, path = "/v1/baskets/{id}/sale", tag = "baskets", params(("id" = String, Path, description = "Its id: 32 hexadecimal digits.")), request_body = BasketSale,
    responses((status = 201, description = "It is on this device's disk.", body = SaleView))
)]
async fn sell_basket(State(api): State<Arc<Api>>, UrlPath(id): UrlPath<String>, Whole(body): Whole) -> Reply {
    let id = parse_text(&id)?;
    let sale: BasketSale = read_shape(Source::Basket, &body)?;
    match api.node.ask(Request::SellBasket { id, sale }).await {
        Answer::Sale(sale) => Ok((StatusCode::CREATED, Json(sale)).into_response()),
        other => reply(other),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PromotionsQuery {
    /// Whose; this device's where left out.
    stall: Option<String>,
}

/// Promotions that this node knows
///
/// The market's, and those of one stall.
#[utoipa::path(
    get, path = "/v1/promotions", tag = "promotions", params(PromotionsQuery, PageQuery),
    responses((status = 200, description = "One page.", body = Vec<PromotionView>, headers(("link" = String, description = "The next page, if there is one: `<…>; rel=\"next\"`."))))
)]
async fn promotions(
    State(api): State<Arc<Api>>,
    Query(query): Query<PromotionsQuery>,
    Query(page): Query<PageQuery>,
) -> Reply {
    let more: Vec<_> = query.stall.iter().map(|stall| ("stall", stall.clone())).collect();
    match api.node.ask(Request::Promotions { stall: query.stall }).await {
        Answer::Promotions(list) => {
            page::by_key(list, |view| format!("{}/{}", view.stall, view.promotion.id), "/v1/promotions", &more, &page)
        }
        other => reply(other),
    }
}

/// Gives and withdraws promotions
///
/// At a hub the market's, at a stall its own.
#[utoipa::path(
    put, path = "/v1/promotions", tag = "promotions", request_body = PromotionsOrder,
    responses((status = 200, description = "They are on this device's disk, and on their way.", body = Done))
)]
async fn publish_promotions(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let order: PromotionsOrder = read_shape(Source::Promotions, &written.body)?;
    reply(written.ask(&api, Request::PublishPromotions(order)).await)
}

/// What is so now at this device's stall
#[utoipa::path(
    get, path = "/v1/conditions", tag = "promotions", params(PageQuery),
    responses((status = 200, description = "Conditions that hold, and those whose time is over.", body = Vec<ConditionView>, headers(("link" = String, description = "The next page, if there is one: `<…>; rel=\"next\"`."))))
)]
async fn conditions(State(api): State<Arc<Api>>, Query(query): Query<PageQuery>) -> Reply {
    match api.node.ask(Request::Conditions).await {
        Answer::Conditions(list) => {
            page::by_key(list, |condition| condition.name.clone(), "/v1/conditions", &[], &query)
        }
        other => reply(other),
    }
}

/// Says what is so now
///
/// At a hub for the market, at a stall for itself.
#[utoipa::path(
    put, path = "/v1/conditions", tag = "promotions", request_body = ConditionsOrder,
    responses((status = 200, description = "It holds from now on.", body = Done))
)]
async fn say_conditions(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let order: ConditionsOrder = read_shape(Source::Conditions, &written.body)?;
    reply(written.ask(&api, Request::SayConditions(order)).await)
}

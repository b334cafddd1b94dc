//! What is for sale: the catalogs of all stalls, and the own one.

use std::sync::Arc;

use axum::Json;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::answers::{Done, Imported};
use super::body::Written;
use super::{Api, Problem, Reply, page, reply};
use crate::card_data;
use crate::engine::{
    Answer, CatalogStatusView, Failure, FailureCode, FoundView, ProductView, Request, StockOrder, StockView,
};
use crate::import;
use crate::search::{Found, fold};

/// Products on one page.
const PRODUCTS_MAX: usize = 100_000;
/// Products on one page of what a search has found.
const FOUND_MAX: usize = 200;
/// The largest product file.
const IMPORT_MAX: usize = 64 * 1024 * 1024;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(catalog, publish))
        .routes(routes!(counts))
        .routes(routes!(search))
        .routes(routes!(catalog_status))
        .routes(routes!(stock, set_stock))
        .routes(routes!(import_products).layer(DefaultBodyLimit::max(IMPORT_MAX)))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct CatalogQuery {
    /// Of one stall; all where left out.
    stall: Option<String>,
    /// Words that all stand in the name or SKU.
    #[serde(default)]
    q: String,
    /// At most so many.
    #[param(minimum = 1, maximum = 100000, default = 100)]
    limit: Option<usize>,
    /// What the `Link` of the page before says: those after it.
    after: Option<String>,
}

/// Products that the market's stalls offer now, by stall and SKU
#[utoipa::path(
    get, path = "/v1/catalog", tag = "catalog", params(CatalogQuery),
    responses((status = 200, description = "One page.", body = Vec<ProductView>, headers(("link" = String, description = "The next page, if there is one: `<…>; rel=\"next\"`."))))
)]
async fn catalog(State(api): State<Arc<Api>>, Query(query): Query<CatalogQuery>) -> Reply {
    let limit = page::limit(query.limit, 100, PRODUCTS_MAX);
    let after = query.after.as_deref().map(page::read_cursor).transpose()?;
    // No stall has a line break in its name.
    let after = after.and_then(|key| key.split_once('\n').map(|(stall, sku)| (stall.to_owned(), sku.to_owned())));
    let more: Vec<_> = query.stall.iter().map(|stall| ("stall", stall.clone())).collect();
    let request = Request::Catalog { stall: query.stall, query: query.q.clone(), after, limit: limit + 1 };
    match api.node.ask(request).await {
        Answer::Products(mut list) => {
            let next = page::cut(&mut list, limit).map(|last| page::cursor(&format!("{}\n{}", last.stall, last.sku)));
            let same = [("limit", limit.to_string()), ("q", query.q)].into_iter().chain(more).collect::<Vec<_>>();
            Ok(page::of(list, "/v1/catalog", &same, next.map(|next| ("after", next))))
        }
        other => reply(other),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SearchQuery {
    /// Words, in any order: of names, SKUs, barcodes, categories, tags and stalls' names. A word finds those that begin with
    /// it, whatever their case and accents.
    q: String,
    /// Of one stall; of all where left out.
    stall: Option<String>,
    /// At most so many.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
    /// What the `Link` of the page before says: those after it.
    after: Option<String>,
}

/// Searches what all stalls of the market offer now
///
/// What matches best comes first, then by name. Each has its price now, and what is left of it as far as this node can
/// know.
#[utoipa::path(
    get, path = "/v1/catalog/search", tag = "catalog", params(SearchQuery),
    responses((status = 200, description = "One page.", body = Vec<FoundView>, headers(("link" = String, description = "The next page, if there is one: `<…>; rel=\"next\"`."))))
)]
async fn search(State(api): State<Arc<Api>>, Query(query): Query<SearchQuery>) -> Reply {
    let limit = page::limit(query.limit, 50, FOUND_MAX);
    let after = query.after.as_deref().map(page::read_cursor).transpose()?;
    let after = match after {
        Some(after) => Some(
            read_place(&after)
                .ok_or_else(|| Problem::from(Failure::new(FailureCode::EInvalid, "after: not one that a page gave")))?,
        ),
        None => None,
    };
    let more: Vec<_> = query.stall.iter().map(|stall| ("stall", stall.clone())).collect();
    let request = Request::FindProducts { query: query.q.clone(), stall: query.stall, after, limit: limit + 1 };
    match api.node.ask(request).await {
        Answer::Found(mut found) => {
            let next = page::cut(&mut found, limit).map(place_of);
            let same = [("limit", limit.to_string()), ("q", query.q)].into_iter().chain(more).collect::<Vec<_>>();
            Ok(page::of(found, "/v1/catalog/search", &same, next.map(|next| ("after", next))))
        }
        other => reply(other),
    }
}

/// Where a product stands among those that were found. None of its texts has a line break.
fn place_of(found: &FoundView) -> String {
    let FoundView { product, score } = found;
    page::cursor(&format!("{score}\n{}\n{}\n{}", product.stall, product.sku, fold(&product.name)))
}

fn read_place(key: &str) -> Option<Found> {
    let mut parts = key.splitn(4, '\n');
    let score = parts.next()?.parse().ok()?;
    let mut text = || parts.next().map(str::to_owned);
    Some(Found { score, stall: text()?, sku: text()?, name: text()? })
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct DayQuery {
    /// The day by the market's clocks, `2026-06-06`; today where left out.
    day: Option<String>,
}

/// Whether all that a market day needs is here
///
/// Each stall's catalog as of the newest checkpoint, what is offered on that day, the market's terms and keys; since when;
/// and what this node can't know.
#[utoipa::path(
    get, path = "/v1/catalog/status", tag = "catalog", params(DayQuery),
    responses((status = 200, description = "What is here, and what isn't.", body = CatalogStatusView))
)]
async fn catalog_status(State(api): State<Arc<Api>>, Query(query): Query<DayQuery>) -> Reply {
    reply(api.node.ask(Request::CatalogStatus { day: query.day }).await)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct StockQuery {
    /// Of which stall; this device's where left out.
    stall: Option<String>,
    /// At most so many.
    #[param(minimum = 1, maximum = 100000, default = 1000)]
    limit: Option<usize>,
}

/// What is left of products whose stock is counted, the least first
///
/// What was sold more often than it was counted is below zero. This device's own stall is counted down by every sale that
/// has come here; of other stalls what they have published is known.
#[utoipa::path(
    get, path = "/v1/catalog/stock", tag = "catalog", params(StockQuery),
    responses((status = 200, description = "Products that are counted.", body = Vec<StockView>))
)]
async fn stock(State(api): State<Arc<Api>>, Query(query): Query<StockQuery>) -> Reply {
    let limit = page::limit(query.limit, 1000, PRODUCTS_MAX);
    reply(api.node.ask(Request::Stock { stall: query.stall, limit }).await)
}

/// Says what was counted, and what came or went otherwise than by a sale
///
/// A count takes in all sales up to now, also those of other devices that haven't come here yet. Changes add up, whoever
/// makes them and whenever they are heard of.
#[utoipa::path(
    post, path = "/v1/catalog/stock", tag = "catalog", request_body = StockOrder,
    responses((status = 200, description = "It is on this device's disk, and on its way.", body = Done))
)]
async fn set_stock(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let order: StockOrder = written.read()?;
    reply(written.ask(&api, Request::SetStock(order)).await)
}

/// Publishes products of this device's stall
///
/// What it had under the same SKU is replaced; all of them or none.
#[utoipa::path(
    put, path = "/v1/catalog", tag = "catalog", request_body = Vec<ProductView>,
    responses((status = 200, description = "They are on this device's disk, and on their way.", body = Done))
)]
async fn publish(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let products: Vec<ProductView> = written.read()?;
    reply(written.ask(&api, Request::PublishProducts(products)).await)
}

/// How many products each stall offers here
#[utoipa::path(
    get, path = "/v1/catalog/counts", tag = "catalog",
    responses((status = 200, description = "Pairs of a stall and a number.", body = Vec<(String, usize)>))
)]
async fn counts(State(api): State<Arc<Api>>) -> Reply {
    reply(api.node.ask(Request::CatalogCounts).await)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ImportQuery {
    /// The tax rate of all its products.
    #[serde(default)]
    tax: String,
    /// Of a Square file: whose stock and prices.
    location: Option<String>,
}

/// Publishes the products of a Shopify or Square product file
#[utoipa::path(
    post, path = "/v1/catalog/import", tag = "catalog", params(ImportQuery),
    request_body(content = String, content_type = "text/csv", description = "The file, 64 MiB at most."),
    responses((status = 200, description = "All of it is published.", body = Imported))
)]
async fn import_products(State(api): State<Arc<Api>>, Query(query): Query<ImportQuery>, written: Written) -> Reply {
    let Answer::Status(status) = api.node.ask(Request::Status).await else {
        return Err(Failure::new(FailureCode::EUnavailable, "the node has stopped").into());
    };
    let exponent = stallmesh_protocol::money::exponent(&status.currency)
        .map_err(|error| Problem::from(Failure::new(FailureCode::ENotMember, error.to_string())))?;
    let tax = Some(query.tax).filter(|tax| !tax.is_empty());
    // A large file takes a while to read; the other requests don't wait for it.
    let body = written.body.clone();
    let rules = import::Rules { exponent, tax, location: query.location };
    let imported = tokio::task::spawn_blocking(move || import::products(std::io::Cursor::new(body), &rules)?.all())
        .await
        .map_err(|error| Problem::from(Failure::new(FailureCode::EUnavailable, error.to_string())))?
        .map_err(|error| Problem::from(Failure::new(FailureCode::EInvalid, error.to_string())))?;
    let view = Imported {
        products: imported.products.len(),
        skipped: imported.skipped,
        pictures: imported.pictures,
        warnings: imported.warnings.iter().map(|warning| card_data::mask(&warning.to_string()).into_owned()).collect(),
    };
    match written.ask(&api, Request::PublishProducts(imported.products)).await {
        Answer::Done => Ok(Json(view).into_response()),
        other => reply(other),
    }
}

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
use crate::engine::{Answer, Failure, FailureCode, ProductView, Request};
use crate::import;

/// Products on one page.
const PRODUCTS_MAX: usize = 100_000;
/// The largest product file.
const IMPORT_MAX: usize = 64 * 1024 * 1024;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(catalog, publish))
        .routes(routes!(counts))
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

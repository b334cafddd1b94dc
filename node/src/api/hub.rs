//! The market's terms and money: policy, ledger, settlements, exports.

use std::sync::Arc;

use axum::extract::{Query, State};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answers::{Done, OpeningKey};
use super::body::Written;
use super::page::{self, PageQuery};
use super::{Api, Problem, Reply, reply};
use crate::engine::{Answer, Failure, FailureCode, LedgerView, PolicyView, Request, SettlementView, StatementView};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(policy, set_policy))
        .routes(routes!(rotate_key))
        .routes(routes!(accept_loss))
        .routes(routes!(settle))
        .routes(routes!(ledger))
        .routes(routes!(statements))
        .routes(routes!(export))
}

/// The market's policy, as far as this node knows
#[utoipa::path(
    get, path = "/v1/policy", tag = "hub",
    responses((status = 200, description = "What holds now.", body = PolicyView))
)]
async fn policy(State(api): State<Arc<Api>>) -> Reply {
    reply(api.node.ask(Request::Policy).await)
}

/// Sets the market's policy, at a hub
#[utoipa::path(
    put, path = "/v1/policy", tag = "hub", request_body = PolicyView,
    responses((status = 200, description = "It is on its way to all.", body = Done))
)]
async fn set_policy(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let view: PolicyView = written.read()?;
    reply(written.ask(&api, Request::SetPolicy(view)).await)
}

/// Publishes a new opening key, at a hub
#[utoipa::path(
    post, path = "/v1/hub/rotate-key", tag = "hub",
    responses((status = 200, description = "Its file is durable, and those before it are kept.", body = OpeningKey))
)]
async fn rotate_key(State(api): State<Arc<Api>>, written: Written) -> Reply {
    reply(api.node.rotate_opening_key(written.once).await?)
}

/// A batch that can't be recomputed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LossBody {
    /// Its number.
    settlement: u64,
}

/// Goes on although what an earlier batch had read is on no device any more, at a hub
#[utoipa::path(
    post, path = "/v1/hub/accept-loss", tag = "hub", request_body = LossBody,
    responses((status = 200, description = "Closing goes on.", body = Done))
)]
async fn accept_loss(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let LossBody { settlement } = written.read()?;
    reply(written.ask(&api, Request::AcceptLoss { settlement }).await)
}

/// How to settle.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SettleBody {
    /// Writes nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Closes a settlement batch, or says what it would be, at a hub
#[utoipa::path(
    post, path = "/v1/settle", tag = "hub", request_body = SettleBody,
    responses((status = 200, description = "The batch.", body = SettlementView))
)]
async fn settle(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let SettleBody { dry_run } = written.read()?;
    reply(written.ask(&api, Request::Settle { dry_run }).await)
}

/// The ledger's balances and sums, at a hub
#[utoipa::path(
    get, path = "/v1/ledger", tag = "hub",
    responses((status = 200, description = "As it is now.", body = LedgerView))
)]
async fn ledger(State(api): State<Arc<Api>>) -> Reply {
    reply(api.node.ask(Request::Ledger).await)
}

/// Statements of settlements that have arrived here
#[utoipa::path(
    get, path = "/v1/statements", tag = "hub", params(PageQuery),
    responses((status = 200, description = "All of them.", body = Vec<StatementView>, headers(("link" = String, description = "The next page, if there is one: `<…>; rel=\"next\"`."))))
)]
async fn statements(State(api): State<Arc<Api>>, Query(query): Query<PageQuery>) -> Reply {
    match api.node.ask(Request::Statements).await {
        Answer::Statements(list) => page::by_key(
            list,
            |statement| format!("{:020}/{}", statement.settlement, statement.stall),
            "/v1/statements",
            &[],
            &query,
        ),
        other => reply(other),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ExportQuery {
    /// What the last part's `stallmesh-cursor` said; empty to begin.
    #[serde(default)]
    cursor: String,
}

/// The next part of an export of everything held, opened as far as this node can
///
/// Parts are appended to each other; the last has an empty `stallmesh-cursor`.
#[utoipa::path(
    get, path = "/v1/export", tag = "hub", params(ExportQuery),
    responses((
        status = 200, description = "Bytes of the file, as docs/protocol.md says.",
        content_type = "application/octet-stream", body = [u8],
        headers(("stallmesh-cursor" = String, description = "To ask for the next part; empty at the end."))
    ))
)]
async fn export(State(api): State<Arc<Api>>, Query(query): Query<ExportQuery>) -> Reply {
    let cursor = hex::decode(&query.cursor)
        .map_err(|_| Problem::from(Failure::new(FailureCode::EInvalid, "cursor: not one that an export gave")))?;
    reply(api.node.ask(Request::Export { cursor }).await)
}

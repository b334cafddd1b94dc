//! Members, and how devices become some and stop being some.

use std::sync::Arc;

use axum::extract::{Query, State};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answers::{Done, Invite};
use super::body::Written;
use super::page::{self, PageQuery};
use super::{Api, Reply, parse_text, reply};
use crate::engine::{Answer, DelegateOrder, InviteOrder, JoinRequestView, MemberView, Request};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(members))
        .routes(routes!(invite))
        .routes(routes!(join))
        .routes(routes!(join_requests))
        .routes(routes!(approve))
        .routes(routes!(delegate))
        .routes(routes!(revoke))
        .routes(routes!(readmit))
        .routes(routes!(raise))
        .routes(routes!(erase))
}

/// All devices with a certificate
#[utoipa::path(
    get, path = "/v1/members", tag = "market", params(PageQuery),
    responses((status = 200, description = "As this node knows them.", body = Vec<MemberView>, headers(("link" = String, description = "The next page, if there is one: `<…>; rel=\"next\"`."))))
)]
async fn members(State(api): State<Arc<Api>>, Query(query): Query<PageQuery>) -> Reply {
    match api.node.ask(Request::Members).await {
        Answer::Members(list) => page::by_key(list, |member| member.device.to_string(), "/v1/members", &[], &query),
        other => reply(other),
    }
}

/// Makes an invite, at a hub
#[utoipa::path(
    post, path = "/v1/invites", tag = "market", request_body = InviteOrder,
    responses((status = 200, description = "Its text.", body = Invite))
)]
async fn invite(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let order: InviteOrder = written.read()?;
    reply(written.ask(&api, Request::CreateInvite(order)).await)
}

/// How a device joins.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct JoinBody {
    /// `stallmesh:…`
    invite: String,
    /// What people call this device.
    #[serde(default)]
    name: String,
    /// Present: ask a person instead of using the invite's right.
    ask_for_stall: Option<String>,
}

/// Starts joining a market
///
/// Answers at once; membership shows in the status and as an event.
#[utoipa::path(
    post, path = "/v1/join", tag = "market", request_body = JoinBody,
    responses((status = 200, description = "It has begun.", body = Done))
)]
async fn join(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let JoinBody { invite, name, ask_for_stall } = written.read()?;
    let request = match ask_for_stall {
        Some(stall) => Request::AskToJoin { market: invite, name, stall },
        None => Request::Join { invite, name },
    };
    reply(written.ask(&api, request).await)
}

/// Requests to join that wait for a person, at a hub
#[utoipa::path(
    get, path = "/v1/join-requests", tag = "market", params(PageQuery),
    responses((status = 200, description = "All of them.", body = Vec<JoinRequestView>, headers(("link" = String, description = "The next page, if there is one: `<…>; rel=\"next\"`."))))
)]
async fn join_requests(State(api): State<Arc<Api>>, Query(query): Query<PageQuery>) -> Reply {
    match api.node.ask(Request::JoinRequests).await {
        Answer::JoinRequests(list) => {
            page::by_key(list, |request| request.request.clone(), "/v1/join-requests", &[], &query)
        }
        other => reply(other),
    }
}

/// What a person has compared.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ApproveBody {
    /// The short code, as both screens show it.
    code: String,
    /// For how long the certificate holds, in milliseconds.
    valid_ms: u64,
}

/// Admits a device that asked, after the codes were compared, at a hub
#[utoipa::path(
    post, path = "/v1/approve", tag = "market", request_body = ApproveBody,
    responses((status = 200, description = "It has a certificate.", body = Done))
)]
async fn approve(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let ApproveBody { code, valid_ms } = written.read()?;
    reply(written.ask(&api, Request::Approve { code, valid_ms }).await)
}

/// Gives another device a narrower certificate of the own stall
#[utoipa::path(
    post, path = "/v1/delegate", tag = "market", request_body = DelegateOrder,
    responses((status = 200, description = "It is on its way.", body = Done))
)]
async fn delegate(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let order: DelegateOrder = written.read()?;
    reply(written.ask(&api, Request::Delegate(order)).await)
}

/// A device to do something about.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DeviceBody {
    /// Its key: 64 hexadecimal digits.
    device: String,
    /// For people; of a revocation.
    #[serde(default)]
    reason: String,
}

/// Ends a device's certificates
#[utoipa::path(
    post, path = "/v1/revoke", tag = "market", request_body = DeviceBody,
    responses((status = 200, description = "What it wrote up to now stands.", body = Done))
)]
async fn revoke(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let DeviceBody { device, reason } = written.read()?;
    reply(written.ask(&api, Request::Revoke { device: parse_text(&device)?, reason }).await)
}

/// Lets what a quarantined device's newest run writes count again
#[utoipa::path(
    post, path = "/v1/readmit", tag = "market", request_body = DeviceBody,
    responses((status = 200, description = "It counts.", body = Done))
)]
async fn readmit(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let DeviceBody { device, .. } = written.read()?;
    reply(written.ask(&api, Request::Readmit { device: parse_text(&device)? }).await)
}

/// Lets what is held of a revoked device's logs count too, at a hub
#[utoipa::path(
    post, path = "/v1/raise", tag = "market", request_body = DeviceBody,
    responses((status = 200, description = "It counts.", body = Done))
)]
async fn raise(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let DeviceBody { device, .. } = written.read()?;
    reply(written.ask(&api, Request::Raise { device: parse_text(&device)? }).await)
}

/// What to erase.
#[derive(Deserialize, ToSchema)]
struct EraseBody {
    /// A sale id of this device, or `author/incarnation/lane/sequence`.
    entry: String,
}

/// Erases the personal part of an entry, on every device
#[utoipa::path(
    post, path = "/v1/erase", tag = "market", request_body = EraseBody,
    responses((status = 200, description = "It is gone here, and on its way to the others.", body = Done))
)]
async fn erase(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let EraseBody { entry } = written.read()?;
    reply(written.ask(&api, Request::Erase { subject: entry }).await)
}

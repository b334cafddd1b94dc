//! This node itself: its state, its roads, its log.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use stallmesh_protocol::{DeviceId, Hash, SaleId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answers::{Done, Health};
use super::body::Written;
use super::{Api, PAGE_MAX, Problem, Reply, openapi, page, parse_text, reply};
use crate::engine::{Answer, EntryView, ExplainSubject, ExplainView, Failure, FailureCode, Request, StatusView};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(document))
        .routes(routes!(status))
        .routes(routes!(explain))
        .routes(routes!(log))
        .routes(routes!(uplink))
        .routes(routes!(power))
        .routes(routes!(add_peer))
}

/// Whether the node answers
///
/// The one route that asks for no token.
#[utoipa::path(get, path = "/health", tag = "node", responses((status = 200, description = "It does.", body = Health)))]
async fn health() -> Json<Health> {
    Json(Health { ok: true })
}

/// This document
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "node",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object))
)]
async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi::document())
}

/// The node's own state
#[utoipa::path(
    get, path = "/v1/status", tag = "node",
    responses((status = 200, description = "As it is now.", body = StatusView))
)]
async fn status(State(api): State<Arc<Api>>) -> Reply {
    reply(api.node.ask(Request::Status).await)
}

/// Why a device, a sale or an entry is, or isn't, here yet
#[utoipa::path(
    get, path = "/v1/explain/{subject}", tag = "node",
    params(("subject" = String, Path, description = "A sale id, a device key, or an entry's hash.")),
    responses((status = 200, description = "The reasons.", body = ExplainView))
)]
async fn explain(State(api): State<Arc<Api>>, UrlPath(subject): UrlPath<String>) -> Reply {
    // A device key and an entry's hash look alike: a key that is known as a device is one.
    let subject = if let Ok(sale) = subject.parse::<SaleId>() {
        ExplainSubject::Sale(sale)
    } else {
        let device: DeviceId = parse_text(&subject)?;
        match api.node.ask(Request::Explain(ExplainSubject::Device(device))).await {
            Answer::Explain(view) if view.state == "not_a_member" => {
                let hash = Hash::from_bytes(*device.as_bytes());
                if let Answer::Explain(entry) = api.node.ask(Request::Explain(ExplainSubject::Entry(hash))).await
                    && entry.state == "here"
                {
                    return reply(Answer::Explain(entry));
                }
                return reply(Answer::Explain(view));
            }
            other => return reply(other),
        }
    };
    reply(api.node.ask(Request::Explain(subject)).await)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct LogQuery {
    /// Whose: a device key; this device where left out.
    author: Option<String>,
    /// A lane's name; all where left out.
    lane: Option<String>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<usize>,
    /// What the `Link` of the page before says: those after it, which are older.
    before: Option<String>,
}

/// Entries of one device's logs, newest first
#[utoipa::path(
    get, path = "/v1/log", tag = "node", params(LogQuery),
    responses((status = 200, description = "For people: what they hold stays closed.", body = Vec<EntryView>, headers(("link" = String, description = "The next page, if there is one: `<…>; rel=\"next\"`."))))
)]
async fn log(State(api): State<Arc<Api>>, Query(query): Query<LogQuery>) -> Reply {
    let author = query.author.as_deref().map(parse_text::<DeviceId>).transpose()?;
    let limit = page::limit(query.limit, 50, PAGE_MAX);
    let before = query.before.as_deref().map(read_place).transpose()?;
    let mut same = vec![("limit", limit.to_string())];
    same.extend(query.author.map(|author| ("author", author)));
    same.extend(query.lane.iter().map(|lane| ("lane", lane.clone())));
    match api.node.ask(Request::LogShow { author, lane: query.lane, before, limit: limit + 1 }).await {
        Answer::Entries(mut entries) => {
            let next = page::cut(&mut entries, limit).map(|last| format!("{}-{}", last.sequence, last.hash));
            Ok(page::of(entries, "/v1/log", &same, next.map(|next| ("before", next))))
        }
        other => reply(other),
    }
}

/// An entry as a page names it: its sequence and hash.
fn read_place(text: &str) -> Result<(u64, Hash), Problem> {
    let place = text.split_once('-').and_then(|(sequence, text)| {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok()?;
        Some((sequence.parse().ok()?, Hash::from_bytes(hash)))
    });
    place.ok_or_else(|| Failure::new(FailureCode::EInvalid, "before: not one that a page gave").into())
}

/// Whether a node may dial the hub.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UplinkBody {
    /// Off: what it writes waits, or goes through others.
    up: bool,
}

/// Switches the way to the hub on or off
#[utoipa::path(
    put, path = "/v1/uplink", tag = "node", request_body = UplinkBody,
    responses((status = 200, description = "Until the node's restart.", body = Done))
)]
async fn uplink(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let UplinkBody { up } = written.read()?;
    reply(written.ask(&api, Request::SetUplink { up }).await)
}

/// How a device is powered and connected.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PowerBody {
    /// In percent; 0: mains or unknown.
    #[serde(default)]
    #[schema(maximum = 100)]
    battery: u32,
    /// The uplink costs by volume.
    #[serde(default)]
    metered: bool,
}

/// Says how this device is powered and connected
///
/// Carriers are chosen by it.
#[utoipa::path(
    put, path = "/v1/power", tag = "node", request_body = PowerBody,
    responses((status = 200, description = "Until the node's restart.", body = Done))
)]
async fn power(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let PowerBody { battery, metered } = written.read()?;
    reply(written.ask(&api, Request::SetPower { battery, metered }).await)
}

/// Where a peer is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PeerBody {
    /// A multiaddr: `/ip4/192.0.2.7/udp/7800/quic-v1`.
    address: String,
}

/// Adds the address of a peer by hand
#[utoipa::path(
    post, path = "/v1/peers", tag = "node", request_body = PeerBody,
    responses((status = 200, description = "It is dialled from now on, until the node's restart.", body = Done))
)]
async fn add_peer(State(api): State<Arc<Api>>, written: Written) -> Reply {
    let PeerBody { address } = written.read()?;
    reply(written.ask(&api, Request::AddPeer { address }).await)
}

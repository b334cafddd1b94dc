//! The local HTTP API: JSON over loopback TCP, guarded against other web pages, and over a Unix socket in the data
//! directory, guarded by the file system. A shell over [`Request`] and [`Answer`].

mod body;
mod guard;
mod patience;
mod problem;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use stallmesh_protocol::{DeviceId, Hash, SaleId};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

use self::body::Whole;
pub use self::guard::{TOKEN_FILE, read_or_create_token};
pub use self::problem::Problem;
use crate::engine::{
    Answer, DelegateOrder, ExplainSubject, Failure, FailureCode, InviteOrder, PolicyView, ProductView, Request,
    SaleOrder,
};
use crate::import;
use crate::runtime::NodeHandle;

/// The Unix socket's file name in the data directory.
pub const SOCKET_FILE: &str = "api.sock";
/// The largest body of a request, in bytes.
const BODY_MAX: usize = 1024 * 1024;
/// The largest product file.
const IMPORT_MAX: usize = 64 * 1024 * 1024;
/// Answers in one page of a list.
const PAGE_MAX: usize = 1000;

type Reply = Result<Response, Problem>;

#[derive(Clone)]
struct Api {
    node: NodeHandle,
}

/// Serves the API on a Unix socket and on TCP until the process ends.
///
/// # Errors
/// The socket or the address can't be listened on.
pub async fn serve(
    node: NodeHandle,
    directory: &Path,
    listen: std::net::SocketAddr,
    token: &str,
) -> std::io::Result<std::net::SocketAddr> {
    use std::os::unix::fs::PermissionsExt;
    let socket = directory.join(SOCKET_FILE);
    // Left behind by a process that is gone: the directory's lock says that no other one runs.
    let _ = std::fs::remove_file(&socket);
    let unix = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    let tcp = TcpListener::bind(listen).await?;
    let address = tcp.local_addr()?;
    let guarded = guard::guarded(routes(node.clone()), guard::Guard::new(token, address));
    let local = routes(node);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(unix, local).await {
            tracing::error!(%error, "the API's socket has failed");
        }
    });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(patience::Patient(tcp), guarded).await {
            tracing::error!(%error, "the API has failed");
        }
    });
    Ok(address)
}

fn routes(node: NodeHandle) -> Router {
    Router::new()
        .route("/health", get(|| async { Json(serde_json::json!({ "ok": true })) }))
        .route("/v1/status", get(status))
        .route("/v1/sales", get(sales).post(record_sale))
        .route("/v1/sales/{sale}", get(sale))
        .route("/v1/catalog", get(catalog).put(publish))
        .route("/v1/catalog/counts", get(counts))
        .route("/v1/catalog/import", post(import_products).layer(DefaultBodyLimit::max(IMPORT_MAX)))
        .route("/v1/members", get(members))
        .route("/v1/explain/{subject}", get(explain))
        .route("/v1/invites", post(invite))
        .route("/v1/join", post(join))
        .route("/v1/join-requests", get(join_requests))
        .route("/v1/approve", post(approve))
        .route("/v1/delegate", post(delegate))
        .route("/v1/revoke", post(revoke))
        .route("/v1/readmit", post(readmit))
        .route("/v1/erase", post(erase))
        .route("/v1/raise", post(raise))
        .route("/v1/policy", get(policy).put(set_policy))
        .route("/v1/hub/rotate-key", post(rotate_key))
        .route("/v1/hub/accept-loss", post(accept_loss))
        .route("/v1/settle", post(settle))
        .route("/v1/ledger", get(ledger))
        .route("/v1/statements", get(statements))
        .route("/v1/export", get(export))
        .route("/v1/log", get(log))
        .route("/v1/uplink", put(uplink))
        .route("/v1/power", put(power))
        .route("/v1/peers", post(add_peer))
        .route("/v1/events", get(events))
        .fallback(page)
        .layer(axum::middleware::map_response(problem::in_words))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Arc::new(Api { node }))
}

/// Turns an answer into JSON, or a failure into a problem.
fn reply(answer: Answer) -> Reply {
    fn json(value: impl Serialize) -> Reply {
        Ok(Json(value).into_response())
    }
    match answer {
        Answer::Done => json(serde_json::json!({ "done": true })),
        Answer::Sale(sale) => json(sale),
        Answer::Sales(sales) => json(sales),
        Answer::Products(products) => json(products),
        Answer::CatalogCounts(counts) => json(counts),
        Answer::Members(members) => json(members),
        Answer::Status(status) => json(*status),
        Answer::Explain(view) => json(view),
        Answer::Invite(invite) => json(serde_json::json!({ "invite": invite })),
        Answer::JoinRequests(requests) => json(requests),
        Answer::Settlement(settlement) => json(settlement),
        Answer::Policy(policy) => json(policy),
        Answer::Ledger(ledger) => json(ledger),
        Answer::Statements(statements) => json(statements),
        Answer::Entries(entries) => json(entries),
        Answer::Export { bytes, cursor } => {
            let cursor = HeaderValue::from_str(&hex::encode(cursor)).unwrap_or(HeaderValue::from_static(""));
            Ok((
                [(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")), (CURSOR, cursor)],
                bytes,
            )
                .into_response())
        }
        Answer::Failed(failure) => Err(failure.into()),
    }
}

const CURSOR: header::HeaderName = header::HeaderName::from_static("stallmesh-cursor");

fn parse<T: for<'a> Deserialize<'a>>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Failure::new(FailureCode::EInvalid, error.to_string()).into())
}

fn parse_text<T: std::str::FromStr>(text: &str) -> Result<T, Problem>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| Failure::new(FailureCode::EInvalid, error.to_string()).into())
}

async fn status(State(api): State<Arc<Api>>) -> Reply {
    reply(api.node.ask(Request::Status).await)
}

#[derive(Deserialize)]
struct ListQuery {
    limit: Option<usize>,
    before: Option<String>,
}

async fn sales(State(api): State<Arc<Api>>, Query(query): Query<ListQuery>) -> Reply {
    let before = query.before.as_deref().map(parse_text::<SaleId>).transpose()?;
    let limit = query.limit.unwrap_or(100).min(PAGE_MAX);
    reply(api.node.ask(Request::Sales { limit, before }).await)
}

async fn sale(State(api): State<Arc<Api>>, UrlPath(sale): UrlPath<String>) -> Reply {
    reply(api.node.ask(Request::Sale(parse_text(&sale)?)).await)
}

async fn record_sale(State(api): State<Arc<Api>>, headers: HeaderMap, Whole(body): Whole) -> Reply {
    let mut value: serde_json::Value = parse(&body)?;
    // The key may stand in the header, as elsewhere on the web, or in the body.
    if let Some(key) = headers.get("idempotency-key").and_then(|key| key.to_str().ok())
        && let Some(object) = value.as_object_mut()
    {
        object.entry("idempotency_key").or_insert_with(|| key.into());
    }
    let order: SaleOrder = serde_json::from_value(value)
        .map_err(|error| Problem::from(Failure::new(FailureCode::EInvalid, error.to_string())))?;
    match api.node.ask(Request::RecordSale(order)).await {
        Answer::Sale(sale) => Ok((StatusCode::CREATED, Json(sale)).into_response()),
        other => reply(other),
    }
}

#[derive(Deserialize)]
struct CatalogQuery {
    stall: Option<String>,
    #[serde(default)]
    q: String,
    limit: Option<usize>,
}

async fn catalog(State(api): State<Arc<Api>>, Query(query): Query<CatalogQuery>) -> Reply {
    let limit = query.limit.unwrap_or(100).min(100_000);
    reply(api.node.ask(Request::Catalog { stall: query.stall, query: query.q, limit }).await)
}

async fn publish(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let products: Vec<ProductView> = parse(&body)?;
    reply(api.node.ask(Request::PublishProducts(products)).await)
}

async fn counts(State(api): State<Arc<Api>>) -> Reply {
    reply(api.node.ask(Request::CatalogCounts).await)
}

#[derive(Deserialize)]
struct ImportQuery {
    #[serde(default)]
    tax: String,
}

async fn import_products(State(api): State<Arc<Api>>, Query(query): Query<ImportQuery>, Whole(body): Whole) -> Reply {
    let Answer::Status(status) = api.node.ask(Request::Status).await else {
        return Err(Failure::new(FailureCode::EUnavailable, "the node has stopped").into());
    };
    let exponent = stallmesh_protocol::money::exponent(&status.currency)
        .map_err(|error| Problem::from(Failure::new(FailureCode::ENotMember, error.to_string())))?;
    let tax = Some(query.tax).filter(|tax| !tax.is_empty());
    // A large file takes a while to read; the other requests don't wait for it.
    let imported = tokio::task::spawn_blocking(move || import::shopify(body.as_ref(), exponent, tax.as_deref()))
        .await
        .map_err(|error| Problem::from(Failure::new(FailureCode::EUnavailable, error.to_string())))?
        .map_err(|error| Problem::from(Failure::new(FailureCode::EInvalid, error.to_string())))?;
    let count = imported.products.len();
    match api.node.ask(Request::PublishProducts(imported.products)).await {
        Answer::Done => Ok(Json(serde_json::json!({ "products": count, "skipped": imported.skipped })).into_response()),
        other => reply(other),
    }
}

async fn members(State(api): State<Arc<Api>>) -> Reply {
    reply(api.node.ask(Request::Members).await)
}

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

async fn invite(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let order: InviteOrder = parse(&body)?;
    reply(api.node.ask(Request::CreateInvite(order)).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinBody {
    invite: String,
    #[serde(default)]
    name: String,
    /// Present: ask a person instead of using the invite's right.
    ask_for_stall: Option<String>,
}

async fn join(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let JoinBody { invite, name, ask_for_stall } = parse(&body)?;
    let request = match ask_for_stall {
        Some(stall) => Request::AskToJoin { market: invite, name, stall },
        None => Request::Join { invite, name },
    };
    reply(api.node.ask(request).await)
}

async fn join_requests(State(api): State<Arc<Api>>) -> Reply {
    reply(api.node.ask(Request::JoinRequests).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApproveBody {
    code: String,
    valid_ms: u64,
}

async fn approve(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let ApproveBody { code, valid_ms } = parse(&body)?;
    reply(api.node.ask(Request::Approve { code, valid_ms }).await)
}

async fn delegate(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let order: DelegateOrder = parse(&body)?;
    reply(api.node.ask(Request::Delegate(order)).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceBody {
    device: String,
    #[serde(default)]
    reason: String,
}

async fn revoke(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let DeviceBody { device, reason } = parse(&body)?;
    reply(api.node.ask(Request::Revoke { device: parse_text(&device)?, reason }).await)
}

async fn readmit(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let DeviceBody { device, .. } = parse(&body)?;
    reply(api.node.ask(Request::Readmit { device: parse_text(&device)? }).await)
}

#[derive(Deserialize)]
struct EraseBody {
    entry: String,
}

async fn erase(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let EraseBody { entry } = parse(&body)?;
    reply(api.node.ask(Request::Erase { subject: entry }).await)
}

async fn raise(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let DeviceBody { device, .. } = parse(&body)?;
    reply(api.node.ask(Request::Raise { device: parse_text(&device)? }).await)
}

async fn policy(State(api): State<Arc<Api>>) -> Reply {
    reply(api.node.ask(Request::Policy).await)
}

async fn set_policy(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let view: PolicyView = parse(&body)?;
    reply(api.node.ask(Request::SetPolicy(view)).await)
}

async fn rotate_key(State(api): State<Arc<Api>>) -> Reply {
    let file = api.node.rotate_opening_key().await?;
    Ok(Json(serde_json::json!({ "file": file })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LossBody {
    settlement: u64,
}

async fn accept_loss(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let LossBody { settlement } = parse(&body)?;
    reply(api.node.ask(Request::AcceptLoss { settlement }).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettleBody {
    #[serde(default)]
    dry_run: bool,
}

async fn settle(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let SettleBody { dry_run } = parse(&body)?;
    reply(api.node.ask(Request::Settle { dry_run }).await)
}

async fn ledger(State(api): State<Arc<Api>>) -> Reply {
    reply(api.node.ask(Request::Ledger).await)
}

async fn statements(State(api): State<Arc<Api>>) -> Reply {
    reply(api.node.ask(Request::Statements).await)
}

#[derive(Deserialize)]
struct ExportQuery {
    #[serde(default)]
    cursor: String,
}

async fn export(State(api): State<Arc<Api>>, Query(query): Query<ExportQuery>) -> Reply {
    let cursor = hex::decode(&query.cursor)
        .map_err(|_| Problem::from(Failure::new(FailureCode::EInvalid, "cursor: not one that an export gave")))?;
    reply(api.node.ask(Request::Export { cursor }).await)
}

#[derive(Deserialize)]
struct LogQuery {
    author: Option<String>,
    lane: Option<String>,
    limit: Option<usize>,
}

async fn log(State(api): State<Arc<Api>>, Query(query): Query<LogQuery>) -> Reply {
    let author = query.author.as_deref().map(parse_text::<DeviceId>).transpose()?;
    let limit = query.limit.unwrap_or(50).min(PAGE_MAX);
    reply(api.node.ask(Request::LogShow { author, lane: query.lane, limit }).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UplinkBody {
    up: bool,
}

async fn uplink(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let UplinkBody { up } = parse(&body)?;
    reply(api.node.ask(Request::SetUplink { up }).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PowerBody {
    #[serde(default)]
    battery: u32,
    #[serde(default)]
    metered: bool,
}

async fn power(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let PowerBody { battery, metered } = parse(&body)?;
    reply(api.node.ask(Request::SetPower { battery, metered }).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerBody {
    address: String,
}

async fn add_peer(State(api): State<Arc<Api>>, Whole(body): Whole) -> Reply {
    let PeerBody { address } = parse(&body)?;
    reply(api.node.ask(Request::AddPeer { address }).await)
}

/// Server-sent events: one for each change, with its JSON. Whoever falls behind is told to look anew.
async fn events(State(api): State<Arc<Api>>) -> Sse<impl tokio_stream::Stream<Item = Result<Event, Infallible>>> {
    let stream = BroadcastStream::new(api.node.subscribe()).map(|notice| {
        let event = match notice {
            Ok(notice) => serde_json::to_string(&notice).map(|json| Event::default().data(json)),
            Err(_) => Ok(Event::default().event("missed").data("{}")),
        };
        Ok(event.unwrap_or_default())
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

async fn page(uri: Uri) -> Response {
    match stallmesh_dashboard::asset(uri.path()) {
        Some(asset) => {
            let kind = HeaderValue::from_static(asset.content_type);
            ([(header::CONTENT_TYPE, kind)], asset.bytes).into_response()
        }
        None => Problem::from(Failure::new(FailureCode::ENotFound, format!("there is nothing at {}", uri.path())))
            .into_response(),
    }
}

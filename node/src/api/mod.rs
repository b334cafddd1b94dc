//! The local HTTP API: JSON over loopback TCP, guarded against other web pages, and over a Unix socket in the data
//! directory, guarded by the file system. A shell over [`Request`] and [`Answer`].

mod answers;
mod body;
mod events;
mod goods;
mod guard;
mod hub;
mod machine;
mod market;
pub mod openapi;
mod page;
mod patience;
mod payments;
mod problem;
mod sales;
mod till;

use std::path::Path;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};
use utoipa_axum::router::OpenApiRouter;

pub use self::guard::{TOKEN_FILE, read_or_create_token};
pub use self::problem::Problem;
use crate::engine::{Answer, Failure, FailureCode};
use crate::runtime::NodeHandle;

/// The Unix socket's file name in the data directory.
pub const SOCKET_FILE: &str = "api.sock";
/// The largest body of a request, in bytes.
const BODY_MAX: usize = 1024 * 1024;
/// Answers in one page of a list.
const PAGE_MAX: usize = 1000;

type Reply = Result<Response, Problem>;

#[derive(Clone)]
struct Api {
    node: NodeHandle,
}

/// Serves the API on a Unix socket and on TCP until the process ends. `announce` is told the address before anything is
/// answered.
///
/// # Errors
/// The socket or the address can't be listened on, or the address not be announced.
pub async fn serve(
    node: NodeHandle,
    directory: &Path,
    listen: std::net::SocketAddr,
    token: &str,
    announce: impl FnOnce(std::net::SocketAddr) -> std::io::Result<()>,
) -> std::io::Result<std::net::SocketAddr> {
    use std::os::unix::fs::PermissionsExt;
    let socket = directory.join(SOCKET_FILE);
    // Left behind by a process that is gone: the directory's lock says that no other one runs.
    let _ = std::fs::remove_file(&socket);
    let unix = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    let tcp = TcpListener::bind(listen).await?;
    let address = tcp.local_addr()?;
    announce(address)?;
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

/// All routes, with what the document says of them.
fn described() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(openapi::head())
        .merge(machine::routes())
        .merge(events::routes())
        .merge(sales::routes())
        .merge(till::routes())
        .merge(payments::routes())
        .merge(goods::routes())
        .merge(market::routes())
        .merge(hub::routes())
}

fn routes(node: NodeHandle) -> Router {
    let (routes, _) = described().split_for_parts();
    routes
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
        Answer::Done => json(answers::Done::new()),
        Answer::Quote(quote) => json(quote),
        Answer::Basket(basket) => json(basket),
        Answer::Baskets(baskets) => json(baskets),
        Answer::Promotions(promotions) => json(promotions),
        Answer::Conditions(conditions) => json(conditions),
        Answer::CheckoutRules(rules) => json(rules),
        Answer::Signals(signals) => json(signals),
        Answer::Sale(sale) => json(sale),
        Answer::Sales(sales) => json(sales),
        Answer::Products(products) => json(products),
        Answer::CatalogCounts(counts) => json(counts),
        Answer::Found(found) => json(found),
        Answer::CatalogStatus(status) => json(status),
        Answer::Stock(stock) => json(stock),
        Answer::Members(members) => json(members),
        Answer::Status(status) => json(*status),
        Answer::Explain(view) => json(view),
        Answer::OpeningKey(file) => json(answers::OpeningKey { file }),
        Answer::Invite(invite) => json(answers::Invite { invite }),
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

async fn page(uri: Uri) -> Response {
    match stallmesh_dashboard::asset(uri.path()) {
        Some(asset) => {
            let kind = HeaderValue::from_static(asset.content_type);
            ([(header::CONTENT_TYPE, kind)], asset.bytes).into_response()
        }
        None => {
            // What is written in percent signs can't be masked, and is not repeated.
            let place = if uri.path().contains('%') { "this address" } else { uri.path() };
            Problem::from(Failure::new(FailureCode::ENotFound, format!("there is nothing at {place}"))).into_response()
        }
    }
}

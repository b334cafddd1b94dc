//! The TCP side's guard: a token on everything but health, a Host that is this machine, and writes from this page only.
//!
//! All three are needed: a page elsewhere can make a browser send requests here (Origin), and can make a name of its own
//! resolve to this machine (Host).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};

use super::Problem;
use crate::engine::{Failure, FailureCode};
use crate::identity::{self, IdentityError};

/// The token's file name in the data directory.
pub const TOKEN_FILE: &str = "api.token";
/// The session cookie's name but for the port: cookies don't tell ports apart, and nodes of one machine would overwrite
/// each other's.
const COOKIE: &str = "stallmesh-session-";

/// Reads the API's token, or makes one.
///
/// # Errors
/// The file is damaged, readable by others, or can't be written.
pub fn read_or_create_token(directory: &Path) -> Result<String, IdentityError> {
    let token = match identity::read_key(directory, TOKEN_FILE)? {
        Some(token) => *token,
        None => {
            let token = identity::random()?;
            identity::write_key(directory, TOKEN_FILE, &token)?;
            token
        }
    };
    Ok(hex::encode(token))
}

/// What lets a request through.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    token: Arc<str>,
    hosts: Arc<BTreeSet<String>>,
    cookie: Arc<str>,
}

impl Guard {
    pub(super) fn new(token: &str, address: SocketAddr) -> Self {
        let port = address.port();
        let mut hosts: BTreeSet<String> =
            ["127.0.0.1", "localhost", "[::1]"].iter().map(|host| format!("{host}:{port}")).collect();
        hosts.insert(address.to_string());
        Guard { token: token.into(), hosts: Arc::new(hosts), cookie: format!("{COOKIE}{port}").into() }
    }

    /// Compares in a time that doesn't depend on where the first difference is.
    fn is_token(&self, candidate: &str) -> bool {
        candidate.len() == self.token.len()
            && candidate.bytes().zip(self.token.bytes()).fold(0, |difference, (one, other)| difference | (one ^ other))
                == 0
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let cookie = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .find_map(|pair| pair.trim().strip_prefix(&*self.cookie)?.strip_prefix('='));
        bearer.into_iter().chain(cookie).any(|candidate| self.is_token(candidate))
    }
}

pub(super) fn guarded(routes: Router, guard: Guard) -> Router {
    routes.layer(middleware::from_fn_with_state(guard, check))
}

fn refused(status: StatusCode, detail: &str) -> Response {
    Problem::new(status, Failure::new(FailureCode::EScope, detail)).into_response()
}

async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !guard.hosts.contains(host) {
        return refused(StatusCode::FORBIDDEN, "this API answers to local names only");
    }
    let page = stallmesh_dashboard::PAGES.iter().find(|page| **page == request.uri().path());
    if let Some(page) = page
        && let Some(token) = request.uri().query().and_then(|query| query.strip_prefix("token="))
    {
        // The token doesn't stay in the address: it is exchanged for a cookie that other pages can't use.
        if !guard.is_token(token) {
            return refused(
                StatusCode::UNAUTHORIZED,
                "that is not this node's token: see api.token in its data directory",
            );
        }
        let cookie = format!("{}={token}; HttpOnly; SameSite=Strict; Path=/", guard.cookie);
        let mut response = Redirect::to(page).into_response();
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        return secured(response);
    }
    let open = request.uri().path() == "/health";
    if !open && !guard.has_token(request.headers()) {
        let detail = "send `Authorization: Bearer …` with the token from api.token in the node's data directory";
        return secured(refused(StatusCode::UNAUTHORIZED, detail));
    }
    let writes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if writes && !from_here(request.headers(), &guard) {
        return refused(StatusCode::FORBIDDEN, "writes from other web pages are refused");
    }
    secured(next.run(request).await)
}

/// Whether a write comes from this node's own page, or from no page at all.
fn from_here(headers: &HeaderMap, guard: &Guard) -> bool {
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let site_fits = site.is_none_or(|site| matches!(site, "same-origin" | "none"));
    let origin_fits =
        origin.is_none_or(|origin| origin.strip_prefix("http://").is_some_and(|host| guard.hosts.contains(host)));
    site_fits && origin_fits
}

fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const TOKEN: &str = "00112233";

    async fn status_of(head: &str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/", get(|| async { "page" }))
            .route("/till", get(|| async { "till" }))
            .route("/health", get(|| async { "ok" }))
            .route("/v1/sales", get(|| async { "sales" }).post(|| async { "recorded" }));
        tokio::spawn(async move { axum::serve(listener, guarded(routes, Guard::new(TOKEN, address))).await });
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = head.replace("HOST", &address.to_string()).replace("PORT", &address.port().to_string());
        stream.write_all(format!("{head}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn only_the_tokens_holder_on_this_machine_gets_in() {
        let bearer = format!("Authorization: Bearer {TOKEN}");
        for (head, expected) in [
            ("GET /health HTTP/1.1\r\nHost: HOST".to_owned(), 200),
            ("GET /v1/sales HTTP/1.1\r\nHost: HOST".to_owned(), 401),
            (format!("GET /v1/sales HTTP/1.1\r\nHost: HOST\r\n{bearer}"), 200),
            (format!("GET /v1/sales HTTP/1.1\r\nHost: HOST\r\n{bearer}4"), 401),
            (format!("GET /v1/sales HTTP/1.1\r\nHost: HOST\r\nCookie: a=b; stallmesh-session-PORT={TOKEN}"), 200),
            // Another node's of this machine, with whatever is in it.
            (format!("GET /v1/sales HTTP/1.1\r\nHost: HOST\r\nCookie: stallmesh-session-1={TOKEN}"), 401),
            (
                "GET /v1/sales HTTP/1.1\r\nHost: HOST\r\nCookie: stallmesh-session-1=x; stallmesh-session-PORT=TOKEN"
                    .replace("TOKEN", TOKEN),
                200,
            ),
            // A name elsewhere that was made to resolve to this machine.
            (format!("GET /v1/sales HTTP/1.1\r\nHost: evil.example\r\n{bearer}"), 403),
            ("GET /health HTTP/1.1\r\nHost: evil.example".to_owned(), 403),
            (format!("GET /?token={TOKEN} HTTP/1.1\r\nHost: HOST"), 303),
            (format!("GET /till?token={TOKEN} HTTP/1.1\r\nHost: HOST"), 303),
            ("GET /till?token=11112233 HTTP/1.1\r\nHost: HOST".to_owned(), 401),
            (format!("GET /v1/sales?token={TOKEN} HTTP/1.1\r\nHost: HOST"), 401),
            ("GET /?token=11112233 HTTP/1.1\r\nHost: HOST".to_owned(), 401),
        ] {
            assert_eq!(status_of(&head).await, expected, "{head}");
        }
    }

    #[tokio::test]
    async fn writes_from_other_pages_are_refused() {
        let bearer = format!("Authorization: Bearer {TOKEN}");
        for (extra, expected) in [
            ("", 200),
            ("\r\nOrigin: http://HOST", 200),
            ("\r\nOrigin: http://HOST\r\nSec-Fetch-Site: same-origin", 200),
            ("\r\nOrigin: https://evil.example", 403),
            ("\r\nOrigin: null", 403),
            ("\r\nSec-Fetch-Site: cross-site", 403),
            ("\r\nSec-Fetch-Site: same-site", 403),
        ] {
            let head = format!("POST /v1/sales HTTP/1.1\r\nHost: HOST\r\n{bearer}{extra}");
            assert_eq!(status_of(&head).await, expected, "{extra}");
        }
    }
}

//! Pages of lists that grow: each is in a stable order, and says where the next one begins (`Link`, RFC 8288). So that
//! whoever walks through them while things are added meets each thing that was there once.

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::{PAGE_MAX, Problem, Reply};
use crate::card_data;
use crate::engine::{Failure, FailureCode};

/// Where a page begins, and how long it is.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// At most so many.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<usize>,
    /// What the `Link` of the page before says: those after it.
    after: Option<String>,
}

/// How many there are on a page.
pub(super) fn limit(asked: Option<usize>, default: usize, max: usize) -> usize {
    asked.unwrap_or(default).clamp(1, max)
}

/// Leaves so many, and gives the last of them if there are more.
pub(super) fn cut<T>(items: &mut Vec<T>, limit: usize) -> Option<&T> {
    let more = items.len() > limit;
    items.truncate(limit);
    items.last().filter(|_| more)
}

/// A page as an answer: the list alone, and in the header how to get the next.
pub(super) fn of<T: Serialize>(
    items: Vec<T>,
    path: &str,
    query: &[(&str, String)],
    next: Option<(&str, String)>,
) -> Response {
    let mut response = Json(items).into_response();
    if let Some((name, value)) = next {
        let pairs = query.iter().map(|(name, value)| (*name, value)).chain([(name, &value)]);
        // A stall or a product that would be called so isn't there.
        let pairs: Vec<String> =
            pairs.map(|(name, value)| format!("{name}={}", encoded(&card_data::mask(value)))).collect();
        let link = format!("<{path}?{}>; rel=\"next\"", pairs.join("&"));
        // All of it is ASCII.
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}

/// A list that is there as a whole, by a key of its own: one page of it.
pub(super) fn by_key<T: Serialize>(
    mut items: Vec<T>,
    key: impl Fn(&T) -> String,
    path: &str,
    more: &[(&str, String)],
    query: &PageQuery,
) -> Reply {
    let limit = limit(query.limit, PAGE_MAX, PAGE_MAX);
    items.sort_by_cached_key(&key);
    if let Some(after) = &query.after {
        let after = read_cursor(after)?;
        items.retain(|item| key(item) > after);
    }
    let next = cut(&mut items, limit).map(|last| ("after", cursor(&key(last))));
    let query: Vec<_> = [("limit", limit.to_string())].into_iter().chain(more.iter().cloned()).collect();
    Ok(of(items, path, &query, next))
}

/// A place as whoever walks gives it back: nothing to read anything into.
pub(super) fn cursor(key: &str) -> String {
    hex::encode(key)
}

/// The key of a place.
pub(super) fn read_cursor(text: &str) -> Result<String, Problem> {
    let key = hex::decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    key.ok_or_else(|| Failure::new(FailureCode::EInvalid, "after: not one that a page gave").into())
}

/// As a query has it.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

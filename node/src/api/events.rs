//! The stream of what changes.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt, stream};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::engine::Notice;
use crate::events::Told;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Server-sent events: one for each change
///
/// The `data` of each is a Notice, its `id` its place. Whoever comes back with the last id in `Last-Event-ID`, as browsers do
/// by themselves, hears of all that it has not heard of. Where that isn't known any more (after a restart, or too much of it)
/// an event named `missed` (data `{}`) comes first: look anew.
#[utoipa::path(
    get, path = "/v1/events", tag = "node",
    params(("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was heard.")),
    responses((status = 200, description = "Until the caller leaves.", body = Notice, content_type = "text/event-stream"))
)]
async fn events(State(api): State<Arc<Api>>, headers: HeaderMap) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = api.node.events();
    let listener = match headers.get("last-event-id") {
        // One that can't be read is none that is known.
        Some(last) => events.listen_after(last.to_str().ok().and_then(|last| last.trim().parse().ok())),
        None => events.listen(),
    };
    // An id alone is no event: it is where to go on for who leaves before the first.
    let place = stream::iter(listener.place().map(|place| Event::default().id(place.to_string())));
    let changes = stream::unfold(listener, |mut listener| async move {
        let event = match listener.next().await? {
            Told::Notice(id, notice) => {
                // Nothing of it can't be written.
                Event::default().id(id.to_string()).data(serde_json::to_string(&notice).unwrap_or_default())
            }
            Told::Missed(id) => Event::default().id(id.to_string()).event("missed").data("{}"),
        };
        Some((event, listener))
    });
    Sse::new(place.chain(changes).map(Ok)).keep_alive(KeepAlive::default())
}

//! How far a start has come, in the log: the times of the lines tell where it went.
//! `STALLMESH_LOG_FILTER=stallmesh::start=debug` shows them; `tests/bench start` reads them.

/// Says that a start has come this far.
pub(crate) fn reached(phase: &str) {
    tracing::debug!(target: "stallmesh::start", "{phase}");
}

//! Small answers that are the API's own.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// It is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Done {
    /// Always true: what isn't done is a problem.
    done: bool,
}

impl Done {
    pub(super) fn new() -> Self {
        Done { done: true }
    }
}

/// The node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Health {
    /// Always true.
    pub(super) ok: bool,
}

/// An invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Invite {
    /// `stallmesh:…`: it gives the right to join, so it is shown to nobody else.
    pub(super) invite: String,
}

/// A new opening key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct OpeningKey {
    /// Its file's name in the data directory.
    pub(super) file: String,
}

/// What an import has published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Imported {
    /// Products that were published.
    pub(super) products: usize,
    /// Rows that were left out.
    pub(super) skipped: usize,
    /// Pictures that rows name.
    pub(super) pictures: u64,
    /// What was not taken as it stands, in sentences with the row.
    pub(super) warnings: Vec<String>,
}

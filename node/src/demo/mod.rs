//! A whole market on one machine: real processes of this program that join, sell, carry, break and settle.

mod count;
mod market;
mod network;
mod process;

use std::path::PathBuf;

pub(crate) use self::count::{CountArguments, count};
pub(crate) use self::market::run;

/// How the demo is run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoArguments {
    /// How many stalls, 2 to 30.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(2..=30))]
    pub(crate) stalls: u8,
    /// For how many seconds the stalls sell without an uplink.
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// What is drawn at random is drawn from this number.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print lines only.
    #[arg(long)]
    pub(crate) headless: bool,
    /// Write the figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Leave the market running at the end, and show the dashboard's address.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Keep the nodes' data here: hub, gateway, stall-1, …
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Product files (Shopify CSV) instead of the demo's own.
    #[arg(long, value_name = "DIR")]
    pub(crate) catalogs: Option<PathBuf>,
    /// Baskets to sell, one a line, item names separated by commas.
    #[arg(long, value_name = "FILE")]
    pub(crate) baskets: Option<PathBuf>,
    /// Test only: falsify what is counted, to see that it is noticed: drop, double or alter.
    #[arg(long, hide = true)]
    pub(crate) falsify: Option<String>,
}

/// Why the demo has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// What went wrong.
    #[error("{0}")]
    Failed(String),
    /// The system refused.
    #[error("{what}: {source}")]
    Io {
        /// What for.
        what: &'static str,
        /// Its words.
        source: std::io::Error,
    },
}

impl DemoError {
    fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> DemoError {
        move |source| DemoError::Io { what, source }
    }
}

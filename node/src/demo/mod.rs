//! A whole market on one machine: real processes of this program that join, sell, carry, break and settle.
//!
//! | module | its one idea |
//! | --- | --- |
//! | `input` | everything that the user gives, read and checked before anything runs |
//! | `network` | where the nodes live: namespaces, an interface, loopback |
//! | `process` | one node's process: start, stop, kill, ask |
//! | `story` | what organiser and stalls publish: promotions, and by what cards are judged |
//! | `shop` | the shop side: what tills order, how buyers pay, what vendors say |
//! | `journal` | what nodes have answered to the shop side |
//! | `market` | all nodes together, and the order of the steps |
//! | `steps` | the six steps, each with its proof |
//! | `outsider` | processes that mean ill: a stranger, and a member that replays and alters |
//! | `count`, `evidence`, `falsify` | the second process, which counts; what it reads; how it is tested |
//! | `board`, `view` | what a person watches |

mod board;
mod count;
mod evidence;
mod falsify;
mod forward;
mod input;
mod journal;
mod market;
mod network;
mod outsider;
mod process;
mod shop;
mod steps;
mod story;
mod view;

use std::path::PathBuf;

pub(crate) use self::count::{CountArguments, RecomputeArguments, count, recompute_apart};
use self::falsify::Falsify;
pub(crate) use self::forward::{ForwardArguments, forward};
pub(crate) use self::market::run;
use self::network::NetworkKind;
pub(crate) use self::outsider::{OutsiderArguments, outsider};

/// How the demo is run.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stallmesh demo                                     six stalls, watched on the terminal
  stallmesh demo --stalls 12 --seconds 10            a larger market that sells for longer
  stallmesh demo --catalogs DIR --baskets FILE       your own product files and baskets
  stallmesh demo --headless --report report.json     lines only, and the figures as JSON
  stallmesh demo --keep --dir market                 leave it running, and keep its data

Exit status: 0 when everything adds up; 1 when a sale is lost, doubled or wrong, or anything else fails.")]
pub(crate) struct DemoArguments {
    /// How many stalls, 2 to 30.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(2..=30))]
    pub(crate) stalls: u8,
    /// For how many seconds the stalls sell without an uplink, at most 600.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=600))]
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
    /// Where the nodes live; `auto` takes the first of the others that this machine allows.
    #[arg(long, value_enum, default_value_t = NetworkKind::Auto)]
    pub(crate) network: NetworkKind,
    /// Test only: falsify the market, its export or what the shops were told, to see that it is noticed.
    #[arg(long, hide = true, value_enum)]
    pub(crate) falsify: Option<Falsify>,
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
        what: String,
        /// Its words.
        source: std::io::Error,
    },
}

impl DemoError {
    fn io(what: impl ToString) -> impl FnOnce(std::io::Error) -> DemoError {
        move |source| DemoError::Io { what: what.to_string(), source }
    }

    fn failed(error: impl std::fmt::Display) -> DemoError {
        DemoError::Failed(error.to_string())
    }
}

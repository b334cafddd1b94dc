//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// What stands above the options that all commands have.
const EVERYWHERE: &str = "Options of every command";

/// The checkout mesh for pop-up markets: sells off line, carries sales through neighbours, settles at the hub.
#[derive(Debug, Parser)]
#[command(
    name = "stallmesh",
    version,
    after_help = "\
Examples:
  stallmesh demo                                            watch a whole market on this machine
  stallmesh --data-dir hub market create \"Quay market\"      make a market and its hub
  stallmesh --data-dir hub run                              run the hub
  stallmesh --data-dir hub invite --stall river-ceramics    let a stall in
  stallmesh --data-dir till join stallmesh:…                join, on the stall's device
  stallmesh --data-dir till run                             run the stall's node
  stallmesh --data-dir till sell 2xMUG-L --cash             record a sale

Exit status: 0 done, 1 failed, 2 wrong usage, 3 no node runs in the data directory, 4 the node refused."
)]
pub(crate) struct Arguments {
    /// Where this node keeps its keys and data.
    #[arg(
        long,
        global = true,
        env = "STALLMESH_DATA_DIR",
        default_value = "stallmesh-data",
        value_name = "DIR",
        help_heading = EVERYWHERE
    )]
    pub(crate) data_dir: PathBuf,
    /// The configuration file.
    #[arg(long, global = true, env = "STALLMESH_CONFIG", value_name = "FILE", help_heading = EVERYWHERE)]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a market.
    #[command(subcommand)]
    Market(MarketCommand),
    /// Run this data directory's node until it is stopped.
    Run,
    /// What is done at a hub alone.
    #[command(subcommand)]
    Hub(HubCommand),
    /// Hub: make an invite for one device.
    Invite(InviteArguments),
    /// Join a market with an invite, or ask to.
    Join(JoinArguments),
    /// Hub: requests that wait for approval, with the codes to compare.
    Requests,
    /// Hub: admit the device whose screen shows this code.
    Approve {
        /// Six digits, as both screens show them: 123-456.
        code: String,
        /// For how many days its certificate will be valid.
        #[arg(long, default_value_t = 30)]
        days: u64,
    },
    /// Give a helper's device a narrower certificate of this stall.
    Delegate(DelegateArguments),
    /// End a device's certificate.
    Revoke {
        /// Its key, or the beginning of it.
        device: String,
        /// Why, for whoever reads it later.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Let a quarantined device take part again, from its newest start on.
    Readmit {
        /// Its key, or the beginning of it.
        device: String,
    },
    /// Erase what an entry says about a person, on every device; by the hub or the stall's owner.
    Erase {
        /// A sale id of this device, or an entry as `sales --json` shows it.
        entry: String,
    },
    /// Hub: let what has arrived from a revoked device count, too.
    Raise {
        /// Its key, or the beginning of it.
        device: String,
    },
    /// Publish the products of a file: Shopify's product CSV, or Square's item library.
    Import {
        /// The file; `-` for standard input.
        file: PathBuf,
        /// The tax rate's name for taxable products.
        #[arg(long, default_value = "", hide_default_value = true)]
        tax: String,
        /// Which of a Square file's locations this stall is.
        #[arg(long)]
        location: Option<String>,
    },
    /// Write what this stall offers to a file that Shopify, Square and this program read.
    Export {
        /// The file to write.
        file: PathBuf,
        /// Whose columns it has.
        #[arg(long, value_parser = ["shopify", "square"], default_value = "shopify")]
        format: String,
    },
    /// Promotions and fees.
    #[command(subcommand)]
    Promotion(super::promotion::PromotionCommand),
    /// Weather, demand, queues: what promotions may ask for.
    #[command(subcommand)]
    Condition(super::condition::ConditionCommand),
    /// By what tills judge payments: fraud rules, and what is taken by card without the hub.
    #[command(subcommand)]
    Rules(super::rules::RulesCommand),
    /// Cards: block one, let it go, see what is said of them.
    #[command(subcommand)]
    Card(super::rules::CardCommand),
    /// Record a sale.
    Sell(SellArguments),
    /// What a basket costs, from files: reductions, fees and taxes, each with its reason. Needs no running node.
    #[command(after_help = "\
Example:
  stallmesh quote --catalog catalog.json --promotions promotions.json --basket basket.json --json

Exit status: 0 done, 1 an input is wrong: `--json` says where, as an object on standard error.")]
    Quote(super::quote::QuoteArguments),
    /// Sales of this device, newest first.
    Sales {
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// What the market offers, what is left of it, and whether all of it is here.
    #[command(subcommand)]
    Catalog(super::goods::CatalogCommand),
    /// All devices of the market.
    Members,
    /// This node: links, uplink, custody, sales.
    Status,
    /// Why a device, a sale or an entry is, or isn't, here yet.
    Explain {
        /// A device key, a sale id, or an entry's hash.
        subject: String,
    },
    /// Hub: close a settlement batch and publish it.
    Settle {
        /// Say what it would be, and write nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Hub: balances and what stands in suspense.
    Ledger,
    /// The statements of this stall, one for each settlement.
    Statements,
    /// The market's terms. Hub: change those that are given.
    #[command(after_help = "Example:\n  stallmesh policy --fee 5 --tax standard=20 --tax reduced=7")]
    Policy(PolicyArguments),
    /// Switch the way to the hub.
    Uplink {
        /// `up` or `down`.
        #[arg(value_parser = ["up", "down"])]
        state: String,
    },
    /// Dial this address, too, until the next start.
    Peer {
        /// A multiaddr.
        address: String,
    },
    /// Export what this node holds; recompute a settlement from an export.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Show what stands in a device's logs.
    #[command(subcommand)]
    Log(LogCommand),
    /// Run a market for trying things out: a hub and a stall with products, and their tokens. Every sale is a rehearsal.
    ///
    /// Prints the addresses and a `curl` line that works; Ctrl-C ends it. See "A sale by curl" in the README.
    Dev(super::dev::DevArguments),
    /// Watch a whole market on this machine: processes, links, sales, trouble, settlement.
    Demo(crate::demo::DemoArguments),
    /// Counts a demo's sales, apart from everything that it counts.
    #[command(hide = true)]
    DemoCount(crate::demo::CountArguments),
    /// Recomputes a demo's settlement from the same records in another order.
    #[command(hide = true)]
    DemoRecompute(crate::demo::RecomputeArguments),
    /// A process of the demo that means ill: a stranger, or a dishonest member.
    #[command(hide = true)]
    DemoOutsider(crate::demo::OutsiderArguments),
    /// The demo's way to the hub's page from outside its network namespace.
    #[command(hide = true)]
    DemoForward(crate::demo::ForwardArguments),
    /// The program's version and formats.
    Version,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MarketCommand {
    /// Make a market's keys and its first hub in the data directory. Needs no running node.
    Create {
        /// What people call the market.
        name: String,
        /// Its currency, by ISO 4217.
        #[arg(long, default_value = "EUR")]
        currency: String,
        /// The market's share of a sale's net, in percent.
        #[arg(long, default_value = "0")]
        fee: String,
        /// A tax rate as name=percent; may be given several times.
        #[arg(long = "tax", value_name = "NAME=PERCENT")]
        taxes: Vec<String>,
        /// Prices include tax.
        #[arg(long)]
        tax_included: bool,
        /// For how many days the hub's certificate is valid.
        #[arg(long, default_value_t = 180)]
        days: u64,
    },
    /// The hub is gone: make a new one for its market in an empty data directory, from root.key and recovery.key alone.
    /// Needs no running node.
    #[command(after_help = "\
Example:
  stallmesh --data-dir hub2 market recover --keys /media/stick
  stallmesh --data-dir hub2 run")]
    Recover {
        /// The folder that holds root.key and recovery.key.
        #[arg(long, value_name = "DIR")]
        keys: PathBuf,
        /// What people call the new hub.
        #[arg(long, default_value = "hub")]
        name: String,
        /// For how many days its certificate is valid.
        #[arg(long, default_value_t = 180)]
        days: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum HubCommand {
    /// Seal everybody's sales to a new opening key from now on. The old one is kept, and opens what was sealed to it.
    RotateKey,
    /// Go on although sales that an earlier settlement had read are on no device any more. `ledger` says when that is in
    /// the way: nothing of that settlement is settled again, and what is lost stays lost.
    AcceptLoss {
        /// The settlement's number.
        settlement: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InviteArguments {
    /// The stall's slug: lower-case letters, digits, hyphens. Without it: a gateway.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) stall: String,
    /// What people call the device.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) name: String,
    /// For how many days a certificate is valid; the hub renews it for as long as it hears of the device.
    #[arg(long, default_value_t = 30)]
    pub(crate) days: u64,
    /// For how many hours the invite can be used.
    #[arg(long, default_value_t = 48)]
    pub(crate) hours: u64,
}

#[derive(Debug, Args)]
pub(crate) struct JoinArguments {
    /// The invite, as the organiser gave it: `stallmesh:…`
    pub(crate) invite: String,
    /// What people call this device.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) name: String,
    /// Don't use the invite's right: ask a person at the hub, for this stall.
    #[arg(long, value_name = "STALL")]
    pub(crate) ask: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DelegateArguments {
    /// The helper's device key, as `status` on it shows.
    pub(crate) device: String,
    /// The helper's seal key, as `status` on it shows.
    pub(crate) seal_key: String,
    /// What people call the device.
    #[arg(long, default_value = "helper")]
    pub(crate) name: String,
    /// What it may do: `sell`, `sell=5000` (minor units), `refund=2000`, `relay`, …; may be given several times.
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    pub(crate) scopes: Vec<String>,
    /// For how many hours its certificate will be valid.
    #[arg(long, default_value_t = 12)]
    pub(crate) hours: u64,
}

#[derive(Debug, Args)]
pub(crate) struct SellArguments {
    /// SKUs, each alone or as QUANTITYxSKU.
    #[arg(required = true)]
    pub(crate) lines: Vec<String>,
    /// Paid in cash (the default).
    #[arg(long, conflicts_with = "card")]
    pub(crate) cash: bool,
    /// Paid by card: the reader's token.
    #[arg(long, value_name = "TOKEN")]
    pub(crate) card: Option<String>,
    /// A code that the buyer gives; may be given several times.
    #[arg(long = "code", value_name = "CODE")]
    pub(crate) codes: Vec<String>,
    /// Chosen by the caller; the same key is the same sale, however often it is sent.
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Mark it as a rehearsal: it never reaches the ledger.
    #[arg(long)]
    pub(crate) rehearsal: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyArguments {
    /// The market's share of a sale's net, in percent.
    #[arg(long, value_name = "PERCENT")]
    pub(crate) fee: Option<String>,
    /// A tax rate as name=percent, or name=percent:other where it is also taken on another tax; may be given several
    /// times. Those that are given replace all.
    #[arg(long = "tax", value_name = "NAME=PERCENT")]
    pub(crate) taxes: Vec<String>,
    /// Whether prices include tax.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) tax_included: Option<bool>,
    /// Where taxes are rounded: on each line, or once for each rate.
    #[arg(long, value_parser = ["line", "total"])]
    pub(crate) tax_rounding: Option<String>,
    /// Cash totals are rounded to a multiple of this, in minor units; 1: not at all.
    #[arg(long, value_name = "MINOR")]
    pub(crate) cash_rounding: Option<u64>,
    /// Where the market is, for promotions' hours and days: Europe/Paris.
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
    /// How many neighbours keep a copy of each sale.
    #[arg(long, value_name = "COUNT")]
    pub(crate) carriers: Option<u32>,
    /// The largest card payment without an uplink, in minor units; 0: no limit.
    #[arg(long, value_name = "MINOR")]
    pub(crate) card_floor_limit: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Write all logs that this node holds, and the secrets of what it can open, to a file.
    Export {
        /// The file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Recompute the settlement from an export, on any machine.
    Digest {
        /// The export.
        file: PathBuf,
        /// The market's root key, or a file that holds it.
        #[arg(long, value_name = "KEY")]
        market_key: Option<String>,
        /// Read the logs in an order drawn from this number: the result must not depend on it.
        #[arg(long, default_value_t = 0)]
        order: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Newest entries of a device.
    Show {
        /// Its key; this device where left out.
        #[arg(long)]
        author: Option<String>,
        /// control, checkpoint, catalog, signal, sales or ledger.
        #[arg(long)]
        lane: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
}

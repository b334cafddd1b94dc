//! Carrying out commands.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where the program speaks")]

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use stallmesh_protocol::DeviceId;
use stallmesh_protocol::seal::SealKey;
use stallmesh_protocol::sign::DeviceKey;

use super::CliError;
use super::arguments::{
    Arguments, AuditCommand, Command, DelegateArguments, HubCommand, InviteArguments, JoinArguments, LogCommand,
    MarketCommand, SellArguments,
};
use super::client::{ask, send, value};
use super::logging;
use super::view::{money, short, table, text};
use crate::api;
use crate::card_data;
use crate::config::Config;
use crate::date::utc_minute;
use crate::engine::{MarketOrder, Now, PolicyView, create_market, recompute};
use crate::identity;
use crate::phases;
use crate::runtime;
use crate::store::{CACHE_BYTES, DirectoryLock, RedbStore, SCHEMA_VERSION, STORE_FILE};

pub(super) const DAY_MS: u64 = 24 * 3_600_000;
const HOUR_MS: u64 = 3_600_000;
/// How long a node whose disk has failed goes on answering.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// How often, and after which pause, `settle` looks whether a carrier has taken the closing.
const RELEASE_TRIES: usize = 15;
const RELEASE_PAUSE: Duration = Duration::from_millis(200);
/// An invite that waits for `run`, in the data directory.
const INVITE_FILE: &str = "invite";

pub(super) fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}

pub(super) async fn execute(arguments: Arguments) -> Result<(), CliError> {
    let directory = arguments.data_dir.as_path();
    let json = arguments.json;
    match arguments.command {
        Command::Market(MarketCommand::Create { name, currency, fee, taxes, tax_included, days }) => {
            let policy = PolicyView {
                fee_rate: fee,
                prices_include_tax: tax_included,
                tax_rates: super::policy::tax_rates(&taxes)?,
                ..PolicyView::default()
            };
            let root = create(directory, &name, &currency, policy, days)?;
            if json {
                println!("{}", json!({ "market_key": root.to_string() }));
            } else {
                println!("Market \"{name}\" is made in {}.", directory.display());
                println!("Its public key is {root}.");
                println!(
                    "Keep root.key and recovery.key off line; then `stallmesh --data-dir {} run`.",
                    directory.display()
                );
            }
            Ok(())
        }
        Command::Market(MarketCommand::Recover { keys, name, days }) => {
            super::recover::recover(directory, &keys, &name, days, json)
        }
        Command::Quote(arguments) => super::quote::run(&arguments, json),
        Command::Hub(HubCommand::RotateKey) => {
            let answer = ask(directory, "POST", "/v1/hub/rotate-key", None).await?;
            show(json, &answer, |answer| {
                let file = directory.join(text(&answer["file"]));
                println!("Sales are sealed to a new opening key from now on: {}.", file.display());
                println!(
                    "Keep the older ones beside it: they open what was sealed to them, and what is still on its way."
                );
            })
        }
        Command::Hub(HubCommand::AcceptLoss { settlement }) => {
            let body = json!({ "settlement": settlement });
            done(json, ask(directory, "POST", "/v1/hub/accept-loss", Some(&body)).await?, "The hub goes on without it.")
        }
        Command::Dev(arguments) => super::dev::run(&arguments).await,
        Command::Run => run(directory, arguments.config.as_deref()).await,
        Command::Invite(invite_arguments) => invite(directory, &invite_arguments, json).await,
        Command::Join(join_arguments) => join(directory, &join_arguments, json).await,
        Command::Requests => {
            let requests = ask(directory, "GET", "/v1/join-requests", None).await?;
            show(json, &requests, |requests| {
                let rows = list(requests, |item| {
                    vec![text(&item["code"]), text(&item["name"]), text(&item["stall"]), short(&item["device"])]
                });
                table(&["code", "name", "stall", "device"], &rows);
            })
        }
        Command::Approve { code, days } => {
            let body = json!({ "code": code, "valid_ms": days.saturating_mul(DAY_MS) });
            done(json, ask(directory, "POST", "/v1/approve", Some(&body)).await?, "Admitted.")
        }
        Command::Delegate(delegate_arguments) => delegate(directory, &delegate_arguments, json).await,
        Command::Revoke { device, reason } => {
            let body = json!({ "device": full_device(directory, &device).await?, "reason": reason });
            done(json, ask(directory, "POST", "/v1/revoke", Some(&body)).await?, "Revoked.")
        }
        Command::Readmit { device } => {
            let body = json!({ "device": full_device(directory, &device).await? });
            done(json, ask(directory, "POST", "/v1/readmit", Some(&body)).await?, "What it writes counts again.")
        }
        Command::Erase { entry } => {
            let body = json!({ "entry": entry });
            done(
                json,
                ask(directory, "POST", "/v1/erase", Some(&body)).await?,
                "Its personal part is gone here, and goes wherever the erasure arrives.",
            )
        }
        Command::Raise { device } => {
            let body = json!({ "device": full_device(directory, &device).await? });
            done(json, ask(directory, "POST", "/v1/raise", Some(&body)).await?, "What has arrived of it counts now.")
        }
        Command::Import { file, tax, location } => {
            super::catalog::import(directory, &file, &tax, location.as_deref(), json).await
        }
        Command::Export { file, format } => super::catalog::export(directory, &file, &format, json).await,
        Command::Promotion(command) => super::promotion::run(directory, command, json).await,
        Command::Condition(command) => super::condition::run(directory, command, json).await,
        Command::Rules(command) => super::rules::run(directory, command, json).await,
        Command::Card(command) => super::rules::card(directory, command, json).await,
        Command::Sell(sell_arguments) => sell(directory, &sell_arguments, json).await,
        Command::Sales { limit } => {
            let sales = ask(directory, "GET", &format!("/v1/sales?limit={limit}"), None).await?;
            show(json, &sales, |sales| {
                let rows = list(sales, |sale| {
                    let currency = text(&sale["currency"]);
                    vec![
                        text(&sale["receipt"]),
                        money(&sale["total"], &currency),
                        text(&sale["state"]),
                        text(&sale["copies"]),
                        text(&sale["sale"]),
                    ]
                });
                table(&["receipt", "total", "state", "copies", "sale"], &rows);
            })
        }
        Command::Catalog(command) => super::goods::run(directory, command, json).await,
        Command::Members => {
            let members = ask(directory, "GET", "/v1/members", None).await?;
            show(json, &members, |members| {
                let rows = list(members, |item| {
                    vec![
                        short(&item["device"]),
                        text(&item["role"]),
                        text(&item["stall"]),
                        text(&item["name"]),
                        text(&item["state"]),
                        item["not_after"].as_u64().map(utc_minute).unwrap_or_default(),
                        if item["linked"] == true { "up".into() } else { String::new() },
                    ]
                });
                table(&["device", "role", "stall", "name", "state", "valid until", "link"], &rows);
            })
        }
        Command::Status => status(directory, json).await,
        Command::Explain { subject } => {
            let view = ask(directory, "GET", &format!("/v1/explain/{}", encode(&subject)), None).await?;
            show(json, &view, |view| {
                println!("{}", text(&view["state"]).replace('_', " "));
                for reason in view["because"].as_array().into_iter().flatten() {
                    println!("  {}", text(reason));
                }
            })
        }
        Command::Settle { dry_run } => settle(directory, dry_run, json).await,
        Command::Ledger => {
            let ledger = ask(directory, "GET", "/v1/ledger", None).await?;
            show(json, &ledger, |ledger| {
                let rows = list(&ledger["balances"], |row| vec![text(&row[0]), money(&row[2], &text(&row[1]))]);
                table(&["account", "balance"], &rows);
                suspense(&ledger["suspense"]);
                for closed in ledger["unreleased"].as_array().into_iter().flatten() {
                    println!("Settlement {} is closed, not released: {}.", closed["number"], text(&closed["because"]));
                }
                if ledger["problem"] != "" {
                    println!("{}.", text(&ledger["problem"]));
                }
                let rows = list(&ledger["missing"], |log| {
                    let ranges = list(&log["ranges"], |range| vec![format!("{}–{}", range[0], range[1])]);
                    vec![text(&log["stall"]), short(&log["author"]), text(&log["lane"]), ranges.concat().join(", ")]
                });
                if !rows.is_empty() {
                    println!("\nAt a hub that is gone, and not brought here yet:");
                    table(&["stall", "device", "lane", "entries"], &rows);
                }
            })
        }
        Command::Statements => {
            let statements = ask(directory, "GET", "/v1/statements", None).await?;
            show(json, &statements, |statements| {
                for statement in statements.as_array().into_iter().flatten() {
                    let body = &statement["body"];
                    let currency = text(&body["currency"]);
                    println!(
                        "Settlement {} for {}: {} sales, pays out {}",
                        text(&body["settlement"]),
                        text(&body["stall"]),
                        text(&body["sales"]),
                        money(&body["payout"], &currency)
                    );
                    for row in body["balances"].as_array().into_iter().flatten() {
                        println!("  {:<40} {:>14}", text(&row[0]), money(&row[1], &currency));
                    }
                }
            })
        }
        Command::Policy(arguments) => super::policy::run(directory, &arguments, json).await,
        Command::Uplink { state } => {
            let body = json!({ "up": state == "up" });
            done(json, ask(directory, "PUT", "/v1/uplink", Some(&body)).await?, "Switched.")
        }
        Command::Peer { address } => {
            let body = json!({ "address": address });
            done(json, ask(directory, "POST", "/v1/peers", Some(&body)).await?, "It will be dialled.")
        }
        Command::Audit(AuditCommand::Export { out }) => {
            let bytes = export(directory, &out).await?;
            done(json, json!({ "bytes": bytes, "file": out }), &format!("{bytes} bytes in {}.", out.display()))
        }
        Command::Audit(AuditCommand::Digest { file, market_key, order }) => {
            digest(&file, market_key.as_deref(), order, json)
        }
        Command::Log(LogCommand::Show { author, lane, limit }) => {
            let mut path = format!("/v1/log?limit={limit}");
            if let Some(author) = author {
                path.push_str(&format!("&author={}", full_device(directory, &author).await?));
            }
            if let Some(lane) = lane {
                path.push_str(&format!("&lane={}", encode(&lane)));
            }
            let entries = ask(directory, "GET", &path, None).await?;
            show(json, &entries, |entries| {
                let rows = list(entries, |item| {
                    vec![
                        text(&item["lane"]),
                        text(&item["sequence"]),
                        text(&item["kind"]),
                        text(&item["bytes"]),
                        short(&item["hash"]),
                        text(&item["standing"]),
                    ]
                });
                table(&["lane", "sequence", "kind", "bytes", "hash", "standing"], &rows);
            })
        }
        Command::Demo(demo_arguments) => crate::demo::run(demo_arguments).await.map_err(failed),
        Command::DemoCount(arguments) => crate::demo::count(&arguments).map_err(failed),
        Command::DemoRecompute(arguments) => crate::demo::recompute_apart(&arguments).map_err(failed),
        Command::DemoOutsider(arguments) => crate::demo::outsider(arguments).await.map_err(failed),
        Command::DemoForward(arguments) => crate::demo::forward(arguments).await.map_err(failed),
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            let view = json!({ "version": version, "store_schema": SCHEMA_VERSION, "session_protocol": stallmesh_protocol::replica::VERSION });
            show(json, &view, |_| {
                println!(
                    "stallmesh {version} (store schema {SCHEMA_VERSION}, session protocol {})",
                    stallmesh_protocol::replica::VERSION
                )
            })
        }
    }
}

pub(super) fn show(json: bool, value: &Value, human: impl FnOnce(&Value)) -> Result<(), CliError> {
    if json {
        println!("{value}");
    } else {
        human(value);
    }
    Ok(())
}

pub(super) fn done(json: bool, value: Value, sentence: &str) -> Result<(), CliError> {
    show(json, &value, |_| println!("{sentence}"))
}

pub(super) fn list(value: &Value, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    value.as_array().into_iter().flatten().map(row).collect()
}

/// Percent-encodes everything but letters and digits.
pub(super) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// Makes a market's keys and its hub's first entries. The market's public key.
pub(crate) fn create(
    directory: &Path,
    name: &str,
    currency: &str,
    policy: PolicyView,
    days: u64,
) -> Result<DeviceId, CliError> {
    if card_data::mask(name) != name {
        return Err(CliError::Failed("the market's name looks like a card number".into()));
    }
    runtime::make_directory(directory).map_err(failed)?;
    let lock = DirectoryLock::take(directory).map_err(failed)?;
    if [identity::DEVICE_KEY, STORE_FILE].iter().any(|name| directory.join(name).exists()) {
        return Err(CliError::Failed(format!("{} already holds a node: use another --data-dir", directory.display())));
    }
    for key in [identity::ROOT_KEY, identity::RECOVERY_KEY, identity::OPENING_KEY] {
        identity::write_key(directory, key, &identity::random().map_err(failed)?).map_err(failed)?;
    }
    let identity = identity::load_or_create(directory).map_err(failed)?;
    let store = RedbStore::open_locked(directory, CACHE_BYTES, lock).map_err(failed)?;
    let key = |name: &str| -> Result<_, CliError> {
        identity::read_key(directory, name)
            .map_err(failed)?
            .ok_or_else(|| CliError::Failed(format!("{name} could not be read back")))
    };
    let root = DeviceKey::from_seed(&*key(identity::ROOT_KEY)?);
    let recovery = SealKey::from_secret(&*key(identity::RECOVERY_KEY)?).map_err(failed)?;
    let order = MarketOrder {
        name: name.to_owned(),
        currency: currency.to_owned(),
        epoch: 1,
        hub_name: format!("{name} hub"),
        valid_ms: days.saturating_mul(DAY_MS),
        policy,
    };
    let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let now = Now { monotonic_ms: 0, wall_ms };
    create_market(store, &order, &identity, &root, recovery.public(), identity::random().map_err(failed)?, now)
        .map_err(failed)?;
    std::fs::write(directory.join("market.pub"), format!("{}\n", root.id())).map_err(failed)?;
    Ok(root.id())
}

async fn run(directory: &Path, config: Option<&Path>) -> Result<(), CliError> {
    logging::start("info,libp2p=warn,quinn=warn");
    phases::reached("process");
    let config = Config::load(config, config_environment()).map_err(failed)?;
    // Before anybody can see that it runs: whoever does may end it.
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(failed)?;
    let mut node = runtime::start(directory, &config).map_err(failed)?;
    let token = api::read_or_create_token(directory).map_err(failed)?;
    // For whoever starts nodes with a free port, and for whoever opens the till.
    let announce = |address: std::net::SocketAddr| {
        use std::os::unix::fs::PermissionsExt;
        for (file, page) in [("api.url", ""), ("till.url", "till")] {
            std::fs::write(directory.join(file), format!("http://{address}/{page}?token={token}\n"))?;
            std::fs::set_permissions(directory.join(file), std::fs::Permissions::from_mode(0o600))?;
        }
        Ok(())
    };
    let address = api::serve(node.handle.clone(), directory, config.api.listen, &token, announce)
        .await
        .map_err(|error| CliError::Failed(format!("the API can't listen on {}: {error}", config.api.listen)))?;
    phases::reached("api");
    let waiting = directory.join(INVITE_FILE);
    if let Ok(invite) = std::fs::read_to_string(&waiting) {
        let order: Value = serde_json::from_str(&invite).unwrap_or_else(|_| json!({ "invite": invite.trim() }));
        match ask(directory, "POST", "/v1/join", Some(&order)).await {
            Ok(_) => {
                let _ = std::fs::remove_file(&waiting);
            }
            Err(error) => eprintln!("error: {}", card_data::mask(&error.to_string())),
        }
    }
    eprintln!(
        "running in {}; its page is at http://{address}/, its till at http://{address}/till (with the token: see api.url \
         and till.url there)",
        directory.display()
    );
    tokio::select! {
        error = node.ended() => {
            // Whoever waits for an answer is told why before the process ends.
            tokio::time::sleep(LAST_WORDS).await;
            return Err(failed(error));
        }
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
        () = parent_gone() => {}
    }
    // A second signal doesn't wait.
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        std::process::exit(130);
    });
    node.stop().await;
    Ok(())
}

fn config_environment() -> Vec<(String, String)> {
    const NOT_CONFIGURATION: [&str; 4] =
        ["STALLMESH_DATA_DIR", "STALLMESH_CONFIG", "STALLMESH_LOG_FILTER", "STALLMESH_STOP_WITH_STDIN"];
    std::env::vars().filter(|(name, _)| !NOT_CONFIGURATION.contains(&name.as_str())).collect()
}

/// A node that was started by another program ends with it, however that ends: its standard input is closed then.
async fn parent_gone() {
    if std::env::var_os("STALLMESH_STOP_WITH_STDIN").is_none() {
        return std::future::pending().await;
    }
    input_ends().await;
}

/// Waits until standard input is closed.
pub(crate) async fn input_ends() {
    let (gone, waiting) = tokio::sync::oneshot::channel();
    // A thread of its own: a read of standard input can't be cancelled, and must not hold up the runtime's end.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = gone.send(());
    });
    let _ = waiting.await;
}

async fn invite(directory: &Path, arguments: &InviteArguments, json: bool) -> Result<(), CliError> {
    let role = if arguments.stall.is_empty() { "gateway" } else { "stall" };
    let name = if arguments.name.is_empty() {
        if arguments.stall.is_empty() { "gateway" } else { &arguments.stall }
    } else {
        &arguments.name
    };
    let body = json!({
        "role": role, "stall": arguments.stall, "name": name,
        "expires_ms": arguments.hours.saturating_mul(HOUR_MS), "valid_ms": arguments.days.saturating_mul(DAY_MS),
    });
    let answer = ask(directory, "POST", "/v1/invites", Some(&body)).await?;
    show(json, &answer, |answer| println!("{}", text(&answer["invite"])))
}

async fn join(directory: &Path, arguments: &JoinArguments, json: bool) -> Result<(), CliError> {
    let mut body = json!({ "invite": arguments.invite, "name": arguments.name });
    if let Some(stall) = &arguments.ask {
        body["ask_for_stall"] = stall.clone().into();
    }
    match ask(directory, "POST", "/v1/join", Some(&body)).await {
        Err(CliError::NoNode { .. }) => {
            stallmesh_protocol::invite::Invite::from_text(&arguments.invite).map_err(failed)?;
            runtime::make_directory(directory).map_err(failed)?;
            identity::load_or_create(directory).map_err(failed)?;
            std::fs::write(directory.join(INVITE_FILE), body.to_string()).map_err(failed)?;
            done(
                json,
                json!({ "waiting": true }),
                &format!("The invite waits: `stallmesh --data-dir {} run` joins with it.", directory.display()),
            )
        }
        Err(error) => Err(error),
        Ok(answer) => done(json, answer, "Joining: `status` shows how far it is."),
    }
}

async fn delegate(directory: &Path, arguments: &DelegateArguments, json: bool) -> Result<(), CliError> {
    let body = json!({
        "device": arguments.device, "seal_key": arguments.seal_key, "name": arguments.name,
        "scopes": arguments.scopes, "valid_ms": arguments.hours.saturating_mul(HOUR_MS),
    });
    done(json, ask(directory, "POST", "/v1/delegate", Some(&body)).await?, "The helper's device has its certificate.")
}

/// A device's whole key from its beginning.
async fn full_device(directory: &Path, start: &str) -> Result<String, CliError> {
    if start.len() == 64 {
        return Ok(start.to_owned());
    }
    let members = ask(directory, "GET", "/v1/members", None).await?;
    let found: Vec<String> = list(&members, |item| vec![text(&item["device"])])
        .into_iter()
        .flatten()
        .filter(|device| device.starts_with(start))
        .collect();
    match found.as_slice() {
        [device] => Ok(device.clone()),
        [] => Err(CliError::Failed(format!("no device begins with {start}: see `stallmesh members`"))),
        _ => Err(CliError::Failed(format!("{} devices begin with {start}: give more of the key", found.len()))),
    }
}

async fn sell(directory: &Path, arguments: &SellArguments, json: bool) -> Result<(), CliError> {
    let lines: Vec<Value> = arguments
        .lines
        .iter()
        .map(|line| match line.split_once('x') {
            Some((quantity, sku))
                if !quantity.is_empty() && quantity.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') =>
            {
                json!({ "sku": sku, "quantity": quantity })
            }
            _ => json!({ "sku": line, "quantity": "1" }),
        })
        .collect();
    let tender = match &arguments.card {
        Some(token) => json!({ "kind": "card", "token": token }),
        None => json!({ "kind": "cash" }),
    };
    let key = match &arguments.idempotency_key {
        Some(key) => key.clone(),
        None => hex::encode(identity::random().map_err(failed)?),
    };
    let body = json!({
        "idempotency_key": key, "lines": lines, "codes": arguments.codes, "tenders": [tender],
        "rehearsal": arguments.rehearsal,
    });
    let sale = ask(directory, "POST", "/v1/sales", Some(&body)).await?;
    show(json, &sale, |sale| {
        let currency = text(&sale["currency"]);
        for line in sale["lines"].as_array().into_iter().flatten() {
            for reduction in line["reductions"].as_array().into_iter().flatten() {
                let (name, why) = (text(&reduction["name"]), text(&reduction["why"]));
                println!("  {} off {}: {name} ({why})", money(&reduction["amount"], &currency), text(&line["name"]));
            }
        }
        for fee in sale["fees"].as_array().into_iter().flatten() {
            println!("  {} for {}", money(&fee["total"], &currency), text(&fee["name"]));
        }
        for code in sale["codes"].as_array().into_iter().flatten().filter(|code| code["state"] != "applied") {
            println!("  Code {}: {}", text(&code["code"]), text(&code["why"]));
        }
        println!(
            "Receipt {}: {} ({})",
            text(&sale["receipt"]),
            money(&sale["total"], &text(&sale["currency"])),
            text(&sale["state"]).replace('_', " ")
        );
    })
}

async fn status(directory: &Path, json: bool) -> Result<(), CliError> {
    let status = ask(directory, "GET", "/v1/status", None).await?;
    show(json, &status, |status| {
        let market = text(&status["market_name"]);
        println!(
            "{} {} {} in {}",
            text(&status["role"]),
            text(&status["stall"]),
            short(&status["device"]),
            if market.is_empty() { "no market" } else { &market }
        );
        println!("  device    {}", text(&status["device"]));
        println!("  seal key  {}", text(&status["seal_key"]));
        if let Some(valid_until) = status["valid_until"].as_u64() {
            let ended = status["time"].as_u64().is_some_and(|time| time > valid_until);
            println!("  member    {} {}", if ended { "expired on" } else { "until" }, utc_minute(valid_until));
        }
        let uplink = &status["uplink"];
        println!(
            "  uplink    {}",
            if uplink["up"] == true {
                "up"
            } else if uplink["enabled"] == true {
                "down, dialling"
            } else {
                "off"
            }
        );
        let sales = &status["sales"];
        println!(
            "  sales     {} recorded: {} copied, {} at the hub, {} settled",
            sales["recorded"], sales["copied"], sales["at_the_hub"], sales["settled"]
        );
        let custody = &status["custody"];
        println!("  carries   {} entries of others ({} bytes)", custody["held_entries"], custody["held_bytes"]);
        if custody["ledger_entries"] != 0 {
            println!("            {} entries of the hub's ledger", custody["ledger_entries"]);
        }
        for notice in status["notices"].as_array().into_iter().flatten() {
            println!("  ! {}", text(notice));
        }
        let rows = list(&status["peers"], |peer| {
            vec![
                short(&peer["device"]),
                text(&peer["stall"]),
                text(&peer["link"]),
                if peer["uplink"] == true { "yes".into() } else { "no".into() },
                text(&peer["address"]),
            ]
        });
        if !rows.is_empty() {
            println!();
            table(&["device", "stall", "link", "uplink", "address"], &rows);
        }
    })
}

fn suspense(rows: &Value) {
    let rows =
        list(rows, |row| vec![text(&row["reason"]), text(&row["stall"]), text(&row["amount"]), text(&row["detail"])]);
    if !rows.is_empty() {
        println!("\nIn suspense:");
        table(&["reason", "stall", "amount", "detail"], &rows);
    }
}

async fn settle(directory: &Path, dry_run: bool, json: bool) -> Result<(), CliError> {
    let mut settlement = ask(directory, "POST", "/v1/settle", Some(&json!({ "dry_run": dry_run }))).await?;
    if !dry_run {
        await_release(directory, &mut settlement).await?;
    }
    show(json, &settlement, |settlement| {
        let verb = if dry_run { "would post" } else { "posted" };
        println!(
            "Settlement {} {verb} {} sales, {} with those before it. Digest {}",
            settlement["number"],
            settlement["newly_posted"],
            settlement["posted"],
            text(&settlement["digest"])
        );
        let rows = list(&settlement["statements"], |statement| {
            let body = &statement["body"];
            vec![text(&statement["stall"]), text(&body["sales"]), money(&body["payout"], &text(&body["currency"]))]
        });
        table(&["stall", "sales", "pays out"], &rows);
        suspense(&settlement["suspense"]);
        match (&settlement["released"], text(&settlement["because"])) {
            (Value::Bool(true), because) if because.is_empty() => {
                println!("Released: the stalls get their statements.")
            }
            (Value::Bool(true), because) => println!("Released: {because}."),
            _ if dry_run => {}
            (_, because) => println!("Closed, not released: {because}. `stallmesh ledger` says when it is."),
        }
    })
}

/// A carrier that can be reached takes a closing in a moment: waits for that, so that the answer says how it ended.
async fn await_release(directory: &Path, settlement: &mut Value) -> Result<(), CliError> {
    for _ in 0..RELEASE_TRIES {
        if settlement["released"] == true {
            return Ok(());
        }
        let ledger = ask(directory, "GET", "/v1/ledger", None).await?;
        let waiting = ledger["unreleased"].as_array().into_iter().flatten();
        match waiting.into_iter().find(|closed| closed["number"] == settlement["number"]) {
            Some(closed) => settlement["because"] = closed["because"].clone(),
            None => {
                settlement["released"] = true.into();
                settlement["because"] = "".into();
            }
        }
        tokio::time::sleep(RELEASE_PAUSE).await;
    }
    Ok(())
}

/// Writes a node's export to a file; how many bytes.
pub(crate) async fn export(directory: &Path, out: &Path) -> Result<u64, CliError> {
    use std::io::Write;
    let partial: PathBuf = out.with_extension("partial");
    let mut file =
        std::fs::File::create(&partial).map_err(|error| CliError::Failed(format!("{}: {error}", partial.display())))?;
    let (mut cursor, mut bytes) = (String::new(), 0);
    loop {
        let reply = send(directory, "GET", &format!("/v1/export?cursor={cursor}"), &[]).await?;
        if reply.status >= 400 {
            value(reply)?;
            return Err(CliError::Failed("the export was refused".into()));
        }
        file.write_all(&reply.body).map_err(failed)?;
        bytes += reply.body.len() as u64;
        cursor = reply
            .headers
            .iter()
            .find(|(name, _)| name == "stallmesh-cursor")
            .map(|(_, value)| value.clone())
            .unwrap_or_default();
        if cursor.is_empty() {
            break;
        }
    }
    // Whole or not at all: a file that was cut short never has the name.
    file.sync_all().map_err(failed)?;
    std::fs::rename(&partial, out).map_err(failed)?;
    Ok(bytes)
}

/// A root key as text, or the file that holds it.
pub(crate) fn market_key(text: &str) -> Result<DeviceId, CliError> {
    let text = if text.len() == 64 {
        text.to_owned()
    } else {
        std::fs::read_to_string(text).map_err(|error| CliError::Failed(format!("{text}: {error}")))?
    };
    text.trim().parse().map_err(failed)
}

fn digest(file: &Path, key: Option<&str>, order: u64, json: bool) -> Result<(), CliError> {
    let root = key.map(market_key).transpose()?;
    let reader = std::fs::File::open(file).map_err(|error| CliError::Failed(format!("{}: {error}", file.display())))?;
    let result = recompute(std::io::BufReader::new(reader), root, order)
        .map_err(|error| CliError::Failed(format!("{}: {error}", file.display())))?;
    let view = json!({
        "market": result.market.to_string(), "entries": result.entries, "digest": result.reconciliation.digest().to_string(),
        "posted": result.reconciliation.posted(), "published": result.published,
    });
    show(json, &view, |view| {
        println!("{} entries hold; {} sales are posted.", view["entries"], view["posted"]);
        println!("Digest {}", text(&view["digest"]));
        for (number, digest) in &result.published {
            let verdict =
                if *digest == text(&view["digest"]) { "the same" } else { "another: it had read less, or more" };
            println!("Settlement {number} was published with {verdict}.");
        }
    })
}

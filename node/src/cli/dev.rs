//! A market for trying things out: a hub and a stall in this process, with products, promotions and a code. Every sale is a
//! rehearsal.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::CliError;
use super::commands::{create, failed};
use crate::api;
use crate::config::Config;
use crate::engine::{Answer, InviteOrder, PolicyView, ProductView, PromotionsOrder, Request, StatusView};
use crate::identity;
use crate::quote::files::{PromotionFile, TaxRateFile, Unique};
use crate::runtime::{self, NodeHandle, RunningNode};
use crate::store::STORE_FILE;

const DAY_MS: u64 = 24 * 3_600_000;
/// How long the stall may take to become a member: the machine may have much else to do.
const JOIN_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const STALL: &str = "river-ceramics";

/// `stallmesh dev`
#[derive(Debug, Args)]
pub(crate) struct DevArguments {
    /// Where the market lives, and stays; left out: in a new folder that goes when this ends.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where the stall's API answers on this machine, and the hub's one above; 0: any two.
    #[arg(long, default_value_t = 7800)]
    port: u16,
}

/// A folder that goes with this process, where it was made for it.
struct Folder {
    path: PathBuf,
    is_temporary: bool,
}

impl Folder {
    fn make(given: Option<&Path>) -> Result<Self, CliError> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => {
                let name = hex::encode(&identity::random().map_err(failed)?[..6]);
                std::env::temp_dir().join(format!("stallmesh-dev-{name}"))
            }
        };
        runtime::make_directory(&path).map_err(failed)?;
        Ok(Folder { path, is_temporary: given.is_none() })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

pub(super) async fn run(arguments: &DevArguments) -> Result<(), CliError> {
    super::logging::start("warn");
    let folder = Folder::make(arguments.dir.as_deref())?;
    let (hub_folder, stall_folder) = (folder.path.join("hub"), folder.path.join("stall"));
    if !hub_folder.join(STORE_FILE).exists() {
        create(&hub_folder, "Sandbox", "EUR", policy(), 365)?;
    }
    let uplink = free_port().map_err(failed)?;
    let mut hub = runtime::start(&hub_folder, &hub_config(uplink)).map_err(failed)?;
    let mut stall = runtime::start(&stall_folder, &stall_config(uplink)).map_err(failed)?;
    let ended = async {
        join(&hub.handle, &stall.handle).await?;
        seed(&stall.handle).await?;
        let (till, token) = serve(&stall, &stall_folder, arguments.port).await?;
        let above = if arguments.port == 0 { 0 } else { arguments.port.saturating_add(1) };
        let (organiser, organiser_token) = serve(&hub, &hub_folder, above).await?;
        println!("A market for trying things out is in {}. Every sale is a rehearsal.\n", folder.path.display());
        println!("  stall  http://{till}/?token={token}");
        println!("  hub    http://{organiser}/?token={organiser_token}\n");
        println!("For `curl`, its document at $TILL/v1/openapi.json:\n");
        println!("  export TILL=http://{till} TOKEN={token}");
        println!("  curl -H \"Authorization: Bearer $TOKEN\" $TILL/v1/catalog\n");
        println!("Ctrl-C ends it.");
        wait(&mut hub, &mut stall).await
    }
    .await;
    stall.stop().await;
    hub.stop().await;
    ended
}

async fn wait(hub: &mut RunningNode, stall: &mut RunningNode) -> Result<(), CliError> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        error = hub.ended() => Err(failed(error)),
        error = stall.ended() => Err(failed(error)),
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

fn policy() -> PolicyView {
    PolicyView {
        fee_rate: "5".into(),
        prices_include_tax: true,
        tax_rates: Unique::from_iter([("standard".to_owned(), TaxRateFile::of(20))]),
        carriers: 1,
        ..PolicyView::default()
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Both find each other by the uplink alone: nothing here is to meet the devices of a real market.
fn apart() -> Config {
    let mut config = Config { rehearsal: true, ..Config::default() };
    config.mesh.mdns = false;
    config.mesh.listen = Vec::new();
    config
}

fn hub_config(uplink: u16) -> Config {
    let mut config = apart();
    config.uplink.listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, uplink)));
    config.uplink.addresses = vec![format!("127.0.0.1:{uplink}")];
    config.hub.checkpoint_every_ms = 500;
    config
}

fn stall_config(uplink: u16) -> Config {
    let mut config = apart();
    config.uplink.enabled = true;
    config.uplink.addresses = vec![format!("127.0.0.1:{uplink}")];
    config
}

async fn serve(node: &RunningNode, directory: &Path, port: u16) -> Result<(SocketAddr, String), CliError> {
    let token = api::read_or_create_token(directory).map_err(failed)?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let address = api::serve(node.handle.clone(), directory, listen, &token, |_| Ok(()))
        .await
        .map_err(|error| CliError::Failed(format!("port {port}: {error}; another one by --port, or 0 for any")))?;
    Ok((address, token))
}

async fn status(node: &NodeHandle) -> Result<StatusView, CliError> {
    match node.ask(Request::Status).await {
        Answer::Status(status) => Ok(*status),
        other => Err(refused(other)),
    }
}

async fn done(node: &NodeHandle, request: Request) -> Result<(), CliError> {
    match node.ask(request).await {
        Answer::Done => Ok(()),
        other => Err(refused(other)),
    }
}

fn refused(answer: Answer) -> CliError {
    match answer {
        Answer::Failed(failure) => CliError::Failed(failure.detail),
        _ => CliError::Failed("the node answered something else than it was asked".into()),
    }
}

async fn has_terms(node: &NodeHandle) -> Result<bool, CliError> {
    match node.ask(Request::Policy).await {
        Answer::Policy(terms) => Ok(!terms.tax_rates.0.is_empty()),
        other => Err(refused(other)),
    }
}

async fn join(hub: &NodeHandle, stall: &NodeHandle) -> Result<(), CliError> {
    if status(stall).await?.role == "stall" {
        return Ok(());
    }
    let mut events = stall.events().listen();
    let order = InviteOrder {
        role: "stall".into(),
        stall: STALL.into(),
        name: "River Ceramics".into(),
        expires_ms: DAY_MS,
        valid_ms: 365 * DAY_MS,
    };
    let invite = match hub.ask(Request::CreateInvite(order)).await {
        Answer::Invite(invite) => invite,
        other => return Err(refused(other)),
    };
    done(stall, Request::Join { invite, name: "till".into() }).await?;
    let joined = async {
        // A member that has not heard the market's taxes yet can sell nothing.
        while status(stall).await?.role != "stall" || !has_terms(stall).await? {
            // Terms that come are told by no event.
            let _ = tokio::time::timeout(LOOK_EVERY, events.next()).await;
        }
        Ok(())
    };
    let late = || CliError::Failed("the stall could not join and hear the market's terms within a minute".into());
    tokio::time::timeout(JOIN_WITHIN, joined).await.map_err(|_| late())?
}

/// Products, a promotion, and one for whoever has a code.
async fn seed(stall: &NodeHandle) -> Result<(), CliError> {
    let request = Request::Catalog { stall: Some(STALL.into()), query: String::new(), after: None, limit: 1 };
    if matches!(stall.ask(request).await, Answer::Products(products) if !products.is_empty()) {
        return Ok(());
    }
    let product = |sku: &str, name: &str, price: u64, barcode: &str, category: &str| ProductView {
        sku: sku.into(),
        name: name.into(),
        price,
        taxes: vec!["standard".into()],
        categories: vec![category.into()],
        barcodes: vec![barcode.into()],
        unit: "piece".into(),
        stock: "24".into(),
        ..ProductView::default()
    };
    let products = vec![
        product("MUG-L", "Mug, large", 1800, "4006381333931", "mugs"),
        product("MUG-S", "Mug, small", 1400, "4006381333948", "mugs"),
        product("BOWL", "Bowl", 2600, "4006381333955", "bowls"),
        product("PLATE", "Plate", 2200, "4006381333962", "plates"),
        product("CARD", "Gift card, paper", 350, "4006381333979", "paper"),
    ];
    done(stall, Request::PublishProducts(products)).await?;
    let promotions = serde_json::json!([
        { "id": "TWO-MUGS", "name": "Two mugs", "effect": { "percentage": "10" },
          "items": { "categories": ["mugs"] }, "requires": { "min_quantity": "2" } },
        { "id": "WELCOME", "name": "Welcome", "effect": { "amount": 500 },
          "requires": { "codes": ["WELCOME"], "min_subtotal": 3000 } },
    ]);
    let give: Vec<PromotionFile> = serde_json::from_value(promotions).map_err(failed)?;
    done(stall, Request::PublishPromotions(PromotionsOrder { give, withdraw: Vec::new() })).await
}

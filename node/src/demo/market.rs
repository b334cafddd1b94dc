//! All nodes together: how they are made, asked, plugged in and ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::board::Board;
use super::input::{self, Input};
use super::journal::{Journal, Line, listen, wall_ms};
use super::network::Network;
use super::process::Node;
use super::shop::{Draw, Goods, Till, list_sales};
use super::view::View;
use super::{DemoArguments, DemoError};
use crate::cli::create_market_in;
use crate::engine::PolicyView;
use crate::quote::files::TaxRateFile;

pub(super) const HUB: usize = 0;
pub(super) const GATEWAY: usize = 1;
pub(super) const FIRST_STALL: usize = 2;

/// How long anything may take that takes a moment: the machine may have many other things to do.
pub(super) const WAIT_SECONDS: u64 = 120;
/// How often a node is asked for what it doesn't tell by itself.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// The market while it runs.
pub(super) struct Market {
    pub(super) arguments: DemoArguments,
    pub(super) input: Input,
    pub(super) program: PathBuf,
    pub(super) directory: PathBuf,
    /// Hub, gateway, stalls, and whoever comes later.
    pub(super) nodes: Vec<Node>,
    pub(super) invites: Vec<String>,
    pub(super) tills: BTreeMap<usize, Till>,
    pub(super) board: Board,
    pub(super) journal: Journal,
    pub(super) draw: Draw,
    pub(super) figures: serde_json::Map<String, Value>,
    /// The stolen card's fingerprint, once a till has taken it.
    pub(super) stolen: String,
    hub_port: u16,
    /// Whose way to the hub is plugged in.
    uplinks: BTreeSet<usize>,
    page: Option<tokio::net::TcpListener>,
    /// Processes that belong to no node: they end with the market.
    pub(super) others: Vec<tokio::process::Child>,
    /// Last, so that it is dropped last: namespaces go after the processes in them.
    pub(super) network: Network,
}

/// Runs the demo.
pub(crate) async fn run(arguments: DemoArguments) -> Result<(), DemoError> {
    let input = Input::read(&arguments)?;
    let directory = input::directory(&arguments)?;
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    let live = !arguments.headless && !dumb && std::io::stdout().is_terminal();
    let board = Board::new(!live);
    let outcome = run_in(arguments.clone(), input, directory.clone(), board.clone(), live).await;
    if arguments.dir.is_none() {
        let _ = std::fs::remove_dir_all(&directory);
    }
    outcome
}

async fn run_in(
    arguments: DemoArguments,
    input: Input,
    directory: PathBuf,
    board: Board,
    live: bool,
) -> Result<(), DemoError> {
    // From here on a signal ends the demo in order.
    let stopped = stop_signal()?;
    tokio::pin!(stopped);
    let mut market = Market::open(arguments, input, directory, board.clone()).await?;
    let view = if live { Some(View::start(board.clone()).map_err(DemoError::io("the terminal"))?) } else { None };
    let mut outcome = tokio::select! {
        outcome = market.steps() => outcome,
        signal = &mut stopped => Err(DemoError::Failed(format!("stopped by {signal}"))),
    };
    if market.arguments.keep && outcome.is_ok() {
        board.remark(&format!(
            "\nThe market keeps running; its dashboard is at {}\nCtrl-C ends it.",
            board.snapshot().dashboard
        ));
        // A node that ends by itself, while it should be kept, is a failure.
        outcome = tokio::select! {
            ended = market.first_to_end() => Err(DemoError::Failed(format!("{ended} has ended; see its log"))),
            _ = &mut stopped => Ok(()),
        };
    }
    // A second signal doesn't wait: the nodes end by themselves when their standard input does.
    let hurry = tokio::spawn(async {
        if let Ok(signal) = stop_signal() {
            signal.await;
            std::process::exit(130);
        }
    });
    if let Err(error) = &outcome {
        board.failed();
        // What an earlier run has left there must not pass for this one's.
        market.figure("error", error.to_string());
        if let Err(error) = market.write_report() {
            board.remark(&error.to_string());
        }
    }
    market.stop_all().await;
    drop(market);
    hurry.abort();
    if let Some(view) = view {
        view.end().await;
        board.print_all();
    }
    outcome
}

/// Resolves at the first of the signals that ask a program to end; its name.
fn stop_signal() -> Result<impl Future<Output = &'static str>, DemoError> {
    let failed = || DemoError::io("signals");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed())?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed())?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "Ctrl-C",
            _ = terminate.recv() => "SIGTERM",
            _ = hangup.recv() => "SIGHUP",
        }
    })
}

/// Waits for something that a node must be asked for, with a generous deadline.
pub(super) async fn until<F>(what: &str, mut holds: F) -> Result<Duration, DemoError>
where
    F: AsyncFnMut() -> Result<bool, DemoError>,
{
    let start = Instant::now();
    loop {
        if holds().await? {
            return Ok(start.elapsed());
        }
        if start.elapsed() > Duration::from_secs(WAIT_SECONDS) {
            return Err(DemoError::Failed(format!("{what}: not within {WAIT_SECONDS} s")));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

impl Market {
    async fn open(arguments: DemoArguments, input: Input, directory: PathBuf, board: Board) -> Result<Self, DemoError> {
        let stalls = usize::from(arguments.stalls);
        // Hub, gateway, stalls, and places for a helper's tablet, a clone and a stranger.
        let (network, remark) = Network::make(arguments.network, FIRST_STALL + stalls + 3)?;
        board.set_network(network.name());
        board.remark(&remark);
        input.remarks.iter().for_each(|remark| board.remark(remark));
        let journal = Journal::create(&directory.join("journal.jsonl"))?;
        // Held until the hub has the same port, so that its page has the same address inside and outside.
        let page = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(DemoError::io("a free port"))?;
        let hub_port = std::net::UdpSocket::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .map_err(DemoError::io("a free port"))?
            .port();
        let mut market = Market {
            program: std::env::current_exe().map_err(DemoError::io("this program"))?,
            draw: Draw::new(arguments.seed, 0),
            directory,
            network,
            nodes: Vec::new(),
            invites: Vec::new(),
            tills: BTreeMap::new(),
            journal,
            figures: serde_json::Map::new(),
            stolen: String::new(),
            hub_port,
            uplinks: BTreeSet::new(),
            page: Some(page),
            others: Vec::new(),
            arguments,
            input,
            board,
        };
        market.make_nodes()?;
        Ok(market)
    }

    async fn steps(&mut self) -> Result<(), DemoError> {
        self.step_join().await?;
        self.step_catalogs().await?;
        self.step_sell().await?;
        self.step_relay().await?;
        self.step_trouble().await?;
        self.step_settle().await?;
        self.board.done();
        Ok(())
    }

    pub(super) fn say(&self, line: impl AsRef<str>) {
        self.board.say(line);
    }

    pub(super) fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    pub(super) fn stalls(&self) -> std::ops::Range<usize> {
        FIRST_STALL..FIRST_STALL + usize::from(self.arguments.stalls)
    }

    /// The slug of a stall's node.
    pub(super) fn slug(&self, index: usize) -> String {
        index
            .checked_sub(FIRST_STALL)
            .and_then(|number| self.input.stalls.get(number))
            .map(|stall| stall.slug.clone())
            .unwrap_or_default()
    }

    /// A node's configuration; nodes have no address of any other.
    pub(super) fn environment(&self, extra: &[(&str, String)]) -> Vec<(String, String)> {
        let mut environment: Vec<(String, String)> = vec![
            ("STALLMESH_MESH_LISTEN".into(), self.network.listen()),
            ("STALLMESH_MESH_MDNS".into(), self.network.has_multicast().to_string()),
            ("STALLMESH_API_LISTEN".into(), "127.0.0.1:0".into()),
            // Where uplinks are cables every node dials, and only a cable makes a way.
            ("STALLMESH_UPLINK_ENABLED".into(), self.network.has_cables().to_string()),
            ("STALLMESH_UPLINK_ADDRESSES".into(), self.network.hub_address(self.hub_port)),
        ];
        environment.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        environment
    }

    /// Where the hub's uplink listens, as a node dials it.
    pub(super) fn hub_address(&self) -> String {
        self.network.hub_address(self.hub_port)
    }

    fn make_nodes(&mut self) -> Result<(), DemoError> {
        let hub = self.directory.join("hub");
        let policy = PolicyView {
            fee_rate: "5".into(),
            prices_include_tax: true,
            tax_rates: [("standard".to_owned(), TaxRateFile::of(20))].into_iter().collect(),
            carriers: 3,
            ..PolicyView::default()
        };
        let root = create_market_in(&hub, "Quay Market", input::CURRENCY, policy, 30).map_err(DemoError::failed)?;
        std::fs::write(self.directory.join("market.pub"), format!("{root}\n")).map_err(DemoError::io("market.pub"))?;
        let page = self.page.as_ref().and_then(|page| page.local_addr().ok()).map(|address| address.port());
        let hub_environment = self.environment(&[
            ("STALLMESH_UPLINK_LISTEN", self.network.hub_listen(self.hub_port)),
            ("STALLMESH_MESH_MDNS", "false".into()),
            ("STALLMESH_MESH_LISTEN", String::new()),
            // It is beyond the uplink: also where all nodes share one network, it has no part in the market's.
            ("STALLMESH_MESH_CONNECTIONS_MAX", "0".into()),
            ("STALLMESH_HUB_CHECKPOINT_EVERY_MS", "1000".into()),
            ("STALLMESH_API_LISTEN", format!("127.0.0.1:{}", page.unwrap_or(0))),
            // Its log tells who has ever had a link to it: evidence for who delivered what.
            ("STALLMESH_LOG_FILTER", "info,libp2p=warn,quinn=warn,stallmesh_node::engine::links=debug".into()),
        ]);
        self.add_node(Node::new(HUB, "hub", hub, hub_environment), "");
        let gateway = self.environment(&[("STALLMESH_MESH_DEGREE", "16".into())]);
        self.add_node(Node::new(GATEWAY, "gateway", self.directory.join("gateway"), gateway), "");
        for index in self.stalls() {
            let name = format!("stall-{}", index - FIRST_STALL + 1);
            let node = Node::new(index, &name, self.directory.join(&name), self.environment(&[]));
            let slug = self.slug(index);
            self.add_node(node, &slug);
        }
        Ok(())
    }

    /// Gives a node its place; its number must be the next one.
    pub(super) fn add_node(&mut self, node: Node, stall: &str) {
        debug_assert_eq!(node.index, self.nodes.len());
        self.board.seat(&node.name, stall, node.directory.clone());
        self.nodes.push(node);
    }

    /// Starts a node, and listens to what it tells.
    pub(super) async fn start(&mut self, index: usize) -> Result<(), DemoError> {
        if index == HUB
            && !self.network.has_cables()
            && let Some(page) = self.page.take()
        {
            // The hub itself answers there.
            drop(page);
        }
        self.nodes[index].start(&self.network, &self.program).await?;
        self.board.set_running(index, true, "");
        listen(index, &self.nodes[index].directory, &self.journal).await?;
        if index == HUB {
            self.open_page().await?;
        }
        // A cable stays plugged in; a switch in the node is as it is configured.
        if self.uplinks.contains(&index) {
            self.nodes[index].send("PUT", "/v1/uplink", &json!({ "up": true })).await?;
        }
        Ok(())
    }

    /// The hub's page, from outside its namespace too.
    async fn open_page(&mut self) -> Result<(), DemoError> {
        let hub = &self.nodes[HUB];
        let url = std::fs::read_to_string(hub.directory.join("api.url")).map_err(DemoError::io("api.url"))?;
        self.board.set_dashboard(url.trim());
        let Some(page) = self.page.take() else { return Ok(()) };
        let socket = hub.directory.join("page.sock");
        let to = page.local_addr().map_err(DemoError::io("the page's port"))?;
        let mut command = self.network.command(&self.program, HUB);
        command.arg("demo-forward").arg("--socket").arg(&socket).arg("--to").arg(to.to_string());
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
        self.others.push(super::process::spawn(command)?);
        super::forward::serve_page(page, &socket);
        Ok(())
    }

    /// Starts many nodes side by side.
    pub(super) async fn start_all(&mut self, indices: &[usize]) -> Result<(), DemoError> {
        let (network, program) = (&self.network, &self.program);
        let chosen = self.nodes.iter_mut().filter(|node| indices.contains(&node.index));
        futures::future::try_join_all(chosen.map(|node| node.start(network, program))).await?;
        for index in indices {
            self.board.set_running(*index, true, "");
            listen(*index, &self.nodes[*index].directory, &self.journal).await?;
        }
        Ok(())
    }

    pub(super) async fn stop(&mut self, index: usize, gone: &'static str) {
        self.board.set_running(index, false, gone);
        self.nodes[index].stop().await;
    }

    /// SIGKILL. What the process had cost is read before.
    pub(super) async fn kill(&mut self, index: usize, gone: &'static str) -> Result<(), DemoError> {
        self.nodes[index].sample().await?;
        self.board.set_running(index, false, gone);
        self.nodes[index].kill().await;
        Ok(())
    }

    async fn stop_all(&mut self) {
        futures::future::join_all(self.nodes.iter_mut().map(Node::stop)).await;
        for child in &mut self.others {
            let _ = child.kill().await;
        }
    }

    /// Waits until a node that should run doesn't; its name.
    async fn first_to_end(&mut self) -> String {
        loop {
            if let Some(node) = self.nodes.iter_mut().find_map(|node| node.has_ended().then(|| node.name.clone())) {
                return node;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Plugs a node's way to the hub in or out.
    pub(super) async fn set_uplink(&mut self, index: usize, up: bool) -> Result<(), DemoError> {
        // Written down so that the time in which there may be a way is never too short.
        if up {
            self.journal.note(&Line::Uplink { node: index, up, at: wall_ms() })?;
            self.uplinks.insert(index);
        } else {
            self.uplinks.remove(&index);
        }
        self.network.set_uplink(index, up).map_err(DemoError::Failed)?;
        if self.nodes.get(index).is_some_and(Node::runs) {
            self.nodes[index].send("PUT", "/v1/uplink", &json!({ "up": up })).await?;
        }
        if !up {
            self.journal.note(&Line::Uplink { node: index, up, at: wall_ms() })?;
        }
        Ok(())
    }

    /// An address of a node in the market's own network.
    pub(super) async fn mesh_address(&self, index: usize) -> Result<String, DemoError> {
        let status = self.nodes[index].status().await?;
        let addresses = status["listen"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut addresses: Vec<&str> = addresses.filter(|address| address.starts_with('/')).collect();
        // Loopback of another namespace leads nowhere, and its way to the hub isn't the market.
        addresses.sort_by_key(|address| (address.starts_with("/ip4/127."), address.starts_with("/ip4/10.78.")));
        let first = addresses.first().ok_or_else(|| self.nodes[index].failed("it listens nowhere"))?;
        Ok((*first).to_owned())
    }

    /// Where there is no multicast, tells a node one address: the gateway's.
    pub(super) async fn introduce(&self, index: usize) -> Result<(), DemoError> {
        if self.network.has_multicast() {
            return Ok(());
        }
        let address = self.mesh_address(GATEWAY).await?;
        self.nodes[index].send("POST", "/v1/peers", &json!({ "address": address })).await.map(|_| ())
    }

    /// A till at a stall's node.
    pub(super) async fn make_till(&self, index: usize, stall: usize, keys: &str) -> Result<Till, DemoError> {
        let status = self.nodes[index].status().await?;
        let device = status["device"].as_str().unwrap_or_default();
        let stall = &self.input.stalls[stall - FIRST_STALL];
        let goods = Goods {
            stall: stall.slug.clone(),
            products: Arc::new(stall.products.iter().map(|product| (product.sku.clone(), product.price)).collect()),
            items: Arc::new(stall.items.clone()),
            baskets: self.input.baskets.clone(),
        };
        Ok(Till::new(&self.nodes[index], device, goods, self.arguments.seed, keys))
    }

    /// Sells once at a node.
    pub(super) async fn sell(&mut self, index: usize) -> Result<super::shop::Acknowledged, DemoError> {
        let journal = self.journal.clone();
        match self.tills.get_mut(&index) {
            Some(till) => till.sell(&journal).await,
            None => Err(DemoError::Failed(format!("node {index} has no till"))),
        }
    }

    /// Nodes that sell and run.
    pub(super) fn selling(&self) -> BTreeSet<usize> {
        self.tills.keys().copied().filter(|index| self.nodes[*index].runs()).collect()
    }

    /// Waits until each running node that sells has said of each of its sales that the hub has it.
    pub(super) async fn all_received(&self) -> Result<Duration, DemoError> {
        let start = Instant::now();
        let (nodes, mut asked) = (self.selling(), Instant::now());
        loop {
            let waiting = self.journal.waiting(&nodes);
            if waiting.is_empty() {
                return Ok(start.elapsed());
            }
            if start.elapsed() > Duration::from_secs(WAIT_SECONDS) {
                let count = waiting.len();
                return Err(DemoError::Failed(format!("{count} sales didn't reach the hub within {WAIT_SECONDS} s")));
            }
            // Events can be missed, by whoever listens too late or too slowly: then the list says it, later.
            if asked.elapsed() > Duration::from_secs(2) {
                for index in &nodes {
                    self.ask_for_received(*index, &waiting).await?;
                }
                asked = Instant::now();
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    async fn ask_for_received(&self, index: usize, waiting: &BTreeSet<String>) -> Result<(), DemoError> {
        for (sale, state) in list_sales(&self.nodes[index].directory).await? {
            if waiting.contains(&sale) && matches!(state.as_str(), "at_the_hub" | "settled" | "in_suspense") {
                self.journal.note(&Line::Received { sale, at: wall_ms(), asked: true })?;
            }
        }
        Ok(())
    }

    /// Waits until each running node that sells has a copy of each of its sales with a neighbour.
    /// (Entries copied, entries of others that are held somewhere.)
    pub(super) async fn all_copied(&self) -> Result<(u64, u64), DemoError> {
        let mut copied = 0;
        for index in self.selling() {
            let node = &self.nodes[index];
            until(&format!("every sale of {} has a copy on a neighbour", node.name), async || {
                let custody = node.status().await?["custody"].clone();
                Ok(custody["own_waiting"] == custody["own_copied"])
            })
            .await?;
            copied += node.status().await?["custody"]["own_copied"].as_u64().unwrap_or(0);
        }
        let mut held = 0;
        for node in self.nodes.iter().filter(|node| node.runs() && node.index != HUB) {
            held += node.status().await?["custody"]["held_entries"].as_u64().unwrap_or(0);
        }
        Ok((copied, held))
    }

    /// Sales that the hub holds.
    pub(super) async fn hub_received(&self) -> Result<u64, DemoError> {
        Ok(self.nodes[HUB].get("/v1/ledger").await?["received"].as_u64().unwrap_or(0))
    }
}

/// Copies the files of a directory.
pub(super) fn copy_directory(from: &Path, to: &Path) -> Result<(), DemoError> {
    let failed = || DemoError::io("a copy of a data directory");
    std::fs::create_dir_all(to).map_err(failed())?;
    for entry in std::fs::read_dir(from).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            std::fs::copy(entry.path(), to.join(entry.file_name())).map_err(failed())?;
        }
    }
    Ok(())
}

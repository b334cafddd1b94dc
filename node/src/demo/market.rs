//! The six steps, each with its proof.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is what the person watches")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::count::Line;
use super::network::Network;
use super::process::Node;
use super::{DemoArguments, DemoError};
use crate::cli::{create_market_in, export};
use crate::engine::PolicyView;
use crate::import::{price_for, read_baskets, shopify};

/// The demo's own product files: (stall, file).
const CATALOGS: &[(&str, &str)] = &[
    ("river-ceramics", include_str!("../../../configs/demo/catalogs/river-ceramics.csv")),
    ("oak-and-rye-bakery", include_str!("../../../configs/demo/catalogs/oak-and-rye-bakery.csv")),
    ("second-groove", include_str!("../../../configs/demo/catalogs/second-groove.csv")),
    ("hillside-dairy", include_str!("../../../configs/demo/catalogs/hillside-dairy.csv")),
    ("smoke-and-corn", include_str!("../../../configs/demo/catalogs/smoke-and-corn.csv")),
    ("paper-heron", include_str!("../../../configs/demo/catalogs/paper-heron.csv")),
    ("green-corner", include_str!("../../../configs/demo/catalogs/green-corner.csv")),
    ("copper-finch", include_str!("../../../configs/demo/catalogs/copper-finch.csv")),
    ("lather-and-lye", include_str!("../../../configs/demo/catalogs/lather-and-lye.csv")),
    ("meadow-honey", include_str!("../../../configs/demo/catalogs/meadow-honey.csv")),
    ("the-book-barrow", include_str!("../../../configs/demo/catalogs/the-book-barrow.csv")),
    ("wool-works", include_str!("../../../configs/demo/catalogs/wool-works.csv")),
    ("night-owl-coffee", include_str!("../../../configs/demo/catalogs/night-owl-coffee.csv")),
    ("tumbledown-toys", include_str!("../../../configs/demo/catalogs/tumbledown-toys.csv")),
    ("ember-spice", include_str!("../../../configs/demo/catalogs/ember-spice.csv")),
    ("lantern-tea", include_str!("../../../configs/demo/catalogs/lantern-tea.csv")),
    ("pickle-parlour", include_str!("../../../configs/demo/catalogs/pickle-parlour.csv")),
];

const GATEWAY: usize = 1;
const FIRST_STALL: usize = 2;

/// The market while it runs.
struct Market {
    arguments: DemoArguments,
    program: PathBuf,
    directory: PathBuf,
    network: Network,
    /// Hub, gateway, stalls, and whoever comes later.
    nodes: Vec<Node>,
    invites: Vec<String>,
    started: Instant,
    journal: std::fs::File,
    products: BTreeMap<usize, Vec<(String, u64)>>,
    baskets: Vec<Vec<String>>,
    random: u64,
    sequence: u64,
    figures: serde_json::Map<String, Value>,
}

/// Runs the demo.
pub(crate) async fn run(arguments: DemoArguments) -> Result<(), DemoError> {
    let temporary;
    let directory = match &arguments.dir {
        Some(directory) => {
            std::fs::create_dir_all(directory).map_err(DemoError::io("--dir"))?;
            if std::fs::read_dir(directory).map_err(DemoError::io("--dir"))?.next().is_some() {
                return Err(DemoError::Failed(format!("{} is not empty: name another --dir", directory.display())));
            }
            directory.clone()
        }
        None => {
            temporary = std::env::temp_dir().join(format!("stallmesh-demo-{}", std::process::id()));
            std::fs::create_dir_all(&temporary).map_err(DemoError::io("the temporary directory"))?;
            temporary
        }
    };
    let keep_files = arguments.dir.is_some();
    let result = tokio::select! {
        result = all_steps(arguments, directory.clone()) => result,
        _ = tokio::signal::ctrl_c() => Err(DemoError::Failed("stopped".into())),
    };
    if !keep_files {
        let _ = std::fs::remove_dir_all(&directory);
    }
    result
}

async fn all_steps(arguments: DemoArguments, directory: PathBuf) -> Result<(), DemoError> {
    let mut market = Market::open(arguments, directory)?;
    let outcome = market.steps().await;
    for node in &mut market.nodes {
        node.stop().await;
    }
    outcome
}

impl Market {
    fn open(arguments: DemoArguments, directory: PathBuf) -> Result<Self, DemoError> {
        let stalls = usize::from(arguments.stalls);
        // Hub, gateway, stalls, and places for a helper's tablet, a clone and a stranger.
        let (network, reason) = Network::make(FIRST_STALL + stalls + 3);
        match &reason {
            None => {
                println!("Each node lives in a network namespace of its own; pulling an uplink is pulling a cable.")
            }
            Some(reason) => println!(
                "No network namespaces here ({reason}): all nodes are on loopback, with addresses given, and uplinks are switched in the nodes."
            ),
        }
        let baskets = match &arguments.baskets {
            None => Vec::new(),
            Some(path) => {
                let file = std::fs::File::open(path).map_err(DemoError::io("--baskets"))?;
                read_baskets(file).map_err(|error| DemoError::Failed(format!("{}: {error}", path.display())))?
            }
        };
        let journal = std::fs::File::create(directory.join("journal.jsonl")).map_err(DemoError::io("the journal"))?;
        Ok(Market {
            program: std::env::current_exe().map_err(DemoError::io("this program"))?,
            directory,
            network,
            nodes: Vec::new(),
            invites: Vec::new(),
            started: Instant::now(),
            journal,
            products: BTreeMap::new(),
            baskets,
            random: arguments.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            sequence: 0,
            figures: serde_json::Map::new(),
            arguments,
        })
    }

    async fn steps(&mut self) -> Result<(), DemoError> {
        self.make_market().await?;
        self.step_join().await?;
        self.step_catalogs().await?;
        self.step_sell_offline().await?;
        self.step_relay().await?;
        self.step_trouble().await?;
        self.step_settle().await
    }

    fn draw(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % below.max(1) as u64) as usize
    }

    fn since_start(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn step(&self, number: u8, title: &str) {
        println!("\n{number}. {title}");
    }

    fn say(&self, line: &str) {
        println!("   {line}");
    }

    fn note(&mut self, line: &Line) -> Result<(), DemoError> {
        let text = serde_json::to_string(line).map_err(|error| DemoError::Failed(error.to_string()))?;
        writeln!(self.journal, "{text}").map_err(DemoError::io("the journal"))
    }

    fn stalls(&self) -> std::ops::Range<usize> {
        FIRST_STALL..FIRST_STALL + usize::from(self.arguments.stalls)
    }

    fn environment(&self, hub_port: u16, extra: &[(&str, String)]) -> Vec<(String, String)> {
        let mut environment: Vec<(String, String)> = vec![
            ("STALLMESH_MESH_LISTEN".into(), self.network.listen().into()),
            ("STALLMESH_MESH_MDNS".into(), self.network.has_multicast().to_string()),
            ("STALLMESH_API_LISTEN".into(), "127.0.0.1:0".into()),
            ("STALLMESH_UPLINK_ENABLED".into(), self.network.has_multicast().to_string()),
            ("STALLMESH_UPLINK_ADDRESSES".into(), self.network.hub_address(hub_port)),
        ];
        environment.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        environment
    }

    fn free_port() -> Result<u16, DemoError> {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").map_err(DemoError::io("a free port"))?;
        Ok(socket.local_addr().map_err(DemoError::io("a free port"))?.port())
    }

    async fn make_market(&mut self) -> Result<(), DemoError> {
        let hub_port = Self::free_port()?;
        let hub = self.directory.join("hub");
        let policy = PolicyView {
            fee_rate: "5".into(),
            prices_include_tax: true,
            tax_rates: vec![("standard".into(), "20".into())],
            carriers: 3,
            card_floor_limit: 0,
        };
        let root = create_market_in(&hub, "Quay Market", "EUR", policy, 30)
            .map_err(|error| DemoError::Failed(error.to_string()))?;
        std::fs::write(self.directory.join("market.pub"), format!("{root}\n")).map_err(DemoError::io("market.pub"))?;
        let hub_environment = self.environment(
            hub_port,
            &[
                ("STALLMESH_UPLINK_LISTEN", self.network.hub_listen(hub_port)),
                ("STALLMESH_MESH_MDNS", "false".into()),
                ("STALLMESH_MESH_LISTEN", String::new()),
                ("STALLMESH_HUB_CHECKPOINT_EVERY_MS", "1000".into()),
            ],
        );
        self.nodes.push(Node::new(0, "hub", hub, hub_environment));
        let gateway = self.environment(hub_port, &[("STALLMESH_MESH_DEGREE", "16".into())]);
        self.nodes.push(Node::new(GATEWAY, "gateway", self.directory.join("gateway"), gateway));
        for index in self.stalls() {
            let number = index - FIRST_STALL + 1;
            let directory = self.directory.join(format!("stall-{number}"));
            self.nodes.push(Node::new(index, &format!("stall-{number}"), directory, self.environment(hub_port, &[])));
        }
        Ok(())
    }

    async fn set_uplink(&mut self, index: usize, up: bool) -> Result<(), DemoError> {
        self.network.set_uplink(index, up).map_err(DemoError::Failed)?;
        let at = self.since_start();
        self.note(&Line::Uplink { node: index, up, at })?;
        if self.nodes[index].runs() {
            self.nodes[index].send("PUT", "/v1/uplink", &json!({ "up": up })).await?;
        }
        Ok(())
    }

    /// Waits for something, with a generous deadline.
    async fn until<F, Fut>(what: &str, seconds: u64, mut holds: F) -> Result<Duration, DemoError>
    where
        F: FnMut() -> Fut,
        Fut: std::future::Future<Output = Result<bool, DemoError>>,
    {
        let start = Instant::now();
        loop {
            if holds().await? {
                return Ok(start.elapsed());
            }
            if start.elapsed() > Duration::from_secs(seconds) {
                return Err(DemoError::Failed(format!("{what}: not within {seconds} s")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn step_join(&mut self) -> Result<(), DemoError> {
        self.step(1, "Join: stalls start with nothing but an invite");
        let program = self.program.clone();
        for index in 0..self.nodes.len() {
            std::fs::create_dir_all(&self.nodes[index].directory).map_err(DemoError::io("a data directory"))?;
        }
        self.nodes[0].start(&self.network, &program).await?;
        for index in 1..self.nodes.len() {
            let stall = if index == GATEWAY { String::new() } else { self.stall_slug(index) };
            let role = if index == GATEWAY { "gateway" } else { "stall" };
            let order = json!({ "role": role, "stall": stall, "name": self.nodes[index].name, "expires_ms": 86_400_000_u64, "valid_ms": 172_800_000_u64 });
            let invite = self.nodes[0].send("POST", "/v1/invites", &order).await?;
            self.invites.push(invite["invite"].as_str().unwrap_or_default().to_owned());
        }
        for index in 1..self.nodes.len() {
            self.nodes[index].start(&self.network, &program).await?;
        }
        self.set_uplink(GATEWAY, true).await?;
        self.nodes[GATEWAY].join(&self.invites[0]).await?;
        let gateway = &self.nodes[GATEWAY];
        Self::until("the gateway joins", 60, async || Ok(gateway.status().await?["role"] != "none")).await?;
        if !self.network.has_multicast() {
            let status = self.nodes[GATEWAY].status().await?;
            let address = status["listen"][0].as_str().unwrap_or_default().to_owned();
            for index in self.stalls() {
                self.nodes[index].send("POST", "/v1/peers", &json!({ "address": address })).await?;
            }
        }
        let mut begun = BTreeMap::new();
        for index in self.stalls() {
            self.nodes[index].join(&self.invites[index - 1]).await?;
            begun.insert(index, Instant::now());
        }
        let mut took: BTreeMap<usize, f64> = BTreeMap::new();
        let deadline = Instant::now() + Duration::from_secs(120);
        while took.len() < begun.len() {
            for index in self.stalls().filter(|index| !took.contains_key(index)).collect::<Vec<_>>() {
                if self.nodes[index].status().await?["role"] != "none" {
                    took.insert(index, begun[&index].elapsed().as_secs_f64() * 1000.0);
                }
            }
            if Instant::now() > deadline {
                return Err(DemoError::Failed(format!("only {} of {} stalls joined", took.len(), begun.len())));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut discovered = 0;
        for index in self.stalls() {
            discovered += u64::from(self.nodes[index].status().await?["discovered"].as_u64().unwrap_or(0) > 0);
        }
        let mut times: Vec<f64> = took.into_values().collect();
        times.sort_by(f64::total_cmp);
        let (p50, max) = (times[times.len() / 2], times[times.len() - 1]);
        let devices = self.nodes.len();
        self.figures.insert("devices".into(), devices.into());
        self.figures.insert("discovered_by_mdns".into(), discovered.into());
        self.figures.insert("join_ms".into(), json!({ "p50": p50.round(), "max": max.round() }));
        self.say(&format!(
            "{} stalls are members; half of them after {p50:.0} ms, the last after {max:.0} ms.",
            times.len()
        ));
        self.say(&if self.network.has_multicast() {
            format!("{discovered} of them found others by mDNS; none had an address. Their requests went to the hub through members that can't read them.")
        } else {
            "They were given one address, the gateway's.".to_owned()
        });
        Ok(())
    }

    fn stall_slug(&self, index: usize) -> String {
        let number = index - FIRST_STALL;
        let (slug, _) = CATALOGS[number % CATALOGS.len()];
        if number < CATALOGS.len() { slug.to_owned() } else { format!("{slug}-{}", number / CATALOGS.len() + 1) }
    }

    /// The product file of each stall.
    fn catalog_files(&self) -> Result<Vec<Vec<u8>>, DemoError> {
        match &self.arguments.catalogs {
            None => Ok(CATALOGS.iter().map(|(_, text)| text.as_bytes().to_vec()).collect()),
            Some(folder) => {
                let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
                    .map_err(DemoError::io("--catalogs"))?
                    .filter_map(|entry| entry.ok().map(|entry| entry.path()))
                    .filter(|path| {
                        // Other CSV files in the folder are other things.
                        std::fs::read_to_string(path).is_ok_and(|text| {
                            let head = text.lines().next().unwrap_or_default().to_lowercase();
                            head.contains("handle") && head.contains("variant price")
                        })
                    })
                    .collect();
                paths.sort();
                if paths.is_empty() {
                    return Err(DemoError::Failed(format!("{}: no Shopify product CSV in it", folder.display())));
                }
                paths.iter().map(|path| std::fs::read(path).map_err(DemoError::io("--catalogs"))).collect()
            }
        }
    }

    async fn step_catalogs(&mut self) -> Result<(), DemoError> {
        self.step(2, "Catalogs spread: each stall imports a product file of its own");
        let files = self.catalog_files()?;
        let mut expected = 0;
        let start = Instant::now();
        for index in self.stalls() {
            let file = &files[(index - FIRST_STALL) % files.len()];
            let mut products = shopify(file.as_slice(), 2, Some("standard"))
                .map_err(|error| DemoError::Failed(format!("a product file: {error}")))?
                .products;
            let named: Vec<String> = self.baskets.iter().flatten().take(2000).cloned().collect();
            for name in named {
                let sku: String =
                    name.to_uppercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
                if !products.iter().any(|product| product.sku == sku) {
                    let price = price_for(&name, self.arguments.seed);
                    products.push(crate::engine::ProductView {
                        sku,
                        name,
                        price,
                        taxes: vec!["standard".into()],
                        unit: "piece".into(),
                        ..Default::default()
                    });
                }
            }
            let body = serde_json::to_value(&products).map_err(|error| DemoError::Failed(error.to_string()))?;
            self.nodes[index].send("PUT", "/v1/catalog", &body).await?;
            expected += products.len();
            self.products.insert(index, products.into_iter().map(|product| (product.sku, product.price)).collect());
        }
        let everybody: Vec<usize> = (1..self.nodes.len()).collect();
        let nodes = &self.nodes;
        Self::until("every node holds every catalog", 120, async || {
            for index in &everybody {
                let counts = nodes[*index].get("/v1/catalog/counts").await?;
                let held: u64 = counts.as_array().into_iter().flatten().filter_map(|count| count[1].as_u64()).sum();
                if held != expected as u64 {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await?;
        let took = start.elapsed().as_millis() as u64;
        self.figures.insert("catalog_items".into(), expected.into());
        self.figures.insert("catalog_converged_ms".into(), took.into());
        self.say(&format!(
            "{expected} products of {} stalls; the last node held all of them {took} ms after the first import began.",
            self.arguments.stalls
        ));
        Ok(())
    }

    /// One sale at a stall: what the shop side does, and what it writes down.
    async fn sell(&mut self, index: usize, key: Option<&str>) -> Result<String, DemoError> {
        let body = self.order(index, key);
        let begun = Instant::now();
        let sale = self.nodes[index].send("POST", "/v1/sales", &body).await?;
        self.write_down(index, &sale, begun)
    }

    fn order(&mut self, index: usize, key: Option<&str>) -> Value {
        self.sequence += 1;
        let key = key.map_or_else(|| format!("{}-{index}-{}", self.arguments.seed, self.sequence), str::to_owned);
        let products = self.products.get(&index).cloned().unwrap_or_default();
        let lines: Vec<Value> = if self.baskets.is_empty() {
            let count = 1 + self.draw(3);
            (0..count)
                .map(|_| {
                    let (sku, _) = &products[self.draw(products.len())];
                    json!({ "sku": sku, "quantity": (1 + self.draw(2)).to_string() })
                })
                .collect()
        } else {
            let chosen = self.draw(self.baskets.len().min(400));
            let basket = self.baskets[chosen].clone();
            let skus: Vec<String> = basket
                .iter()
                .map(|name| {
                    name.to_uppercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
                })
                .collect();
            skus.into_iter()
                .filter(|sku| products.iter().any(|(known, _)| known == sku))
                .map(|sku: String| json!({ "sku": sku, "quantity": "1" }))
                .collect()
        };
        let tender = if self.draw(2) == 0 {
            json!({ "kind": "cash" })
        } else {
            json!({ "kind": "card", "token": format!("tok_{:08x}", self.draw(usize::MAX)) })
        };
        json!({ "idempotency_key": key, "lines": lines, "tenders": [tender], "operator": "Ada" })
    }

    fn write_down(&mut self, index: usize, sale: &Value, begun: Instant) -> Result<String, DemoError> {
        let id = sale["sale"].as_str().unwrap_or_default().to_owned();
        let line = Line::Recorded {
            sale: id.clone(),
            total: sale["total"].as_u64().unwrap_or(0),
            currency: sale["currency"].as_str().unwrap_or_default().to_owned(),
            node: index,
            at: self.since_start(),
            took_ms: begun.elapsed().as_secs_f64() * 1000.0,
        };
        self.note(&line)?;
        Ok(id)
    }

    async fn step_sell_offline(&mut self) -> Result<(), DemoError> {
        self.step(3, "Sell with no uplink at all");
        self.set_uplink(GATEWAY, false).await?;
        let hub = &self.nodes[0];
        Self::until("the hub is alone", 60, async || {
            Ok(hub.status().await?["peers"].as_array().is_none_or(Vec::is_empty))
        })
        .await?;
        let end = Instant::now() + Duration::from_secs(self.arguments.seconds);
        let mut sold = 0;
        while Instant::now() < end {
            for index in self.stalls() {
                self.sell(index, None).await?;
                sold += 1;
            }
        }
        let stalls: Vec<usize> = self.stalls().collect();
        let nodes = &self.nodes;
        Self::until("every sale has a copy on a neighbour", 60, async || {
            for index in &stalls {
                let custody = nodes[*index].status().await?["custody"].clone();
                if custody["own_waiting"] != custody["own_copied"] {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await?;
        let ledger = self.nodes[0].get("/v1/ledger").await?;
        if ledger["received"].as_u64() != Some(0) {
            return Err(DemoError::Failed("the hub has sales, with every uplink cut".into()));
        }
        self.say(&format!("{sold} sales are recorded at {} stalls, cash and card; every one is copied on neighbours; the hub has none.", stalls.len()));
        self.helper().await
    }

    /// A stall owner gives a helper's tablet a narrower certificate, with no hub anywhere.
    async fn helper(&mut self) -> Result<(), DemoError> {
        let owner = FIRST_STALL;
        let index = FIRST_STALL + usize::from(self.arguments.stalls);
        let environment = self.environment(1, &[("STALLMESH_UPLINK_ENABLED", "false".into())]);
        let mut helper = Node::new(index, "helper's tablet", self.directory.join("helper"), environment);
        std::fs::create_dir_all(&helper.directory).map_err(DemoError::io("a data directory"))?;
        helper.start(&self.network, &self.program.clone()).await?;
        // Which market it is, it learns from the owner's own invite, which gives it no right: that is used up.
        let stall = self.stall_slug(owner);
        let body = json!({ "invite": self.invites[owner - 1], "name": "helper", "ask_for_stall": stall });
        helper.send("POST", "/v1/join", &body).await?;
        if !self.network.has_multicast() {
            let status = self.nodes[owner].status().await?;
            helper.send("POST", "/v1/peers", &json!({ "address": status["listen"][0] })).await?;
        }
        let status = helper.status().await?;
        let order = json!({ "device": status["device"], "seal_key": status["seal_key"], "name": "helper", "scopes": ["sell=10000", "relay"], "valid_ms": 43_200_000_u64 });
        self.nodes[owner].send("POST", "/v1/delegate", &order).await?;
        let waiting = &helper;
        let took =
            Self::until("the helper's tablet joins", 60, async || Ok(waiting.status().await?["role"] == "stall"))
                .await?;
        let products = self.products.get(&owner).cloned().unwrap_or_default();
        let path = "/v1/catalog/counts";
        Self::until("the helper's tablet has the catalog", 60, async || {
            Ok(waiting
                .get(path)
                .await?
                .as_array()
                .into_iter()
                .flatten()
                .any(|count| count[0] == stall && count[1].as_u64() == Some(products.len() as u64)))
        })
        .await?;
        self.products.insert(index, products.clone());
        self.nodes.push(helper);
        let cheapest = products.iter().min_by_key(|(_, price)| *price).cloned().unwrap_or_default();
        let order = |quantity: u64, key: &str| json!({ "idempotency_key": key, "lines": [{ "sku": cheapest.0, "quantity": quantity.to_string() }], "tenders": [{ "kind": "cash" }] });
        let begun = Instant::now();
        let sale = self.nodes[index].send("POST", "/v1/sales", &order(1, "helper-1")).await?;
        self.write_down(index, &sale, begun)?;
        let too_much = 10_000 / cheapest.1.max(1) + 1;
        let refused_sale = self.nodes[index].send("POST", "/v1/sales", &order(too_much, "helper-2")).await;
        let refused_catalog =
            self.nodes[index].send("PUT", "/v1/catalog", &json!([{ "sku": "X", "name": "X", "price": 1 }])).await;
        let (Err(sale_refusal), Err(catalog_refusal)) = (refused_sale, refused_catalog) else {
            return Err(DemoError::Failed("the helper's tablet did what its certificate doesn't allow".into()));
        };
        self.say(&format!(
            "A helper's tablet became a member through its stall's owner in {} ms, with no hub anywhere, and sells.",
            took.as_millis()
        ));
        self.say(&format!("It is refused what it may not do: {sale_refusal}"));
        self.say(&format!("                                  {catalog_refusal}"));
        Ok(())
    }

    /// Writes down each sale that its node now says is at the hub; how many are still on their way.
    async fn look_for_received(&mut self, known: &mut std::collections::BTreeSet<String>) -> Result<usize, DemoError> {
        let mut waiting = 0;
        for index in FIRST_STALL..self.nodes.len() {
            if !self.nodes[index].runs() {
                continue;
            }
            let sales = self.nodes[index].get("/v1/sales?limit=1000").await?;
            for sale in sales.as_array().into_iter().flatten() {
                let id = sale["sale"].as_str().unwrap_or_default().to_owned();
                if matches!(sale["state"].as_str(), Some("at_the_hub" | "settled")) {
                    if known.insert(id.clone()) {
                        let at = self.since_start();
                        self.note(&Line::Received { sale: id, at })?;
                    }
                } else {
                    waiting += 1;
                }
            }
        }
        Ok(waiting)
    }

    async fn all_received(&mut self, seconds: u64) -> Result<usize, DemoError> {
        let mut known = std::collections::BTreeSet::new();
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let waiting = self.look_for_received(&mut known).await?;
            if waiting == 0 {
                return Ok(known.len());
            }
            if Instant::now() > deadline {
                return Err(DemoError::Failed(format!("{waiting} sales didn't reach the hub within {seconds} s")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn step_relay(&mut self) -> Result<(), DemoError> {
        self.step(4, "One node gets an uplink: everybody's sales flow through it");
        let start = Instant::now();
        self.set_uplink(GATEWAY, true).await?;
        let received = self.all_received(60).await?;
        self.say(&format!(
            "{received} sales are at the hub {} ms after the gateway's uplink came up; no stall has one.",
            start.elapsed().as_millis()
        ));
        // The carrier tries to read what it carries: its own export discloses nothing.
        let out = self.directory.join("gateway.export");
        export(&self.nodes[GATEWAY].directory, &out).await.map_err(|error| DemoError::Failed(error.to_string()))?;
        let file = std::fs::File::open(&out).map_err(DemoError::io("the gateway's export"))?;
        let read = crate::engine::recompute(std::io::BufReader::new(file), None, 1)
            .map_err(|error| DemoError::Failed(error.to_string()))?;
        if !read.sales.is_empty() {
            return Err(DemoError::Failed("the carrier could read sales".into()));
        }
        let carried = read.reconciliation.outcomes.len();
        self.say(&format!("The gateway carried {carried} sales and tried to open each of them: it could read none."));
        Ok(())
    }

    async fn step_trouble(&mut self) -> Result<(), DemoError> {
        self.step(5, "Trouble");
        let program = self.program.clone();
        // Killed in the middle of selling, and started again; every request is sent again.
        let victim = FIRST_STALL;
        let mut keys = Vec::new();
        for number in 0..10 {
            let key = format!("killed-{number}");
            let body = self.order(victim, Some(&key));
            if number == 9 {
                let directory = self.nodes[victim].directory.clone();
                let sent = body.clone();
                tokio::spawn(
                    async move { crate::cli::client::ask(&directory, "POST", "/v1/sales", Some(&sent)).await },
                );
                self.nodes[victim].kill().await;
            } else {
                let begun = Instant::now();
                let sale = self.nodes[victim].send("POST", "/v1/sales", &body).await?;
                self.write_down(victim, &sale, begun)?;
            }
            keys.push(body);
        }
        let restart = Instant::now();
        self.nodes[victim].start(&self.network, &program).await?;
        for (number, body) in keys.into_iter().enumerate() {
            let begun = Instant::now();
            let sale = self.nodes[victim].send("POST", "/v1/sales", &body).await?;
            self.write_down(victim, &sale, begun)?;
            if number == 0 {
                self.say(&format!("{} was killed in the middle of a sale; {} ms later it answers again, with the same sales under the same keys.", self.nodes[victim].name, restart.elapsed().as_millis()));
            }
        }
        // Another never comes back; its sales do.
        self.set_uplink(GATEWAY, false).await?;
        let lost = *self.stalls().collect::<Vec<_>>().last().unwrap_or(&FIRST_STALL);
        for _ in 0..5 {
            self.sell(lost, None).await?;
        }
        let node = &self.nodes[lost];
        Self::until("a neighbour holds the last sales", 60, async || {
            let custody = node.status().await?["custody"].clone();
            Ok(custody["own_waiting"] == custody["own_copied"])
        })
        .await?;
        self.nodes[lost].kill().await;
        self.say(&format!(
            "{} is gone for good, right after its neighbours signed for its last 5 sales.",
            self.nodes[lost].name
        ));
        // The uplink moves to another node.
        let other = if lost == FIRST_STALL + 1 { FIRST_STALL } else { FIRST_STALL + 1 };
        let before = self.nodes[0].get("/v1/ledger").await?["received"].as_u64().unwrap_or(0);
        self.set_uplink(other, true).await?;
        self.all_received(60).await?;
        let hub = &self.nodes[0];
        Self::until("the lost stall's sales reach the hub", 60, async || {
            Ok(hub.get("/v1/ledger").await?["received"].as_u64().unwrap_or(0) >= before + 5)
        })
        .await?;
        self.say(&format!(
            "The uplink moved to {}: everything reached the hub through it, the lost stall's sales too.",
            self.nodes[other].name
        ));
        self.stranger().await?;
        self.clone_a_disk(&program).await
    }

    /// Somebody with a node and a market of his own tries to get in.
    async fn stranger(&mut self) -> Result<(), DemoError> {
        let index = FIRST_STALL + usize::from(self.arguments.stalls) + 2;
        let directory = self.directory.join("stranger");
        create_market_in(&directory, "Elsewhere", "EUR", PolicyView::default(), 30)
            .map_err(|error| DemoError::Failed(error.to_string()))?;
        let environment = self.environment(1, &[]);
        let mut stranger = Node::new(index, "stranger", directory, environment);
        stranger.start(&self.network, &self.program.clone()).await?;
        let target = self.nodes[GATEWAY].status().await?;
        for address in target["listen"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|address| address.starts_with('/'))
        {
            stranger.send("POST", "/v1/peers", &json!({ "address": address })).await?;
        }
        let waiting = &stranger;
        // Long enough for several dials: what it could get, it would have by then.
        let begun = Instant::now();
        Self::until("the stranger tries", 10, async || {
            waiting.status().await?;
            Ok(begun.elapsed() > Duration::from_secs(2))
        })
        .await?;
        let status = stranger.status().await?;
        let members = stranger.get("/v1/members").await?;
        stranger.stop().await;
        let (peers, known) = (status["peers"].as_array().map_or(0, Vec::len), members.as_array().map_or(0, Vec::len));
        if peers > 0 || known > 1 {
            return Err(DemoError::Failed("a stranger was let in".into()));
        }
        self.say("A stranger with a node and a certificate of another market dialled the gateway: no session, no entry, no address.");
        Ok(())
    }

    /// A data directory is copied, and both copies sell.
    async fn clone_a_disk(&mut self, program: &Path) -> Result<(), DemoError> {
        let original = FIRST_STALL;
        self.nodes[original].stop().await;
        let copy = self.directory.join("stall-1-copy");
        copy_directory(&self.nodes[original].directory, &copy)?;
        let index = FIRST_STALL + usize::from(self.arguments.stalls) + 1;
        let mut clone = self.nodes[original].copy_of(index, copy);
        self.nodes[original].start(&self.network, program).await?;
        clone.start(&self.network, program).await?;
        if !self.network.has_multicast() {
            let address = self.nodes[GATEWAY].status().await?["listen"][0].clone();
            for node in [&self.nodes[original], &clone] {
                node.send("POST", "/v1/peers", &json!({ "address": address })).await?;
            }
        }
        self.products.insert(index, self.products.get(&original).cloned().unwrap_or_default());
        while self.nodes.len() <= index {
            let place = self.nodes.len();
            if place == index {
                break;
            }
            self.nodes.push(Node::new(place, "nobody", self.directory.join("nobody"), Vec::new()));
        }
        self.nodes.push(clone);
        for round in 0..3 {
            self.sell(original, Some(&format!("original-{round}"))).await?;
            self.sell(index, Some(&format!("copy-{round}"))).await?;
        }
        self.all_received(60).await?;
        let hub = &self.nodes[0];
        Self::until("the clone raises the alarm", 60, async || {
            Ok(hub.status().await?["notices"].to_string().contains("two copies"))
        })
        .await?;
        self.say("A data directory was copied and both copies sold: the alarm is raised, and both sides' sales are at the hub.");
        Ok(())
    }

    async fn step_settle(&mut self) -> Result<(), DemoError> {
        self.step(6, "Settle");
        let settlement = self.nodes[0].send("POST", "/v1/settle", &json!({ "dry_run": false })).await?;
        let digest = settlement["digest"].as_str().unwrap_or_default().to_owned();
        let mut with_statement = 0;
        for index in self.stalls() {
            if !self.nodes[index].runs() {
                continue;
            }
            let node = &self.nodes[index];
            Self::until("a stall has its statement", 60, async || {
                Ok(node.get("/v1/statements").await?.as_array().is_some_and(|statements| !statements.is_empty()))
            })
            .await?;
            with_statement += 1;
        }
        self.say(&format!("The hub closed batch {}: {} sales posted, {} rows in suspense. {with_statement} stalls opened their sealed statements.", settlement["number"], settlement["posted"], settlement["suspense"].as_array().map_or(0, Vec::len)));
        let (mut sent, mut resident) = (0, 0);
        for node in self.nodes.iter().filter(|node| node.runs()) {
            sent += node.status().await?["traffic"]["sent"].as_u64().unwrap_or(0);
            resident = resident.max(node.resident());
        }
        self.figures.insert("bytes_sent".into(), sent.into());
        self.figures.insert("rss_mb_max".into(), json!((resident as f64 / 1_048_576.0 * 10.0).round() / 10.0));
        let out = self.directory.join("hub.export");
        export(&self.nodes[0].directory, &out).await.map_err(|error| DemoError::Failed(error.to_string()))?;
        self.journal.sync_all().map_err(DemoError::io("the journal"))?;
        let mut command = tokio::process::Command::new(&self.program);
        command
            .arg("demo-count")
            .arg("--journal")
            .arg(self.directory.join("journal.jsonl"))
            .arg("--export")
            .arg(&out)
            .arg("--market-key")
            .arg(self.directory.join("market.pub"));
        if let Some(falsify) = &self.arguments.falsify {
            command.arg("--falsify").arg(falsify);
        }
        let counted = command.output().await.map_err(DemoError::io("the counting process"))?;
        if !counted.status.success() {
            return Err(DemoError::Failed(format!(
                "the counting process: {}",
                String::from_utf8_lossy(&counted.stderr).trim()
            )));
        }
        let counted: Value = serde_json::from_slice(&counted.stdout)
            .map_err(|error| DemoError::Failed(format!("the counting process: {error}")))?;
        self.figures.insert("digest".into(), digest.clone().into());
        for (key, value) in counted.as_object().into_iter().flatten() {
            self.figures.insert(key.clone(), value.clone());
        }
        let url = std::fs::read_to_string(self.nodes[0].directory.join("api.url")).unwrap_or_default();
        self.figures.insert("links".into(), json!({ "dashboard": url.trim() }));
        let sales = &counted["sales"];
        self.say(&format!(
            "A process of its own counted {} sales that the shops acknowledged: {} at the hub, {} settled, {} relayed through others, {} lost, {} doubled.",
            sales["recorded"], sales["received"], sales["settled"], sales["relayed"], sales["lost"], sales["duplicated"]
        ));
        self.say(&format!(
            "It recomputed the settlement from the exported logs in another order: {}",
            counted["digest_recomputed"].as_str().unwrap_or_default()
        ));
        if let Some(report) = &self.arguments.report {
            let text =
                serde_json::to_string_pretty(&self.figures).map_err(|error| DemoError::Failed(error.to_string()))?;
            std::fs::write(report, format!("{text}\n")).map_err(DemoError::io("--report"))?;
        }
        self.verdict(&counted, &digest)?;
        if self.arguments.keep {
            println!("\nThe market keeps running; its dashboard is at {}\nCtrl-C ends it.", url.trim());
            let _ = tokio::signal::ctrl_c().await;
        }
        Ok(())
    }

    /// Anything lost, doubled, unbalanced or different is a failure.
    fn verdict(&self, counted: &Value, digest: &str) -> Result<(), DemoError> {
        let sales = &counted["sales"];
        let mut wrong = Vec::new();
        for (what, found) in [("lost", &sales["lost"]), ("doubled", &sales["duplicated"])] {
            if found.as_u64() != Some(0) {
                wrong.push(format!("{found} sales {what}"));
            }
        }
        if sales["recorded"] != sales["settled"] {
            wrong.push(format!("{} recorded, {} settled", sales["recorded"], sales["settled"]));
        }
        if counted["digest_recomputed"] != digest {
            wrong.push("the recomputed digest differs".into());
        }
        if counted["ledger_sum_minor"]
            .as_object()
            .is_none_or(|sums| sums.is_empty() || sums.values().any(|sum| sum.as_i64() != Some(0)))
        {
            wrong.push("the ledger doesn't sum to zero".into());
        }
        let takings: u64 =
            counted["takings_minor"].as_object().into_iter().flatten().filter_map(|(_, sum)| sum.as_u64()).sum();
        if counted["settled_minor"].as_u64() != Some(takings) {
            wrong.push(format!("takings of {takings}, settled {}", counted["settled_minor"]));
        }
        if wrong.is_empty() {
            println!("\nNothing lost, nothing doubled, everything sums to zero, and the digests are the same.");
            Ok(())
        } else {
            Err(DemoError::Failed(format!("the market does not add up: {}", wrong.join("; "))))
        }
    }
}

fn copy_directory(from: &Path, to: &Path) -> Result<(), DemoError> {
    std::fs::create_dir_all(to).map_err(DemoError::io("a copy of a data directory"))?;
    for entry in std::fs::read_dir(from).map_err(DemoError::io("a data directory"))? {
        let entry = entry.map_err(DemoError::io("a data directory"))?;
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            std::fs::copy(entry.path(), to.join(entry.file_name()))
                .map_err(DemoError::io("a copy of a data directory"))?;
        }
    }
    Ok(())
}

//! Real nodes: processes of the `stallmesh` program beside this one, asked over their HTTP API.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Generous: a machine under load is no failure.
const WITHIN: Duration = Duration::from_secs(300);
const DAY_MS: u64 = 24 * 3_600_000;

/// The node's program, built with this one.
pub(crate) fn program() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path").with_file_name("stallmesh");
    assert!(program.exists(), "{} is missing: run tests/bench, which builds it", program.display());
    program
}

/// Waits until something holds, looking every so often.
pub(crate) fn until<T>(what: &str, every: Duration, mut holds: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(start.elapsed() < WITHIN, "{what} did not happen");
        std::thread::sleep(every);
    }
}

/// A UDP port that is free now.
pub(crate) fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

/// A connection to a node's API that is kept open.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Client {
    fn connect(page: &str) -> Option<Client> {
        let (address, token) = page.trim().strip_prefix("http://")?.split_once("/?token=")?;
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nodelay(true).ok()?;
        let head = format!("Host: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n");
        Some(Client { stream: BufReader::new(stream), head })
    }

    /// Sends one request and waits for its answer.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n", self.head, body.len()).into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let broken = || std::io::Error::other("no HTTP answer");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(|_| broken())?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok((status, answer))
    }

    /// The same, in JSON; a refusal ends the program.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let text = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let (status, answer) = self.send(method, path, &text).expect("the node answers");
        assert!(status < 400, "{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).expect("answers are JSON")
    }
}

/// One node; its process ends with it.
pub(crate) struct Node {
    pub(crate) directory: PathBuf,
    /// Where its mesh listens, also after a restart.
    pub(crate) port: u16,
    environment: Vec<(String, String)>,
    process: Option<(Child, ChildStdin)>,
}

impl Node {
    pub(crate) fn new(directory: PathBuf) -> Self {
        let port = free_port();
        let mut node = Node { directory, port, environment: Vec::new(), process: None };
        node.set("STALLMESH_MESH_LISTEN", &node.address());
        node.set("STALLMESH_MESH_MDNS", "false");
        node.set("STALLMESH_API_LISTEN", "127.0.0.1:0");
        node.set("STALLMESH_UPLINK_ENABLED", "false");
        node
    }

    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.environment.push((key.to_owned(), value.to_owned()));
    }

    /// Its multiaddr.
    pub(crate) fn address(&self) -> String {
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", self.port)
    }

    fn log(&self) -> PathBuf {
        self.directory.with_extension("log")
    }

    /// Starts the process; gives the moment before.
    pub(crate) fn spawn(&mut self) -> (Instant, std::time::SystemTime) {
        std::fs::create_dir_all(self.directory.parent().expect("a folder")).expect("a folder for nodes");
        let _ = std::fs::remove_file(self.directory.join("api.url"));
        let log = std::fs::File::create(self.log()).expect("a node's log");
        let started = (Instant::now(), std::time::SystemTime::now());
        let mut child = Command::new(program())
            .arg("--data-dir")
            .arg(&self.directory)
            .arg("run")
            .envs(self.environment.iter().cloned())
            .env("STALLMESH_STOP_WITH_STDIN", "1")
            .env("NO_COLOR", "1")
            .env("STALLMESH_LOG_FILTER", "warn,stallmesh::start=debug")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("a node's process");
        let input = child.stdin.take().expect("its input");
        self.process = Some((child, input));
        started
    }

    /// A connection, as soon as the node takes one.
    pub(crate) fn try_client(&self) -> Option<Client> {
        Client::connect(&std::fs::read_to_string(self.directory.join("api.url")).ok()?)
    }

    /// A connection.
    pub(crate) fn client(&mut self) -> Client {
        until("a node's start", Duration::from_millis(2), || {
            if let Some(Ok(Some(status))) = self.process.as_mut().map(|(child, _)| child.try_wait()) {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                panic!("{} ended ({status}): {log}", self.directory.display());
            }
            self.try_client()
        })
    }

    pub(crate) fn start(&mut self) -> Client {
        self.spawn();
        self.client()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, |(child, _)| child.id())
    }

    /// Ends the process and waits for it.
    pub(crate) fn stop(&mut self) {
        if let Some((mut child, input)) = self.process.take() {
            drop(input);
            let _ = child.wait();
        }
    }

    /// What it wrote to its log: (milliseconds since a moment, rest of the line).
    pub(crate) fn log_since(&self, start: std::time::SystemTime) -> Vec<(f64, String)> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let (at, rest) = line.trim_start_matches(|c: char| !c.is_ascii_digit()).split_once(' ')?;
                Some((millis_of_day(at)? - millis_of_day_now(start), rest.to_owned()))
            })
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some((mut child, _)) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The time of day of an RFC 3339 text, in milliseconds.
fn millis_of_day(text: &str) -> Option<f64> {
    let time = text.split_once('T')?.1.trim_end_matches(|c: char| !c.is_ascii_digit());
    let mut fields = time.split(':').map(|field| field.parse::<f64>().ok());
    Some(((fields.next()?? * 60.0 + fields.next()??) * 60.0 + fields.next()??) * 1e3)
}

fn millis_of_day_now(time: std::time::SystemTime) -> f64 {
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    (since % 86_400.0) * 1e3
}

/// A market: its hub, and whoever joins.
pub(crate) struct Market {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) hub: Node,
    hub_client: Client,
}

impl Market {
    /// Makes a market and starts its hub.
    pub(crate) fn open(directory: &Path) -> Self {
        Self::open_with(directory, |_| {})
    }

    /// The same, with a hub that is set up otherwise.
    pub(crate) fn open_with(directory: &Path, configure: impl FnOnce(&mut Node)) -> Self {
        let folder = tempfile::Builder::new().prefix("stallmesh-bench-").tempdir_in(directory).expect("a folder");
        let mut hub = Node::new(folder.path().join("hub"));
        let output = Command::new(program())
            .arg("--data-dir")
            .arg(&hub.directory)
            .args(["market", "create", "Bench", "--currency", "EUR", "--tax", "standard=20"])
            .output()
            .expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        hub.set("STALLMESH_HUB_CHECKPOINT_EVERY_MS", "1000");
        configure(&mut hub);
        let hub_client = hub.start();
        Market { folder, hub, hub_client }
    }

    /// Starts the hub again after a stop.
    pub(crate) fn restart_hub(&mut self) {
        self.hub_client = self.hub.start();
    }

    /// An invite for a stall's device.
    pub(crate) fn invite(&mut self, stall: &str) -> String {
        let order = json!({
            "role": "stall", "stall": stall, "name": stall, "expires_ms": DAY_MS, "valid_ms": DAY_MS,
        });
        self.hub_client.ask("POST", "/v1/invites", &order)["invite"].as_str().expect("an invite").to_owned()
    }

    /// A new stall's node that knows these addresses; it doesn't run yet.
    pub(crate) fn stall(&self, name: &str, peers: &[String]) -> Node {
        let mut node = Node::new(self.folder.path().join(name));
        node.set("STALLMESH_MESH_PEERS", &peers.join(","));
        node
    }

    /// Lets a running node in, and waits until it knows the market's terms.
    pub(crate) fn admit(&mut self, name: &str, client: &mut Client) {
        let invite = self.invite(name);
        client.ask("POST", "/v1/join", &json!({ "invite": invite }));
        // A member at once knows its certificate; the market's terms come with the rest of `control`.
        until("joining", Duration::from_millis(10), || {
            let control = control_heads(&mut self.hub_client);
            (is_member(client) && control_heads(client) == control).then_some(())
        });
    }

    /// A new stall's node that has joined through the hub's address.
    pub(crate) fn joined(&mut self, name: &str, peers: &[String]) -> (Node, Client) {
        let mut peers = peers.to_vec();
        peers.push(self.hub.address());
        let mut node = self.stall(name, &peers);
        let mut client = node.start();
        self.admit(name, &mut client);
        (node, client)
    }
}

/// Whether a node belongs to its market.
pub(crate) fn is_member(client: &mut Client) -> bool {
    client.ask("GET", "/v1/status", &Value::Null)["role"] == "stall"
}

/// How far a node has the logs of who belongs and what the terms are.
fn control_heads(client: &mut Client) -> BTreeSet<(String, String, u64)> {
    let status = client.ask("GET", "/v1/status", &Value::Null);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let heads = status["heads"].as_array().into_iter().flatten();
    heads
        .filter(|head| head["lane"] == "control")
        .map(|head| (text(&head["author"]), text(&head["incarnation"]), head["sequence"].as_u64().unwrap_or(0)))
        .collect()
}

/// Products as the API takes them.
pub(crate) fn products(prefix: &str, count: usize) -> Vec<Value> {
    (0..count)
        .map(|number| {
            json!({
                "sku": format!("{prefix}-{number:06}"),
                "name": format!("Hand-made thing number {number} of {prefix}"),
                "price": 100 + (number % 4000) as u64,
                "taxes": ["standard"],
                "categories": ["things"],
                "stock": "12",
            })
        })
        .collect()
}

/// Publishes products, in requests of a size that the API takes.
pub(crate) fn publish(client: &mut Client, products: &[Value]) {
    for chunk in products.chunks(1000) {
        client.ask("PUT", "/v1/catalog", &Value::Array(chunk.to_vec()));
    }
}

/// How many products a node holds, of all stalls.
pub(crate) fn catalog_size(client: &mut Client) -> usize {
    let counts = client.ask("GET", "/v1/catalog/counts", &Value::Null);
    counts.as_array().into_iter().flatten().filter_map(|row| row[1].as_u64()).sum::<u64>() as usize
}

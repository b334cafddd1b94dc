//! One real node: a process of the program with a data directory of its own.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use stallmesh_node::api::{SOCKET_FILE, TOKEN_FILE};

use super::http::{Reply, exchange, head};
use super::{Namespaces, program, until};

/// A process that ended instead of running.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it said.
    pub log: String,
}

/// A node's process, its directory and how it is started.
#[derive(Debug)]
pub struct Node {
    /// For people, and for the directory's name.
    pub name: String,
    /// Its data directory.
    pub directory: PathBuf,
    environment: BTreeMap<String, String>,
    namespace: Option<String>,
    child: Option<Child>,
}

impl Node {
    /// A node that doesn't run yet: on loopback, without mDNS, without a way to the hub.
    pub fn new(folder: &Path, name: &str) -> Self {
        let mut node = Node {
            name: name.to_owned(),
            directory: folder.join(name),
            environment: BTreeMap::new(),
            namespace: None,
            child: None,
        };
        node.set("STALLMESH_MESH_LISTEN", "/ip4/127.0.0.1/udp/0/quic-v1")
            .set("STALLMESH_MESH_MDNS", "false")
            .set("STALLMESH_API_LISTEN", "127.0.0.1:0")
            .set("STALLMESH_UPLINK_ENABLED", "false")
            .set("STALLMESH_STOP_WITH_STDIN", "1");
        node
    }

    /// Sets a variable of its environment for the next start.
    pub fn set(&mut self, key: &str, value: &str) -> &mut Self {
        self.environment.insert(key.to_owned(), value.to_owned());
        self
    }

    /// From the next start on it lives in a namespace: on all its addresses, with mDNS.
    pub fn inside(&mut self, namespaces: &Namespaces, index: usize) -> &mut Self {
        self.namespace = Some(namespaces.name(index));
        self.set("STALLMESH_MESH_LISTEN", "/ip4/0.0.0.0/udp/7802/quic-v1").set("STALLMESH_MESH_MDNS", "true")
    }

    fn command(&self) -> Command {
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program());
                command
            }
            None => Command::new(program()),
        };
        command.arg("--data-dir").arg(&self.directory).envs(&self.environment);
        command
    }

    /// Where its log goes.
    fn log_path(&self) -> PathBuf {
        self.directory.with_extension("log")
    }

    /// What it has said so far, in all its runs.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Starts the process, and waits until it answers.
    ///
    /// # Panics
    /// It ended instead.
    pub fn start(&mut self) -> &mut Self {
        if let Err(ended) = self.try_start() {
            panic!("{} ended at its start ({}): {}", self.name, ended.status, ended.log);
        }
        self
    }

    /// Starts the process, and waits until it answers or has ended.
    ///
    /// # Errors
    /// It ended.
    ///
    /// # Panics
    /// The program can't be run at all, or neither answers nor ends.
    pub fn try_start(&mut self) -> Result<(), Ended> {
        self.spawn();
        self.await_answer()
    }

    /// Starts the process without waiting.
    ///
    /// # Panics
    /// The program can't be run.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.unwrap_or_else(|error| panic!("{}: {error}", self.log_path().display()));
        // What an earlier process has left says nothing of this one.
        for left in [SOCKET_FILE, "api.url"] {
            let _ = std::fs::remove_file(self.directory.join(left));
        }
        let child = self.command().arg("run").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{}: {error}", self.name)));
    }

    fn await_answer(&mut self) -> Result<(), Ended> {
        let before = self.log().len();
        let name = self.name.clone();
        until(&format!("{name} answers or ends"), || {
            if self.ask("GET", "/health", &Value::Null).is_ok() {
                return Ok(Ok(()));
            }
            match self.child.as_mut().map(Child::try_wait) {
                Some(Ok(Some(status))) => {
                    self.child = None;
                    let log = self.log();
                    let last = log.get(before.min(log.len())..).filter(|last| !last.is_empty()).unwrap_or(&log);
                    Ok(Err(Ended { status, log: last.to_owned() }))
                }
                _ => Err("it runs and doesn't answer".into()),
            }
        })
    }

    /// The process's number.
    ///
    /// # Panics
    /// It doesn't run.
    pub fn pid(&self) -> u32 {
        match &self.child {
            Some(child) => child.id(),
            None => panic!("{} doesn't run", self.name),
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal by its name.
    ///
    /// # Panics
    /// `kill` can't be run.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([format!("-{signal}"), self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{signal} to {}", self.name);
    }

    /// Waits until the process ends by itself; how it ended and after how long.
    ///
    /// # Panics
    /// It doesn't.
    pub fn wait(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        let name = self.name.clone();
        let status = until(&format!("{name} ends"), || match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => Ok(status),
            other => Err(format!("{other:?}")),
        });
        self.child = None;
        (status, begun.elapsed())
    }

    /// SIGTERM, and waits until it has ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait().0
    }

    /// Whether its process is still there.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Asks over the Unix socket.
    ///
    /// # Errors
    /// Nobody answers, or the answer was cut short.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> io::Result<Reply> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let stream = UnixStream::connect(self.directory.join(SOCKET_FILE))?;
        exchange(stream, &head(method, path, "localhost", &body), &body)
    }

    /// Asks, and takes nothing but yes for an answer.
    ///
    /// # Panics
    /// Nobody answers, or the node refuses.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        match self.ask(method, path, body) {
            Ok(reply) if reply.status < 400 => reply.json(),
            other => panic!("{}: {method} {path}: {other:?}", self.name),
        }
    }

    /// Asks for something.
    ///
    /// # Panics
    /// As [`Node::send`].
    pub fn get(&self, path: &str) -> Value {
        self.send("GET", path, &Value::Null)
    }

    /// The node's status.
    ///
    /// # Panics
    /// As [`Node::send`].
    pub fn status(&self) -> Value {
        self.get("/v1/status")
    }

    /// Its device key.
    ///
    /// # Panics
    /// As [`Node::send`].
    pub fn device(&self) -> String {
        self.status()["device"].as_str().unwrap_or_default().to_owned()
    }

    /// All that it says is wrong, a sentence a line.
    ///
    /// # Panics
    /// As [`Node::send`].
    pub fn notices(&self) -> String {
        let status = self.status();
        let notices = status["notices"].as_array().into_iter().flatten().filter_map(Value::as_str);
        notices.collect::<Vec<_>>().join("\n")
    }

    /// Waits until its status has something.
    ///
    /// # Panics
    /// It never has.
    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{}: {what}", self.name), || {
            let status = self.ask("GET", "/v1/status", &Value::Null).map_err(|error| error.to_string())?.json();
            if holds(&status) { Ok(status) } else { Err(format!("{status}\n{}", self.log())) }
        })
    }

    /// Where its API answers over TCP, and the token, once it has said so.
    ///
    /// # Panics
    /// It never does.
    pub fn tcp(&self) -> (SocketAddr, String) {
        until(&format!("{}: api.url says where it answers", self.name), || {
            let url = std::fs::read_to_string(self.directory.join("api.url")).map_err(|error| error.to_string())?;
            let address =
                url.trim().strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
            let token = std::fs::read_to_string(self.directory.join(TOKEN_FILE)).unwrap_or_default();
            let address = address.parse().map_err(|error| format!("`{url}`: {error}"))?;
            Ok((address, token.trim().to_owned()))
        })
    }

    /// Sends a request with a head of the test's own over TCP; `HOST` and `TOKEN` in it are replaced.
    ///
    /// # Errors
    /// The connection broke, or the answer was cut short.
    ///
    /// # Panics
    /// As [`Node::tcp`].
    pub fn over_tcp(&self, head: &str, body: &[u8]) -> io::Result<Reply> {
        let (address, token) = self.tcp();
        let head = head.replace("HOST", &address.to_string()).replace("TOKEN", &token);
        exchange(TcpStream::connect(address)?, &head, body)
    }

    /// Runs a command of the program on its data directory.
    ///
    /// # Panics
    /// The program can't be run.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        match self.command().args(arguments).output() {
            Ok(output) => output,
            Err(error) => panic!("{}: {arguments:?}: {error}", self.name),
        }
    }

    /// A figure of its process in bytes, as `/proc/PID/status` names it (`VmRSS`, `VmHWM`).
    ///
    /// # Panics
    /// It doesn't run.
    pub fn memory(&self, figure: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{figure}:"))).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() && self.child.is_some() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(12).collect();
            #[allow(clippy::print_stderr, reason = "shown with the failure")]
            for line in tail.iter().rev() {
                eprintln!("{}: {line}", self.name);
            }
        }
        self.kill();
    }
}

//! One node of the demo: a process of this same program, asked over its Unix socket.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Child;

use super::DemoError;
use super::network::Network;
use crate::cli::client;

/// What a node's processes have cost, also those that have ended.
#[derive(Debug, Default)]
struct Cost {
    /// Bytes of frames that ended processes had sent.
    sent_before: AtomicU64,
    /// Bytes of frames that the running one has sent, as it said last.
    sent: AtomicU64,
    /// Most resident memory of any of them, in bytes.
    resident: AtomicU64,
}

/// A node's process and directory.
pub(super) struct Node {
    /// Its number in the network: 0 is the hub, 1 the gateway.
    pub(super) index: usize,
    /// For people.
    pub(super) name: String,
    /// Its data directory.
    pub(super) directory: PathBuf,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    cost: Cost,
}

impl Node {
    pub(super) fn new(index: usize, name: &str, directory: PathBuf, environment: Vec<(String, String)>) -> Self {
        Node { index, name: name.to_owned(), directory, environment, child: None, cost: Cost::default() }
    }

    /// Another place for the same environment: a cloned disk.
    pub(super) fn copy_of(&self, index: usize, directory: PathBuf) -> Self {
        Node::new(index, &format!("{}-copy", self.name), directory, self.environment.clone())
    }

    /// Starts the process, and waits until it answers.
    pub(super) async fn start(&mut self, network: &Network, program: &Path) -> Result<(), DemoError> {
        std::fs::create_dir_all(&self.directory).map_err(DemoError::io(self.directory.display()))?;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .map_err(DemoError::io("the log of a node"))?;
        let _ = std::fs::remove_file(self.directory.join(crate::api::SOCKET_FILE));
        let mut command = network.command(program, self.index);
        // The user's own node may be configured in this environment; the demo's nodes are not that one.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("STALLMESH_") && name != "STALLMESH_LOG_FILTER" {
                command.env_remove(name);
            }
        }
        command
            .arg("--data-dir")
            .arg(&self.directory)
            .arg("run")
            .envs(self.environment.iter().cloned())
            .env("NO_COLOR", "1")
            .env("STALLMESH_STOP_WITH_STDIN", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(spawn(command)?);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if self.get("/health").await.is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                return Err(DemoError::Failed(format!("{} ended at its start ({status}): {last}", self.name)));
            }
            if Instant::now() > deadline {
                return Err(DemoError::Failed(format!("{} doesn't answer", self.name)));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where its process writes what it logs.
    pub(super) fn log_file(&self) -> PathBuf {
        let mut name = self.directory.clone().into_os_string();
        name.push(".log");
        name.into()
    }

    /// SIGKILL, and wait until it is gone.
    pub(super) async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().await;
        }
        self.close_account();
    }

    /// Asks it to stop, and waits.
    pub(super) async fn stop(&mut self) {
        if self.child.is_some() {
            // What it sends from now on is a goodbye.
            let _ = self.sample().await;
        }
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            if tokio::time::timeout(Duration::from_secs(10), child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
        self.close_account();
    }

    pub(super) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Whether its process has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().ok().flatten().is_some())
    }

    /// Asks what its process has sent so far, and reads how much memory it has had at most.
    pub(super) async fn sample(&self) -> Result<Value, DemoError> {
        let status = self.status().await?;
        self.cost.sent.store(status["traffic"]["sent"].as_u64().unwrap_or(0), Ordering::Relaxed);
        self.cost.resident.fetch_max(self.resident_now(), Ordering::Relaxed);
        Ok(status)
    }

    fn close_account(&self) {
        let sent = self.cost.sent.swap(0, Ordering::Relaxed);
        self.cost.sent_before.fetch_add(sent, Ordering::Relaxed);
    }

    /// Bytes of frames that all processes of this node have sent, as far as they were sampled.
    pub(super) fn sent(&self) -> u64 {
        self.cost.sent_before.load(Ordering::Relaxed) + self.cost.sent.load(Ordering::Relaxed)
    }

    /// The most resident memory that a process of this node has had, in bytes, as far as they were sampled.
    pub(super) fn resident(&self) -> u64 {
        self.cost.resident.load(Ordering::Relaxed)
    }

    fn resident_now(&self) -> u64 {
        let Some(pid) = self.child.as_ref().and_then(Child::id) else { return 0 };
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, DemoError> {
        client::ask(&self.directory, "GET", path, None).await.map_err(|error| self.failed(error))
    }

    pub(super) async fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value, DemoError> {
        client::ask(&self.directory, method, path, Some(body)).await.map_err(|error| self.failed(error))
    }

    pub(super) fn failed(&self, error: impl std::fmt::Display) -> DemoError {
        DemoError::Failed(format!("{}: {error}", self.name))
    }

    pub(super) async fn status(&self) -> Result<Value, DemoError> {
        self.get("/v1/status").await
    }

    pub(super) async fn join(&self, invite: &str) -> Result<(), DemoError> {
        self.send("POST", "/v1/join", &json!({ "invite": invite })).await.map(|_| ())
    }
}

/// Starts a process that ends with this one, and that a Ctrl-C at the terminal doesn't reach: the demo ends it.
pub(super) fn spawn(mut command: tokio::process::Command) -> Result<Child, DemoError> {
    command.process_group(0).kill_on_drop(true).spawn().map_err(DemoError::io("a process of the demo"))
}

//! One node of the demo: a process of this same program, asked over its Unix socket.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Child;

use super::DemoError;
use super::network::Network;
use crate::cli::client;

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
}

impl Node {
    pub(super) fn new(index: usize, name: &str, directory: PathBuf, environment: Vec<(String, String)>) -> Self {
        Node { index, name: name.to_owned(), directory, environment, child: None }
    }

    /// Another place for the same environment: a cloned disk.
    pub(super) fn copy_of(&self, index: usize, directory: PathBuf) -> Self {
        Node::new(index, &format!("{} (copy)", self.name), directory, self.environment.clone())
    }

    /// Starts the process, and waits until it answers.
    pub(super) async fn start(&mut self, network: &Network, program: &Path) -> Result<(), DemoError> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.with_extension("log"))
            .map_err(DemoError::io("the log of a node"))?;
        let _ = std::fs::remove_file(self.directory.join(crate::api::SOCKET_FILE));
        let child = network
            .command(program, self.index)
            .arg("--data-dir")
            .arg(&self.directory)
            .arg("run")
            .envs(self.environment.iter().cloned())
            .env("STALLMESH_STOP_WITH_STDIN", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(DemoError::io("a node's process"))?;
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if self.get("/health").await.is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                let log = std::fs::read_to_string(self.directory.with_extension("log")).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                return Err(DemoError::Failed(format!("{} ended at its start ({status}): {last}", self.name)));
            }
            if Instant::now() > deadline {
                return Err(DemoError::Failed(format!("{} doesn't answer", self.name)));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGKILL, and wait until it is gone.
    pub(super) async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().await;
        }
    }

    /// Asks it to stop, and waits.
    pub(super) async fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            if tokio::time::timeout(Duration::from_secs(6), child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Resident memory in bytes.
    pub(super) fn resident(&self) -> u64 {
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

    fn failed(&self, error: impl std::fmt::Display) -> DemoError {
        DemoError::Failed(format!("{}: {error}", self.name))
    }

    pub(super) async fn status(&self) -> Result<Value, DemoError> {
        self.get("/v1/status").await
    }

    pub(super) async fn join(&self, invite: &str) -> Result<(), DemoError> {
        self.send("POST", "/v1/join", &json!({ "invite": invite })).await.map(|_| ())
    }
}

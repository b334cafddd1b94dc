//! Network namespaces that a test makes and removes: one a node, a bridge between them that carries multicast (the
//! market's own network), and another one (the wide network) behind each node's uplink.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::is_ci;

/// So many namespaces, gone when this is.
#[derive(Debug)]
pub struct Namespaces {
    prefix: String,
    nodes: usize,
}

static MADE: AtomicUsize = AtomicUsize::new(0);

impl Namespaces {
    /// Namespaces for so many nodes: `eth0` in the market, `wan0` on the wide network, down at first. `None` where this
    /// machine lets no test make them.
    ///
    /// # Panics
    /// Under `CI=true` they must be possible.
    #[allow(clippy::print_stderr, reason = "a skipped test says so")]
    pub fn make(nodes: usize) -> Option<Self> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let namespaces = Namespaces { prefix: format!("smtest{}x{number}", std::process::id()), nodes };
        match namespaces.build() {
            Ok(()) => Some(namespaces),
            Err(reason) => {
                assert!(!is_ci(), "CI must be able to make network namespaces: {reason}");
                eprintln!("no network namespaces here: skipped ({reason})");
                None
            }
        }
    }

    fn build(&self) -> Result<(), String> {
        let mut names = format!("netns add {}\n", self.switch());
        (0..self.nodes).for_each(|index| names.push_str(&format!("netns add {}\n", self.name(index))));
        ip(&["-batch", "-"], &names)?;
        let mut switch = String::from(
            "link add market type bridge\nlink add wide type bridge\nlink set market up\nlink set wide up\n",
        );
        for index in 0..self.nodes {
            for (bridge, port, interface) in [("market", "m", "eth0"), ("wide", "w", "wan0")] {
                switch.push_str(&format!(
                    "link add {port}{index} type veth peer name {interface} netns {}\n",
                    self.name(index)
                ));
                switch.push_str(&format!("link set {port}{index} master {bridge}\nlink set {port}{index} up\n"));
            }
        }
        ip(&["-n", &self.switch(), "-batch", "-"], &switch)?;
        for index in 0..self.nodes {
            let commands = format!(
                "link set lo up\naddr add {}/24 dev wan0\naddr add {}/24 dev eth0\nlink set eth0 up\n\
                 route add 224.0.0.0/4 dev eth0\n",
                self.wide_address(index),
                self.market_address(index)
            );
            self.ip(index, &commands)?;
        }
        Ok(())
    }

    fn switch(&self) -> String {
        format!("{}sw", self.prefix)
    }

    /// A node's namespace.
    pub fn name(&self, index: usize) -> String {
        format!("{}n{index}", self.prefix)
    }

    /// A node's address in the market.
    pub fn market_address(&self, index: usize) -> String {
        format!("10.87.0.{}", index + 1)
    }

    /// A node's address on the wide network.
    pub fn wide_address(&self, index: usize) -> String {
        format!("10.88.0.{}", index + 1)
    }

    /// Runs lines of `ip -batch` in a node's namespace.
    ///
    /// # Errors
    /// One was refused.
    pub fn ip(&self, index: usize, commands: &str) -> Result<(), String> {
        ip(&["-n", &self.name(index), "-batch", "-"], commands)
    }

    /// Sets a parameter of a namespace's network.
    ///
    /// # Panics
    /// The system refuses.
    pub fn sysctl(&self, index: usize, file: &str, value: &str) {
        let script = format!("echo {value} > /proc/sys/net/{file}");
        let set = Command::new("ip").args(["netns", "exec", &self.name(index), "sh", "-c", &script]).status();
        assert!(set.is_ok_and(|status| status.success()), "{file} = {value}");
    }

    /// Plugs a cable in or out: `eth0` or `wan0`.
    ///
    /// # Panics
    /// The system refuses.
    pub fn plug(&self, index: usize, interface: &str, up: bool) {
        let mut commands = format!("link set {interface} {}\n", if up { "up" } else { "down" });
        if up && interface == "eth0" {
            // Routes go with their link.
            commands.push_str("route replace 224.0.0.0/4 dev eth0\n");
        }
        if let Err(error) = self.ip(index, &commands) {
            panic!("{interface} of node {index}: {error}");
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for index in 0..self.nodes {
            let _ = ip(&["netns", "del", &self.name(index)], "");
        }
        let _ = ip(&["netns", "del", &self.switch()], "");
    }
}

fn ip(arguments: &[&str], batch: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("`ip` can't be run: {error}"))?;
    if let Some(input) = child.stdin.as_mut() {
        // Where it ended early, its own words say why.
        let _ = input.write_all(batch.as_bytes());
    }
    drop(child.stdin.take());
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

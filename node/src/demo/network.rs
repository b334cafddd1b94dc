//! Where the demo's nodes live: network namespaces of their own where the machine lets us make them, with a market
//! bridge that carries multicast and a wide network behind each node's uplink; otherwise loopback, with addresses given.

use std::io::Write;
use std::process::{Command, Stdio};

/// The demo's network.
pub(super) enum Network {
    /// One namespace a node. Pulling an uplink is pulling a cable.
    Namespaces {
        /// What all names begin with.
        prefix: String,
        /// How many nodes.
        nodes: usize,
    },
    /// All on loopback; the way to the hub is switched in each node.
    Loopback,
}

fn ip(arguments: &[&str], batch: Option<&str>) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
    command.stdin(if batch.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().map_err(|error| format!("`ip` can't be run: {error}"))?;
    if let (Some(batch), Some(input)) = (batch, child.stdin.as_mut()) {
        input.write_all(batch.as_bytes()).map_err(|error| error.to_string())?;
    }
    drop(child.stdin.take());
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

impl Network {
    /// Namespaces for so many nodes, or loopback and the reason why.
    pub(super) fn make(nodes: usize) -> (Self, Option<String>) {
        clear_leftovers();
        let prefix = format!("smdemo{}", std::process::id());
        match make_namespaces(&prefix, nodes) {
            Ok(()) => (Network::Namespaces { prefix, nodes }, None),
            Err(reason) => {
                remove_namespaces(&prefix, nodes);
                (Network::Loopback, Some(reason))
            }
        }
    }

    /// The command that runs this program as node `index`.
    pub(super) fn command(&self, program: &std::path::Path, index: usize) -> tokio::process::Command {
        match self {
            Network::Namespaces { prefix, .. } => {
                let mut command = tokio::process::Command::new("ip");
                command.args(["netns", "exec", &format!("{prefix}n{index}")]).arg(program);
                command
            }
            Network::Loopback => tokio::process::Command::new(program),
        }
    }

    /// What node `index` listens on in the market.
    pub(super) fn listen(&self) -> &'static str {
        match self {
            Network::Namespaces { .. } => "/ip4/0.0.0.0/udp/7802/quic-v1",
            Network::Loopback => "/ip4/127.0.0.1/udp/0/quic-v1",
        }
    }

    /// Where the hub's uplink listens, as nodes dial it.
    pub(super) fn hub_address(&self, port: u16) -> String {
        match self {
            Network::Namespaces { .. } => "10.78.0.1:7801".into(),
            Network::Loopback => format!("127.0.0.1:{port}"),
        }
    }

    /// What the hub's uplink binds to.
    pub(super) fn hub_listen(&self, port: u16) -> String {
        match self {
            Network::Namespaces { .. } => "0.0.0.0:7801".into(),
            Network::Loopback => format!("127.0.0.1:{port}"),
        }
    }

    pub(super) fn has_multicast(&self) -> bool {
        matches!(self, Network::Namespaces { .. })
    }

    /// Plugs a node's way to the hub in or out.
    pub(super) fn set_uplink(&self, index: usize, up: bool) -> Result<(), String> {
        match self {
            Network::Namespaces { prefix, .. } => {
                let state = if up { "up" } else { "down" };
                ip(&["-n", &format!("{prefix}n{index}"), "link", "set", "wan0", state], None)
            }
            Network::Loopback => Ok(()),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Network::Namespaces { prefix, nodes } = self {
            remove_namespaces(prefix, *nodes);
        }
    }
}

/// Node 0 is the hub: on the wide network only. Interface names are local to their namespace.
fn make_namespaces(prefix: &str, nodes: usize) -> Result<(), String> {
    let mut names = format!("netns add {prefix}sw\n");
    for index in 0..nodes {
        names.push_str(&format!("netns add {prefix}n{index}\n"));
    }
    ip(&["-batch", "-"], Some(&names))?;
    let mut switch = String::from(
        "link add market type bridge\nlink add wide type bridge\nlink set market up\nlink set wide up\nlink set lo up\n",
    );
    for index in 0..nodes {
        let node = format!("{prefix}n{index}");
        switch.push_str(&format!("link add w{index} type veth peer name wan0 netns {node}\n"));
        switch.push_str(&format!("link set w{index} master wide\nlink set w{index} up\n"));
        if index > 0 {
            switch.push_str(&format!("link add m{index} type veth peer name eth0 netns {node}\n"));
            switch.push_str(&format!("link set m{index} master market\nlink set m{index} up\n"));
        }
    }
    ip(&["-n", &format!("{prefix}sw"), "-batch", "-"], Some(&switch))?;
    for index in 0..nodes {
        let host = index + 1;
        let mut node = format!("link set lo up\naddr add 10.78.0.{host}/24 dev wan0\n");
        if index > 0 {
            node.push_str(&format!(
                "addr add 10.77.0.{host}/24 dev eth0\nlink set eth0 up\nroute add 224.0.0.0/4 dev eth0\n"
            ));
        } else {
            node.push_str("link set wan0 up\n");
        }
        ip(&["-n", &format!("{prefix}n{index}"), "-batch", "-"], Some(&node))?;
    }
    Ok(())
}

fn remove_namespaces(prefix: &str, nodes: usize) {
    for index in 0..nodes {
        let _ = ip(&["netns", "del", &format!("{prefix}n{index}")], None);
    }
    let _ = ip(&["netns", "del", &format!("{prefix}sw")], None);
}

/// Removes what a demo that was killed has left behind.
fn clear_leftovers() {
    let Ok(output) = Command::new("ip").args(["netns", "list"]).output() else { return };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let Some(rest) = name.strip_prefix("smdemo") else { continue };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if !digits.is_empty() && !std::path::Path::new(&format!("/proc/{digits}")).exists() {
            let _ = ip(&["netns", "del", name], None);
        }
    }
}

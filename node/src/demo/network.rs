//! Where the demo's nodes live. Network namespaces of their own where the machine lets us make them, with a market
//! bridge that carries multicast and a wide network behind each node's uplink; else the machine's own interface, if it
//! carries multicast; else loopback, with addresses given.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::DemoError;

/// What the user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum NetworkKind {
    /// The first of the others that this machine allows.
    Auto,
    /// A network namespace for each node.
    Namespaces,
    /// All nodes on the machine's own interface, found by mDNS.
    Interface,
    /// All nodes on loopback, with addresses given.
    Loopback,
}

/// The demo's network.
pub(super) enum Network {
    /// One namespace a node. Pulling an uplink is pulling a cable.
    Namespaces {
        /// What all names begin with.
        prefix: String,
        /// How many nodes.
        nodes: usize,
    },
    /// All on one interface that carries multicast; the way to the hub is switched in each node.
    Interface {
        /// The interface's address.
        address: Ipv4Addr,
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
    if output.status.success() {
        return Ok(());
    }
    // The first line says what was wrong; the rest repeats it for each command of a batch.
    Err(String::from_utf8_lossy(&output.stderr).trim().lines().next().unwrap_or_default().to_owned())
}

impl Network {
    /// A network for so many nodes, and what the user should know of it.
    pub(super) fn make(kind: NetworkKind, nodes: usize) -> Result<(Self, String), DemoError> {
        clear_leftovers();
        let mut reasons = Vec::new();
        if matches!(kind, NetworkKind::Auto | NetworkKind::Namespaces) {
            let prefix = format!("smdemo{}", std::process::id());
            match make_namespaces(&prefix, nodes) {
                Ok(()) => {
                    let remark =
                        "Each node lives in a network namespace of its own; pulling an uplink is pulling a cable.";
                    return Ok((Network::Namespaces { prefix, nodes }, remark.into()));
                }
                Err(reason) => {
                    remove_namespaces(&prefix, nodes);
                    reasons.push(format!("no network namespaces here ({reason})"));
                }
            }
        }
        if matches!(kind, NetworkKind::Auto | NetworkKind::Interface) {
            match multicast_address() {
                Ok(address) => {
                    let remark = format!(
                        "{}All nodes are on this machine's address {address}, and uplinks are switched in the nodes.",
                        reasons.iter().map(|reason| format!("There are {reason}. ")).collect::<String>()
                    );
                    return Ok((Network::Interface { address }, remark));
                }
                Err(reason) => reasons.push(format!("no interface that carries multicast ({reason})")),
            }
        }
        let wanted = matches!(kind, NetworkKind::Namespaces | NetworkKind::Interface);
        if wanted {
            return Err(DemoError::Failed(format!("--network: {}", reasons.join("; "))));
        }
        let why = if reasons.is_empty() { "as asked".into() } else { format!("there are {}", reasons.join(" and ")) };
        let remark = format!(
            "All nodes are on loopback ({why}): they are given an address, and uplinks are switched in the nodes."
        );
        Ok((Network::Loopback, remark))
    }

    /// For the report.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Network::Namespaces { .. } => "namespaces",
            Network::Interface { .. } => "interface",
            Network::Loopback => "loopback",
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
            Network::Interface { .. } | Network::Loopback => tokio::process::Command::new(program),
        }
    }

    /// What a node listens on in the market.
    pub(super) fn listen(&self) -> String {
        match self {
            Network::Namespaces { .. } => "/ip4/0.0.0.0/udp/7802/quic-v1".into(),
            Network::Interface { address } => format!("/ip4/{address}/udp/0/quic-v1"),
            Network::Loopback => "/ip4/127.0.0.1/udp/0/quic-v1".into(),
        }
    }

    /// Where the hub's uplink listens, as nodes dial it.
    pub(super) fn hub_address(&self, port: u16) -> String {
        match self {
            Network::Namespaces { .. } => "10.78.0.1:7801".into(),
            Network::Interface { .. } | Network::Loopback => format!("127.0.0.1:{port}"),
        }
    }

    /// What the hub's uplink binds to.
    pub(super) fn hub_listen(&self, port: u16) -> String {
        match self {
            Network::Namespaces { .. } => "0.0.0.0:7801".into(),
            Network::Interface { .. } | Network::Loopback => format!("127.0.0.1:{port}"),
        }
    }

    pub(super) fn has_multicast(&self) -> bool {
        !matches!(self, Network::Loopback)
    }

    /// Whether uplinks are cables, pulled from outside the node.
    pub(super) fn has_cables(&self) -> bool {
        matches!(self, Network::Namespaces { .. })
    }

    /// Plugs a node's way to the hub in or out.
    pub(super) fn set_uplink(&self, index: usize, up: bool) -> Result<(), String> {
        match self {
            Network::Namespaces { prefix, .. } => {
                let state = if up { "up" } else { "down" };
                ip(&["-n", &format!("{prefix}n{index}"), "link", "set", "wan0", state], None)
            }
            Network::Interface { .. } | Network::Loopback => Ok(()),
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

/// The address of an interface on which a datagram to a group comes back to its own machine.
fn multicast_address() -> Result<Ipv4Addr, String> {
    // A group of our own and a port that the system picks: nobody else listens there.
    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 78, 2);
    let text = |error: std::io::Error| error.to_string();
    let probe = UdpSocket::bind("0.0.0.0:0").map_err(text)?;
    probe.connect((GROUP, 5353)).map_err(|error| format!("no route for multicast: {error}"))?;
    let IpAddr::V4(address) = probe.local_addr().map_err(text)?.ip() else {
        return Err("no IPv4 address".into());
    };
    if address.is_loopback() || address.is_unspecified() {
        return Err("there is loopback only".into());
    }
    let receiver = UdpSocket::bind("0.0.0.0:0").map_err(text)?;
    receiver.join_multicast_v4(&GROUP, &address).map_err(text)?;
    receiver.set_read_timeout(Some(Duration::from_millis(500))).map_err(text)?;
    let sender = UdpSocket::bind((address, 0)).map_err(text)?;
    sender.set_multicast_ttl_v4(1).map_err(text)?;
    let port = receiver.local_addr().map_err(text)?.port();
    sender.send_to(b"stallmesh demo", (GROUP, port)).map_err(text)?;
    let mut bytes = [0; 64];
    let (length, _) = receiver.recv_from(&mut bytes).map_err(|_| format!("none comes back on {address}"))?;
    if bytes[..length] == *b"stallmesh demo" { Ok(address) } else { Err(format!("another answer on {address}")) }
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
    let mut names = format!("netns del {prefix}sw\n");
    (0..nodes).for_each(|index| names.push_str(&format!("netns del {prefix}n{index}\n")));
    // Some may never have been made.
    let _ = ip(&["-force", "-batch", "-"], Some(&names));
}

/// Removes what a demo that was killed has left behind.
fn clear_leftovers() {
    let Ok(output) = Command::new("ip").args(["netns", "list"]).output() else { return };
    let mut names = String::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let Some(rest) = name.strip_prefix("smdemo") else { continue };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if !digits.is_empty() && !is_demo(&digits) {
            names.push_str(&format!("netns del {name}\n"));
        }
    }
    if !names.is_empty() {
        let _ = ip(&["-force", "-batch", "-"], Some(&names));
    }
}

/// Whether a demo runs under this process id; another program may have got the number since.
fn is_demo(process: &str) -> bool {
    std::fs::read(format!("/proc/{process}/cmdline"))
        .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"demo"))
}

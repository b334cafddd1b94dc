//! The configuration file: TOML, strict. A key that this program doesn't know is an error that names it.

use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::card_data;

/// Everything that can be configured. Each key can also be set by the environment, as `STALLMESH_` and its path in
/// capitals (`STALLMESH_API_LISTEN`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What people call this device, until a certificate says it.
    pub name: String,
    /// Every sale is marked as a rehearsal, and never in the ledger.
    pub rehearsal: bool,
    /// The market's own network.
    pub mesh: MeshSection,
    /// The way to the hub.
    pub uplink: UplinkSection,
    /// The local HTTP API.
    pub api: ApiSection,
    /// Others' sales that are carried.
    pub custody: CustodySection,
    /// What only a hub does.
    pub hub: HubSection,
    /// The card reader beside this till.
    pub reader: ReaderSection,
}

/// `[mesh]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeshSection {
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Whether mDNS proposes peers.
    pub mdns: bool,
    /// Seconds without anybody after which mDNS begins anew.
    pub mdns_silence_s: u64,
    /// Multiaddrs of members that are always dialled.
    pub peers: Vec<String>,
    /// Multiaddrs to tell others, beside those that it listens on.
    pub advertise: Vec<String>,
    /// Links to hold.
    pub degree: usize,
    /// The most connections.
    pub connections_max: u32,
}

impl Default for MeshSection {
    fn default() -> Self {
        MeshSection {
            listen: vec!["/ip4/0.0.0.0/udp/0/quic-v1".into(), "/ip4/0.0.0.0/tcp/0".into()],
            mdns: true,
            mdns_silence_s: 120,
            peers: Vec::new(),
            advertise: Vec::new(),
            degree: 6,
            connections_max: 128,
        }
    }
}

/// `[uplink]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UplinkSection {
    /// Whether this node dials the hub.
    pub enabled: bool,
    /// `host:port` of hubs, beside those in the invite. On a hub: how nodes reach it, told in invites.
    pub addresses: Vec<String>,
    /// On a hub: the UDP address to listen on.
    pub listen: Option<SocketAddr>,
    /// On a hub: the most connections.
    pub connections_max: u32,
    /// Whether connections are resumed after a cut, with sales in the first packet; on a hub: whether nodes may.
    pub resume: bool,
}

impl Default for UplinkSection {
    fn default() -> Self {
        // A thousand devices, each with what a flapping network leaves behind of it, at some 40 kB each: 80 MB.
        UplinkSection { enabled: false, addresses: Vec::new(), listen: None, connections_max: 2_048, resume: true }
    }
}

/// `[api]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiSection {
    /// Where the API answers over TCP.
    pub listen: SocketAddr,
    /// Must be set where `listen` is not a loopback address.
    pub allow_remote: bool,
}

impl Default for ApiSection {
    fn default() -> Self {
        ApiSection { listen: SocketAddr::from(([127, 0, 0, 1], 7800)), allow_remote: false }
    }
}

/// `[custody]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CustodySection {
    /// The most bytes of others' sealed sales and of hubs' ledgers, which get half of it at most. Where nothing else waits, one
    /// page is taken whatever its size; 0: nothing is carried.
    pub bytes_max: u64,
}

impl Default for CustodySection {
    fn default() -> Self {
        CustodySection { bytes_max: 256 * 1024 * 1024 }
    }
}

/// `[hub]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HubSection {
    /// Milliseconds between checkpoints while something changes.
    pub checkpoint_every_ms: u64,
    /// Who authorises cards before a sale.
    pub gateway: GatewayKind,
}

/// `[reader]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReaderSection {
    /// Where it answers over HTTP, on this machine; left out: there is none.
    pub address: Option<SocketAddr>,
    /// Milliseconds that a card is waited for.
    pub within_ms: u64,
}

impl Default for ReaderSection {
    fn default() -> Self {
        ReaderSection { address: None, within_ms: 60_000 }
    }
}

/// `hub.gateway`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GatewayKind {
    /// Nobody: tills take cards by the market's limits alone.
    #[default]
    None,
    /// A gateway for tests that asks nobody: what it answers stands in the token.
    Test,
}

impl Default for HubSection {
    fn default() -> Self {
        HubSection { checkpoint_every_ms: 2_000, gateway: GatewayKind::None }
    }
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file is wrong.
    #[error("{path}: {detail}")]
    Invalid {
        /// The file, or "environment".
        path: String,
        /// The line, the key, and what is wrong.
        detail: String,
    },
}

/// The largest configuration file.
const FILE_MAX: u64 = 1024 * 1024;

impl Config {
    /// Reads a file, or takes the defaults, and then the environment's word over both.
    ///
    /// # Errors
    /// The file or a variable is wrong: nothing starts half-configured.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let (path, text) = match file {
            Some(file) => {
                let path = file.display().to_string();
                let io = |source| ConfigError::Io { path: path.clone(), source };
                if std::fs::metadata(file).map_err(io)?.len() > FILE_MAX {
                    return Err(ConfigError::Invalid { path, detail: "larger than 1 MiB".into() });
                }
                let text =
                    std::fs::read_to_string(file).map_err(|source| ConfigError::Io { path: path.clone(), source })?;
                (path, text)
            }
            None => ("defaults".into(), String::new()),
        };
        let invalid = |path: &str, error: &dyn std::fmt::Display| ConfigError::Invalid {
            path: path.to_owned(),
            detail: error.to_string().trim_end().to_owned(),
        };
        // Checked alone first, so that an error names the file's own line.
        let _: Config = toml::from_str(&text).map_err(|error| invalid(&path, &error))?;
        let mut table: toml::Table = toml::from_str(&text).map_err(|error| invalid(&path, &error))?;
        let kinds = toml::Table::try_from(Config::default()).map_err(|error| invalid("defaults", &error))?;
        for (variable, value) in environment {
            if let Some(key) = variable.strip_prefix("STALLMESH_") {
                let wrong = |detail: String| ConfigError::Invalid { path: variable.clone(), detail };
                set(&mut table, &kinds, &key.to_lowercase(), &value).map_err(wrong)?;
                // Each alone, so that an error names its variable.
                let _: Config = table.clone().try_into().map_err(|error| invalid(&variable, &error))?;
            }
        }
        let config: Config = table.try_into().map_err(|error| invalid(&path, &error))?;
        if let Some(address) = config.reader.address.filter(|address| !address.ip().is_loopback()) {
            let detail = format!(
                "reader.address: {address} is another machine's; a reader is a process on this one, so that nobody \
                 between them sees a token"
            );
            return Err(ConfigError::Invalid { path, detail });
        }
        if !config.api.listen.ip().is_loopback() && !config.api.allow_remote {
            return Err(ConfigError::Invalid {
                path,
                detail: format!(
                    "api.listen: {} can be reached from other machines; set api.allow_remote = true if that is meant",
                    config.api.listen
                ),
            });
        }
        if card_data::mask(&config.name) != config.name {
            return Err(ConfigError::Invalid { path, detail: "name: this looks like a card number".into() });
        }
        Ok(config)
    }
}

/// Sets `section_key` from text, read as what the default is; lists are separated by commas.
fn set(table: &mut toml::Table, kinds: &toml::Table, key: &str, value: &str) -> Result<(), String> {
    let (section, name) = match key.split_once('_') {
        Some((section, name)) if kinds.get(section).is_some_and(toml::Value::is_table) => (Some(section), name),
        _ => (None, key),
    };
    let kind = match section {
        None => kinds.get(name),
        Some(section) => kinds.get(section).and_then(|section| section.get(name)),
    };
    let value = match kind {
        Some(toml::Value::Array(_)) => toml::Value::Array(
            value.split(',').map(str::trim).filter(|part| !part.is_empty()).map(toml::Value::from).collect(),
        ),
        Some(toml::Value::Integer(_)) => {
            toml::Value::Integer(value.parse().map_err(|_| format!("`{value}` is no whole number"))?)
        }
        Some(toml::Value::Boolean(_)) => {
            toml::Value::Boolean(value.parse().map_err(|_| format!("`{value}` is neither `true` nor `false`"))?)
        }
        _ => toml::Value::from(value),
    };
    match section {
        None => {
            table.insert(name.to_owned(), value);
        }
        Some(section) => {
            let entry = table.entry(section.to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let section = entry.as_table_mut().ok_or_else(|| format!("`{section}` is not a section"))?;
            section.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Config::load(Some(file.path()), environment)
    }

    #[test]
    fn unknown_and_wrong_and_repeated_keys_are_named_with_their_line() {
        for (text, key, line) in [
            ("name = \"a\"\nnmae = \"b\"", "nmae", "line 2"),
            ("[mesh]\ndegree = \"six\"", "degree", "line 2"),
            ("[api]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"", "listen", "line 3"),
        ] {
            let error = load(text, &[]).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(line), "{error}");
        }
        let error = load("", &[("STALLMESH_MESH_DGREE", "3")]).unwrap_err().to_string();
        assert!(error.contains("dgree"), "{error}");
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let config =
            load("[mesh]\ndegree = 4", &[("STALLMESH_MESH_DEGREE", "7"), ("STALLMESH_UPLINK_ADDRESSES", "a:1, b:2")])
                .unwrap();
        assert_eq!(config.mesh.degree, 7);
        assert_eq!(config.uplink.addresses, ["a:1", "b:2"]);
    }

    #[test]
    fn a_variable_is_read_as_what_its_key_is() {
        assert_eq!(load("", &[("STALLMESH_NAME", "42")]).unwrap().name, "42");
        for (variable, value) in [
            ("STALLMESH_MESH_DEGREE", "six"),
            ("STALLMESH_MESH_MDNS", "yes"),
            ("STALLMESH_API_LISTEN", "here"),
            ("STALLMESH_UPLINK_LISTEN", "7801"),
        ] {
            let error = load("", &[(variable, value)]).unwrap_err().to_string();
            assert!(error.contains(variable), "{error}");
        }
    }

    #[test]
    fn every_key_can_be_set_by_the_environment() {
        // `uplink.listen` has no default, so the table of defaults doesn't say it.
        let mut keys = vec![("uplink_listen".to_owned(), toml::Value::from("127.0.0.1:1"))];
        for (name, value) in toml::Table::try_from(Config::default()).unwrap() {
            match value {
                toml::Value::Table(section) => {
                    keys.extend(section.into_iter().map(|(key, value)| (format!("{name}_{key}"), value)));
                }
                value => keys.push((name, value)),
            }
        }
        assert!(keys.len() > 12);
        for (key, kind) in keys {
            let value = match kind {
                toml::Value::Integer(_) => "7",
                toml::Value::Boolean(flag) => {
                    if flag {
                        "false"
                    } else {
                        "true"
                    }
                }
                _ if key == "hub_gateway" => "test",
                _ => "127.0.0.1:77",
            };
            let variable = format!("STALLMESH_{}", key.to_uppercase());
            let config = load("", &[(&variable, value)]).unwrap();
            assert_ne!(config, Config::default(), "{variable} changes nothing");
        }
    }

    #[test]
    fn an_api_for_other_machines_must_be_meant() {
        assert!(load("[api]\nlisten = \"0.0.0.0:7800\"", &[]).is_err());
        assert!(load("[api]\nlisten = \"0.0.0.0:7800\"\nallow_remote = true", &[]).is_ok());
    }

    #[test]
    fn the_example_files_are_valid_and_say_every_key() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let mut all = String::new();
        for name in ["stall.toml", "hub.toml", "gateway.toml"] {
            let file = folder.join(name);
            Config::load(Some(&file), []).unwrap();
            all.push_str(&std::fs::read_to_string(file).unwrap());
        }
        for key in [
            "name",
            "rehearsal",
            "listen",
            "mdns",
            "mdns_silence_s",
            "peers",
            "advertise",
            "degree",
            "connections_max",
            "enabled",
            "resume",
            "addresses",
            "allow_remote",
            "bytes_max",
            "checkpoint_every_ms",
            "gateway",
            "address",
            "within_ms",
        ] {
            assert!(all.contains(&format!("{key} =")), "{key} is explained in no example");
        }
    }
}

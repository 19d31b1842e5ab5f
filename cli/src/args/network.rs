//! How to take part in the network, as typed or said by variables.

use casnode_node::api::DhtMode;
use casnode_node::{
    BadNetworkName, Bandwidth, CipherPreference, NetworkConfig, NetworkName, Profile, SwarmMode,
};

use clap::builder::BoolishValueParser;

use crate::multiaddr;
use crate::rate::Rate;

/// A value, or nothing: an empty variable means the default, not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Or<T>(pub(crate) Option<T>);

/// How to take part in the network.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct NetworkArgs {
    /// Listen here; may be given several times, or comma separated
    #[arg(
        long,
        value_name = "MULTIADDR",
        env = "CASNODE_LISTEN",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = multiaddr::parse_listen
    )]
    pub(crate) listen: Vec<String>,
    /// Join the network by this peer; may be given several times, or comma separated
    #[arg(
        long,
        value_name = "MULTIADDR",
        env = "CASNODE_BOOTSTRAP",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = multiaddr::parse_peer
    )]
    pub(crate) bootstrap: Vec<String>,
    /// Do not look for peers on the local network
    #[arg(
        long,
        env = "CASNODE_NO_MDNS",
        hide_env_values = true,
        value_parser = BoolishValueParser::new()
    )]
    pub(crate) no_mdns: bool,
    /// Join the network of this name, which has nothing to do with others [default: main]
    #[arg(
        long,
        value_name = "NAME",
        env = "CASNODE_NETWORK",
        hide_env_values = true,
        value_parser = parse_network
    )]
    pub(crate) network: Option<Or<NetworkName>>,
    /// How much of the machine and its line the network may have [default: home]
    #[arg(
        long,
        value_name = "home|server|lab",
        env = "CASNODE_PROFILE",
        hide_env_values = true,
        value_parser = parse_profile
    )]
    pub(crate) profile: Option<Or<Profile>>,
    /// Which cipher TCP connections should have: auto takes AES where the processor computes it by itself [default: auto]
    #[arg(
        long,
        value_name = "auto|aes|chacha20",
        env = "CASNODE_CIPHER",
        hide_env_values = true,
        value_parser = parse_cipher
    )]
    pub(crate) cipher: Option<Or<CipherPreference>>,
    /// Send no more than this, e.g. 10MiB/s or 50Mbit/s, everything counted [default: none]
    #[arg(
        long,
        value_name = "RATE|none",
        env = "CASNODE_MAX_UP",
        hide_env_values = true,
        value_parser = parse_rate_or_nothing
    )]
    pub(crate) max_up: Option<Or<Rate>>,
    /// Take no more than this, everything counted [default: none]
    #[arg(
        long,
        value_name = "RATE|none",
        env = "CASNODE_MAX_DOWN",
        hide_env_values = true,
        value_parser = parse_rate_or_nothing
    )]
    pub(crate) max_down: Option<Or<Rate>>,
    /// Whether the two hold back peers on this machine and on private networks as well [default: on]
    #[arg(
        long,
        value_name = "on|off",
        env = "CASNODE_LIMIT_LOCAL",
        hide_env_values = true,
        value_parser = parse_switch
    )]
    pub(crate) limit_local: Option<bool>,
}

impl NetworkArgs {
    /// What a running daemon makes idle. The network's name is another matter: it has to be the daemon's.
    pub(crate) const IDLE_WITH_DAEMON: [&str; 8] = [
        "listen",
        "bootstrap",
        "no-mdns",
        "profile",
        "cipher",
        "max-up",
        "max-down",
        "limit-local",
    ];

    /// The network that was asked for, if one was.
    pub(crate) fn network_name(&self) -> Option<&NetworkName> {
        self.network.as_ref()?.0.as_ref()
    }

    /// What the node is told.
    pub(crate) fn into_config(self) -> NetworkConfig {
        let bandwidth = self.bandwidth();
        // An item that is empty says nothing.
        let said = |addrs: Vec<String>| addrs.into_iter().filter(|addr| !addr.is_empty()).collect();
        NetworkConfig {
            listen: said(self.listen),
            bootstrap: said(self.bootstrap),
            mdns: !self.no_mdns,
            name: self.network.and_then(|name| name.0).unwrap_or_default(),
            profile: self.profile.and_then(|p| p.0).unwrap_or_default(),
            mode: DhtMode::default(),
            bandwidth,
            cipher: self.cipher.and_then(|c| c.0).unwrap_or_default(),
            ..NetworkConfig::default()
        }
    }

    /// The most that is sent and taken.
    pub(crate) fn bandwidth(&self) -> Bandwidth {
        let limit = |rate: Option<Or<Rate>>| rate.and_then(|rate| rate.0)?.bytes_per_s();
        Bandwidth {
            up_bytes_per_s: limit(self.max_up),
            down_bytes_per_s: limit(self.max_down),
            exempt_local: self.limit_local == Some(false),
        }
    }
}

fn parse_network(text: &str) -> Result<Or<NetworkName>, String> {
    let name = |text: &str| {
        text.parse()
            .map_err(|error: BadNetworkName| error.to_string())
    };
    or_nothing(text, name)
}

fn parse_profile(text: &str) -> Result<Or<Profile>, String> {
    or_nothing(text, |text| match text {
        "home" => Ok(Profile::Home),
        "server" => Ok(Profile::Server),
        "lab" => Ok(Profile::Lab),
        _ => Err("a profile is home, server or lab".to_owned()),
    })
}

fn parse_cipher(text: &str) -> Result<Or<CipherPreference>, String> {
    or_nothing(text, |text| match text {
        "auto" => Ok(CipherPreference::Auto),
        "aes" => Ok(CipherPreference::Aes),
        "chacha20" => Ok(CipherPreference::ChaCha20),
        _ => Err("a cipher is auto, aes or chacha20".to_owned()),
    })
}

/// Reads a part in the DHT.
pub(super) fn parse_mode(text: &str) -> Result<DhtMode, String> {
    match text {
        "auto" => Ok(DhtMode::Auto),
        "server" => Ok(DhtMode::Server),
        "client" => Ok(DhtMode::Client),
        _ => Err("a mode is auto, server or client".to_owned()),
    }
}

/// Reads a part in the DHT, where a variable may be empty.
pub(super) fn parse_mode_or_nothing(text: &str) -> Result<Or<DhtMode>, String> {
    or_nothing(text, parse_mode)
}

/// Reads whether the peers of a swarm owe each other anything.
pub(super) fn parse_swarm(text: &str) -> Result<SwarmMode, String> {
    match text {
        "fair" => Ok(SwarmMode::Fair),
        "trusted" => Ok(SwarmMode::Trusted),
        _ => Err(
            "a swarm is fair (strangers: who gives gets) or trusted (machines of one owner)"
                .to_owned(),
        ),
    }
}

/// Reads `on` or `off`.
pub(super) fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off".to_owned()),
    }
}

fn parse_rate_or_nothing(text: &str) -> Result<Or<Rate>, String> {
    or_nothing(text, str::parse)
}

pub(super) fn or_nothing<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Or<T>, String> {
    if text.is_empty() {
        return Ok(Or(None));
    }
    parse(text).map(|value| Or(Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_skip_what_is_empty() {
        let args = NetworkArgs {
            bootstrap: vec!["/dns/x/tcp/2".to_owned(), String::new()],
            ..NetworkArgs::default()
        };
        assert_eq!(args.into_config().bootstrap, ["/dns/x/tcp/2"]);
    }

    #[test]
    fn an_empty_variable_is_the_default() {
        assert_eq!(parse_network(""), Ok(Or(None)));
        assert_eq!(parse_profile(""), Ok(Or(None)));
        assert_eq!(parse_cipher(""), Ok(Or(None)));
        assert_eq!(parse_mode_or_nothing(""), Ok(Or(None)));
        assert_eq!(parse_rate_or_nothing(""), Ok(Or(None)));
        let config = NetworkArgs::default().into_config();
        assert_eq!(config.name.as_str(), "main");
        assert_eq!(
            (config.profile, config.mode),
            (Profile::Home, DhtMode::Auto)
        );
        assert_eq!(config.cipher, CipherPreference::Auto);
    }

    #[test]
    fn the_cipher_is_what_the_node_is_told() {
        for (text, cipher) in [
            ("auto", CipherPreference::Auto),
            ("aes", CipherPreference::Aes),
            ("chacha20", CipherPreference::ChaCha20),
        ] {
            let args = NetworkArgs {
                cipher: Some(parse_cipher(text).unwrap()),
                ..NetworkArgs::default()
            };
            assert_eq!(args.into_config().cipher, cipher);
        }
    }

    #[test]
    fn limits_are_what_the_node_is_told() {
        let args = NetworkArgs {
            max_up: Some(parse_rate_or_nothing("2MiB/s").unwrap()),
            max_down: Some(parse_rate_or_nothing("none").unwrap()),
            limit_local: Some(false),
            ..NetworkArgs::default()
        };
        let config = args.into_config();
        let bandwidth = config.bandwidth;
        assert_eq!(bandwidth.up_bytes_per_s.map(Into::into), Some(2 << 20));
        assert_eq!(bandwidth.down_bytes_per_s, None);
        assert!(bandwidth.exempt_local);
        let config = NetworkArgs::default().into_config();
        assert_eq!(config.bandwidth, Bandwidth::default());
    }

    #[test]
    fn a_wrong_value_is_told_what_is_allowed() {
        assert!(
            parse_network("Main!")
                .unwrap_err()
                .contains("a-z, 0-9 and -")
        );
        assert!(
            parse_profile("huge")
                .unwrap_err()
                .contains("home, server or lab")
        );
        assert!(
            parse_mode("")
                .unwrap_err()
                .contains("auto, server or client")
        );
        assert!(parse_rate_or_nothing("10").unwrap_err().contains("10MiB/s"));
        assert!(parse_swarm("open").unwrap_err().contains("fair"));
        assert!(parse_switch("yes").unwrap_err().contains("on or off"));
        assert_eq!(parse_profile("lab"), Ok(Or(Some(Profile::Lab))));
        assert_eq!(parse_mode("client"), Ok(DhtMode::Client));
        let name = parse_network("lab-2").unwrap().0.unwrap();
        assert_eq!(name.as_str(), "lab-2");
    }
}

//! How to take part in the network, as typed or said by variables.

use casnode_node::api::{ApiError, DhtMode, ErrorKind};
use casnode_node::{BadNetworkName, NetworkConfig, NetworkName, Profile};

/// Bootstrap peers for every command that joins the network, comma separated.
const BOOTSTRAP_VARIABLE: &str = "CASNODE_BOOTSTRAP";
/// Which network, where nothing is typed.
pub(crate) const NETWORK_VARIABLE: &str = "CASNODE_NETWORK";
/// Which profile, where nothing is typed.
const PROFILE_VARIABLE: &str = "CASNODE_PROFILE";

/// A value, or nothing: an empty variable means the default, not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Or<T>(pub(crate) Option<T>);

/// How to take part in the network.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct NetworkArgs {
    /// Listen here; may be given several times
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) listen: Vec<String>,
    /// Join the network by this peer; may be given several times [env: CASNODE_BOOTSTRAP, comma separated]
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) bootstrap: Vec<String>,
    /// Do not look for peers on the local network
    #[arg(long)]
    pub(crate) no_mdns: bool,
    /// Join the network of this name, which has nothing to do with others [default: main]
    #[arg(
        long,
        value_name = "NAME",
        env = NETWORK_VARIABLE,
        hide_env_values = true,
        value_parser = parse_network
    )]
    pub(crate) network: Option<Or<NetworkName>>,
    /// How much of the machine and its line the network may have [default: home]
    #[arg(
        long,
        value_name = "home|server|lab",
        env = PROFILE_VARIABLE,
        hide_env_values = true,
        value_parser = parse_profile
    )]
    pub(crate) profile: Option<Or<Profile>>,
}

impl NetworkArgs {
    /// Whether any of these was typed that a running daemon makes idle (variables are not typed). The network's name
    /// is another matter: it has to be the daemon's.
    pub(crate) fn any_given(&self) -> bool {
        let profile = self.profile.is_some() && std::env::var_os(PROFILE_VARIABLE).is_none();
        !self.listen.is_empty() || !self.bootstrap.is_empty() || self.no_mdns || profile
    }

    /// The network that was asked for, if one was.
    pub(crate) fn network_name(&self) -> Option<&NetworkName> {
        self.network.as_ref()?.0.as_ref()
    }

    /// What the node is told, and who it was who said which peers to join by. Flags win over the variable.
    pub(crate) fn into_config(self) -> (NetworkConfig, BootstrapOrigin) {
        let (bootstrap, origin) = if self.bootstrap.is_empty() {
            let value = std::env::var(BOOTSTRAP_VARIABLE).unwrap_or_default();
            (comma_separated(&value), BootstrapOrigin::Variable)
        } else {
            (self.bootstrap, BootstrapOrigin::Flag)
        };
        let config = NetworkConfig {
            listen: self.listen,
            bootstrap,
            mdns: !self.no_mdns,
            name: self.network.and_then(|name| name.0).unwrap_or_default(),
            profile: self.profile.and_then(|p| p.0).unwrap_or_default(),
            mode: DhtMode::default(),
            ..NetworkConfig::default()
        };
        (config, origin)
    }
}

/// Where the bootstrap peers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BootstrapOrigin {
    /// `--bootstrap`.
    Flag,
    /// The environment.
    Variable,
}

impl BootstrapOrigin {
    /// The node knows the flag alone: an error about a value of the variable has to name the variable.
    pub(crate) fn explain(self, mut error: ApiError) -> ApiError {
        if self == Self::Variable
            && error.kind == ErrorKind::Usage
            && let Some(rest) = error.what.strip_prefix("--bootstrap ")
        {
            error.what = format!("{BOOTSTRAP_VARIABLE}: {rest}");
        }
        error
    }
}

fn comma_separated(value: &str) -> Vec<String> {
    value
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
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

fn or_nothing<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Or<T>, String> {
    if text.is_empty() {
        return Ok(Or(None));
    }
    parse(text).map(|value| Or(Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_lists_skip_what_is_empty() {
        assert_eq!(
            comma_separated(" /ip4/1.2.3.4/tcp/1 ,,/dns/x/tcp/2,"),
            ["/ip4/1.2.3.4/tcp/1", "/dns/x/tcp/2"]
        );
        assert!(comma_separated("").is_empty());
    }

    #[test]
    fn an_empty_variable_is_the_default() {
        assert_eq!(parse_network(""), Ok(Or(None)));
        assert_eq!(parse_profile(""), Ok(Or(None)));
        assert_eq!(parse_mode_or_nothing(""), Ok(Or(None)));
        let (config, _) = NetworkArgs::default().into_config();
        assert_eq!(config.name.as_str(), "main");
        assert_eq!(
            (config.profile, config.mode),
            (Profile::Home, DhtMode::Auto)
        );
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
        assert_eq!(parse_profile("lab"), Ok(Or(Some(Profile::Lab))));
        assert_eq!(parse_mode("client"), Ok(DhtMode::Client));
        let name = parse_network("lab-2").unwrap().0.unwrap();
        assert_eq!(name.as_str(), "lab-2");
    }
}

//! What a daemon is started with, and what looks at one.

use casnode_node::api::DhtMode;
use casnode_node::{SeedPolicy, SwarmMode};

use super::http::{self, Http};
use super::network::{self, NetworkArgs, Or};
use crate::size;

/// Of `casnode daemon`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Listens on TCP and QUIC port 4101 of all addresses unless --listen says otherwise."
)]
pub(crate) struct DaemonArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// How fast stored bytes are read and checked in the background, e.g. 8MiB/s, or off
    #[arg(
        long,
        value_name = "RATE|off",
        env = "CASNODE_SCRUB_RATE",
        hide_env_values = true,
        default_value = "8MiB/s",
        value_parser = size::parse_rate
    )]
    pub(crate) scrub_rate: size::Rate,
    /// Serve what is fetched for this long, where `get` does not say: none, until-exit, a time like 30m, ratio=1.5, or
    /// forever
    #[arg(
        long,
        value_name = "POLICY",
        env = "CASNODE_SEED",
        hide_env_values = true,
        default_value = "forever"
    )]
    pub(crate) seed: SeedPolicy,
    /// Hold records for others: auto (unless others cannot reach this node), server or client
    #[arg(
        long,
        value_name = "auto|server|client",
        env = "CASNODE_DHT_MODE",
        hide_env_values = true,
        value_parser = network::parse_mode_or_nothing
    )]
    pub(crate) dht_mode: Option<Or<DhtMode>>,
    /// Whether peers owe each other anything: fair, between strangers, or trusted, between machines of one owner
    /// [default: fair on the network main, trusted on any other]
    #[arg(
        long,
        value_name = "fair|trusted",
        env = "CASNODE_SWARM",
        hide_env_values = true,
        value_parser = network::parse_swarm
    )]
    pub(crate) swarm: Option<SwarmMode>,
    /// Serve the local API over TCP there too, to whoever shows the token in the file api.token of the data directory;
    /// off: on the socket alone [default: 127.0.0.1:4180, if it is free]
    #[arg(
        long,
        value_name = "ADDRESS:PORT|off",
        env = "CASNODE_HTTP",
        hide_env_values = true,
        value_parser = http::parse_or_nothing
    )]
    pub(crate) http: Option<Or<Http>>,
    /// A name by which the API may be called over TCP, besides localhost and IP addresses (several times)
    #[arg(
        long,
        value_name = "NAME",
        env = "CASNODE_HTTP_HOST",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = http::parse_host
    )]
    pub(crate) http_host: Vec<String>,
    /// Leave when standard input ends: whoever holds its other end is gone
    #[arg(long, hide = true)]
    pub(crate) until_eof: bool,
}

/// Of `casnode doctor`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Looks at the config file, the daemon, the data directory, the disk, the clock, limits, ports, addresses, each \
                  peer to join by, the DHT and announcements; no check takes longer than 20 s. With a daemon the daemon looks, and \
                  the flags below say nothing; without one addresses, the DHT and announcements are left out, and the flags \
                  are those that a daemon would be started with. The exit code is 1 when \
                  something fails, and 0 when there are warnings alone."
)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
}

//! What may be typed. Only shape is decided here; what it means is in [`crate::cmd`].

mod bench;
mod config;
mod daemon;
mod files;
mod global;
mod http;
mod network;

use std::path::PathBuf;
use std::time::Duration;

use casnode_node::Link;
use casnode_node::api::DhtMode;
use clap::{Parser, Subcommand};

use crate::address::{self, Address};
use crate::exit;
use crate::rate::Rate;

pub(crate) use self::bench::{BenchArgs, BenchPartArgs, Step};
pub(crate) use self::config::{ConfigCommand, LogFormat, LogLevel};
pub(crate) use self::daemon::{DaemonArgs, DoctorArgs};
pub(crate) use self::files::{CatArgs, GetArgs, LsArgs, StoreArgs, StoreCommand};
pub(crate) use self::global::Global;
pub(crate) use self::http::Http;
pub(crate) use self::network::NetworkArgs;

/// Content-addressed storage on a Kademlia DHT. The address of a file is its BLAKE3 hash, the one `b3sum` prints.
#[derive(Debug, Parser)]
#[command(name = "casnode", version, after_help = exit::HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the node in the foreground until Ctrl-C or SIGTERM
    Daemon(DaemonArgs),
    /// Store files and folders and publish them; prints their addresses
    Store(StoreArgs),
    /// Fetch a file or a directory by its address
    Get(GetArgs),
    /// Write a file, or a part of it, to standard output
    Cat(CatArgs),
    /// List the files that are here, or what is in a directory
    Ls(LsArgs),
    /// Show one file's facts
    Stat(OneAddress),
    /// Print a link to a file that is here: its address, name and size, and where this node can be reached
    Link(LinkArgs),
    /// Remove a file, and the chunks that only it used
    Rm(OneAddress),
    /// Choose what is kept whatever happens
    #[command(subcommand)]
    Pin(PinCommand),
    /// Give back the space of what nothing needs
    Gc(GcArgs),
    /// Show what files occupy: logical, stored, shared and referenced bytes
    Du(MaybeAddress),
    /// Read everything that is stored and check it
    Verify(VerifyArgs),
    /// Ask the DHT who has a file or a chunk
    Providers(ProvidersArgs),
    /// Say what stands between this node and a file: goes the way of get, and keeps nothing
    Why(WhyArgs),
    /// Say what may be wrong with this node, and what to do about it
    Doctor(Box<DoctorArgs>),
    /// Show how announcing stands, or announce again now
    #[command(subcommand)]
    Provide(ProvideCommand),
    /// Look at the DHT itself: lookups, records, a test, this node's part in it
    #[command(subcommand)]
    Dht(DhtCommand),
    /// Show how much is sent and taken, and change the limits of the daemon that runs
    Limits(LimitsArgs),
    /// Print numbers for a monitoring system, in the text format of Prometheus
    Metrics,
    /// Show this node: id, addresses, peers, stored bytes, announcements; or a file's swarm
    Status(StatusArgs),
    /// List the peers this node is connected to
    Peers,
    /// Print the address of this node's page, for a browser
    Web(WebArgs),
    /// Check the config file, or show what is set and by whom
    #[command(subcommand)]
    Config(Box<ConfigCommand>),
    /// Show the whole story on one machine: nodes come and go and lie, and every copy is right
    Demo(DemoArgs),
    /// Measure how fast this program is on this machine, and compare it with plain programs
    Bench(BenchArgs),
    /// A piece of work of a bench
    #[command(hide = true)]
    BenchPart(BenchPartArgs),
    /// Write man pages into a folder
    Man {
        /// The folder; it is made if need be
        folder: PathBuf,
    },
    /// Print a completion script for a shell
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// Of `casnode pin`.
#[derive(Debug, Subcommand)]
pub(crate) enum PinCommand {
    /// Keep a file that is here whatever is collected or has to make room
    Add(OneAddress),
    /// Let a file go when room is needed
    Rm(OneAddress),
    /// List the pinned files
    Ls,
}

/// Of `casnode gc`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Removes chunks that no file needs, and, over --max-store, the least recently used files that are not \
                  pinned; then rewrites packs that are mostly empty. Storing and fetching go on meanwhile."
)]
pub(crate) struct GcArgs {
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Of `casnode verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A damaged chunk counts as absent from then on and is served to nobody. The exit code is 12 when something \
                  is damaged or missing in the end."
)]
pub(crate) struct VerifyArgs {
    /// 64 hex digits: this file alone
    #[arg(value_parser = address::parse)]
    pub(crate) address: Option<Address>,
    /// Fetch what is damaged from the network again, and only that
    #[arg(long)]
    pub(crate) repair: bool,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// Of the commands that take an address and nothing else.
#[derive(Debug, clap::Args)]
pub(crate) struct OneAddress {
    /// 64 hex digits
    #[arg(value_parser = address::parse)]
    pub(crate) address: Address,
}

/// Of `casnode link`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A link goes wherever an address does. Without a daemon it names no peers: nobody could ask this node."
)]
pub(crate) struct LinkArgs {
    /// 64 hex digits
    #[arg(value_parser = address::parse)]
    pub(crate) address: Address,
    /// Draw it in the terminal as well, for a camera
    #[arg(long)]
    pub(crate) qr: bool,
}

/// Of the commands that take an address or mean everything.
#[derive(Debug, clap::Args)]
pub(crate) struct MaybeAddress {
    /// 64 hex digits: this file alone
    #[arg(value_parser = address::parse)]
    pub(crate) address: Option<Address>,
}

/// Of `casnode providers`.
#[derive(Debug, clap::Args)]
pub(crate) struct ProvidersArgs {
    /// An address or a chunk hash, 64 hex digits
    #[arg(value_name = "ADDRESS|CHUNK-HASH", value_parser = address::parse)]
    pub(crate) key: Address,
    /// Give up after this long, e.g. 30s
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// Of `casnode why`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Looks at what is here, at the network, at each of the peers closest to the address, and at each provider: \
                  whether it is there, its list of chunks, and a chunk taken at random. The last line names the cause, and the \
                  exit code is the one that get would end with."
)]
pub(crate) struct WhyArgs {
    /// 64 hex digits, or a link
    #[arg(value_name = "ADDRESS|LINK", value_parser = address::parse_link)]
    pub(crate) address: Link,
    /// End after this long, e.g. 30s
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Ask this peer as well; may be given several times
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) peer: Vec<String>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// Of `casnode provide`.
#[derive(Debug, Subcommand)]
pub(crate) enum ProvideCommand {
    /// Show how announcing stands: keys announced, due and failed, and whether it keeps up
    #[command(
        after_help = "The exit code is 0 also when announcing falls behind; a warning then says why, and what to do."
    )]
    Status(MaybeAddress),
    /// Announce again now, instead of when it is due
    Now(ProvideNowArgs),
}

/// Of `casnode provide now`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without a daemon it waits in any case: what is not announced when the command ends is not announced."
)]
pub(crate) struct ProvideNowArgs {
    /// 64 hex digits: this file and its chunks alone
    #[arg(value_parser = address::parse)]
    pub(crate) address: Option<Address>,
    /// Wait until it is done
    #[arg(long)]
    pub(crate) wait: bool,
    /// Wait no longer than this, e.g. 30s or 1h [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// Of `casnode dht`.
#[derive(Debug, Subcommand)]
pub(crate) enum DhtCommand {
    /// List the peers closest to a key, with the bits that each shares with it
    Lookup(KeyArgs),
    /// Show what the DHT holds under a key: the file's metadata record, and the providers
    Get(KeyArgs),
    /// Put records of made-up content to the closest peers, and read them back
    #[command(
        after_help = "The exit code is 0 only when the value record and the provider record were read back. Peers answer a value record before they check it, so \"answered\" says that it arrived. They forget the provider record after ten minutes, the value after 48 hours."
    )]
    PutTest(PutTestArgs),
    /// Show, or change until it ends, the daemon's part in the DHT
    Mode {
        /// What it is to be from now on
        #[arg(value_name = "auto|server|client", value_parser = network::parse_mode)]
        mode: Option<DhtMode>,
    },
}

/// Of the commands that take a key.
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    /// An address, a chunk hash, or any other 64 hex digits
    #[arg(value_parser = address::parse)]
    pub(crate) key: Address,
    /// Give up after this long, e.g. 30s [default: 20s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// Of `casnode dht put-test`.
#[derive(Debug, clap::Args)]
pub(crate) struct PutTestArgs {
    /// Give up after this long, e.g. 30s [default: 1m]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// Of `casnode limits`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is changed is so until the daemon ends; --max-up and --max-down say what it begins with. Everything \
                  counts: chunks, the DHT, what keeps connections alive."
)]
pub(crate) struct LimitsArgs {
    /// Send no more than this from now on, e.g. 10MiB/s or 50Mbit/s
    #[arg(long, value_name = "RATE|none")]
    pub(crate) up: Option<Rate>,
    /// Take no more than this from now on
    #[arg(long, value_name = "RATE|none")]
    pub(crate) down: Option<Rate>,
    /// Whether peers on this machine and on private networks are held back as well
    #[arg(long, value_name = "on|off", value_parser = network::parse_switch)]
    pub(crate) local: Option<bool>,
}

/// Of `casnode status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "With an address it shows the file's swarm: who is in it, what each has, gives and takes, and for how long \
                  the file is served."
)]
pub(crate) struct StatusArgs {
    /// 64 hex digits: the swarm of this file
    #[arg(value_parser = address::parse)]
    pub(crate) address: Option<Address>,
}

/// Of `casnode web`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The page is the daemon's: what is stored here, who has a file, who the peers are. Its address has the token in it: \
                  whoever has that may do all that the daemon's user may do here."
)]
pub(crate) struct WebArgs {
    /// Open it in the browser of this desktop, too
    #[arg(long)]
    pub(crate) open: bool,
}

/// Of `casnode demo`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Needs about 12 times the file's size, and 48 MiB for each node, in the temporary folder (TMPDIR); all of it is removed in the end."
)]
pub(crate) struct DemoArgs {
    /// The file to move about [default: 256 MiB of generated bytes]
    pub(crate) file: Option<PathBuf>,
    /// How many nodes to start, 4..=32
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(4..=32))]
    pub(crate) nodes: u8,
}

#[cfg(test)]
mod tests;

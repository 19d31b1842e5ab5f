//! What may be typed. Only shape is decided here; what it means is in [`crate::cmd`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use casnode_node::NetworkConfig;
use casnode_node::api::{ApiError, ChunkerName, ErrorKind};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};

use crate::address::{self, Address};
use crate::exit;
use crate::size;

/// Bootstrap peers for every command that joins the network, comma separated.
const BOOTSTRAP_VARIABLE: &str = "CASNODE_BOOTSTRAP";

/// Content-addressed storage on a Kademlia DHT. The address of a file is its BLAKE3 hash, the one `b3sum` prints.
#[derive(Debug, Parser)]
#[command(name = "casnode", version, after_help = exit::HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The heading of what every command understands, apart from a command's own options.
const GLOBAL: &str = "Global options";

/// What every command understands.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// Where this node keeps everything [default: casnode in the user's data folder, e.g. ~/.local/share/casnode]
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "DIR",
        env = "CASNODE_DATA_DIR",
        // An empty variable means the default, not an error.
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    pub(crate) data_dir: Option<PathBuf>,
    /// The store takes no more of the disk than this, e.g. 100GiB, or none; kept until another is given
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "SIZE|none",
        env = "CASNODE_MAX_STORE",
        hide_env_values = true,
        value_parser = size::parse_limit
    )]
    pub(crate) max_store: Option<size::Limit>,
    /// Print one JSON object a line on standard output
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,
    /// Print no progress and no remarks, only results, warnings and errors
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(crate) quiet: bool,
    /// Log more to standard error; twice for still more (RUST_LOG decides alone when set)
    #[arg(short, long, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the node in the foreground until Ctrl-C or SIGTERM
    Daemon(DaemonArgs),
    /// Store files and publish them; prints their addresses
    Store(StoreArgs),
    /// Fetch a file by its address
    Get(GetArgs),
    /// List the files that are here
    Ls,
    /// Show one file's facts
    Stat(OneAddress),
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
    /// Show this node: id, addresses, peers, stored bytes, announcements
    Status,
    /// List the peers this node is connected to
    Peers,
    /// Show the whole story on one machine: nodes come and go and lie, and every copy is right
    Demo(DemoArgs),
    /// Print a completion script for a shell
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

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
}

impl NetworkArgs {
    /// Whether any of these was typed (the variable is not).
    pub(crate) fn any_given(&self) -> bool {
        !self.listen.is_empty() || !self.bootstrap.is_empty() || self.no_mdns
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

/// Of `casnode daemon`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Listens on TCP and QUIC port 4101 of all addresses unless --listen says otherwise."
)]
pub(crate) struct DaemonArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// How fast stored bytes are read and checked in the background, e.g. 8MiB/s, or off
    #[arg(long, value_name = "RATE|off", default_value = "8MiB/s", value_parser = size::parse_rate)]
    pub(crate) scrub_rate: size::Rate,
    /// Leave when standard input ends: whoever holds its other end is gone
    #[arg(long, hide = true)]
    pub(crate) until_eof: bool,
}

/// Of `casnode store`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    after_help = "Prints one address a line, in the order of the paths. After a path that fails the others are stored all \
                  the same; the exit code is then the first failure's.\n\
                  A file of a subcommand's name is given as ./rebuild-index."
)]
pub(crate) struct StoreArgs {
    /// The files, or - for standard input
    #[arg(value_name = "PATH|-", required = true, allow_hyphen_values = false)]
    pub(crate) paths: Vec<OsString>,
    /// The name to publish with it, for a single file [default: the file's own]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// How to cut it into chunks
    #[arg(
        long,
        value_enum,
        env = "CASNODE_CHUNKER",
        hide_env_values = true,
        default_value_t
    )]
    pub(crate) chunker: Chunker,
    /// Refer to the file where it is and hold no copy: it must stay there unchanged
    #[arg(long)]
    pub(crate) in_place: bool,
    /// Let it go when room is needed
    #[arg(long)]
    pub(crate) no_pin: bool,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(subcommand)]
    pub(crate) upkeep: Option<StoreCommand>,
}

/// Under `casnode store`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum StoreCommand {
    /// Make the index anew from the pack files; no daemon may run
    RebuildIndex,
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

/// How to cut a file into chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Chunker {
    /// Equal lengths, 256 KiB for all but huge files
    Fixed,
    /// By content, 64 KiB to 1 MiB, so that an edit changes few chunks
    #[default]
    Fastcdc,
}

impl From<Chunker> for ChunkerName {
    fn from(chunker: Chunker) -> Self {
        match chunker {
            Chunker::Fixed => Self::Fixed,
            Chunker::Fastcdc => Self::FastCdc,
        }
    }
}

/// Of `casnode get`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What is fetched is kept: after an interruption or a failure the same command goes on.\n\
                        With -o -, nothing else goes to standard output; the report of --json then goes to standard error."
)]
pub(crate) struct GetArgs {
    /// 64 hex digits
    #[arg(value_parser = address::parse)]
    pub(crate) address: Address,
    /// The file to write, the folder to write it in, or - for standard output [default: this folder; named as published, else by the address]
    #[arg(short, long, value_name = "PATH|-")]
    pub(crate) output: Option<OsString>,
    /// Replace a file that is already there
    #[arg(long)]
    pub(crate) force: bool,
    /// Keep the written file itself instead of a copy in the store: it must stay there unchanged
    #[arg(long, conflicts_with = "no_keep")]
    pub(crate) in_place: bool,
    /// Keep nothing in the store: each byte is written once
    #[arg(long)]
    pub(crate) no_keep: bool,
    /// Keep it here whatever is collected or has to make room
    #[arg(long, conflicts_with = "no_keep")]
    pub(crate) pin: bool,
    /// Give up after this long, e.g. 30s or 5m [default: 30 s to find a provider, 5 min without progress]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Ask this peer first; may be given several times
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) peer: Vec<String>,
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

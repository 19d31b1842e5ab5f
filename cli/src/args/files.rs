//! How files go in and come out, as typed.

use std::ffi::OsString;
use std::time::Duration;

use casnode_node::api::ChunkerName;
use casnode_node::{SeedPolicy, SwarmMode};
use clap::{Subcommand, ValueEnum};

use super::network::{self, NetworkArgs};
use crate::address::{self, Place};
use crate::size;

/// Of `casnode store`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    after_help = "Prints one address a line, in the order of the paths. After a path that fails the others are stored all \
                  the same; the exit code is then the first failure's.\n\
                  A folder is stored with everything beneath it, hidden files too, under one address. Symbolic links are \
                  stored as links. What cannot be stored (devices, sockets, FIFOs, unreadable files, names that are not UTF-8) \
                  is left out with a line each, and the exit code is 15.\n\
                  A glob with a / is matched on the whole path from the folder on, one without on the last name of it; ** \
                  stands for any folders, and what matches a folder counts for everything beneath it.\n\
                  A file of a subcommand's name is given as ./rebuild-index."
)]
pub(crate) struct StoreArgs {
    /// The files and folders, or - for standard input
    #[arg(value_name = "PATH|-", required = true, allow_hyphen_values = false)]
    pub(crate) paths: Vec<OsString>,
    /// The name to publish with it, for a single path [default: the file's or folder's own]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Of a folder, store only what matches this or another one; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// Of a folder, leave out what matches this, whatever else it matches; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
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
    /// Print `HASH  PATH` lines, as b3sum does: for `casnode get --list` and `b3sum --check`
    #[arg(long)]
    pub(crate) sums: bool,
    /// Print a link for each file instead of its address: with its name and size, and where this node can be reached
    #[arg(long, conflicts_with = "sums")]
    pub(crate) link: bool,
    /// Draw each link in the terminal as well, for a camera
    #[arg(long, requires = "link")]
    pub(crate) qr: bool,
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
                        A file of 16 MiB or more is kept as with --in-place where it is written to the file system of the data directory, \
                        which shares no blocks, and nothing pins it. Anything else is kept as a copy, which on a file system that shares blocks takes no \
                        space.\n\
                        Without a daemon, --seed makes the command stay and serve the file until that is over, or Ctrl-C.\n\
                        A directory is made anew, into the folder -o itself; what is there and right is left as it is. With a path behind the \
                        address, only that file or folder of it. Symbolic links that lead out of it are not made, with a line each; where \
                        anything else is missing in the end, the exit code is 15.\n\
                        With -o -, nothing else goes to standard output; the report of --json then goes to standard error.\n\
                        With --list the folder is made if need be; after a file that cannot be had the others are fetched all the same, and \
                        the exit code is then the first failure's."
)]
pub(crate) struct GetArgs {
    /// 64 hex digits, of a directory with or without the path of a file or folder in it; or a link: its name is the output's unless
    /// -o names one, and its peers are asked first
    #[arg(value_name = "ADDRESS[/PATH]|LINK", value_parser = address::parse_place, required_unless_present = "list")]
    pub(crate) place: Option<Place>,
    /// Fetch the files of this list, or of standard input, into the folder -o: lines as b3sum and `store --sums` print them
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["place", "in_place", "swarm", "include", "exclude"])]
    pub(crate) list: Option<OsString>,
    /// Of a directory, fetch only what matches this or another one; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// Of a directory, leave out what matches this, whatever else it matches; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// The file to write, the folder to write it in, or - for standard output [default: this folder; named as published, else by the address]
    #[arg(short, long, value_name = "PATH|-")]
    pub(crate) output: Option<OsString>,
    /// Fetch it into the store alone, and write no file
    #[arg(long, conflicts_with_all = ["output", "force", "in_place", "no_keep", "list", "include", "exclude"])]
    pub(crate) store_only: bool,
    /// Replace a file that is already there
    #[arg(long)]
    pub(crate) force: bool,
    /// Keep a copy in the store, also of a large file
    #[arg(long, conflicts_with_all = ["in_place", "no_keep"])]
    pub(crate) copy: bool,
    /// Keep the written file itself instead of a copy in the store: it must stay there unchanged
    #[arg(long, conflicts_with = "no_keep")]
    pub(crate) in_place: bool,
    /// Keep nothing in the store: each byte is written once
    #[arg(long)]
    pub(crate) no_keep: bool,
    /// Keep it here whatever is collected or has to make room
    #[arg(long, conflicts_with = "no_keep")]
    pub(crate) pin: bool,
    /// Serve it to others for this long: none, until-exit, a time like 30m, a ratio like ratio=1.5 (until that many times
    /// its size was sent), or forever [default: as the daemon was told; without one, none]
    #[arg(long, value_name = "POLICY")]
    pub(crate) seed: Option<SeedPolicy>,
    /// Give up after this long, e.g. 30s or 5m [default: 30 s to find a provider, 5 min without progress]
    #[arg(
        long,
        value_name = "DURATION",
        env = "CASNODE_TIMEOUT",
        hide_env_values = true,
        value_parser = humantime::parse_duration
    )]
    pub(crate) timeout: Option<Duration>,
    /// Whether peers owe each other anything: fair, between strangers, or trusted, between machines of one owner
    /// [default: as the daemon was told; without one, as a daemon's own]
    #[arg(long, value_name = "fair|trusted", value_parser = network::parse_swarm)]
    pub(crate) swarm: Option<SwarmMode>,
    /// Ask this peer first; may be given several times
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) peer: Vec<String>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// Of `casnode cat`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Of a file that is not here no more is fetched than the range needs; it is kept for the next time.\n\
                  Each byte is proven before it is written. The report of --json goes to standard error."
)]
pub(crate) struct CatArgs {
    /// 64 hex digits, or a link: its peers are asked first; a path behind the address: this file of the directory
    #[arg(value_name = "ADDRESS[/PATH]|LINK", value_parser = address::parse_place)]
    pub(crate) place: Place,
    /// Begin here: bytes, or a size like 1.5GiB [default: the beginning of the file]
    #[arg(long, value_name = "SIZE", value_parser = size::parse_place)]
    pub(crate) offset: Option<u64>,
    /// Write so much [default: up to the end of the file]
    #[arg(long, value_name = "SIZE", value_parser = size::parse_place)]
    pub(crate) length: Option<u64>,
    /// Give up after this long, e.g. 30s or 5m [default: 30 s to find a provider, 5 min without progress]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Ask this peer first; may be given several times
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) peer: Vec<String>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// Of `casnode ls`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without an address it lists the files and directories that are here, and not the files that are here only as parts of \
                  directories. With one it lists what is in that \
                  directory: a mark (d for a folder, x for a file that may be run, l for a symbolic link, - for any other \
                  file), the size, and the path. Its listing is fetched where it is not here."
)]
pub(crate) struct LsArgs {
    /// 64 hex digits: what is in this directory, or at a path in it
    #[arg(value_name = "ADDRESS[/PATH]", value_parser = address::parse_place)]
    pub(crate) place: Option<Place>,
    /// What is here for directories alone, too
    #[arg(short, long, conflicts_with = "place")]
    pub(crate) all: bool,
    /// Everything beneath, instead of one level
    #[arg(short = 'R', long, requires = "place")]
    pub(crate) recursive: bool,
    /// Give up after this long, e.g. 30s [default: 30 s to find a provider, 5 min without progress]
    #[arg(long, value_name = "DURATION", requires = "place", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Ask this peer first; may be given several times
    #[arg(long, value_name = "MULTIADDR", requires = "place")]
    pub(crate) peer: Vec<String>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

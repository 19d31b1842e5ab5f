//! What every command understands.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};

use super::config::{LogFormat, LogLevel};
use crate::size;

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
    /// Memory that a node may use, about, at least 64MiB; a running daemon has its own [default: 256MiB]
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "SIZE",
        env = "CASNODE_MEMORY",
        hide_env_values = true,
        value_parser = size::parse_memory
    )]
    pub(crate) memory: Option<size::Memory>,
    /// Read settings from this file, or from none [default: casnode/config.toml in the user's config folder, if it is there]
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "FILE|none",
        env = "CASNODE_CONFIG",
        hide_env_values = true
    )]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object a line on standard output
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,
    /// Print no progress and no remarks, only results, warnings and errors
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(crate) quiet: bool,
    /// Log more to standard error; twice for still more (RUST_LOG decides alone when set)
    #[arg(short, long, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Log this and what is worse
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "LEVEL",
        env = "CASNODE_LOG_LEVEL",
        hide_env_values = true,
        value_enum,
        default_value = "warn"
    )]
    pub(crate) log_level: LogLevel,
    /// Log for people, or one JSON object a line
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "FORMAT",
        env = "CASNODE_LOG_FORMAT",
        hide_env_values = true,
        value_enum,
        default_value = "text"
    )]
    pub(crate) log_format: LogFormat,
}

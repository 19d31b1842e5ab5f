//! How settings are looked at, as typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use super::DaemonArgs;
use super::files::Chunker;

/// Of `casnode config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a config file: each mistake is told by its line
    Check {
        /// The file [default: the one that would be read]
        file: Option<PathBuf>,
    },
    /// Show each setting, and who said it: nobody, the file, a variable or a flag given here
    Show(Box<ConfigShowArgs>),
}

/// Of `casnode config show`: what the daemon and others take.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigShowArgs {
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
    /// As `casnode store` takes it
    #[arg(
        long,
        value_enum,
        env = "CASNODE_CHUNKER",
        hide_env_values = true,
        default_value_t
    )]
    pub(crate) chunker: Chunker,
    /// As `casnode get` takes it
    #[arg(
        long,
        value_name = "DURATION",
        env = "CASNODE_TIMEOUT",
        hide_env_values = true,
        value_parser = humantime::parse_duration
    )]
    pub(crate) timeout: Option<Duration>,
}

/// What is logged, where neither -v nor RUST_LOG says more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum LogLevel {
    /// What failed
    Error,
    /// And what needs somebody's attention
    #[default]
    Warn,
    /// And what was done, as with -v
    Info,
    /// And how, as with -vv
    Debug,
}

/// For whom is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

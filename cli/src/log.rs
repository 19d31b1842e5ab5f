//! What is logged to standard error: for people, or for programs.

use std::ffi::OsStr;

use tracing_subscriber::EnvFilter;

use crate::args::{Global, LogFormat, LogLevel};
use crate::progress;

/// Logs what `--log-level` says, more with -v, or what RUST_LOG says.
pub(crate) fn init(global: &Global) {
    let level = level(global.log_level, global.verbose);
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter(level)));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| progress::Stderr);
    match global.log_format {
        LogFormat::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let no_color = std::env::var_os("NO_COLOR");
            log.with_ansi(is_coloured(is_terminal, no_color.as_deref()))
                .init();
        }
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// Colours are for a terminal whose owner did not refuse them: <https://no-color.org>.
fn is_coloured(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

fn level(level: LogLevel, verbose: u8) -> LogLevel {
    match verbose {
        0 => level,
        1 => level.max(LogLevel::Info),
        _ => LogLevel::Debug,
    }
}

/// A node that starts alone is no reason for a warning of the Kademlia library; and its debug lines, and those of
/// the libraries around it, drown everything else, so that they have to be asked for by RUST_LOG.
fn filter(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn,libp2p_kad::behaviour=error",
        LogLevel::Info => "info,libp2p_kad::behaviour=error",
        LogLevel::Debug => {
            "info,casnode=debug,casnode_node=debug,casnode_dht=debug,casnode_cas=debug"
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_filters_parse() {
        for level in LogLevel::value_variants() {
            let parsed = EnvFilter::builder().parse(filter(*level));
            assert!(parsed.is_ok(), "{level:?}: {parsed:?}");
        }
    }

    #[test]
    fn colours_are_for_terminals_whose_owner_takes_them() {
        let refused = |value: &str| is_coloured(true, Some(OsStr::new(value)));
        assert!(is_coloured(true, None) && refused(""));
        assert!(!refused("1") && !refused("0"));
        assert!(!is_coloured(false, None));
    }

    #[test]
    fn more_is_logged_with_v_and_never_less() {
        assert_eq!(level(LogLevel::Error, 0), LogLevel::Error);
        assert_eq!(level(LogLevel::Error, 1), LogLevel::Info);
        assert_eq!(level(LogLevel::Debug, 1), LogLevel::Debug);
        assert_eq!(level(LogLevel::Warn, 9), LogLevel::Debug);
    }
}

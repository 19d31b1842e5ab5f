//! `casnode`: the command line of the node. It parses, shows and exits; the work is done by `casnode-node`.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that unwraps fails, as it should"
    )
)]

mod address;
mod args;
mod cmd;
mod demo;
mod exit;
mod list;
mod memory;
mod output;
mod pipe;
mod progress;
mod rate;
mod session;
mod signals;
mod size;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::args::Args;
use crate::exit::{Failure, Result};

fn main() -> ExitCode {
    memory::keep_buffers();
    let args = Args::parse();
    init_log(args.global.verbose);
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(&mut progress::Stderr);
            ExitCode::from(failure.code())
        }
    }
}

fn run(args: Args) -> Result<()> {
    let runtime =
        tokio::runtime::Runtime::new().map_err(|error| Failure::io("cannot start", &error))?;
    let outcome = runtime.block_on(cmd::run(args));
    // A thread may be waiting for standard input, which nobody can interrupt: do not wait for it.
    runtime.shutdown_background();
    outcome
}

/// Logs to standard error: warnings, more with -v, or what RUST_LOG says.
fn init_log(verbose: u8) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(log_filter(verbose)));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| progress::Stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

/// A node that starts alone is no reason for a warning of the Kademlia library; and its debug lines, and those of
/// the libraries around it, drown everything else, so that they have to be asked for by RUST_LOG.
fn log_filter(verbose: u8) -> &'static str {
    match verbose {
        0 => "warn,libp2p_kad::behaviour=error",
        1 => "info,libp2p_kad::behaviour=error",
        _ => "info,casnode=debug,casnode_node=debug,casnode_dht=debug,casnode_cas=debug",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_filters_parse() {
        for verbose in 0..4 {
            let filter = EnvFilter::builder().parse(log_filter(verbose));
            assert!(filter.is_ok(), "{verbose}: {filter:?}");
        }
    }
}

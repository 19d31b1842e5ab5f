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
mod output;
mod pipe;
mod progress;
mod session;
mod signals;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::args::Args;
use crate::exit::{Failure, Result};

fn main() -> ExitCode {
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
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| progress::Stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

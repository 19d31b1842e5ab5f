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
mod config;
mod demo;
mod exit;
mod list;
mod log;
mod memory;
mod multiaddr;
mod output;
mod pipe;
mod progress;
mod rate;
mod session;
mod signals;
mod size;

use std::process::ExitCode;

use crate::args::{Command, LogFormat};
use crate::config::Stop;
use crate::exit::{Failure, Result};

fn main() -> ExitCode {
    memory::keep_buffers();
    let (args, settings) = match config::read(std::env::args_os().collect()) {
        Ok(read) => read,
        Err(Stop::Clap(error)) => error.exit(),
        Err(Stop::Failure(failure)) => return failed(&failure),
    };
    log::init(&args.global);
    let is_daemon = matches!(args.command, Command::Daemon(_));
    let logs_json = is_daemon && args.global.log_format == LogFormat::Json;
    match run(args, settings) {
        Ok(()) => ExitCode::SUCCESS,
        // A log that programs read has its last line in their form, too.
        Err(Failure::Api(error)) if logs_json => {
            tracing::error!(why = error.why, next = error.next, "{}", error.what);
            ExitCode::from(Failure::Api(error).code())
        }
        Err(failure) => failed(&failure),
    }
}

fn failed(failure: &Failure) -> ExitCode {
    failure.report(&mut progress::Stderr);
    ExitCode::from(failure.code())
}

fn run(args: args::Args, settings: config::Settings) -> Result<()> {
    let runtime =
        tokio::runtime::Runtime::new().map_err(|error| Failure::io("cannot start", &error))?;
    let outcome = runtime.block_on(cmd::run(args, settings));
    // A thread may be waiting for standard input, which nobody can interrupt: do not wait for it.
    runtime.shutdown_background();
    outcome
}

//! `casnode`: the command line of the node. It parses, shows and exits; the work is done by `casnode-node`.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that unwraps fails, as it should"
    )
)]

mod activation;
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

use casnode_node::PassedSockets;

use crate::args::{Command, LogFormat};
use crate::config::Stop;
use crate::exit::{Failure, Result};

fn main() -> ExitCode {
    memory::share_heaps();
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
    // While there is one thread alone: it changes the environment.
    let passed = match args.command {
        Command::Daemon(_) => activation::take()?,
        _ => PassedSockets::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start", &error))?;
    let outcome = runtime.block_on(cmd::run(args, settings, passed));
    // A thread may be waiting for standard input, which nobody can interrupt: do not wait for it.
    runtime.shutdown_background();
    outcome
}

/// Half the processors are for the network. The others are for the threads that hash, read and write: with a worker for
/// each processor, tasks and chunks go from one to another all the time.
fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().div_ceil(2))
}

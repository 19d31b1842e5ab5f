//! The commands, one file each.

mod bench;
mod cat;
mod completions;
mod config;
mod daemon;
mod dht;
mod doctor;
mod get;
mod get_list;
mod link;
mod local;
mod provide;
mod providers;
mod state;
mod store;
mod tree;
mod verify;
mod web;
mod why;

use casnode_node::PassedSockets;

use crate::args::{Args, Command};
use crate::config::Settings;
use crate::demo;
use crate::exit::Result;
use crate::session::Context;
use crate::signals::{self, Manner};

/// Runs the command that was typed.
pub(crate) async fn run(args: Args, settings: Settings, passed: PassedSockets) -> Result<()> {
    let manner = if matches!(args.command, Command::Demo(_) | Command::Bench(_)) {
        Manner::TidyUp
    } else {
        Manner::Usual
    };
    let stop = signals::watch(manner)
        .map_err(|error| crate::exit::Failure::io("cannot listen for signals", &error))?;
    // These need no data directory.
    match args.command {
        Command::Completions { shell } => return completions::run(shell, args.global.json),
        Command::Man { folder } => return completions::man(&folder, args.global.json),
        Command::Demo(demo) => return demo::run(demo, &args.global, stop).await,
        Command::Bench(bench) => return bench::run(bench, &args.global, stop).await,
        Command::BenchPart(part) => return bench::run_part(&part.part),
        Command::Config(command) => return config::run(*command, &args.global, &settings),
        _ => {}
    }
    let context = Context::new(&args.global, settings, stop)?;
    match args.command {
        Command::Daemon(daemon) => daemon::run(&context, daemon, passed).await,
        Command::Store(store) => store::run(&context, store).await,
        Command::Get(get) => get::run(&context, get).await,
        Command::Cat(cat) => cat::run(&context, cat).await,
        Command::Ls(ls) => match ls.place {
            None => local::ls(&context, ls.all).await,
            Some(_) => tree::ls(&context, ls).await,
        },
        Command::Stat(one) => local::stat(&context, one.address).await,
        Command::Link(args) => link::run(&context, args).await,
        Command::Rm(one) => local::rm(&context, one.address).await,
        Command::Pin(pin) => local::pin(&context, pin).await,
        Command::Gc(gc) => local::gc(&context, gc.dry_run).await,
        Command::Du(which) => local::du(&context, which.address).await,
        Command::Verify(verify) => verify::run(&context, verify).await,
        Command::Providers(providers) => providers::run(&context, providers).await,
        Command::Why(args) => why::run(&context, args).await,
        Command::Doctor(args) => doctor::run(&context, args.daemon).await,
        Command::Provide(provide) => provide::run(&context, provide).await,
        Command::Dht(dht) => dht::run(&context, dht).await,
        Command::Limits(limits) => state::limits(&context, limits).await,
        Command::Metrics => state::metrics(&context).await,
        Command::Status(status) => state::status(&context, status.address).await,
        Command::Web(args) => web::run(&context, args.open).await,
        Command::Peers => state::peers(&context).await,
        Command::Completions { .. }
        | Command::Man { .. }
        | Command::Config(_)
        | Command::Demo(_)
        | Command::Bench(_)
        | Command::BenchPart(_) => Ok(()),
    }
}

/// Whole milliseconds, for the node.
fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! A simulator of swarms: the scheduler, the choker, the offers and the limiter of real nodes in virtual time, over
//! lines with rates and latency. Thousands of nodes in one process, the same every time with the same seed.
//!
//! `cargo run --release -p casnode-node --example sim -- --help`

// A simulator may stop at what cannot happen, and its numbers are estimates.
#![allow(unreachable_pub, missing_docs, clippy::cast_possible_truncation)]

mod checks;
mod clock;
mod fetch;
#[path = "../../dht/examples/network/plot.rs"]
#[allow(
    dead_code,
    reason = "shared with another simulator, which needs more of it"
)]
mod lines;
mod meet;
mod net;
mod node;
mod options;
mod plot;
mod report;
mod scenarios;
mod serve;
#[path = "../../dht/examples/network/table.rs"]
#[allow(
    dead_code,
    reason = "shared with another simulator, which needs more of it"
)]
mod table;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use options::Options;
use report::Report;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        options::help();
        return ExitCode::SUCCESS;
    }
    match Options::read(args).and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what is asked for; whether every figure was met.
fn run(options: &Options) -> Result<bool, String> {
    let mut report = Report::new("swarms in virtual time");
    for seed in options.seed..options.seed + options.runs {
        for (name, what, scenario) in scenarios::ALL {
            if options.scenario != "all" && options.scenario != *name {
                continue;
            }
            let began = Instant::now();
            let outcomes = scenario(&options.scale(seed));
            eprintln!(
                "{name} ({what}): {:.1} s of this machine's time",
                began.elapsed().as_secs_f64()
            );
            for outcome in outcomes {
                report.add(&outcome.name, seed, outcome.run.as_ref(), &outcome.figures);
                for violation in &outcome.violations {
                    report.all_met = false;
                    eprintln!("{name}, seed {seed}: {violation}");
                }
                if let Some(run) = &outcome.run {
                    plot::save(run, &outcome.name, seed, &options.out)?;
                }
            }
        }
    }
    report.print();
    Ok(report.all_met)
}

//! A simulator of the network: what announcing and finding cost, how long they take, and what is left
//! after churn, loss and hostile nodes.
//!
//! Two parts. `real` scenarios run the nodes themselves, hundreds in one process, over lines with latency.
//! `model` runs the announcer's own decisions and record tables in virtual time over a model of lookups
//! that the real scenarios calibrate, for days and for a million keys.
//!
//! `cargo run --release -p casnode-dht --example network -- --help`

// A simulator may stop at what cannot happen, and its numbers are estimates.
#![allow(unreachable_pub, missing_docs, clippy::cast_possible_truncation)]

mod measure;
mod model;
mod options;
mod plot;
mod real;
mod table;

use model::scenarios as model_scenarios;
use options::{OPTIONS, Options};
use real::scenarios;

const SCENARIOS: &[(&str, &str)] = &[
    (
        "announce",
        "what announcing costs, where the copies are, who finds them",
    ),
    (
        "first-provider",
        "time to the first provider in a large network",
    ),
    (
        "fetchable",
        "time from publishing a file to fetching it elsewhere",
    ),
    ("idle", "what a quiet network sends"),
    ("join", "nodes that begin with one address"),
    ("hostile", "a part of the network means harm"),
    ("churn", "nodes leave and join while readers look for keys"),
    ("calibrate", "what the model has to know of lookups"),
    ("model", "both of these:"),
    (
        "model-announce",
        "virtual time: a million keys in a thousand nodes",
    ),
    (
        "model-churn",
        "virtual time: days of churn, a restart in the middle",
    ),
    ("all", "everything"),
];

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        help();
        return std::process::ExitCode::SUCCESS;
    }
    let done = Options::read(args).and_then(|options| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let ran = runtime.block_on(run(&options));
        runtime.shutdown_background();
        ran
    });
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("network: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), String> {
    println!(
        "lines: {} ms round trips, {} for a new connection, {} % of segments lost; profile {}; seed {}",
        options.get("rtt", 40)?,
        options.get("handshake-rtts", 2)?,
        options.get("loss", 0.0)?,
        options.text("profile").unwrap_or("lab"),
        options.get("seed", 1)?,
    );
    match options.scenario.as_str() {
        "announce" => scenarios::announcing::announcing(options).await,
        "first-provider" => scenarios::searching::first_provider(options).await,
        "fetchable" => scenarios::searching::fetchable(options).await,
        "idle" => scenarios::quiet::idle(options).await,
        "join" => scenarios::quiet::join(options).await,
        "hostile" => scenarios::hostile::hostile(options).await,
        "churn" => scenarios::churn::churning(options).await,
        "calibrate" => scenarios::churn::calibrate(options).await,
        "model-announce" => model_scenarios::announcing(options).await,
        "model-churn" => model_scenarios::churn(options).await,
        "model" => {
            model_scenarios::announcing(options).await?;
            model_scenarios::churn(options).await
        }
        "all" => {
            scenarios::announcing::announcing(options).await?;
            scenarios::searching::first_provider(options).await?;
            scenarios::searching::fetchable(options).await?;
            scenarios::quiet::idle(options).await?;
            scenarios::quiet::join(options).await?;
            scenarios::hostile::hostile(options).await?;
            scenarios::churn::churning(options).await?;
            scenarios::churn::calibrate(options).await?;
            model_scenarios::announcing(options).await?;
            model_scenarios::churn(options).await
        }
        other => Err(format!("there is no scenario {other}; see --help")),
    }
}

fn help() {
    println!("network [SCENARIO] [--OPTION VALUE]…\n\nScenarios:");
    for (name, what) in SCENARIOS {
        println!("  {name:<16} {what}");
    }
    println!("\nOptions:");
    for (name, default, what) in OPTIONS {
        println!("  --{name:<16} {what} [{default}]");
    }
}

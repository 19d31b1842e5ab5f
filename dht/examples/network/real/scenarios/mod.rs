//! What is measured with real nodes.

pub mod announcing;
pub mod churn;
pub mod hostile;
pub mod quiet;
pub mod searching;

use std::time::Duration;

use casnode_dht::Profile;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep};

use super::line::Quality;
use super::world::{Setup, World};
use crate::measure::cpu_secs;
use crate::options::Options;

type Outcome<T> = Result<T, String>;

/// The longest one search may take: what the node gives it by default.
const SEARCH_DEADLINE: Duration = Duration::from_secs(30);
/// No copy added for this long: the announcement is complete.
const NO_MORE: Duration = Duration::from_millis(2500);
/// The network that the options describe.
pub fn setup(options: &Options, nodes: usize) -> Outcome<Setup> {
    let rtt: u64 = options.get("rtt", 40)?;
    let retransmission: u64 = options.get("retransmission", 200)?;
    Ok(Setup {
        nodes,
        quality: Quality {
            rtt: Duration::from_millis(rtt),
            loss: options.get::<f64>("loss", 0.0)? / 100.0,
            retransmission: Duration::from_millis(retransmission),
            handshake_rtts: options.get("handshake-rtts", 2)?,
        },
        gone_is_silent: options.text("gone").unwrap_or("silent") != "refused",
        join: options.text("join").is_some_and(|join| join != "no"),
        profile: options.profile(Profile::Lab)?,
        hostile: Vec::new(),
    })
}

fn rng(options: &Options) -> Outcome<StdRng> {
    Ok(StdRng::seed_from_u64(options.get("seed", 1)?))
}

/// Starts a network and leaves it alone for a while.
async fn start(options: &Options, setup: Setup) -> Outcome<World> {
    let (cpu, began) = (cpu_secs(), Instant::now());
    let (count, joined) = (setup.nodes, setup.join);
    let world = World::start(setup, rng(options)?).await?;
    world.settle(Duration::from_secs(120)).await;
    let up = began.elapsed();
    sleep(Duration::from_secs(options.get("settle", 20)?)).await;
    let quiet = world.quiet(2_000, Duration::from_secs(120)).await;
    let sums = world.traffic();
    println!(
        "{count} nodes {} in {:.1} s, CPU {:.1} s; {} dials, {} connections open, {}",
        if joined {
            "joined"
        } else {
            "up with filled tables"
        },
        up.as_secs_f64(),
        cpu_secs() - cpu,
        sums.dials,
        sums.open / 2,
        if quiet {
            "quiet"
        } else {
            "not quiet after two minutes"
        },
    );
    Ok(world)
}

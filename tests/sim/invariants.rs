//! Random small swarms. A run that fails says its seed, and how to run it again.

use std::time::Duration;

use casnode_node::SwarmMode;
use casnode_node::lab::{Mono, Order};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::net::Line;
use super::node::Manner;
use super::world::{Event, NodeId, Setup, World};

/// Seeds of a test run; `CASNODE_SIM_SEEDS=FROM..TO` runs others.
const SEEDS: std::ops::Range<u64> = 0..200;

/// Whoever is not done by then never will be: the slowest line needs a hundredth of it.
const LIMIT: Duration = Duration::from_secs(20_000);

/// Duplicates that are no fault: one part in a hundred, and a few chunks of a tiny file. A node that comes back without
/// what it had has two ends.
const DUPLICATES: f64 = 0.01;
const FEW: u64 = 8;

fn seeds() -> std::ops::Range<u64> {
    let given = std::env::var("CASNODE_SIM_SEEDS").ok();
    let range = given.and_then(|text| {
        let (from, to) = text.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    range.unwrap_or(SEEDS)
}

/// A swarm of at most 20 nodes and 200 chunks. One source is honest and stays.
fn random_world(seed: u64) -> World {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let chunk_bytes = 1 << rng.random_range(14..=18);
    let chunks = rng.random_range(1..=200u64);
    let mut setup = Setup::new(chunks * chunk_bytes, chunk_bytes as u32, seed);
    setup.mode = if rng.random() {
        SwarmMode::Fair
    } else {
        SwarmMode::Trusted
    };
    setup.order = if rng.random_bool(0.2) {
        Order::Sequential
    } else {
        Order::RarestFirst
    };
    setup.max_sessions = rng.random_range(2..=20);
    setup.max_served = rng.random_range(setup.max_sessions..=24);
    setup.lookups = rng.random();
    setup.super_seeding = rng.random();
    setup.check = true;
    setup.limit = LIMIT;
    let mut world = World::new(setup);
    for _ in 0..rng.random_range(1..=3) {
        world.add_source(random_line(rng), None);
    }
    let hostile = rng.random_range(0.0..0.5);
    for _ in 0..rng.random_range(1..=16) {
        let manner = random_manner(rng, hostile);
        let enters = Duration::from_millis(rng.random_range(0..20_000));
        let node = world.add_leecher(manner, random_line(rng), enters);
        if manner == Manner::Honest && rng.random_bool(0.3) {
            vanish(&mut world, rng, node, enters);
        }
    }
    world
}

fn random_manner(rng: &mut SmallRng, hostile: f64) -> Manner {
    let others = [
        Manner::Freeloads,
        Manner::ClaimsAll,
        Manner::SendsWrong,
        Manner::Mute,
        Manner::Floods,
    ];
    match rng.random_bool(hostile) {
        true => others[rng.random_range(0..others.len())],
        false => Manner::Honest,
    }
}

fn random_line(rng: &mut SmallRng) -> Line {
    let mut rate = || 10f64.powf(rng.random_range(5.3..7.5));
    Line {
        up_bytes_per_s: rate(),
        down_bytes_per_s: rate(),
        latency: Duration::from_millis(rng.random_range(0..100)),
        loss: rng.random_range(0.0..0.02),
    }
}

/// It goes, and comes back with what it had or without.
fn vanish(world: &mut World, rng: &mut SmallRng, node: NodeId, enters: Duration) {
    let leaves = enters + Duration::from_millis(rng.random_range(500..30_000));
    let back = leaves + Duration::from_secs(rng.random_range(2..60));
    let (silently, keeps) = (rng.random(), rng.random());
    world
        .queue
        .at(Mono(leaves), Event::Leave { node, silently });
    world.queue.at(Mono(back), Event::Enter { node, keeps });
}

/// What is wrong with a swarm that has come to its end.
fn faults(world: &World) -> Vec<String> {
    let mut faults = world
        .checks
        .as_ref()
        .map(|c| c.violations.clone())
        .unwrap_or_default();
    for (id, node) in world
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, n)| n.manner == Manner::Honest)
    {
        let (have, all) = (node.have.count(), node.have.len());
        if have < all {
            faults.push(format!("node {id} has {have} of {all} chunks at the end"));
        }
        let allowed = (DUPLICATES * all as f64) as u64 + FEW;
        let twice = world
            .checks
            .as_ref()
            .and_then(|c| c.needless.get(&(id as NodeId)));
        let twice = twice.copied().unwrap_or(0);
        if twice > allowed {
            faults.push(format!(
                "node {id} received {twice} chunks twice that were not late"
            ));
        }
    }
    faults
}

#[test]
fn every_honest_peer_completes_and_nobody_does_what_must_not_be_done() {
    let mut failed = Vec::new();
    for seed in seeds() {
        let mut world = random_world(seed);
        world.run();
        let faults = faults(&world);
        if !faults.is_empty() {
            let again = format!("CASNODE_SIM_SEEDS={seed}..{}", seed + 1);
            let faults = faults.join("\n  ");
            failed.push(format!(
                "{again} cargo test -p casnode-node --test sim\n  {faults}"
            ));
        }
    }
    assert!(
        failed.is_empty(),
        "{} swarms:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
fn the_same_seed_is_the_same_swarm() {
    let run = |seed| {
        let mut world = random_world(seed);
        world.run();
        let bytes: Vec<u64> = world.nodes.iter().map(|n| n.tally.received_bytes).collect();
        (world.now(), world.queue.entered(), bytes)
    };
    for seed in 0..10 {
        assert_eq!(run(seed), run(seed));
    }
    assert_ne!(run(0), run(1));
}

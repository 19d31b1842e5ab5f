//! What a network costs that nobody uses, and what joining it takes.

use std::time::Duration;

use casnode_dht::Dht;
use tokio::time::{Instant, sleep};

use super::{Outcome, rng, setup, start};
use crate::measure::{cpu_secs, ms, percentile, resident_bytes};
use crate::options::Options;
use crate::real::world::World;
use crate::table::{Table, number};

/// What a network costs that nobody uses.
pub async fn idle(options: &Options) -> Outcome<()> {
    let head = [
        "nodes",
        "seconds",
        "bytes/s a node",
        "with headers",
        "busiest node",
        "segments/s",
        "dials/min",
        "connections a node",
        "MiB a node",
        "CPU ms/s a node",
    ];
    let title =
        "Idle: a quiet period (bytes sent; headers are 62 bytes a segment for IP, TCP and TLS)";
    let mut table = Table::new(title, &head);
    for nodes in options.list("nodes", &[50usize])? {
        let empty = resident_bytes();
        let world = start(options, setup(options, nodes)?).await?;
        let period = Duration::from_secs(options.get("seconds", 60)?);
        let before: Vec<_> = world.members.iter().map(|m| m.traffic.sums()).collect();
        let (sums, cpu) = (world.traffic(), cpu_secs());
        sleep(period).await;
        let (sent, cpu) = (world.traffic().since(sums), cpu_secs() - cpu);
        let per = period.as_secs_f64() * nodes as f64;
        let each = world.members.iter().zip(before);
        let most = each.map(|(m, before)| m.traffic.sums().since(before).sent_bytes);
        let resident = resident_bytes().saturating_sub(empty);
        table.row(vec![
            nodes.to_string(),
            period.as_secs().to_string(),
            number(sent.sent_bytes as f64 / per),
            number(sent.wire_bytes() as f64 / per),
            number(most.max().unwrap_or(0) as f64 / period.as_secs_f64()),
            number(sent.segments as f64 / per),
            number(sent.dials as f64 / per * 60.0),
            number(sent.open as f64 / nodes as f64),
            number(resident as f64 / nodes as f64 / f64::from(1 << 20)),
            number(cpu / per * 1e3),
        ]);
        world.stop().await;
    }
    table.print();
    Ok(())
}

/// Nodes that begin with nothing but an address.
pub async fn join(options: &Options) -> Outcome<()> {
    let head = [
        "nodes",
        "last joins in ms",
        "p95 ms",
        "dials a node",
        "kB a node",
        "peers believed p50",
        "CPU s",
    ];
    let title = "Joining one after the other, each through a random earlier node";
    let mut table = Table::new(title, &head);
    for nodes in options.list("nodes", &[50usize])? {
        let cpu = cpu_secs();
        let mut setup = setup(options, nodes)?;
        setup.join = true;
        let mut world = World::start(setup, rng(options)?).await?;
        world.settle(Duration::from_secs(60)).await;
        let mut times = Vec::new();
        for _ in 0..10 {
            let at = world.arrive().await?;
            let began = Instant::now();
            let dht = world.dht(at).ok_or("it left")?;
            dht.connected_within(Duration::from_secs(30)).await;
            let known = |dht: &Dht| dht.provide_status().network_peers * 2 >= nodes as u64;
            while !known(&dht) && began.elapsed() < Duration::from_secs(60) {
                sleep(Duration::from_millis(5)).await;
            }
            times.push(ms(began.elapsed()));
        }
        let sums = world.traffic();
        let believed = world.honest().into_iter().filter_map(|at| world.dht(at));
        let believed: Vec<f64> = believed
            .map(|dht| dht.provide_status().network_peers as f64)
            .collect();
        let count = world.members.len() as f64;
        table.row(vec![
            nodes.to_string(),
            number(percentile(&times, 50.0)),
            number(percentile(&times, 95.0)),
            number(sums.dials as f64 / count),
            number(sums.sent_bytes as f64 / 1e3 / count),
            number(percentile(&believed, 50.0)),
            number(cpu_secs() - cpu),
        ]);
        world.stop().await;
    }
    table.print();
    Ok(())
}

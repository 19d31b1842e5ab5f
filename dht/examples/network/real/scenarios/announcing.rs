//! What announcing costs, and where the records end up.

use std::time::Duration;

use casnode_dht::{Dht, Key};
use rand::Rng;
use rand::seq::SliceRandom;
use tokio::time::{Instant, sleep};

use super::{NO_MORE, Outcome, SEARCH_DEADLINE, setup, start};
use crate::measure::cpu_secs;
use crate::model::scenarios::costs;
use crate::options::Options;
use crate::real::keyspace::keys;
use crate::real::world::World;
use crate::table::{Table, number, percent};

/// The longest any announcement may take.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(600);

/// What one announcement cost.
pub(super) struct Announcing {
    took: Duration,
    lookups: f64,
    requests: f64,
    runs: f64,
    failed: f64,
    messages: u64,
    complete: bool,
}

/// One of a node's numbers for monitoring.
fn metric(dht: &Dht, name: &str) -> f64 {
    let metrics = dht.metrics();
    let found = metrics.iter().find(|metric| metric.name == name);
    found.map_or(f64::NAN, |metric| metric.value)
}

/// Announces keys from one node and waits until no copies are added any more.
pub(super) async fn announce(world: &World, from: usize, keys: &[Key]) -> Outcome<Announcing> {
    const NAMES: [&str; 4] = [
        "casnode_dht_region_lookups_total",
        "casnode_dht_requests_total",
        "casnode_dht_announce_runs_total",
        "casnode_dht_failed_sends_total",
    ];
    let dht = world.dht(from).ok_or("the announcing node is gone")?;
    let few = (6_400 / world.members.len().max(1))
        .clamp(8, 64)
        .min(keys.len());
    let step = (keys.len() / few.max(1)).max(1);
    let watched: Vec<Key> = keys.iter().copied().step_by(step).take(few).collect();
    let mut last_run = dht.provide_status().last_run;
    let before = NAMES.map(|name| metric(&dht, name));
    let began = Instant::now();
    dht.schedule(keys.to_vec())
        .await
        .map_err(|error| error.to_string())?;
    let (mut copies, mut last, mut messages) = (0, began, 0);
    let complete = loop {
        sleep(Duration::from_millis(20)).await;
        let run = dht.provide_status().last_run;
        if run != last_run {
            messages += run.as_ref().map_or(0, |run| u64::from(run.peers));
            last_run = run;
        }
        let now: usize = watched.iter().map(|key| world.copies(key, from).0).sum();
        if now != copies {
            (copies, last) = (now, Instant::now());
        }
        if dht.announce_status().to_announce == 0 && last.elapsed() > NO_MORE {
            break true;
        }
        if began.elapsed() > ANNOUNCE_DEADLINE {
            break false;
        }
    };
    let [lookups, requests, runs, failed] = NAMES.map(|name| metric(&dht, name));
    Ok(Announcing {
        took: last - began,
        lookups: lookups - before[0],
        requests: requests - before[1],
        runs: runs - before[2],
        failed: failed - before[3],
        messages,
        complete,
    })
}

/// Keys to announce against what it costs, and whether the records are where they belong.
pub async fn announcing(options: &Options) -> Outcome<()> {
    let head = [
        "nodes",
        "keys",
        "seconds",
        "lookups",
        "requests",
        "runs",
        "messages",
        "failed",
        "MB sent, all",
        "dials",
        "copies/key",
        "at the true 20",
        "found",
        "CPU s",
    ];
    let title = "Announcing: one node, all others as a long-running network would have them";
    let mut table = Table::new(title, &head);
    let counts = options.list("nodes", &[50usize, 200, 500, 1000])?;
    let mut by_nodes = Vec::new();
    let mut by_keys = Vec::new();
    for nodes in counts {
        let few: &[usize] = if nodes <= 50 {
            &[512, 4096, 40_000]
        } else {
            &[4096]
        };
        let mut world = start(options, setup(options, nodes)?).await?;
        for (n, count) in options.list("keys", few)?.into_iter().enumerate() {
            let from = world.some_node(&[]).ok_or("nobody is there")?;
            let keys = keys(count, world.rng.random::<u32>().into());
            let (before, cpu) = (world.traffic(), cpu_secs());
            let cost = announce(&world, from, &keys).await?;
            let sent = world.traffic().since(before);
            let cpu = cpu_secs() - cpu;
            let samples = options.get("samples", 200usize)?.min(count);
            let (mut copies, mut right, mut due, mut found) = (0, 0, 0, 0);
            let mut sample = keys.clone();
            sample.shuffle(&mut world.rng);
            for key in &sample[..samples] {
                let (all, at_right, of) = world.copies(key, from);
                copies += all;
                right += at_right;
                due += of;
                let reader = world.some_node(&[from]).ok_or("nobody reads")?;
                let search = world.find(reader, *key, SEARCH_DEADLINE).await;
                found += usize::from(search.first.is_some());
            }
            table.row(vec![
                nodes.to_string(),
                count.to_string(),
                format!(
                    "{:.2}{}",
                    cost.took.as_secs_f64(),
                    if cost.complete { "" } else { " (gave up)" }
                ),
                number(cost.lookups),
                number(cost.requests),
                number(cost.runs),
                cost.messages.to_string(),
                number(cost.failed),
                number(sent.sent_bytes as f64 / 1e6),
                sent.dials.to_string(),
                number(copies as f64 / samples as f64),
                percent(right, due),
                percent(found, samples),
                number(cpu),
            ]);
            table.print_last();
            let point = (cost.lookups, cost.messages as f64);
            if n == 0 || count == 4096 {
                by_nodes.retain(|(known, _)| *known != nodes as f64);
                by_nodes.push((nodes as f64, point));
            }
            if nodes == 50 {
                by_keys.push((count as f64, point));
            }
        }
        world.stop().await;
    }
    table.print();
    let note = format!(
        "Real nodes over simulated lines, {} ms round trips, routing tables filled beforehand. \
         A message is one stream to one peer, with all its keys.",
        options.get("rtt", 40)?
    );
    for (name, file, x, points) in [
        (
            "nodes (4,096 keys)",
            "announce-by-nodes.svg",
            "nodes",
            by_nodes,
        ),
        ("keys (50 nodes)", "announce-by-keys.svg", "keys", by_keys),
    ] {
        if points.len() > 1 {
            let title = format!("What announcing costs, against {name}");
            costs(&title, &note, x, &points).save(&options.out(), file)?;
        }
    }
    Ok(())
}

//! Lookups and searches while nodes come and go.

use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;
use tokio::time::Instant;

use super::announcing::announce;
use super::{Outcome, SEARCH_DEADLINE, setup, start};
use crate::measure::{mean, ms, percentile};
use crate::model::calibration::Calibration;
use crate::options::Options;
use crate::real::keyspace::keys;
use crate::table::{Table, number, percent};

/// What the model has to know of lookups: whom they miss, how long they take, and what dead entries cost.
pub async fn calibrate(options: &Options) -> Outcome<()> {
    let head = [
        "nodes",
        "dead",
        "lookups",
        "of the true 20",
        "p50 ms",
        "mean ms",
        "p95 ms",
        "incomplete",
    ];
    let title = "Lookups of real nodes, for the model (the true 20 are those that are alive)";
    let mut table = Table::new(title, &head);
    let nodes = options.get("nodes", 200usize)?;
    let samples = options.get("samples", 100usize)?;
    let mut world = start(options, setup(options, nodes)?).await?;
    let mut own = Calibration::default();
    let mut times = [0.0; 2];
    const DEAD: f64 = 0.15;
    for (round, dead) in [0.0, DEAD].into_iter().enumerate() {
        let mut honest = world.honest();
        honest.shuffle(&mut world.rng);
        for at in honest.into_iter().take((nodes as f64 * dead) as usize) {
            world.leave(at);
        }
        let (mut took, mut right, mut due, mut cut) = (Vec::new(), 0, 0, 0);
        for key in keys(samples, world.rng.random::<u32>().into()) {
            let reader = world.some_node(&[]).ok_or("nobody reads")?;
            let dht = world.dht(reader).ok_or("nobody reads")?;
            let truth = world.closest(&key, reader);
            let began = Instant::now();
            let Ok(report) = dht.lookup(key, SEARCH_DEADLINE).await else {
                cut += 1;
                continue;
            };
            took.push(ms(began.elapsed()));
            cut += usize::from(!report.complete);
            let found = report
                .peers
                .iter()
                .filter(|(peer, _, _)| truth.contains(peer));
            right += found.count();
            due += truth.len();
        }
        if round == 0 {
            own.miss = 1.0 - right as f64 / due.max(1) as f64;
        }
        times[round] = mean(&took) / 1e3;
        table.row(vec![
            nodes.to_string(),
            format!("{:.0} %", dead * 100.0),
            samples.to_string(),
            percent(right, due),
            number(percentile(&took, 50.0)),
            number(mean(&took)),
            number(percentile(&took, 95.0)),
            cut.to_string(),
        ]);
        table.print_last();
    }
    world.stop().await;
    table.print();
    own.lookup_secs = times[0];
    own.dead_tenth_secs = ((times[1] - times[0]) / DEAD / 10.0).max(0.0);
    own.save(&options.out())
        .map_err(|error| error.to_string())?;
    println!("for the model: {own:?}");
    Ok(())
}

/// Nodes leave and others join while readers look for keys; faster than in life.
pub async fn churning(options: &Options) -> Outcome<()> {
    let nodes = options.get("nodes", 100usize)?;
    let count = options.get("keys", 1000usize)?;
    let leave = options.get("churn", 30.0)? / 100.0;
    let speedup: f64 = options.get("speedup", 60.0)?;
    let hours = options.get("hours", 2u32)?;
    let samples = options.get("samples", 30usize)?;
    let title = format!(
        "Real nodes under churn: {} % leave every {:.0} s, for an hour, and as many join; nothing is renewed",
        leave * 100.0,
        3600.0 / speedup
    );
    let head = [
        "hours",
        "left",
        "found",
        "first p50 ms",
        "p95 ms",
        "copies/key",
        "at the true 20",
        "peers believed p50",
    ];
    let mut table = Table::new(&title, &head);
    let mut world = start(options, setup(options, nodes)?).await?;
    let from = world.some_node(&[]).ok_or("nobody is there")?;
    let keys = keys(count, world.rng.random::<u32>().into());
    announce(&world, from, &keys).await?;
    let rate = -(1.0f64 - leave).ln() / 3600.0 * speedup * nodes as f64;
    let mut left = 0;
    for half_hour in 0..=hours * 2 {
        let ends = Instant::now() + Duration::from_secs_f64(1800.0 / speedup);
        while half_hour > 0 && Instant::now() < ends {
            let wait = -(1.0 - world.rng.random::<f64>()).ln() / rate;
            tokio::time::sleep_until((Instant::now() + Duration::from_secs_f64(wait)).min(ends))
                .await;
            if Instant::now() < ends {
                let at = world.some_node(&[from]).ok_or("nobody is left")?;
                world.leave(at);
                world.arrive().await?;
                left += 1;
            }
        }
        let (mut first, mut copies, mut right, mut due) = (Vec::new(), 0, 0, 0);
        for n in 0..samples {
            let key = keys[(n * 7919 + half_hour as usize) % count];
            let (all, at_right, of) = world.copies(&key, from);
            (copies, right, due) = (copies + all, right + at_right, due + of);
            let reader = world.some_node(&[from]).ok_or("nobody reads")?;
            first.extend(world.find(reader, key, SEARCH_DEADLINE).await.first.map(ms));
        }
        let believed = world.honest().into_iter().filter_map(|at| world.dht(at));
        let believed: Vec<f64> = believed
            .map(|dht| dht.provide_status().network_peers as f64)
            .collect();
        table.row(vec![
            number(f64::from(half_hour) / 2.0),
            left.to_string(),
            percent(first.len(), samples),
            number(percentile(&first, 50.0)),
            number(percentile(&first, 95.0)),
            number(copies as f64 / samples as f64),
            percent(right, due),
            number(percentile(&believed, 50.0)),
        ]);
        table.print_last();
    }
    world.stop().await;
    table.print();
    Ok(())
}

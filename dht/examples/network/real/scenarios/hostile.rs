//! Searches where a part of the network means harm.

use std::time::Duration;

use casnode_dht::Key;
use rand::Rng;
use tokio::time::sleep;

use super::searching::{publish, read_all};
use super::{NO_MORE, Outcome, rng, setup};
use crate::measure::{mean, ms, percentile};
use crate::options::Options;
use crate::real::hostile::{Kind, ground_next_to};
use crate::real::keyspace::keys;
use crate::real::world::World;
use crate::table::{Table, number, percent};

/// Sybils next to one key: as many as hold a record.
const SYBILS: usize = 20;

/// A part of the network means harm.
pub async fn hostile(options: &Options) -> Outcome<()> {
    let head = [
        "nodes",
        "hostile",
        "kind",
        "searches",
        "found",
        "first p50 ms",
        "p95 ms",
        "requests mean",
        "copies/key",
        "announced p50 ms",
    ];
    let title = "Hostile nodes: searches by random honest nodes for files of random honest nodes";
    let mut table = Table::new(title, &head);
    let share: f64 = options.get("hostile", 10.0)?;
    let kinds = options.text("kinds").unwrap_or("all");
    let wanted = |name: &str| kinds == "all" || kinds.split(',').any(|kind| kind == name);
    for nodes in options.list("nodes", &[200usize])? {
        let count = (nodes as f64 * share / 100.0).round() as usize;
        for (name, kind) in [
            ("silent", Kind::Silent),
            ("empty", Kind::Empty),
            ("liar", Kind::Liar),
            ("sybil", Kind::Sybil),
        ] {
            if !wanted(name) {
                continue;
            }
            let mut setup = setup(options, nodes)?;
            let mut rng = rng(options)?;
            let target: Key = keys(1, rng.random())[0];
            let mut sybils = Vec::new();
            if kind == Kind::Sybil {
                // Closer than the closest of the honest by some bits.
                let bits = nodes.ilog2() + 5;
                sybils = ground_next_to(&target, bits, SYBILS);
            } else {
                setup.hostile = vec![kind; count];
            }
            let there = if kind == Kind::Sybil { SYBILS } else { count };
            let mut world = World::start_with(setup, rng, sybils).await?;
            world.settle(Duration::from_secs(120)).await;
            sleep(Duration::from_secs(options.get("settle", 20)?)).await;
            let samples = options.get("samples", 200usize)?;
            let wanted = match kind {
                Kind::Sybil => vec![target],
                _ => keys(samples, world.rng.random::<u32>().into()),
            };
            let (mut published, took) = publish(&mut world, wanted).await?;
            sleep(NO_MORE).await;
            let copies: Vec<f64> = published
                .iter()
                .map(|(key, from)| world.copies(key, *from).0 as f64)
                .collect();
            if kind == Kind::Sybil {
                published = vec![published[0]; samples.min(nodes - 1)];
            }
            let searches = read_all(&mut world, &published).await?;
            let first: Vec<f64> = searches.iter().filter_map(|s| s.first.map(ms)).collect();
            let asked: Vec<f64> = searches.iter().map(|s| f64::from(s.asked)).collect();
            table.row(vec![
                nodes.to_string(),
                there.to_string(),
                name.to_string(),
                searches.len().to_string(),
                percent(first.len(), searches.len()),
                number(percentile(&first, 50.0)),
                number(percentile(&first, 95.0)),
                number(mean(&asked)),
                number(mean(&copies)),
                number(percentile(&took, 50.0)),
            ]);
            table.print_last();
            world.stop().await;
        }
    }
    table.print();
    Ok(())
}

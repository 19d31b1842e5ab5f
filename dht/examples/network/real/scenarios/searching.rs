//! How long it takes until a provider is known.

use std::time::Duration;

use casnode_dht::Key;
use rand::Rng;
use rand::seq::SliceRandom;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{NO_MORE, Outcome, SEARCH_DEADLINE, setup, start};
use crate::measure::{mean, ms, percentile};
use crate::options::Options;
use crate::plot::{Axis, Plot, Series};
use crate::real::keyspace::keys;
use crate::real::world::{Search, World};
use crate::table::{Table, number, percent};

/// Publishes files at random nodes, a few at a time; returns which, and how many milliseconds each took.
pub(super) async fn publish(
    world: &mut World,
    keys: Vec<Key>,
) -> Outcome<(Vec<(Key, usize)>, Vec<f64>)> {
    const AT_ONCE: usize = 4;
    let (mut published, mut took) = (Vec::new(), Vec::new());
    let mut running = JoinSet::new();
    let mut keys = keys.into_iter();
    loop {
        while running.len() < AT_ONCE
            && let Some(key) = keys.next()
        {
            let from = world.some_node(&[]).ok_or("nobody is there")?;
            let dht = world.dht(from).ok_or("nobody is there")?;
            published.push((key, from));
            running.spawn(async move {
                let began = Instant::now();
                let value = vec![key[0]; 200];
                let announced = dht.announce_file(key, value, SEARCH_DEADLINE).await;
                announced.map(|_| ms(began.elapsed()))
            });
        }
        match running.join_next().await {
            None => return Ok((published, took)),
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(Err(error))) => return Err(error.to_string()),
            Some(Ok(Ok(ms))) => took.push(ms),
        }
    }
}

/// How long it takes until a reader knows somebody who has the file.
pub async fn first_provider(options: &Options) -> Outcome<()> {
    let title = "Time to the first provider: a random node that never looked for the key, one search at a time";
    let head = [
        "nodes",
        "searches",
        "found",
        "first p50 ms",
        "p95 ms",
        "max ms",
        "end p50 ms",
        "requests mean",
        "dials/search",
        "kB/search, all",
        "copies/key",
        "at the true 20",
    ];
    let mut table = Table::new(title, &head);
    let mut series = Vec::new();
    for nodes in options.list("nodes", &[1000usize])? {
        let mut world = start(options, setup(options, nodes)?).await?;
        let samples = options.get("samples", 200usize)?;
        let keys = keys(samples, world.rng.random::<u32>().into());
        let (published, _) = publish(&mut world, keys).await?;
        let (mut copies, mut right, mut due) = (0, 0, 0);
        sleep(NO_MORE).await;
        for (key, from) in &published {
            let (all, at_right, of) = world.copies(key, *from);
            (copies, right, due) = (copies + all, right + at_right, due + of);
        }
        sleep(Duration::from_secs(options.get("settle", 20)?)).await;
        let before = world.traffic();
        let searches = read_all(&mut world, &published).await?;
        let sent = world.traffic().since(before);
        let first: Vec<f64> = searches.iter().filter_map(|s| s.first.map(ms)).collect();
        let ends: Vec<f64> = searches.iter().map(|search| ms(search.took)).collect();
        let asked: Vec<f64> = searches.iter().map(|s| f64::from(s.asked)).collect();
        table.row(vec![
            nodes.to_string(),
            samples.to_string(),
            percent(first.len(), samples),
            number(percentile(&first, 50.0)),
            number(percentile(&first, 95.0)),
            number(percentile(&first, 100.0)),
            number(percentile(&ends, 50.0)),
            number(mean(&asked)),
            number(sent.dials as f64 / samples as f64),
            number(sent.sent_bytes as f64 / 1e3 / samples as f64),
            number(copies as f64 / samples as f64),
            percent(right, due),
        ]);
        series.push(distribution(&format!("{nodes} nodes"), &first));
        world.stop().await;
    }
    table.print();
    let plot = Plot {
        title: "Time to the first provider".into(),
        note: format!(
            "Real nodes over simulated lines, {} ms round trips, {} round trips for a new connection. \
             Readers are random nodes that never looked for the key, one at a time.",
            options.get("rtt", 40)?,
            options.get("handshake-rtts", 2)?
        ),
        x: Axis::linear("milliseconds"),
        y: Axis::linear("share of searches that know a provider by then, %").between(0.0, 100.0),
        series,
    };
    plot.save(&options.out(), "first-provider.svg")
}

fn distribution(name: &str, values: &[f64]) -> Series {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len().max(1) as f64;
    let points = sorted.iter().enumerate();
    Series {
        name: name.into(),
        points: points
            .map(|(n, at)| (*at, (n + 1) as f64 / count * 100.0))
            .collect(),
        marked: false,
    }
}

/// One search for each file, each by another node as long as there are any.
pub(super) async fn read_all(
    world: &mut World,
    published: &[(Key, usize)],
) -> Outcome<Vec<Search>> {
    let mut readers = Vec::new();
    let mut searches = Vec::new();
    for (key, from) in published {
        if readers.is_empty() {
            readers = world.honest();
            readers.shuffle(&mut world.rng);
        }
        let at = readers.iter().position(|reader| reader != from);
        let reader = readers.swap_remove(at.ok_or("nobody reads")?);
        searches.push(world.find(reader, *key, SEARCH_DEADLINE).await);
    }
    Ok(searches)
}

/// How long it takes from publishing a file until another node has found it and its value record.
pub async fn fetchable(options: &Options) -> Outcome<()> {
    let head = [
        "nodes",
        "files",
        "p50 ms",
        "p95 ms",
        "max ms",
        "announce_file returns p50 ms",
    ];
    let title =
        "From announce_file to provider and value found elsewhere (asked again every 20 ms)";
    let mut table = Table::new(title, &head);
    for nodes in options.list("nodes", &[50usize])? {
        let mut world = start(options, setup(options, nodes)?).await?;
        let samples = options.get("samples", 100usize)?;
        let (mut times, mut returns) = (Vec::new(), Vec::new());
        for key in keys(samples, world.rng.random::<u32>().into()) {
            let from = world.some_node(&[]).ok_or("nobody is there")?;
            let reader = world.some_node(&[from]).ok_or("nobody reads")?;
            let dht = world.dht(from).ok_or("nobody is there")?;
            let elsewhere = world.dht(reader).ok_or("nobody reads")?;
            let began = Instant::now();
            let publishing = async {
                let done = dht
                    .announce_file(key, vec![key[0]; 200], SEARCH_DEADLINE)
                    .await;
                done.map(|_| began.elapsed())
                    .map_err(|error| error.to_string())
            };
            let reading = async {
                while began.elapsed() < SEARCH_DEADLINE {
                    let left = Duration::from_secs(2);
                    let search = world.find(reader, key, left);
                    let (search, record) = tokio::join!(search, elsewhere.get_record(key, left));
                    let value = record.is_ok_and(|record| record.value.is_some());
                    if search.first.is_some() && value {
                        return began.elapsed();
                    }
                    sleep(Duration::from_millis(20)).await;
                }
                SEARCH_DEADLINE
            };
            let (returned, fetched) = tokio::join!(publishing, reading);
            returns.push(ms(returned?));
            times.push(ms(fetched));
        }
        table.row(vec![
            nodes.to_string(),
            samples.to_string(),
            number(percentile(&times, 50.0)),
            number(percentile(&times, 95.0)),
            number(percentile(&times, 100.0)),
            number(percentile(&returns, 50.0)),
        ]);
        world.stop().await;
    }
    table.print();
    Ok(())
}

//! What is measured with real nodes.

use std::time::Duration;

use casnode_dht::{Dht, Key, Profile};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::hostile::{Kind, ground_next_to};
use super::keyspace::keys;
use super::line::Quality;
use super::world::{Search, Setup, World};
use crate::measure::{cpu_secs, mean, ms, percentile, resident_bytes};
use crate::model::calibration::Calibration;
use crate::model::scenarios::costs;
use crate::options::Options;
use crate::plot::{Axis, Plot, Series};
use crate::table::{Table, number, percent};

type Outcome<T> = Result<T, String>;

/// The longest any announcement may take.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(600);
/// The longest one search may take: what the node gives it by default.
const SEARCH_DEADLINE: Duration = Duration::from_secs(30);
/// No copy added for this long: the announcement is complete.
const NO_MORE: Duration = Duration::from_millis(2500);
/// Sybils next to one key: as many as hold a record.
const SYBILS: usize = 20;

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

/// What one announcement cost.
struct Announcing {
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
async fn announce(world: &World, from: usize, keys: &[Key]) -> Outcome<Announcing> {
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

/// Publishes files at random nodes, a few at a time; returns which, and how many milliseconds each took.
async fn publish(world: &mut World, keys: Vec<Key>) -> Outcome<(Vec<(Key, usize)>, Vec<f64>)> {
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
async fn read_all(world: &mut World, published: &[(Key, usize)]) -> Outcome<Vec<Search>> {
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

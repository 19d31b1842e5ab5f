//! What is told of large networks and of days.

use std::fmt::Write as _;

use casnode_dht::Profile;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::calibration::Calibration;
use super::days::{Days, Hour, Plan, tell};
use super::network::Network;
use crate::measure::{cpu_secs, resident_bytes};
use crate::options::Options;
use crate::plot::{Axis, Plot, Series};
use crate::real::keyspace::keys;
use crate::table::{Table, number, percent};

type Outcome<T> = Result<T, String>;

fn rng(options: &Options) -> Outcome<StdRng> {
    Ok(StdRng::seed_from_u64(options.get("seed", 1)?))
}

fn calibration(options: &Options) -> Outcome<Calibration> {
    let (calibration, measured) = Calibration::of(options, &options.out())?;
    println!(
        "model: a lookup finds the 20 closest living peers, each missing with a chance of {:.3} %, in {:.2} s and \
         {:.2} s more for each tenth of dead entries ({}); a dead peer costs {} s",
        calibration.miss * 100.0,
        calibration.lookup_secs,
        calibration.dead_tenth_secs,
        match measured {
            true => "measured by `calibrate`",
            false => "defaults; `calibrate` measures them",
        },
        calibration.dead_peer_secs,
    );
    Ok(calibration)
}

/// A first announcement of many keys in networks of many nodes.
///
/// # Errors
/// An option is wrong, or the story cannot be told.
pub async fn announcing(options: &Options) -> Outcome<()> {
    let calibration = calibration(options)?;
    let head = [
        "nodes",
        "keys",
        "virtual s",
        "lookups",
        "per 1,000 keys",
        "messages",
        "MB",
        "copies/key",
        "found",
        "MiB resident, all",
        "CPU s",
    ];
    let title = "Model: a first announcement, by the announcer's own decisions (nobody leaves)";
    let mut table = Table::new(title, &head);
    let (mut by_keys, mut by_nodes) = (Vec::new(), Vec::new());
    let nodes = options.list("nodes", &[1000usize, 50, 200, 5_000])?;
    let counts = options.list("keys", &[1_000usize, 10_000, 100_000, 1_000_000])?;
    let given = options.text("nodes").is_some() || options.text("keys").is_some();
    let pairs = nodes.iter().map(|n| counts.iter().map(|k| (*n, *k)));
    for (nodes, count) in pairs.flatten() {
        // Both rows of a cross: all counts of keys in one network, one count of keys in all.
        if !given && nodes != 1000 && count != 100_000 {
            continue;
        }
        let cpu = cpu_secs();
        let network = Network::new(nodes, 0.0, calibration.miss, rng(options)?)?;
        let plan = Plan {
            keys: keys(count, options.get("seed", 1)?),
            hours: 0,
            follows_churn: true,
            restart: false,
            profile: options.profile(Profile::Home)?,
            samples: options.get("samples", 1000)?,
        };
        let days = tell(network, calibration, &plan).await?;
        let first = days.first;
        let last = days.hours.last().copied().unwrap_or_default();
        table.row(vec![
            nodes.to_string(),
            count.to_string(),
            number(days.first_secs),
            first.lookups.to_string(),
            number(first.lookups as f64 * 1e3 / count as f64),
            first.messages.to_string(),
            number(first.bytes as f64 / 1e6),
            number(last.copies as f64 / last.looked_for.max(1) as f64),
            percent(last.found, last.looked_for),
            number(resident_bytes() as f64 / f64::from(1 << 20)),
            number(cpu_secs() - cpu),
        ]);
        table.print_last();
        let point = (first.lookups as f64, first.messages as f64);
        if nodes == 1000 {
            by_keys.push((count as f64, point));
        }
        if count == 100_000 {
            by_nodes.push((nodes as f64, point));
        }
    }
    table.print();
    by_nodes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let note = "The announcer's own decisions over a model of lookups; nobody leaves. \
                A message is one stream to one peer, with all its keys of one run.";
    for (title, x, file, points) in [
        (
            "against keys (1,000 nodes)",
            "keys",
            "model-by-keys.svg",
            by_keys,
        ),
        (
            "against nodes (100,000 keys)",
            "nodes",
            "model-by-nodes.svg",
            by_nodes,
        ),
    ] {
        if points.len() > 1 {
            let title = format!("What a first announcement costs, {title}");
            costs(&title, note, x, &points).save(&options.out(), file)?;
        }
    }
    Ok(())
}

/// A plot of lookups and messages.
pub fn costs(title: &str, note: &str, x: &str, points: &[(f64, (f64, f64))]) -> Plot {
    let series = |name: &str, of: fn((f64, f64)) -> f64| Series {
        name: name.into(),
        points: points.iter().map(|(at, point)| (*at, of(*point))).collect(),
        marked: true,
    };
    Plot {
        title: title.into(),
        note: note.into(),
        x: Axis::log(x),
        y: Axis::log("lookups, messages"),
        series: vec![
            series("lookups", |point| point.0),
            series("messages", |point| point.1),
        ],
    }
}

/// Days of churn: are the keys found, and what does it cost?
///
/// # Errors
/// An option is wrong, or the story cannot be told.
pub async fn churn(options: &Options) -> Outcome<()> {
    let calibration = calibration(options)?;
    let nodes = options.get("nodes", 1000usize)?;
    let count = options.get("keys", 100_000usize)?;
    let hours = options.get("hours", 48u32)?;
    let leave: f64 = options.get("churn", 30.0)?;
    println!(
        "{nodes} nodes, {count} keys of one node, {hours} h; every hour {leave} % of the nodes leave for good and \
         as many others come (exponential lifetimes); what they held is gone"
    );
    let head = [
        "renewal",
        "found, worst hour",
        "found, mean",
        "copies/key, worst hour",
        "lookups/h",
        "messages/h",
        "max/mean",
        "MB/h",
        "max/mean of MB",
        "copies sent/h",
        "to the dead/h",
        "interval h",
        "churn measured",
        "CPU s",
    ];
    let mut table = Table::new(
        "Model: days of churn (rates over the hours after the first four)",
        &head,
    );
    let mut stories: Vec<(&str, Days)> = Vec::new();
    for (name, follows_churn, restart) in [
        ("by measured churn", true, false),
        ("same, restart half way", true, true),
        ("every 22 h", false, false),
    ] {
        let cpu = cpu_secs();
        let network = Network::new(nodes, leave / 100.0, calibration.miss, rng(options)?)?;
        let plan = Plan {
            keys: keys(count, options.get("seed", 1)?),
            hours,
            follows_churn,
            restart,
            profile: options.profile(Profile::Home)?,
            samples: options.get("samples", 2000)?,
        };
        let days = tell(network, calibration, &plan).await?;
        table.row(row(name, &days, cpu_secs() - cpu));
        table.print_last();
        stories.push((name, days));
    }
    table.print();
    restart_cost(&stories);
    for (n, (_, days)) in stories.iter().enumerate() {
        save_hours(options, &format!("churn-hours-{n}.csv"), days)?;
    }
    plot(options, &stories, leave)
}

/// The hours in which renewal goes its usual way.
fn steady(days: &Days) -> &[Hour] {
    &days.hours[days.hours.len().min(4)..]
}

fn row(name: &str, days: &Days, cpu: f64) -> Vec<String> {
    let (hours, steady) = (&days.hours, steady(days));
    let worst = hours.iter().min_by_key(|hour| hour.found);
    let worst = worst.copied().unwrap_or_default();
    let fewest = hours.iter().map(|hour| hour.copies).min().unwrap_or(0);
    let average = |of: fn(&Hour) -> u64| {
        steady.iter().map(of).sum::<u64>() as f64 / steady.len().max(1) as f64
    };
    let most = |of: fn(&Hour) -> u64| steady.iter().map(of).max().unwrap_or(0) as f64;
    let found: usize = hours.iter().map(|hour| hour.found).sum();
    let looked: usize = hours.iter().map(|hour| hour.looked_for).sum();
    let churn = days.churn_measured.map(|share| share * 100.0);
    vec![
        name.into(),
        percent(worst.found, worst.looked_for),
        percent(found, looked),
        number(fewest as f64 / worst.looked_for.max(1) as f64),
        number(average(|hour| hour.lookups)),
        number(average(|hour| hour.messages)),
        number(most(|hour| hour.messages) / average(|hour| hour.messages)),
        number(average(|hour| hour.bytes) / 1e6),
        number(most(|hour| hour.bytes) / average(|hour| hour.bytes)),
        number(average(|hour| hour.keys_sent)),
        number(average(|hour| hour.failed)),
        number(f64::from(hours.last().map_or(0, |hour| hour.interval_secs)) / 3600.0),
        churn.map_or("-".into(), |churn| format!("{churn:.0} %/h")),
        number(cpu),
    ]
}

/// All hours of a story, for whoever wants to look closer.
fn save_hours(options: &Options, name: &str, days: &Days) -> Outcome<()> {
    let mut text = String::from(
        "hour,looked_for,found,copies,lookups,messages,to_the_dead,copies_sent,bytes,interval_secs\n",
    );
    for (n, hour) in days.hours.iter().enumerate() {
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{},{}",
            n + 1,
            hour.looked_for,
            hour.found,
            hour.copies,
            hour.lookups,
            hour.messages,
            hour.failed,
            hour.keys_sent,
            hour.bytes,
            hour.interval_secs
        );
    }
    let path = options.out().join(name);
    let saved = std::fs::create_dir_all(options.out());
    let saved = saved.and_then(|()| std::fs::write(&path, text));
    saved.map_err(|error| format!("{}: {error}", path.display()))
}

/// What the restart cost: the hours after it against those of the story without.
fn restart_cost(stories: &[(&str, Days)]) {
    let [(_, plain), (_, restarted), ..] = stories else {
        return;
    };
    let half = plain.hours.len() / 2;
    for hours in [1, 3] {
        let sum = |days: &Days, of: fn(&Hour) -> u64| -> u64 {
            let after = days.hours.iter().skip(half).take(hours);
            after.map(of).sum()
        };
        println!(
            "{hours} h after the restart: messages {} (without it {}), copies sent {} ({}), lookups {} ({})",
            sum(restarted, |hour| hour.messages),
            sum(plain, |hour| hour.messages),
            sum(restarted, |hour| hour.keys_sent),
            sum(plain, |hour| hour.keys_sent),
            sum(restarted, |hour| hour.lookups),
            sum(plain, |hour| hour.lookups),
        );
    }
}

fn plot(options: &Options, stories: &[(&str, Days)], leave: f64) -> Outcome<()> {
    let series = |of: fn(&Hour) -> f64| -> Vec<Series> {
        let line = |days: &Days| {
            let hours = days.hours.iter().enumerate();
            hours.map(|(n, hour)| ((n + 1) as f64, of(hour))).collect()
        };
        let lines = stories.iter().map(|(name, days)| Series {
            name: (*name).into(),
            points: line(days),
            marked: false,
        });
        lines.collect()
    };
    let note = format!(
        "Model in virtual time: {leave} % of the nodes leave every hour for good (exponential lifetimes), as many \
         others come. The announcer's own decisions and record tables."
    );
    let hundred = |label: &str, most| Axis::linear(label).between(0.0, most);
    for (file, title, y, series) in [
        (
            "churn-found.svg",
            "Share of keys found under churn",
            hundred("keys found, %", 100.0),
            series(|hour| hour.found as f64 * 100.0 / hour.looked_for.max(1) as f64),
        ),
        (
            "churn-messages.svg",
            "Messages of the announcer under churn",
            Axis::linear("messages an hour"),
            series(|hour| hour.messages as f64),
        ),
        (
            "churn-copies.svg",
            "Copies at the 20 closest nodes under churn",
            hundred("copies of a key, mean", 20.0),
            series(|hour| hour.copies as f64 / hour.looked_for.max(1) as f64),
        ),
    ] {
        let plot = Plot {
            title: title.into(),
            note: note.clone(),
            x: Axis::linear("hours"),
            y,
            series,
        };
        plot.save(&options.out(), file)?;
    }
    Ok(())
}

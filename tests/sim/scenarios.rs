//! The scenarios and their figures.

use std::num::NonZeroU64;
use std::time::Duration;

use casnode_dht::lab::Bucket;
use casnode_node::SwarmMode;
use rand::Rng;

use super::net::Line;
use super::node::Manner;
use super::report::{Figure, Run};
use super::world::{Event, NodeId, Setup, World};

/// Bytes a second of a line of so many Mbit/s.
pub fn mbit(rate: f64) -> f64 {
    rate * 125_000.0
}

/// How large a scenario is; what is not given is as in its figure.
#[derive(Clone, Debug, Default)]
pub struct Scale {
    pub leechers: Option<u32>,
    pub size_bytes: Option<u64>,
    pub chunk_bytes: Option<u32>,
    pub mbit: Option<f64>,
    /// The rate down, by the rate up.
    pub down: Option<f64>,
    pub mode: Option<SwarmMode>,
    pub check: bool,
    pub seed: u64,
}

/// What came of one run of a scenario.
pub struct Outcome {
    pub name: String,
    pub run: Option<Run>,
    pub figures: Vec<Figure>,
    pub violations: Vec<String>,
}

/// A scenario: its name, what it is about, and how it is run.
type Scenario = (&'static str, &'static str, fn(&Scale) -> Vec<Outcome>);

/// All scenarios, by name.
pub const ALL: &[Scenario] = &[
    ("many", "one seed fills a thousand", many),
    ("even", "the same, no faster down than up", even),
    (
        "providers",
        "four and eight providers, one download",
        providers,
    ),
    ("eight", "one seed and eight others", eight),
    ("fair", "a fifth takes and does not give", fair),
    ("leaves", "the seed leaves after 1.1 copies", leaves),
    ("churn", "half of all vanish and come back", churn),
    ("liars", "a tenth lies", liars),
    ("hostile", "a tenth each is slow, mute, a flood", hostile),
    ("limit", "a node with a limit of 10 MiB/s", limit),
];

const GB: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;

impl Scale {
    fn setup(&self, size_bytes: u64, chunk_bytes: u64, mode: SwarmMode) -> Setup {
        let chunk = self.chunk_bytes.unwrap_or(chunk_bytes as u32);
        let mut setup = Setup::new(self.size_bytes.unwrap_or(size_bytes), chunk, self.seed);
        setup.mode = self.mode.unwrap_or(mode);
        setup.check = self.check;
        setup
    }
}

/// A line of a home or a rack: equal both ways, 5 to 30 ms from the middle.
fn line(world: &mut World, rate: f64) -> Line {
    Line {
        latency: Duration::from_millis(world.rng.random_range(5..=30)),
        ..Line::even(rate)
    }
}

/// A world with one source and so many others, a part of which behaves in some other manner.
fn swarm(setup: Setup, others: u32, rate: f64, manner: impl Fn(u32) -> Manner) -> World {
    wide_swarm(setup, others, rate, 1.0, manner)
}

/// A swarm with lines that are so many times as fast down as up.
fn wide_swarm(
    setup: Setup,
    others: u32,
    rate: f64,
    down: f64,
    manner: impl Fn(u32) -> Manner,
) -> World {
    let wide = |line: Line| Line {
        down_bytes_per_s: down * line.up_bytes_per_s,
        ..line
    };
    let mut world = World::new(setup);
    let source = line(&mut world, rate);
    world.add_source(wide(source), None);
    for n in 0..others {
        let enters = Duration::from_millis(world.rng.random_range(0..1000));
        let line = line(&mut world, rate);
        world.add_leecher(manner(n), wide(line), enters);
    }
    world
}

fn with_manner(world: &World, manner: Manner) -> Vec<NodeId> {
    let all = 0..world.nodes.len() as NodeId;
    all.filter(|id| world.nodes[*id as usize].manner == manner && !world.sources.contains(id))
        .collect()
}

fn outcome(
    name: &str,
    world: &mut World,
    figures: impl Fn(&World, &Run) -> Vec<Figure>,
) -> Outcome {
    let run = Run::of(world, &with_manner(world, Manner::Honest));
    let mut figures = figures(world, &run);
    figures.push(Figure::at_most("duplicates", run.duplicates, 0.01));
    if run.unfinished > 0 {
        figures.push(Figure::at_most("not finished", run.unfinished as f64, 0.0));
    }
    let violations = world
        .checks
        .take()
        .map(|c| c.violations)
        .unwrap_or_default();
    Outcome {
        name: name.into(),
        run: Some(run),
        figures,
        violations,
    }
}

/// The bound knows the rates up only: what is to be had down is plenty.
fn many(scale: &Scale) -> Vec<Outcome> {
    vec![one_to_many(scale, "many", 4.0, |world, run| {
        let setup = &world.setup;
        let source = world.net.line(0).up_bytes_per_s;
        let one_server_s = setup.file_bytes() as f64 / source;
        let last_s = run.over_bound(100.0) * run.bound_s;
        vec![
            Figure::at_most("last / bound", run.over_bound(100.0), 1.15),
            Figure::at_most("p50 / bound", run.over_bound(50.0), 1.08),
            Figure::at_least("of one server, each", one_server_s / last_s, 0.8),
        ]
    })]
}

fn one_to_many(
    scale: &Scale,
    name: &str,
    down: f64,
    figures: impl Fn(&World, &Run) -> Vec<Figure>,
) -> Outcome {
    let setup = scale.setup(5 * GB, 2 * MIB, SwarmMode::Trusted);
    let (others, rate) = (
        scale.leechers.unwrap_or(1000),
        mbit(scale.mbit.unwrap_or(100.0)),
    );
    let down = scale.down.unwrap_or(down);
    let mut world = wide_swarm(setup, others, rate, down, |_| Manner::Honest);
    world.run();
    outcome(name, &mut world, figures)
}

/// Nobody that fell behind can catch up faster than others download.
fn even(scale: &Scale) -> Vec<Outcome> {
    vec![one_to_many(scale, "even", 1.0, |_, _| Vec::new())]
}

fn providers(scale: &Scale) -> Vec<Outcome> {
    let unequal: Vec<f64> = (1..=8).map(|n| 50.0 * f64::from(n)).collect();
    [
        ("4 equal", vec![200.0; 4], 0.95),
        ("8 equal", vec![200.0; 8], 0.95),
        ("8 unequal", unequal, 0.94),
    ]
    .into_iter()
    .map(|(name, rates, target)| {
        let mut world = World::new(scale.setup(1 << 30, MIB, SwarmMode::Fair));
        for rate in &rates {
            let line = line(&mut world, mbit(*rate));
            world.add_source(line, None);
        }
        let wide = Line {
            down_bytes_per_s: f64::INFINITY,
            ..Line::even(mbit(200.0))
        };
        world.add_leecher(Manner::Honest, wide, Duration::ZERO);
        world.run();
        outcome(name, &mut world, |world, run| {
            let sum: f64 = rates.iter().map(|rate| mbit(*rate)).sum();
            let rate =
                world.setup.file_bytes() as f64 / run.times_s.first().unwrap_or(&f64::INFINITY);
            vec![Figure::at_least("of the sum of rates", rate / sum, target)]
        })
    })
    .collect()
}

fn eight(scale: &Scale) -> Vec<Outcome> {
    let setup = scale.setup(256 * MIB, MIB, SwarmMode::Trusted);
    let (others, rate) = (
        scale.leechers.unwrap_or(8),
        mbit(scale.mbit.unwrap_or(200.0)),
    );
    let mut world = swarm(setup, others, rate, |_| Manner::Honest);
    world.run();
    vec![outcome("eight", &mut world, |_, run| {
        let last_s = run.done_s.last().copied().unwrap_or(f64::INFINITY);
        vec![
            Figure::at_most("all / bound", last_s / run.bound_s, 1.15),
            Figure::at_most("copies of the seed", run.copies, 1.15),
        ]
    })]
}

fn fair(scale: &Scale) -> Vec<Outcome> {
    let setup = || scale.setup(GB, MIB, SwarmMode::Fair);
    let (others, rate) = (
        scale.leechers.unwrap_or(200),
        mbit(scale.mbit.unwrap_or(100.0)),
    );
    let mut alone = swarm(setup(), others - others / 5, rate, |_| Manner::Honest);
    alone.run();
    let alone_s = Run::of(&alone, &with_manner(&alone, Manner::Honest)).mean_s();
    let freeloads = |n: u32| {
        if n.is_multiple_of(5) {
            Manner::Freeloads
        } else {
            Manner::Honest
        }
    };
    let mut world = swarm(setup(), others, rate, freeloads);
    world.run();
    let freeloaders = with_manner(&world, Manner::Freeloads);
    let done = |world: &World| {
        let is_done = |id: &NodeId| world.nodes[*id as usize].is_done();
        freeloaders.iter().all(is_done)
    };
    world.run_while(|world| !done(world));
    let free_s = Run::of(&world, &freeloaders).mean_s();
    vec![outcome("fair", &mut world, |_, run| {
        vec![
            Figure::at_least("freeloaders / contributors", free_s / run.mean_s(), 1.5),
            Figure::at_most("contributors / without", run.mean_s() / alone_s, 1.1),
        ]
    })]
}

fn leaves(scale: &Scale) -> Vec<Outcome> {
    let setup = scale.setup(GB, MIB, SwarmMode::Fair);
    let (others, rate) = (
        scale.leechers.unwrap_or(200),
        mbit(scale.mbit.unwrap_or(100.0)),
    );
    let mut world = swarm(setup, others, rate, |_| Manner::Honest);
    world.setup.limit = Duration::from_secs(3600);
    let file_bytes = world.setup.file_bytes();
    world.node(0).leaves_after_bytes = Some(file_bytes / 10 * 11);
    world.run();
    vec![outcome("leaves", &mut world, |_, run| {
        vec![Figure::at_most("not finished", run.unfinished as f64, 0.0)]
    })]
}

fn churn(scale: &Scale) -> Vec<Outcome> {
    let setup = scale.setup(GB, MIB, SwarmMode::Fair);
    let (others, rate) = (
        scale.leechers.unwrap_or(200),
        mbit(scale.mbit.unwrap_or(100.0)),
    );
    let mut world = swarm(setup, others, rate, |_| Manner::Honest);
    world.setup.limit = Duration::from_secs(3600);
    let span_s = world.setup.file_bytes() as f64 / rate;
    for node in (1..=others).step_by(2) {
        let leaves_s = 2.0 + span_s * world.rng.random_range(0.0..0.9);
        let back_s = leaves_s + world.rng.random_range(12.0..40.0);
        let (silently, keeps) = (world.rng.random(), world.rng.random());
        let at = |s: f64| casnode_node::lab::Mono(Duration::from_secs_f64(s));
        world
            .queue
            .at(at(leaves_s), Event::Leave { node, silently });
        world.queue.at(at(back_s), Event::Enter { node, keeps });
    }
    world.run();
    vec![outcome("churn", &mut world, |_, run| {
        vec![Figure::at_most("not finished", run.unfinished as f64, 0.0)]
    })]
}

fn liars(scale: &Scale) -> Vec<Outcome> {
    let setup = scale.setup(GB, MIB, SwarmMode::Fair);
    let (others, rate) = (
        scale.leechers.unwrap_or(200),
        mbit(scale.mbit.unwrap_or(100.0)),
    );
    let mut world = swarm(setup, others, rate, |n| match n % 20 {
        0 => Manner::ClaimsAll,
        10 => Manner::SendsWrong,
        _ => Manner::Honest,
    });
    world.setup.limit = Duration::from_secs(3600);
    world.run();
    vec![outcome("liars", &mut world, |_, run| {
        vec![Figure::at_most("not finished", run.unfinished as f64, 0.0)]
    })]
}

fn hostile(scale: &Scale) -> Vec<Outcome> {
    let setup = scale.setup(GB, MIB, SwarmMode::Fair);
    let (others, rate) = (
        scale.leechers.unwrap_or(200),
        mbit(scale.mbit.unwrap_or(100.0)),
    );
    let mut world = World::new(setup);
    let source = line(&mut world, rate);
    world.add_source(source, None);
    for n in 0..others {
        let line = line(&mut world, if n % 10 == 1 { rate / 50.0 } else { rate });
        let manner = match n % 10 {
            2 => Manner::Mute,
            3 => Manner::Floods,
            _ => Manner::Honest,
        };
        // The slow ones send slowly; they are not the ones whose download is measured.
        let line = Line {
            down_bytes_per_s: rate,
            loss: 0.001,
            ..line
        };
        let node = world.add_leecher(manner, line, Duration::from_millis(u64::from(n % 1000)));
        if n % 10 == 4 {
            let at = Duration::from_secs_f64(world.setup.file_bytes() as f64 / rate * 0.3);
            world.queue.at(
                casnode_node::lab::Mono(at),
                Event::Leave {
                    node,
                    silently: true,
                },
            );
            world.missing -= 1;
            world.node(node).manner = Manner::Freeloads;
        }
    }
    world.setup.limit = Duration::from_secs(3600);
    world.run();
    vec![outcome("hostile", &mut world, |_, run| {
        vec![Figure::at_most("not finished", run.unfinished as f64, 0.0)]
    })]
}

fn limit(scale: &Scale) -> Vec<Outcome> {
    let per_s = 10 * MIB;
    let bucket = Bucket::new(NonZeroU64::new(per_s), Duration::ZERO);
    let mut world = World::new(scale.setup(512 * MIB, MIB, SwarmMode::Fair));
    let fast = mbit(1000.0);
    world.add_source(Line::even(fast), Some(bucket));
    for _ in 0..4 {
        world.add_leecher(Manner::Honest, Line::even(fast), Duration::ZERO);
    }
    world.setup.super_seeding = false;
    let (mut over, mut at_30_s) = (f64::MIN, 0.0);
    for tenth in 1..=300u32 {
        let until = Duration::from_millis(100) * tenth;
        world.run_while(|world| world.now().0 < until);
        let sent = world.net.sent_bytes(0) as f64;
        over = over.max((sent - per_s as f64 * until.as_secs_f64()) / per_s as f64);
        at_30_s = sent;
    }
    let off = (at_30_s / (30.0 * per_s as f64) - 1.0).abs();
    let figures = vec![
        Figure::at_most("off the limit, 30 s", off, 0.03),
        Figure::at_most("s ahead of it", over, 1.0),
    ];
    vec![Outcome {
        name: "limit".into(),
        run: None,
        figures,
        violations: Vec::new(),
    }]
}

//! The choker's promises one by one, under arbitrary events, and in a whole swarm in virtual time.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::{choker::MIN_TURN, *};
use crate::sched::Mono;

fn at_s(s: u64) -> Mono {
    Mono(Duration::from_secs(s))
}

fn seeded(id: u64) -> Candidate {
    Candidate {
        id,
        swarm: 1,
        mode: SwarmMode::Fair,
        interested: true,
        gives_per_s: 0,
        taken_bytes: 0,
        has_chunks: 0,
        gave_bytes: 0,
        we_seed: true,
        snubs_us: false,
        joined: Mono::default(),
    }
}

fn fetched(id: u64, gives_per_s: u64) -> Candidate {
    Candidate {
        gives_per_s,
        we_seed: false,
        ..seeded(id)
    }
}

fn trusted(id: u64) -> Candidate {
    Candidate {
        mode: SwarmMode::Trusted,
        ..seeded(id)
    }
}

/// Those of the candidates that are unchoked.
fn served(choker: &Choker, candidates: &[Candidate]) -> BTreeSet<u64> {
    let ids = candidates.iter().map(|candidate| candidate.id);
    ids.filter(|id| choker.is_unchoked(*id)).collect()
}

#[test]
fn free_slots_are_filled_at_once_though_nobody_gives() {
    for candidate in [seeded, trusted, |id| fetched(id, 0)] {
        let all: Vec<_> = (0..10).map(candidate).collect();
        let mut choker = Choker::new(7);
        assert_eq!(choker.fill(at_s(0), &all[..3], 5).unchoke.len(), 3);
        let more = choker.fill(at_s(0), &all, 5);
        assert_eq!((more.unchoke.len(), more.choke.len()), (2, 0));
        assert_eq!(choker.fill(at_s(1), &all, 5), Decision::default());
        let gone = served(&choker, &all).into_iter().next().unwrap();
        let rest: Vec<_> = all.into_iter().filter(|c| c.id != gone).collect();
        assert_eq!(choker.fill(at_s(1), &rest, 5).unchoke.len(), 1);
    }
}

#[test]
fn a_seed_goes_round_and_everybody_has_the_same_number_of_turns() {
    for candidate in [seeded, trusted] {
        let all: Vec<_> = (0..20).map(candidate).collect();
        let mut choker = Choker::new(1);
        let mut turns = [0; 20];
        for round in 0..60 {
            for id in choker.round(at_s(10 * round), &all, 5).unchoke {
                turns[usize::try_from(id).unwrap()] += 1;
            }
            assert_eq!(served(&choker, &all).len(), 5);
        }
        let mean = 5 * 600 / 10 / 20;
        assert!(
            turns.iter().all(|t| (mean - 1..=mean + 1).contains(t)),
            "{turns:?}"
        );
    }
}

#[test]
fn among_ones_own_whoever_has_least_is_next() {
    let mut all: Vec<_> = (0..20).map(trusted).collect();
    for candidate in &mut all {
        candidate.has_chunks = 100 - u32::try_from(candidate.id).unwrap();
    }
    let mut choker = Choker::new(1);
    choker.fill(at_s(0), &all, 4);
    assert_eq!(served(&choker, &all), BTreeSet::from([16, 17, 18, 19]));
    choker.round(at_s(10), &all, 4);
    assert_eq!(served(&choker, &all), BTreeSet::from([12, 13, 14, 15]));
}

#[test]
fn a_seed_serves_those_first_that_gave_and_leaves_one_place_to_chance() {
    let mut all: Vec<_> = (0..20).map(seeded).collect();
    for candidate in &mut all[..4] {
        candidate.gave_bytes = 1 << 20;
    }
    let mut choker = Choker::new(1);
    let mut lucky = BTreeSet::new();
    for round in 0..16 {
        choker.round(at_s(10 * round), &all, 5);
        let now = served(&choker, &all);
        assert_eq!(now.range(..4).count(), 4, "{now:?}");
        assert_eq!(now.len(), 5);
        lucky.extend(now.range(4..).copied().collect::<Vec<u64>>());
    }
    assert_eq!(lucky.len(), 16, "the others take turns");
}

#[test]
fn who_gives_nothing_has_the_places_of_chance_alone_unless_it_is_new() {
    let mut all: Vec<_> = (0..20).map(|id| fetched(id, 0)).collect();
    let mut choker = Choker::new(1);
    assert_eq!(choker.round(at_s(100), &all, 5).unchoke.len(), 1);
    assert_eq!(choker.round(at_s(105), &all, 10).unchoke.len(), 1);
    all[3].joined = at_s(100);
    all[4].joined = at_s(100);
    choker.round(at_s(115), &all, 5);
    assert!(choker.is_unchoked(3) && choker.is_unchoked(4));
    assert_eq!(served(&choker, &all).len(), 3);
    choker.round(at_s(140), &all, 5);
    assert_eq!(served(&choker, &all).len(), 1);
}

#[test]
fn chance_comes_last_to_those_that_took_much_and_gave_nothing() {
    let mut all: Vec<_> = (0..3).map(|id| fetched(id, 0)).collect();
    for candidate in &mut all {
        candidate.taken_bytes = 1 << 20;
    }
    all[1].gave_bytes = 1;
    for seed in 0..20 {
        let mut choker = Choker::new(seed);
        assert_eq!(choker.round(at_s(100), &all, 4).unchoke, [1]);
    }
}

#[test]
fn who_gives_most_is_served_and_one_place_is_left_to_chance() {
    let all: Vec<_> = (0..20).map(|id| fetched(id, 100 * id)).collect();
    let mut choker = Choker::new(3);
    let mut lucky = BTreeSet::new();
    for round in 0..200 {
        choker.round(at_s(10 * round), &all, 5);
        let mut now = served(&choker, &all);
        assert_eq!(now.len(), 5);
        let mut best = 0;
        while now.remove(&(19 - best)) {
            best += 1;
        }
        assert!(best >= 4, "{now:?}");
        lucky.extend(now);
    }
    assert!(lucky.len() >= 12, "{lucky:?}");
}

#[test]
fn a_turn_by_chance_lasts_a_round_and_passes_on() {
    let all: Vec<_> = (0..20)
        .map(|id| fetched(id, if id < 4 { 1000 } else { 0 }))
        .collect();
    let mut choker = Choker::new(3);
    let mut changes = Vec::new();
    for round in 0..30 {
        let decision = choker.round(at_s(10 * round), &all, 5);
        if !decision.unchoke.is_empty() {
            changes.push(round);
        }
    }
    assert_eq!(changes, (0..30).collect::<Vec<_>>());
}

#[test]
fn whoever_is_new_is_three_times_as_likely() {
    let mut all: Vec<_> = (0..30)
        .map(|id| fetched(id, if id < 10 { 0 } else { 100 * id }))
        .collect();
    let now = at_s(1000);
    all[0].joined = at_s(990);
    let is_lucky = |seed: &u64| {
        let mut choker = Choker::new(*seed);
        choker.fill(now, &all, 5);
        choker.is_unchoked(0)
    };
    let times = (0..4000).filter(is_lucky).count();
    assert!(
        (320..=480).contains(&times),
        "{times} of 4000, where 400 are due"
    );
}

#[test]
fn a_snubbed_gift_earns_nothing_and_a_little_more_displaces_nobody() {
    let mut all: Vec<_> = (0..6).map(|id| fetched(id, 1000)).collect();
    let mut choker = Choker::new(3);
    choker.round(at_s(0), &all[..5], 5);
    choker.round(at_s(60), &all, 5);
    let before = served(&choker, &all);
    let waiting = (0..6).find(|id| !before.contains(id)).unwrap();
    all[usize::try_from(waiting).unwrap()].gives_per_s = 1200;
    // It may have the place that is left to chance, and no other.
    choker.round(at_s(70), &all, 5);
    assert!(served(&choker, &all).intersection(&before).count() >= 4);
    let mut all: Vec<_> = (0..20).map(|id| fetched(id, 1000)).collect();
    all[19].gives_per_s = 9000;
    all[19].snubs_us = true;
    let mut choker = Choker::new(3);
    let rounds = 1..=400;
    let times = rounds.filter(|round| {
        choker.round(at_s(10 * round), &all, 5);
        choker.is_unchoked(19)
    });
    assert!(times.count() < 60, "only chance serves it");
}

#[test]
fn swarms_share_the_slots() {
    let mut all: Vec<_> = (0..100).map(seeded).collect();
    all.extend((100..103).map(|id| Candidate {
        swarm: 2,
        ..trusted(id)
    }));
    all.push(Candidate {
        swarm: 3,
        ..fetched(103, 5)
    });
    let mut choker = Choker::new(1);
    for round in 0..20 {
        choker.round(at_s(10 * round), &all, 12);
        let of = served(&choker, &all);
        assert_eq!(of.range(..100).count(), 8);
        assert_eq!(of.range(100..).count(), 4);
    }
}

#[test]
fn a_thousand_streams_take_turns_within_bounds() {
    let all: Vec<_> = (0..1000).map(trusted).collect();
    let mut choker = Choker::new(1);
    let mut seen = BTreeSet::new();
    for round in 0..70 {
        choker.round(at_s(10 * round), &all, 16);
        assert_eq!(choker.fill(at_s(10 * round), &all, 16), Decision::default());
        seen.extend(served(&choker, &all));
    }
    assert_eq!(seen.len(), 1000, "everybody had a turn after 63 rounds");
}

#[test]
fn more_swarms_than_slots_take_turns() {
    let all: Vec<_> = (0..12)
        .map(|id| Candidate {
            swarm: id / 2,
            ..if id % 4 < 2 {
                seeded(id)
            } else {
                fetched(id, 9)
            }
        })
        .collect();
    let mut choker = Choker::new(1);
    let mut times = [0; 6];
    for round in 0..1200 {
        choker.round(at_s(10 * round), &all, 4);
        for id in served(&choker, &all) {
            times[usize::try_from(id / 2).unwrap()] += 1;
        }
    }
    assert!(times.iter().all(|t| (700..=900).contains(t)), "{times:?}");
}

#[test]
fn who_wants_nothing_for_a_moment_keeps_its_turn_but_no_slot() {
    let mut all: Vec<_> = (0..5).map(seeded).collect();
    let mut choker = Choker::new(1);
    choker.fill(at_s(0), &all[..2], 2);
    all[0].interested = false;
    let filled = choker.fill(at_s(6), &all, 2);
    assert_eq!((filled.unchoke.len(), filled.choke.len()), (1, 0));
    assert!(choker.is_unchoked(0));
    assert_eq!(choker.round(at_s(10), &all[..3], 2).choke, [0]);
}

/// A swarm in which everybody wants something of everybody: bytes that each got.
#[allow(
    clippy::cast_possible_truncation,
    reason = "bytes of a share, far below 2^53"
)]
fn fluid(nodes: usize, freeloaders: usize, seconds: u64) -> Vec<f64> {
    const UP: f64 = 1e6;
    let mut chokers: Vec<_> = (0..nodes).map(|n| Choker::new(n as u64)).collect();
    let mut flows = vec![vec![Rate::new(); nodes]; nodes];
    let mut got = vec![0.0; nodes];
    for s in 0..seconds {
        let now = at_s(s);
        for from in freeloaders..nodes {
            if s % 10 == from as u64 % 10 || s == 0 {
                let candidates: Vec<_> = (0..nodes)
                    .filter(|to| *to != from)
                    .map(|to| fetched(to as u64, flows[to][from].per_s(now)))
                    .collect();
                chokers[from].round(now, &candidates, 5);
            }
            let to: Vec<_> = (0..nodes)
                .filter(|to| chokers[from].is_unchoked(*to as u64))
                .collect();
            let bytes = UP / to.len() as f64;
            for to in to {
                got[to] += bytes;
                flows[from][to].add(now, bytes as u64);
            }
        }
    }
    got
}

#[test]
fn who_gives_nothing_gets_far_less_and_who_gives_loses_little() {
    let got = fluid(50, 10, 600);
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64 / 600e6;
    let (takers, givers) = (mean(&got[..10]), mean(&got[10..]));
    assert!(takers * 2.0 < givers, "{takers} against {givers}");
    assert!(givers > 0.9, "{givers} of what they give");
    let worst = got[10..].iter().copied().fold(f64::MAX, f64::min) / 600e6;
    assert!(worst > 0.7, "{worst}");
}

#[derive(Debug, Clone)]
enum Step {
    Round,
    Fill,
    Change {
        id: u64,
        to: Option<(bool, u16, u64)>,
    },
    Slots(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Round),
        3 => Just(Step::Fill),
        4 => (0u64..30, proptest::option::weighted(0.8, any::<(bool, u16, u64)>()))
            .prop_map(|(id, to)| Step::Change { id, to }),
        1 => (0usize..12).prop_map(Step::Slots),
        3 => (1u64..15).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn the_promises_hold_whatever_happens(
        steps in proptest::collection::vec(step(), 1..200),
        seed: u64,
    ) {
        let mut choker = Choker::new(seed);
        let mut twin = Choker::new(seed);
        let mut all: Vec<Candidate> = Vec::new();
        let mut unchoked: Vec<(u64, u64)> = Vec::new();
        let (mut slots, mut now) = (5, 0);
        for step in steps {
            let decision = match &step {
                Step::Wait(s) => { now += *s; continue }
                Step::Slots(n) => { slots = *n; continue }
                Step::Change { id, to } => {
                    let (id, to) = (*id, *to);
                    all.retain(|c| c.id != id);
                    if let Some((interested, gives, taken_bytes)) = to {
                        let gives_per_s = u64::from(gives) % 4;
                        all.push(Candidate {
                            interested, gives_per_s, taken_bytes,
                            swarm: id % 3,
                            mode: if id % 3 == 0 { SwarmMode::Trusted } else { SwarmMode::Fair },
                            we_seed: id % 3 == 1,
                            ..seeded(id)
                        });
                    }
                    continue
                }
                Step::Round | Step::Fill => {
                    let round = matches!(step, Step::Round);
                    unchoked.retain(|(of, _)| all.iter().any(|c| c.id == *of));
                    let turned: Vec<_> = all.iter().rev().copied().collect();
                    let decide = |choker: &mut Choker, all: &[Candidate]| if round {
                        choker.round(at_s(now), all, slots)
                    } else {
                        choker.fill(at_s(now), all, slots)
                    };
                    let decision = decide(&mut choker, &all);
                    let other = decide(&mut twin, &turned);
                    prop_assert_eq!(decision.unchoke.len(), other.unchoke.len());
                    prop_assert_eq!(served(&choker, &all), served(&twin, &all));
                    prop_assert!(round || decision.choke.is_empty(), "fill chokes nobody");
                    decision
                }
            };
            for id in &decision.choke {
                let at = unchoked.iter().position(|(of, _)| of == id);
                let (_, since) = unchoked.remove(at.expect("who is choked was unchoked"));
                prop_assert!(now - since >= MIN_TURN.as_secs());
            }
            unchoked.extend(decision.unchoke.iter().map(|id| (*id, now)));
            let ids: BTreeSet<u64> = unchoked.iter().map(|(id, _)| *id).collect();
            prop_assert_eq!(ids.len(), unchoked.len(), "nobody is unchoked twice");
            prop_assert_eq!(&ids, &served(&choker, &all));
            let interested = all.iter().filter(|c| c.interested);
            let (on, off): (Vec<&Candidate>, Vec<&Candidate>) = interested.partition(|c| ids.contains(&c.id));
            let has_to_earn = |c: &&Candidate| c.mode == SwarmMode::Fair && !c.we_seed;
            prop_assert!(off.iter().all(has_to_earn) || on.len() >= slots || ids.len() >= 2 * slots, "no slot is free while somebody waits");
            if matches!(step, Step::Round) {
                let fresh = unchoked.iter().filter(|(_, since)| now - since < MIN_TURN.as_secs());
                prop_assert!(on.len() <= slots.max(fresh.count()));
            }
        }
    }
}

//! Whole downloads in virtual time, and the invariants under arbitrary events.

use std::{collections::BTreeMap, time::Duration};

use casnode_cas::HaveBitmap;
use proptest::prelude::*;

use super::*;

const CHUNK: u32 = 256 << 10;

fn bitmap(len: usize, ones: impl IntoIterator<Item = usize>) -> HaveBitmap {
    let mut have = HaveBitmap::new(len);
    for index in ones {
        have.set(index);
    }
    have
}

fn full(len: usize) -> HaveBitmap {
    bitmap(len, 0..len)
}

/// How a virtual peer behaves.
#[derive(Debug, Clone)]
struct Link {
    bytes_per_s: f64,
    rtt: Duration,
    /// Answers nothing from this moment on.
    silent_from: Option<Mono>,
    lies: bool,
    /// Chunks it has; `None`: all.
    has: Option<Vec<u32>>,
}

impl Link {
    fn fast() -> Self {
        Self {
            bytes_per_s: 50e6,
            rtt: Duration::from_millis(20),
            silent_from: None,
            lies: false,
            has: None,
        }
    }
}

/// What a run counted.
#[derive(Debug, Default)]
struct Outcome {
    complete: bool,
    finished_at: Mono,
    by_peer: BTreeMap<u32, u32>,
    duplicates: u32,
    dropped: Vec<(u32, DropReason)>,
}

/// A download from virtual peers: each serves its queue in order at its rate.
struct World {
    sched: Scheduler,
    links: Vec<Link>,
    /// Per peer: requests with the moment they are answered.
    queues: Vec<Vec<(u32, Mono)>>,
    free_at: Vec<Mono>,
    got: Vec<bool>,
    outcome: Outcome,
}

impl World {
    fn new(chunks: usize, links: Vec<Link>, seed: u64) -> Self {
        let sched = Scheduler::new(
            SchedulerConfig::default(),
            &HaveBitmap::new(chunks),
            CHUNK,
            Order::Random,
            &[],
            seed,
        );
        let n = links.len();
        let mut world = Self {
            sched,
            queues: vec![Vec::new(); n],
            free_at: vec![Mono::default(); n],
            got: vec![false; chunks],
            links,
            outcome: Outcome::default(),
        };
        for (slot, link) in world.links.clone().iter().enumerate() {
            let have = match &link.has {
                None => full(chunks),
                Some(list) => bitmap(chunks, list.iter().map(|i| *i as usize)),
            };
            let peer = PeerSlot(u32::try_from(slot).unwrap());
            world
                .sched
                .handle(Event::PeerJoined { peer, have }, Mono::default());
        }
        world
    }

    fn run(mut self, limit: Duration) -> Outcome {
        let mut now = Mono::default();
        while now.0 < limit {
            self.act(now);
            if self.sched.is_complete() {
                self.outcome.complete = true;
                self.outcome.finished_at = now;
                break;
            }
            let arrival = self
                .queues
                .iter()
                .flatten()
                .map(|(_, at)| *at)
                .filter(|at| *at > now)
                .min();
            let next = [arrival, self.sched.next_deadline(now)]
                .into_iter()
                .flatten()
                .filter(|t| *t > now)
                .min();
            now = next.unwrap_or_else(|| now.plus(Duration::from_millis(100)));
            self.deliver(now);
        }
        self.outcome
    }

    fn act(&mut self, now: Mono) {
        while let Some(action) = self.sched.poll(now) {
            match action {
                Action::Request { peer, index } => {
                    let p = peer.0 as usize;
                    let link = &self.links[p];
                    let start = self.free_at[p].max(now.plus(link.rtt));
                    let done =
                        start.plus(Duration::from_secs_f64(f64::from(CHUNK) / link.bytes_per_s));
                    self.free_at[p] = done;
                    let silent = link.silent_from.is_some_and(|t| done >= t);
                    if !silent {
                        self.queues[p].push((index, done));
                    }
                }
                // What is on the wire already comes all the same.
                Action::Interest { .. } => {}
                Action::Cancel { peer, index } => {
                    let queue = &mut self.queues[peer.0 as usize];
                    let first = queue.first().map(|(i, _)| *i);
                    queue.retain(|(i, _)| *i != index || Some(*i) == first);
                    self.free_at[peer.0 as usize] = queue.last().map_or(now, |(_, at)| *at);
                }
                Action::Drop { peer, reason } => {
                    self.queues[peer.0 as usize].clear();
                    self.outcome.dropped.push((peer.0, reason));
                }
            }
        }
    }

    fn deliver(&mut self, now: Mono) {
        for p in 0..self.queues.len() {
            let due: Vec<u32> = self.queues[p]
                .iter()
                .filter(|(_, at)| *at <= now)
                .map(|(i, _)| *i)
                .collect();
            self.queues[p].retain(|(_, at)| *at > now);
            let peer = PeerSlot(u32::try_from(p).unwrap());
            for index in due {
                self.sched.handle(Event::Arrived { peer, index }, now);
                if self.links[p].lies {
                    self.sched.handle(
                        Event::Failed {
                            peer,
                            index,
                            fault: Fault::WrongBytes,
                        },
                        now,
                    );
                    continue;
                }
                if std::mem::replace(&mut self.got[index as usize], true) {
                    self.outcome.duplicates += 1;
                }
                *self.outcome.by_peer.entry(peer.0).or_default() += 1;
                self.sched.handle(Event::Verified { peer, index }, now);
            }
        }
    }
}

#[test]
fn one_peer_delivers_everything_once() {
    let outcome = World::new(400, vec![Link::fast()], 1).run(Duration::from_secs(60));
    assert!(outcome.complete, "{outcome:?}");
    assert_eq!((outcome.by_peer[&0], outcome.duplicates), (400, 0));
}

#[test]
fn equal_peers_share_the_work() {
    let outcome = World::new(800, vec![Link::fast(); 4], 2).run(Duration::from_secs(60));
    assert!(outcome.complete);
    for peer in 0..4 {
        let share = outcome.by_peer[&peer];
        assert!(
            (150..=250).contains(&share),
            "peer {peer} sent {share} of 800"
        );
    }
    assert!(outcome.duplicates <= 8, "{}", outcome.duplicates);
}

#[test]
fn four_peers_are_nearly_four_times_as_fast_as_one() {
    let one = World::new(800, vec![Link::fast()], 3)
        .run(Duration::from_secs(60))
        .finished_at
        .0
        .as_secs_f64();
    let four = World::new(800, vec![Link::fast(); 4], 3)
        .run(Duration::from_secs(60))
        .finished_at
        .0
        .as_secs_f64();
    assert!(one / four > 3.2, "{one} / {four}");
}

#[test]
fn a_slow_peer_does_not_hold_the_end_up() {
    let slow = Link {
        bytes_per_s: 100e3,
        ..Link::fast()
    };
    let outcome = World::new(400, vec![Link::fast(), slow], 4).run(Duration::from_secs(60));
    assert!(outcome.complete);
    // The fast one alone needs 2.1 s; the slow one has at most its first chunks.
    assert!(
        outcome.finished_at.0 < Duration::from_secs(6),
        "{outcome:?}"
    );
}

#[test]
fn what_a_silent_peer_was_asked_is_asked_of_another() {
    let silent = Link {
        silent_from: Some(Mono(Duration::from_millis(300))),
        ..Link::fast()
    };
    let outcome =
        World::new(4000, vec![silent.clone(), Link::fast()], 5).run(Duration::from_secs(120));
    assert!(outcome.complete, "{outcome:?}");
    let alone = World::new(40, vec![silent], 5).run(Duration::from_secs(120));
    assert!(
        alone.complete || alone.dropped == [(0, DropReason::Stalled)],
        "{alone:?}"
    );
}

#[test]
fn a_peer_from_which_nothing_ever_comes_is_dropped() {
    let dead = Link {
        silent_from: Some(Mono::default()),
        ..Link::fast()
    };
    let outcome = World::new(10, vec![dead], 6).run(Duration::from_secs(120));
    assert!(!outcome.complete);
    assert_eq!(outcome.dropped, [(0, DropReason::Stalled)]);
}

#[test]
fn a_link_too_slow_for_the_first_patience_still_delivers() {
    let slow = Link {
        bytes_per_s: 20e3,
        ..Link::fast()
    };
    let outcome = World::new(10, vec![slow], 10).run(Duration::from_secs(300));
    assert!(outcome.complete, "{outcome:?}");
    assert_eq!(outcome.dropped, []);
}

#[test]
fn one_chunk_that_a_peer_is_found_to_have_is_asked_of_it() {
    let nothing = Link {
        has: Some(Vec::new()),
        ..Link::fast()
    };
    let mut world = World::new(4, vec![nothing], 11);
    assert!(world.sched.is_starved());
    let found = Event::PeerHasChunk {
        peer: PeerSlot(0),
        index: 2,
    };
    world.sched.handle(found, Mono::default());
    let asked = world.sched.poll(Mono::default());
    let expected = Action::Request {
        peer: PeerSlot(0),
        index: 2,
    };
    assert_eq!(asked, Some(expected));
}

#[test]
fn what_comes_by_itself_is_cancelled_where_it_was_asked() {
    let mut world = World::new(3, vec![Link::fast()], 12);
    let mut asked = Vec::new();
    while let Some(Action::Request { index, .. }) = world.sched.poll(Mono::default()) {
        asked.push(index);
    }
    assert_eq!(asked.len(), 3);
    for index in 0..3 {
        world.sched.handle(Event::Here { index }, Mono::default());
        let cancel = Action::Cancel {
            peer: PeerSlot(0),
            index,
        };
        assert_eq!(world.sched.poll(Mono::default()), Some(cancel));
    }
    assert!(world.sched.is_complete());
}

#[test]
fn in_the_endgame_a_chunk_that_is_being_checked_is_not_asked_for_again() {
    let mut world = World::new(1, vec![Link::fast(), Link::fast()], 13);
    let Some(Action::Request { peer, index }) = world.sched.poll(Mono::default()) else {
        panic!("nothing was asked");
    };
    let later = Mono(Duration::from_secs(2));
    world.sched.handle(Event::Arrived { peer, index }, later);
    assert_eq!(world.sched.poll(later), None);
}

#[test]
fn a_liar_is_dropped_and_the_rest_comes_from_the_honest() {
    let liar = Link {
        lies: true,
        ..Link::fast()
    };
    let outcome = World::new(200, vec![liar, Link::fast()], 7).run(Duration::from_secs(60));
    assert!(outcome.complete);
    assert_eq!(outcome.dropped, [(0, DropReason::WrongBytes)]);
    assert_eq!(outcome.by_peer.get(&1), Some(&200));
}

#[test]
fn peers_with_different_halves_complete_each_other() {
    let even = Link {
        has: Some((0..100).step_by(2).collect()),
        ..Link::fast()
    };
    let odd = Link {
        has: Some((1..100).step_by(2).collect()),
        ..Link::fast()
    };
    let outcome = World::new(100, vec![even, odd], 8).run(Duration::from_secs(60));
    assert!(outcome.complete);
    assert_eq!((outcome.by_peer[&0], outcome.by_peer[&1]), (50, 50));
}

#[test]
fn a_chunk_that_nobody_has_is_an_orphan() {
    let most = Link {
        has: Some((0..99).collect()),
        ..Link::fast()
    };
    let mut world = World::new(100, vec![most], 9);
    assert!(!world.sched.is_starved());
    let mut now = Mono::default();
    for _ in 0..400 {
        world.act(now);
        now = now.plus(Duration::from_millis(20));
        world.deliver(now);
    }
    assert_eq!(world.sched.missing(), 1);
    assert!(world.sched.is_starved());
    assert_eq!(world.sched.orphans(50, 8), [99]);
}

#[test]
fn nothing_but_the_first_group_is_asked_for_until_it_is_proven() {
    let mut sched = Scheduler::new(
        SchedulerConfig::default(),
        &HaveBitmap::new(50),
        CHUNK,
        Order::Random,
        &[30, 31],
        3,
    );
    let joined = |slot| Event::PeerJoined {
        peer: PeerSlot(slot),
        have: full(50),
    };
    sched.handle(joined(0), Mono::default());
    sched.handle(joined(1), Mono::default());
    let mut asked = std::collections::BTreeSet::new();
    while let Some(Action::Request { index, .. }) = sched.poll(Mono::default()) {
        asked.insert(index);
    }
    assert_eq!(asked, [30, 31].into());
    sched.handle(Event::Proven, Mono::default());
    while let Some(Action::Request { index, .. }) = sched.poll(Mono::default()) {
        asked.insert(index);
    }
    assert!(asked.len() > 10, "{asked:?}");
}

#[test]
fn a_slow_peer_does_not_hold_the_first_group_up() {
    let mut sched = Scheduler::new(
        SchedulerConfig::default(),
        &HaveBitmap::new(50),
        CHUNK,
        Order::Random,
        &[30],
        3,
    );
    for slot in 0..2 {
        let (peer, have) = (PeerSlot(slot), full(50));
        sched.handle(Event::PeerJoined { peer, have }, Mono::default());
    }
    let Some(Action::Request { peer: first, .. }) = sched.poll(Mono::default()) else {
        panic!("nothing was asked");
    };
    assert_eq!(sched.poll(Mono::default()), None);
    let wake = sched.next_deadline(Mono::default()).unwrap();
    assert!(wake.0 < Duration::from_secs(2), "{wake:?}");
    let Some(Action::Request { peer, index: 30 }) = sched.poll(wake) else {
        panic!("the second peer was not asked");
    };
    assert_ne!(peer, first);
}

#[test]
fn a_first_group_that_nobody_has_does_not_hold_the_rest_up() {
    let mut sched = Scheduler::new(
        SchedulerConfig::default(),
        &HaveBitmap::new(50),
        CHUNK,
        Order::Random,
        &[30, 31],
        3,
    );
    let have = bitmap(50, (0..50).filter(|i| *i != 31));
    let peer = PeerSlot(0);
    sched.handle(Event::PeerJoined { peer, have }, Mono::default());
    assert!(matches!(
        sched.poll(Mono::default()),
        Some(Action::Request { .. })
    ));
}

#[test]
fn sequential_is_in_order() {
    let mut sched = Scheduler::new(
        SchedulerConfig::default(),
        &HaveBitmap::new(50),
        CHUNK,
        Order::Sequential,
        &[],
        3,
    );
    let (peer, have) = (PeerSlot(0), full(50));
    sched.handle(Event::PeerJoined { peer, have }, Mono::default());
    let mut asked = Vec::new();
    while let Some(Action::Request { index, .. }) = sched.poll(Mono::default()) {
        asked.push(index);
    }
    assert_eq!(asked, (0..8).collect::<Vec<_>>());
}

/// Events as a hostile or unlucky world may send them, in any order.
fn any_event(chunks: u32) -> impl Strategy<Value = Event> {
    let peer = (0u32..4).prop_map(PeerSlot);
    let have = proptest::collection::vec(any::<bool>(), chunks as usize)
        .prop_map(|bits| bitmap(bits.len(), (0..bits.len()).filter(|i| bits[*i])));
    let fault = prop_oneof![
        Just(Fault::NotFound),
        Just(Fault::Busy),
        Just(Fault::WrongBytes)
    ];
    prop_oneof![
        (peer.clone(), have).prop_map(|(peer, have)| Event::PeerJoined { peer, have }),
        (peer.clone(), proptest::collection::vec(0..chunks, 1..9))
            .prop_map(|(peer, indices)| Event::PeerGot { peer, indices }),
        (peer.clone(), 0..chunks).prop_map(|(peer, index)| Event::Arrived { peer, index }),
        (peer.clone(), 0..chunks).prop_map(|(peer, index)| Event::Verified { peer, index }),
        (peer.clone(), 0..chunks, fault).prop_map(|(peer, index, fault)| Event::Failed {
            peer,
            index,
            fault
        }),
        (0..chunks).prop_map(|index| Event::Lost { index }),
        peer.prop_map(|peer| Event::PeerLeft { peer }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens, no request goes to a peer that lacks the chunk, nothing is asked twice of one peer, and an
    /// honest peer that comes in the end completes the download.
    #[test]
    fn invariants_hold_under_arbitrary_events(
        events in proptest::collection::vec((any_event(24), 0u64..3000), 0..120),
        seed in any::<u64>(),
    ) {
        let mut sched =
            Scheduler::new(SchedulerConfig::default(), &HaveBitmap::new(24), CHUNK, Order::Random, &[], seed);
        let mut now = Mono::default();
        for (event, wait_ms) in events {
            now = now.plus(Duration::from_millis(wait_ms));
            sched.handle(event, now);
            let mut steps = 0;
            while sched.poll(now).is_some() {
                steps += 1;
                prop_assert!(steps < 1000, "the scheduler never comes to rest");
            }
        }
        let have = full(24);
        let peer = PeerSlot(9);
        for slot in 0..4 {
            sched.handle(Event::PeerLeft { peer: PeerSlot(slot) }, now);
        }
        sched.handle(Event::PeerJoined { peer, have }, now);
        for _ in 0..200 {
            while let Some(action) = sched.poll(now) {
                if let Action::Request { peer: asked, index } = action {
                    prop_assert_eq!(asked, peer);
                    sched.handle(Event::Arrived { peer, index }, now);
                    sched.handle(Event::Verified { peer, index }, now);
                }
            }
            now = now.plus(Duration::from_millis(100));
        }
        prop_assert!(sched.is_complete(), "{} chunks are missing", sched.missing());
    }
}

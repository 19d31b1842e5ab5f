//! The first group, and the invariants under whatever a hostile or unlucky world may send.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{super::peer::Peer, *};

#[test]
fn nothing_but_the_first_group_is_asked_for_until_it_is_proven() {
    let mut sched = scheduler(50, Order::RarestFirst, &[30, 31], 3);
    for slot in 0..2 {
        join(&mut sched, slot, full(50));
    }
    let first: BTreeSet<u32> = asked(&mut sched, Mono::default())
        .iter()
        .map(|(_, index)| *index)
        .collect();
    assert_eq!(first, [30, 31].into());
    sched.handle(Event::Proven, Mono::default());
    assert!(asked(&mut sched, Mono::default()).len() > 10);
}

#[test]
fn a_slow_peer_does_not_hold_the_first_group_up() {
    let mut sched = scheduler(50, Order::RarestFirst, &[30], 3);
    for slot in 0..2 {
        join(&mut sched, slot, full(50));
    }
    let first = asked(&mut sched, Mono::default());
    assert_eq!(first.len(), 1, "{first:?}");
    let mut now = Mono::default();
    let second = loop {
        now = sched.next_deadline(now).unwrap();
        assert!(now.0 < ms(2000), "the second peer is not asked");
        if let Some(second) = asked(&mut sched, now).first() {
            break *second;
        }
    };
    assert_eq!(second, (1 - first[0].0, 30));
}

#[test]
fn a_first_group_that_nobody_has_does_not_hold_the_rest_up() {
    let mut sched = scheduler(50, Order::RarestFirst, &[30, 31], 3);
    join(&mut sched, 0, bitmap(50, (0..50).filter(|i| *i != 31)));
    assert!(asked(&mut sched, Mono::default()).len() > 2);
}

#[test]
fn a_first_group_whose_holders_choke_holds_the_rest_up_for_a_moment_only() {
    let mut sched = scheduler(50, Order::RarestFirst, &[30, 31], 3);
    let now = Mono::default();
    let (peer, have) = (PeerSlot(7), full(50));
    sched.handle(Event::PeerJoined { peer, have }, now);
    join(&mut sched, 0, bitmap(50, 0..20));
    assert_eq!(asked(&mut sched, now), []);
    let wake = sched.next_deadline(now).unwrap();
    assert_eq!(wake.0, SchedulerConfig::default().gate_patience);
    assert!(!asked(&mut sched, wake).is_empty());
}

#[test]
fn a_first_group_that_is_only_claimed_holds_the_rest_up_until_it_is_late() {
    let mut sched = scheduler(50, Order::RarestFirst, &[30], 3);
    join(&mut sched, 7, full(50));
    assert_eq!(asked(&mut sched, Mono::default()), [(7, 30)]);
    join(&mut sched, 0, bitmap(50, 0..20));
    assert_eq!(asked(&mut sched, Mono::default()), []);
    let late = Mono(SchedulerConfig::default().first_patience);
    assert!(asked(&mut sched, late).iter().any(|(peer, _)| *peer == 0));
}

/// Events as a hostile or unlucky world may send them, in any order.
fn any_event(chunks: u32) -> impl Strategy<Value = Event> {
    let peer = (0u32..4).prop_map(PeerSlot);
    let bits = proptest::collection::vec(any::<bool>(), chunks as usize);
    let have = prop_oneof![
        3 => bits.prop_map(|bits| bitmap(bits.len(), (0..bits.len()).filter(|i| bits[*i]))),
        1 => Just(full(chunks as usize)),
    ];
    let fault = prop_oneof![
        Just(Fault::NotFound),
        Just(Fault::Busy),
        Just(Fault::Choked),
        Just(Fault::WrongBytes)
    ];
    // Some indices are beyond the last chunk.
    let index = 0..chunks + 2;
    prop_oneof![
        (peer.clone(), have).prop_map(|(peer, have)| Event::PeerJoined { peer, have }),
        peer.clone().prop_map(|peer| Event::Unchoked { peer }),
        peer.clone().prop_map(|peer| Event::Unchoked { peer }),
        peer.clone().prop_map(|peer| Event::Choked { peer }),
        (peer.clone(), proptest::collection::vec(index.clone(), 1..9))
            .prop_map(|(peer, indices)| Event::PeerGot { peer, indices }),
        (peer.clone(), index.clone()).prop_map(|(peer, index)| Event::PeerHasChunk { peer, index }),
        (peer.clone(), index.clone()).prop_map(|(peer, index)| Event::Arrived { peer, index }),
        (peer.clone(), index.clone()).prop_map(|(peer, index)| Event::Verified { peer, index }),
        (peer.clone(), index.clone(), fault).prop_map(|(peer, index, fault)| Event::Failed {
            peer,
            index,
            fault
        }),
        index.clone().prop_map(|index| Event::Lost { index }),
        (index.clone(), index.clone()).prop_map(|(index, end)| Event::Position { index, end }),
        proptest::collection::vec((index.clone(), index.clone()), 0..4).prop_map(|ranges| {
            let ranges = ranges.into_iter().map(|(a, b)| a..b).collect();
            let first = Vec::new();
            Event::Ranges { ranges, first }
        }),
        index.prop_map(|index| Event::Here { index }),
        Just(Event::Proven),
        Just(Event::OwnStall),
        peer.clone().prop_map(|peer| Event::HeldUp { peer }),
        peer.clone().prop_map(|peer| Event::Receiving { peer }),
        peer.prop_map(|peer| Event::PeerLeft { peer }),
    ]
}

/// Every count that is kept is what counting again gives.
fn recount(sched: &Scheduler) -> Result<(), TestCaseError> {
    let counted = || sched.peers.iter().filter(|p| !p.is_whole);
    let whole = sched.peers.iter().filter(|p| p.is_whole).count();
    prop_assert_eq!(sched.whole_peers as usize, whole);
    for index in 0..sched.wants.count() {
        let holders = counted().filter(|p| p.have.get(index)).count();
        prop_assert_eq!(usize::from(sched.availability.holders(index)), holders);
    }
    for peer in counted() {
        let of = |set| peer.have.both(set, 0).count();
        prop_assert_eq!(peer.missing as usize, of(sched.wants.missing()));
        prop_assert_eq!(peer.wanted as usize, of(sched.wants.wanted()));
    }
    Ok(())
}

fn has_missing(sched: &Scheduler, peer: &Peer) -> bool {
    peer.have.both(sched.wants.missing(), 0).next().is_some()
}

/// What the far sides know: who is here and sends, and what they were told.
#[derive(Default)]
struct Told {
    unchoked: BTreeSet<PeerSlot>,
    interested: BTreeSet<PeerSlot>,
    /// The furthest that the window reached.
    window_end: u32,
    /// The first group.
    first: Vec<u32>,
}

impl Told {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Unchoked { peer } => {
                self.unchoked.insert(*peer);
            }
            Event::Choked { peer } => {
                self.unchoked.remove(peer);
            }
            Event::PeerJoined { peer, .. } | Event::PeerLeft { peer } => {
                self.unchoked.remove(peer);
                self.interested.remove(peer);
            }
            _ => {}
        }
    }

    fn action(&mut self, sched: &Scheduler, action: Action) -> Result<(), TestCaseError> {
        match action {
            Action::Request { peer, index } => {
                prop_assert!(self.unchoked.contains(&peer), "a choked peer is asked");
                let peer = sched
                    .peers
                    .get(peer)
                    .expect("somebody who is not here is asked");
                prop_assert!(peer.have.get(index), "a peer that lacks the chunk is asked");
                prop_assert_eq!(peer.asked.iter().filter(|a| a.index == index).count(), 1);
                prop_assert!(peer.asked.len() <= peer.depth());
                let is_alone = sched.in_flight.is_single(index);
                prop_assert!(is_alone || sched.is_endgame() || sched.is_head(index));
                let is_read = sched.ranges.iter().any(|r| r.contains(&index));
                let is_first = self.first.contains(&index);
                match sched.order {
                    Order::Sequential => {
                        prop_assert!(index < self.window_end || is_read, "beyond the window");
                    }
                    Order::OnDemand => prop_assert!(is_read || is_first, "nobody needs it"),
                    Order::RarestFirst => {}
                }
            }
            Action::Interest { peer, wants } => {
                let news = if wants {
                    self.interested.insert(peer)
                } else {
                    self.interested.remove(&peer)
                };
                prop_assert!(news, "interest is told again");
            }
            Action::Drop { peer, .. } => {
                prop_assert!(sched.peers.get(peer).is_none());
                self.unchoked.remove(&peer);
                self.interested.remove(&peer);
            }
            Action::Cancel { .. } => {}
        }
        Ok(())
    }

    fn at_rest(&self, sched: &Scheduler) -> Result<(), TestCaseError> {
        for peer in sched.peers.iter() {
            let told = self.interested.contains(&peer.slot);
            prop_assert_eq!(told, has_missing(sched, peer));
        }
        recount(sched)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens, no request goes to a peer that chokes or lacks the chunk, nothing is asked twice of one peer,
    /// interest is told truly, the counts are right, and an honest peer that comes in the end completes the download.
    #[test]
    fn invariants_hold_under_arbitrary_events(
        events in proptest::collection::vec((any_event(24), 0u64..3000), 0..120),
        seed in any::<u64>(),
        order in prop_oneof![Just(Order::RarestFirst), Just(Order::Sequential), Just(Order::OnDemand)],
        first in prop_oneof![Just(vec![]), Just(vec![3u32, 4, 5])],
    ) {
        let window_bytes = 8 * u64::from(CHUNK);
        let cfg = SchedulerConfig { window_bytes, ..SchedulerConfig::default() };
        let mut sched = Scheduler::new(cfg, &HaveBitmap::new(24), CHUNK, order, &first, seed);
        let mut now = Mono::default();
        let mut told = Told { first, ..Told::default() };
        for (event, wait_ms) in events {
            now = now.plus(ms(wait_ms));
            told.event(&event);
            sched.handle(event, now);
            told.window_end = told.window_end.max(sched.window_end());
            let mut steps = 0;
            while let Some(action) = sched.poll(now) {
                told.action(&sched, action)?;
                steps += 1;
                prop_assert!(steps < 1000, "the scheduler never comes to rest");
            }
            told.at_rest(&sched)?;
            let wake = sched.next_deadline(now);
            prop_assert!(wake.is_none_or(|t| t > now), "a deadline that has passed");
        }
        for slot in 0..4 {
            sched.handle(Event::PeerLeft { peer: PeerSlot(slot) }, now);
        }
        let peer = PeerSlot(9);
        sched.handle(Event::PeerJoined { peer, have: full(24) }, now);
        sched.handle(Event::Unchoked { peer }, now);
        sched.handle(Event::Proven, now);
        sched.handle(Event::Position { index: 24, end: 24 }, now);
        let (ranges, first) = (vec![0..12, 6..24], Vec::new());
        sched.handle(Event::Ranges { ranges, first }, now);
        for _ in 0..200 {
            while let Some(action) = sched.poll(now) {
                if let Action::Request { peer: asked, index } = action {
                    prop_assert_eq!(asked, peer);
                    sched.handle(Event::Arrived { peer, index }, now);
                    sched.handle(Event::Verified { peer, index }, now);
                }
            }
            now = now.plus(ms(100));
        }
        prop_assert!(sched.is_complete(), "{} chunks are missing", sched.missing());
    }
}

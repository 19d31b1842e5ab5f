//! Which chunk goes first.

use proptest::prelude::*;

use super::*;

/// Makes chunk 0 be here and the next `n`, so that the random beginning is over.
fn past_the_beginning(sched: &mut Scheduler) {
    for index in 0..SchedulerConfig::default().random_first {
        sched.handle(Event::Here { index }, Mono::default());
    }
}

#[test]
fn the_rarest_chunk_is_asked_for_first() {
    // Chunk i of 4..20 is had by peer 0 and by those of 1..=4 whose number is not above i % 5.
    let mut sched = scheduler(20, Order::RarestFirst, &[], 1);
    past_the_beginning(&mut sched);
    join(&mut sched, 0, bitmap(20, 0..19));
    for slot in 1..=4 {
        let have = bitmap(20, (0..20).filter(|i| i % 5 >= slot as usize));
        let (peer, now) = (PeerSlot(slot), Mono::default());
        sched.handle(Event::PeerJoined { peer, have }, now);
    }
    let holders: Vec<u32> = asked(&mut sched, Mono::default())
        .iter()
        .map(|(_, index)| index % 5)
        .collect();
    assert_eq!(holders, [0, 0, 0, 1, 1, 1, 2, 2]);
}

#[test]
fn a_chunk_that_others_got_meanwhile_waits() {
    let mut sched = scheduler(14, Order::RarestFirst, &[], 1);
    past_the_beginning(&mut sched);
    join(&mut sched, 0, full(14));
    let (peer, now) = (PeerSlot(1), Mono::default());
    let have = bitmap(14, 0..4);
    sched.handle(Event::PeerJoined { peer, have }, now);
    let indices = vec![5, 9];
    sched.handle(Event::PeerGot { peer, indices }, now);
    let first = asked(&mut sched, now);
    assert_eq!(first.len(), 8);
    assert!(first.iter().all(|(_, i)| ![5, 9].contains(i)), "{first:?}");
}

#[test]
fn the_beginning_is_at_random_whatever_is_rare() {
    // Peer 1 has all but chunk 0, the rarest: at random it is seldom the first.
    let is_first = |seed| {
        let mut sched = scheduler(100, Order::RarestFirst, &[], seed);
        join(&mut sched, 0, bitmap(100, 0..99));
        join(&mut sched, 1, bitmap(100, 1..99));
        asked(&mut sched, Mono::default())[0].1 == 0
    };
    assert!((0..100).filter(|seed| is_first(*seed)).count() < 10);
}

#[test]
fn ties_are_broken_by_the_seed() {
    let order = |seed| {
        let mut sched = scheduler(200, Order::RarestFirst, &[], seed);
        past_the_beginning(&mut sched);
        join(&mut sched, 0, full(200));
        join(&mut sched, 1, bitmap(200, 0..150));
        // All of these rise to the same number at the same time: they must not be taken in one order by everybody.
        let (peer, now) = (PeerSlot(1), Mono::default());
        let indices = (150..190).collect();
        sched.handle(Event::PeerGot { peer, indices }, now);
        (190..200).for_each(|index| sched.handle(Event::Here { index }, now));
        asked(&mut sched, now)
    };
    assert_eq!(order(1), order(1));
    let (a, b) = (order(1), order(2));
    let common = a.iter().filter(|x| b.contains(x)).count();
    assert!(common < 8, "{a:?} {b:?}");
}

#[test]
fn of_equally_rare_chunks_neighbours_are_asked_of_one_peer() {
    let order = |chunks, seed| {
        let mut sched = scheduler(chunks, Order::RarestFirst, &[], seed);
        let now = Mono::default();
        past_the_beginning(&mut sched);
        (0..2).for_each(|slot| join(&mut sched, slot, full(chunks)));
        let mut order: [Vec<u32>; 2] = Default::default();
        while !sched.is_complete() {
            for (slot, index) in asked(&mut sched, now) {
                order[slot as usize].push(index);
                let peer = PeerSlot(slot);
                sched.handle(Event::Arrived { peer, index }, now);
                sched.handle(Event::Verified { peer, index }, now);
            }
        }
        order
    };
    let is_next = |pair: &[u32]| pair[1] == pair[0] + 1;
    let next_to_each_other =
        |of_one: &Vec<u32>| of_one.windows(2).filter(|pair| is_next(pair)).count();
    for of_one in &order(2000, 1) {
        let found = next_to_each_other(of_one);
        assert!(found > of_one.len() * 4 / 5, "{found} of {}", of_one.len());
    }
    let begins = |seed| order(2000, seed)[0][0];
    assert!((2..9).any(|seed| begins(seed) != begins(1)));
    // Of a small file everybody is to have something else.
    for of_one in &order(60, 1) {
        assert!(next_to_each_other(of_one) < of_one.len() / 2);
    }
}

proptest! {
    /// Gone through or looked up, the chunk that is asked for is one that fewest have.
    #[test]
    fn no_wanted_chunk_that_the_peer_has_is_rarer(
        seed in any::<u64>(),
        peers in prop::collection::vec(prop::collection::vec(0u32..300, 0..300), 1..6),
        here in prop::collection::vec(0u32..300, 4..200),
    ) {
        let mut sched = scheduler(300, Order::RarestFirst, &[], seed);
        let now = Mono::default();
        for index in here.into_iter().chain(0..4) {
            sched.handle(Event::Here { index }, now);
        }
        for (slot, have) in (0u32..).zip(&peers) {
            join(&mut sched, slot, bitmap(300, have.iter().map(|i| *i as usize)));
        }
        let holders = |index: u32| peers.iter().filter(|have| have.contains(&index)).count();
        while let Some(action) = sched.poll(now) {
            let Action::Request { peer, index } = action else { continue };
            let wanted = sched.wants.wanted();
            let mut others = wanted.iter().filter(|i| peers[peer.0 as usize].contains(i));
            prop_assert!(others.all(|other| holders(other) >= holders(index)));
        }
    }
}

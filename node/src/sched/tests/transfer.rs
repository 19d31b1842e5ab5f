//! Downloads from good peers and bad ones.

use super::*;

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
    let slow = Link::new(0.8, 20);
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
        silent_from: Some(at_ms(300)),
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
    let slow = Link::new(0.16, 20);
    let outcome = World::new(10, vec![slow], 10).run(Duration::from_secs(300));
    assert!(outcome.complete, "{outcome:?}");
    assert_eq!(outcome.dropped, []);
}

/// What becomes of a peer of which no chunk comes for a minute, when this happens every five seconds.
fn after_a_minute_with(event: &Event) -> Option<Action> {
    let mut world = World::new(10, vec![Link::fast()], 10);
    for second in 0..60 {
        let now = Mono::default().plus(Duration::from_secs(second));
        if second % 5 == 4 {
            world.sched.handle(event.clone(), now);
        }
        let is_drop = |action: &Action| matches!(action, Action::Drop { .. });
        if let Some(drop) = std::iter::from_fn(|| world.sched.poll(now)).find(is_drop) {
            return Some(drop);
        }
    }
    None
}

#[test]
fn a_peer_that_sends_parts_of_a_chunk_is_not_dropped() {
    let peer = PeerSlot(0);
    assert_eq!(after_a_minute_with(&Event::Receiving { peer }), None);
    assert_eq!(after_a_minute_with(&Event::HeldUp { peer }), None);
    let other = PeerSlot(7);
    let reason = DropReason::Stalled;
    let dropped = Some(Action::Drop { peer, reason });
    assert_eq!(
        after_a_minute_with(&Event::Receiving { peer: other }),
        dropped
    );
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
    assert_eq!(asked(&mut world.sched, Mono::default()), [(0, 2)]);
}

#[test]
fn what_comes_by_itself_is_cancelled_where_it_was_asked() {
    let mut world = World::new(3, vec![Link::fast()], 12);
    assert_eq!(asked(&mut world.sched, Mono::default()).len(), 3);
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
    let first = asked(&mut world.sched, Mono::default());
    let [(peer, index)] = first[..] else {
        panic!("{first:?}");
    };
    let peer = PeerSlot(peer);
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
    for _ in 0..400 {
        world.act();
        world.step();
    }
    assert_eq!(world.sched.missing(), 1);
    assert!(world.sched.is_starved());
    assert_eq!(world.sched.orphans(50, 8), [99]);
}

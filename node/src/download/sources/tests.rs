//! Who gets a place, who makes room, and what is told of it.

use super::{
    past::RETRY_AFTER,
    source::{HASTE, USEFUL_WITHIN, WANTED_WITHIN},
    *,
};
use std::time::Duration;

fn admit(sources: &mut Sources, peer: PeerId, origin: Origin, now: Instant) -> Option<Admitted> {
    sources.admit(peer, origin, now, mpsc::channel(1).0)
}

fn told(by: PeerId) -> Origin {
    Origin::Told { by }
}

fn full(origin: impl Fn(usize) -> Origin, now: Instant) -> Sources {
    let mut sources = Sources::default();
    for i in 0..MAX_SESSIONS {
        assert!(admit(&mut sources, PeerId::random(), origin(i), now).is_some());
    }
    sources
}

/// The first chunks of twelve.
fn having(chunks: usize) -> HaveBitmap {
    let mut have = HaveBitmap::new(12);
    (0..chunks).for_each(|index| {
        have.set(index);
    });
    have
}

#[test]
fn one_word_fills_at_most_half_of_the_places() {
    let (now, liar) = (Instant::now(), PeerId::random());
    let mut sources = Sources::default();
    let admitted = (0..2 * MAX_SESSIONS)
        .filter(|_| admit(&mut sources, PeerId::random(), told(liar), now).is_some());
    assert_eq!(admitted.count(), MAX_SESSIONS / 2);
    let others = (0..2 * MAX_SESSIONS)
        .filter(|_| admit(&mut sources, PeerId::random(), Origin::Found, now).is_some());
    assert_eq!(others.count(), MAX_SESSIONS - MAX_SESSIONS / 2);
}

#[test]
fn a_limit_of_what_is_taken_leaves_room_for_as_many_as_it_feeds() {
    let now = Instant::now();
    for (limit, most) in [(16 << 10, 2), (96 << 10, 3), (100 << 20, MAX_SESSIONS)] {
        let mut sources = Sources {
            down_bytes_per_s: NonZeroU64::new(limit),
            ..Sources::default()
        };
        let admitted = (0..2 * MAX_SESSIONS)
            .filter(|_| admit(&mut sources, PeerId::random(), Origin::Found, now).is_some());
        assert_eq!(admitted.count(), most);
    }
}

#[test]
fn whom_the_dht_names_takes_the_place_of_one_that_was_only_told_of() {
    let begun = Instant::now();
    let tellers: Vec<PeerId> = (0..4).map(|_| PeerId::random()).collect();
    let mut sources = full(|i| told(tellers[i % 4]), begun);
    let soon = begun + USEFUL_WITHIN / HASTE;
    assert!(admit(&mut sources, PeerId::random(), told(tellers[0]), soon).is_none());
    let early = soon - Duration::from_millis(1);
    assert!(admit(&mut sources, PeerId::random(), Origin::Found, early).is_none());
    let found = admit(&mut sources, PeerId::random(), Origin::Found, soon).unwrap();
    let gone = sources.peer(found.evicted.unwrap()).unwrap();
    assert!(sources.slot_of(&gone).is_none() && sources.active() == MAX_SESSIONS);
    // It does not come back at once, at the cost of the next.
    let later = begun + USEFUL_WITHIN;
    assert!(admit(&mut sources, gone, told(tellers[1]), later).is_none());
    // And the other way round nobody is in a hurry.
    let mut sources = full(|_| Origin::Found, begun);
    assert!(admit(&mut sources, PeerId::random(), told(tellers[0]), soon).is_none());
    assert!(admit(&mut sources, PeerId::random(), told(tellers[0]), later).is_some());
}

#[test]
fn a_peer_that_has_what_is_wanted_may_choke_for_a_while() {
    let begun = Instant::now();
    let mut sources = full(|_| Origin::Found, begun);
    let slots: Vec<PeerSlot> = (0u32..).take(MAX_SESSIONS).map(PeerSlot).collect();
    for slot in &slots[1..] {
        sources.joined(*slot, having(9));
        sources.see(*slot, |view| view.interests_us = true);
    }
    let turns = sources.turns();
    assert_eq!((turns.choking, turns.sending), (MAX_SESSIONS - 1, 0));
    assert!(turns.are_waited_for());
    let later = begun + USEFUL_WITHIN;
    let first = admit(&mut sources, PeerId::random(), Origin::Found, later).unwrap();
    assert_eq!(first.evicted, Some(slots[0]));
    assert!(admit(&mut sources, PeerId::random(), Origin::Found, later).is_none());
    sources.see(slots[1], |view| view.chokes_us = false);
    assert!(!sources.turns().are_waited_for());
    assert_eq!(sources.turns().choking, MAX_SESSIONS - 2);
    sources.delivered(slots[1], 7, begun + WANTED_WITHIN);
    let late = begun + WANTED_WITHIN;
    let next = admit(&mut sources, PeerId::random(), Origin::Found, late).unwrap();
    assert!(next.evicted != Some(slots[1]), "{next:?}");
}

#[test]
fn who_lies_about_what_it_has_is_not_asked_again() {
    let (now, peer) = (Instant::now(), PeerId::random());
    let mut sources = Sources::default();
    let slot = admit(&mut sources, peer, Origin::Found, now).unwrap().slot;
    assert!((1..MAX_LIES).all(|_| !sources.lied(slot)));
    assert!(sources.lied(slot));
    sources.gone(slot, &SessionEnd::Lied, now);
    let long_after = now + Duration::from_secs(1 << 30);
    assert!(admit(&mut sources, peer, Origin::Found, long_after).is_none());
    assert_eq!(sources.banned(), 0);
}

#[test]
fn a_report_has_what_changed_and_each_byte_once() {
    let (now, peer) = (Instant::now(), PeerId::random());
    let (swarms, manifest) = (Arc::new(Swarms::default()), ManifestId::of(b"one"));
    let mut sources = Sources::default();
    let slot = admit(&mut sources, peer, Origin::Found, now).unwrap().slot;
    sources.report(&swarms, manifest);
    assert_eq!(swarms.census().swarms, 0, "it has not joined");
    sources.joined(slot, having(3));
    sources.delivered(slot, 5, now);
    sources.delivered(slot, 6, now);
    for _ in 0..2 {
        sources.report(&swarms, manifest);
        let peers = swarms.report(manifest).peers;
        assert_eq!((peers.len(), peers[0].down_bytes), (1, 11));
        assert_eq!((peers[0].peer, peers[0].have_chunks), (peer, Some(3)));
    }
    // What it had before, and what there is not, is no news.
    sources.got(slot, &[2, 5, 11, 12]);
    sources.report(&swarms, manifest);
    let view = swarms.report(manifest);
    assert_eq!(view.peers[0].have_chunks, Some(5));
    let held = view.holders.count(&HaveBitmap::new(12));
    assert_eq!(held, [1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn a_source_s_entry_in_the_swarm_ends_with_its_session_however_that_ends() {
    type End = fn(&mut Sources, PeerSlot, PeerId, Instant);
    let ends: [End; 5] = [
        |sources, slot, _, now| sources.gone(slot, &SessionEnd::Closed, now),
        |sources, _, peer, _| sources.ban(peer, "it lies"),
        |sources, _, _, _| sources.release_all(),
        |sources, _, _, _| sources.leave_swarm(),
        |sources, _, _, _| *sources = Sources::default(),
    ];
    let (now, manifest) = (Instant::now(), ManifestId::of(b"one"));
    for end in ends {
        let (swarms, peer) = (Arc::new(Swarms::default()), PeerId::random());
        let mut sources = Sources::default();
        let slot = admit(&mut sources, peer, Origin::Found, now).unwrap().slot;
        sources.joined(slot, having(3));
        sources.report(&swarms, manifest);
        assert_eq!(swarms.census().swarms, 1);
        end(&mut sources, slot, peer, now);
        assert_eq!(swarms.census().swarms, 0);
    }
}

#[test]
fn sessions_are_remembered_for_a_while() {
    let begun = Instant::now();
    let mut sources = Sources::default();
    for i in 0..u64::try_from(2 * MAX_SLOTS).unwrap() {
        let now = begun + RETRY_AFTER * u32::try_from(i).unwrap();
        let slot = admit(&mut sources, PeerId::random(), Origin::Found, now)
            .unwrap()
            .slot;
        if i > 0 {
            sources.gone(slot, &SessionEnd::Silent, now);
        }
    }
    assert_eq!(sources.slots.len(), MAX_SLOTS);
    assert!(sources.peer(PeerSlot(0)).is_some(), "it runs");
}

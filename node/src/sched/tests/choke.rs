//! Peers that choke, and what they are told.

use super::*;

fn told(sched: &mut Scheduler, now: Mono) -> Vec<(u32, bool)> {
    let actions = std::iter::from_fn(|| sched.poll(now));
    actions
        .filter_map(|action| match action {
            Action::Interest { peer, wants } => Some((peer.0, wants)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_peer_is_choked_until_it_says_otherwise_and_is_told_of_interest_all_the_same() {
    let mut sched = scheduler(10, Order::RarestFirst, &[], 1);
    let (peer, now) = (PeerSlot(0), Mono::default());
    let have = full(10);
    sched.handle(Event::PeerJoined { peer, have }, now);
    let wants = true;
    assert_eq!(sched.poll(now), Some(Action::Interest { peer, wants }));
    assert_eq!(sched.poll(now), None);
    assert_eq!(sched.next_deadline(now), None, "a choked peer is not late");
    assert!(!sched.is_starved() && sched.orphans(0, 10).is_empty());
    sched.handle(Event::Unchoked { peer }, now);
    assert_eq!(asked(&mut sched, now).len(), 8);
}

#[test]
fn what_a_peer_that_chokes_was_asked_goes_to_another() {
    let mut sched = scheduler(8, Order::RarestFirst, &[], 1);
    let now = Mono::default();
    join(&mut sched, 0, full(8));
    let before = asked(&mut sched, now);
    let (peer, index) = (PeerSlot(0), before[0].1);
    sched.handle(Event::Arrived { peer, index }, now);
    sched.handle(Event::Choked { peer }, now);
    assert_eq!(sched.poll(now), None, "its requests need no cancelling");
    join(&mut sched, 1, full(8));
    let after = asked(&mut sched, now);
    assert_eq!(
        after.len(),
        7,
        "what is being checked is not asked for again"
    );
    assert!(after.iter().all(|(slot, i)| *slot == 1 && *i != index));
    sched.handle(Event::Verified { peer, index }, now);
    assert_eq!(sched.missing(), 7);
}

#[test]
fn an_answer_that_crosses_the_choke_does_not_make_it_be_asked_again_at_once() {
    let mut sched = scheduler(1, Order::RarestFirst, &[], 1);
    let (peer, now, fault) = (PeerSlot(0), Mono::default(), Fault::Choked);
    join(&mut sched, 0, full(1));
    let index = asked(&mut sched, now)[0].1;
    sched.handle(Event::Failed { peer, index, fault }, now);
    assert_eq!(asked(&mut sched, now), []);
    sched.handle(Event::Choked { peer }, now);
    sched.handle(Event::Unchoked { peer }, now);
    let wake = sched.next_deadline(now).unwrap();
    assert_eq!(asked(&mut sched, wake), [(0, 0)]);
}

#[test]
fn the_time_in_which_a_peer_chokes_is_no_stall() {
    let mut sched = scheduler(4, Order::RarestFirst, &[], 1);
    let peer = PeerSlot(0);
    join(&mut sched, 0, full(4));
    assert_eq!(asked(&mut sched, Mono::default()).len(), 4);
    // Late, and therefore on trial.
    assert_eq!(asked(&mut sched, at_ms(10_000)).len(), 1);
    assert!(sched.snubbed(peer, at_ms(10_000)));
    sched.handle(Event::Choked { peer }, at_ms(11_000));
    sched.handle(Event::Unchoked { peer }, at_ms(90_000));
    assert_eq!(asked(&mut sched, at_ms(90_000)).len(), 1);
    // Late once more: not a stall of 100 s.
    assert_eq!(asked(&mut sched, at_ms(100_000)).len(), 1);
    sched.handle(Event::Arrived { peer, index: 0 }, at_ms(101_000));
    assert!(!sched.snubbed(peer, at_ms(101_000)));
}

#[test]
fn interest_follows_what_is_here_and_what_the_peer_has() {
    let mut sched = scheduler(3, Order::RarestFirst, &[], 1);
    let (peer, now) = (PeerSlot(0), Mono::default());
    let have = bitmap(3, []);
    sched.handle(Event::PeerJoined { peer, have }, now);
    assert_eq!(told(&mut sched, now), []);
    let indices = vec![1, 7];
    sched.handle(Event::PeerGot { peer, indices }, now);
    assert_eq!(told(&mut sched, now), [(0, true)]);
    sched.handle(Event::Here { index: 1 }, now);
    assert_eq!(told(&mut sched, now), [(0, false)]);
    sched.handle(Event::Lost { index: 1 }, now);
    assert_eq!(told(&mut sched, now), [(0, true)]);
    let (index, fault) = (1, Fault::NotFound);
    sched.handle(Event::Failed { peer, index, fault }, now);
    assert_eq!(told(&mut sched, now), [(0, false)]);
    sched.handle(Event::PeerHasChunk { peer, index: 0 }, now);
    sched.handle(Event::PeerLeft { peer }, now);
    assert_eq!(told(&mut sched, now), [], "nobody is there to be told");
}

#[test]
fn a_peer_that_has_everything_is_of_interest_to_the_last_chunk() {
    let mut sched = scheduler(2, Order::RarestFirst, &[], 1);
    let now = Mono::default();
    join(&mut sched, 0, full(2));
    assert_eq!(told(&mut sched, now), [(0, true)]);
    sched.handle(Event::Here { index: 0 }, now);
    assert_eq!(told(&mut sched, now), []);
    sched.handle(Event::Here { index: 1 }, now);
    assert_eq!(told(&mut sched, now), [(0, false)]);
}

#[test]
fn a_download_among_peers_that_choke_by_turns_completes_with_hardly_a_duplicate() {
    let flapping = |i: u64| Link {
        chokes: Some((ms(500 + 130 * i), ms(210 * i))),
        ..Link::new(100.0, 5 + 7 * i)
    };
    let links: Vec<Link> = (0..6).map(flapping).collect();
    let outcome = World::new(1000, links, 5).run(Duration::from_secs(60));
    assert!(outcome.complete, "{outcome:?}");
    assert_eq!(outcome.dropped, []);
    assert!(outcome.duplicates <= 10, "{outcome:?}");
    // Half of 6 × 12.5 MB/s at a time: 262 MB take 7 s.
    assert!(
        outcome.finished_at.0 < Duration::from_secs(9),
        "{outcome:?}"
    );
}

//! Streams.

use super::*;

fn stream(chunks: usize) -> Scheduler {
    scheduler(chunks, Order::Sequential, &[], 3)
}

/// Chunks of the default window.
const WINDOW: u32 = 256;

/// The reader takes chunk by chunk.
fn position(index: u32) -> Event {
    let end = index + 1;
    Event::Position { index, end }
}

#[test]
fn a_stream_goes_from_the_first_to_the_last() {
    let mut sched = stream(50);
    join(&mut sched, 0, full(50));
    let asked = asked(&mut sched, Mono::default());
    let indices: Vec<u32> = asked.iter().map(|(_, index)| *index).collect();
    assert_eq!(indices, (0..8).collect::<Vec<_>>());
}

/// Whatever is asked for comes at once, until nothing is asked for any more; the highest that was.
fn drain(sched: &mut Scheduler, now: Mono) -> Option<u32> {
    let mut highest = None;
    while let Some(action) = sched.poll(now) {
        if let Action::Request { peer, index } = action {
            sched.handle(Event::Arrived { peer, index }, now);
            sched.handle(Event::Verified { peer, index }, now);
            highest = highest.max(Some(index));
        }
    }
    highest
}

#[test]
fn nothing_is_asked_for_beyond_the_window_of_the_reader() {
    let mut sched = stream(1000);
    join(&mut sched, 0, full(1000));
    let now = at_ms(1);
    sched.handle(position(0), now);
    assert_eq!(drain(&mut sched, now), Some(WINDOW - 1));
    assert!(!sched.is_starved(), "the reader is what is waited for");
    sched.handle(position(10), now);
    assert_eq!(drain(&mut sched, now), Some(WINDOW + 9));
}

#[test]
fn all_that_the_reader_can_only_take_together_is_within_the_window() {
    let mut sched = stream(1000);
    join(&mut sched, 0, full(1000));
    let (now, end) = (at_ms(1), 2 * WINDOW);
    let index = 10;
    sched.handle(Event::Position { index, end }, now);
    assert_eq!(drain(&mut sched, now), Some(end - 1));
    sched.handle(position(11), now);
    assert_eq!(drain(&mut sched, now), None);
}

#[test]
fn without_word_of_the_reader_the_window_begins_with_what_is_missing() {
    let mut sched = stream(1000);
    join(&mut sched, 0, full(1000));
    assert_eq!(drain(&mut sched, at_ms(1)), Some(999));
    assert!(sched.is_complete());
}

#[test]
fn a_stream_is_starved_when_nobody_has_anything_of_its_window() {
    let mut sched = stream(1000);
    join(&mut sched, 0, bitmap(1000, 300..1000));
    assert!(sched.is_starved());
    assert_eq!(sched.orphans(254, 4), [254, 255, 0, 1]);
    let peer = PeerSlot(0);
    sched.handle(Event::PeerHasChunk { peer, index: 7 }, Mono::default());
    assert!(!sched.is_starved());
}

#[test]
fn a_chunk_that_is_lost_behind_the_reader_is_fetched_again() {
    let mut sched = stream(1000);
    join(&mut sched, 0, full(1000));
    let now = at_ms(1);
    drain(&mut sched, now);
    sched.handle(position(1000), now);
    sched.handle(Event::Lost { index: 5 }, now);
    assert_eq!(drain(&mut sched, now), Some(5));
}

#[test]
fn the_chunk_that_the_reader_waits_for_does_not_wait_for_a_slow_peer() {
    // The second peer takes 21 s for a chunk, and has the first ones, with 4000 others still wanted.
    let links = vec![Link::new(200.0, 10), Link::new(0.1, 10)];
    let mut world = World::of(stream(4000), 4000, links);
    while world.now < at_ms(3_000) {
        world.act();
        world.step();
    }
    let first = world.sched.wants.first_missing();
    assert!(first > 200, "{first} of 286");
    assert!(world.outcome.duplicates <= 2);
}

//! Readers of ranges.

use std::ops::Range;

use super::*;

fn on_demand(chunks: usize) -> Scheduler {
    scheduler(chunks, Order::OnDemand, &[], 3)
}

fn read(sched: &mut Scheduler, ranges: &[Range<u32>], now: Mono) {
    let (ranges, first) = (ranges.to_vec(), Vec::new());
    sched.handle(Event::Ranges { ranges, first }, now);
}

/// Whatever is asked for comes at once, until nothing is asked for any more; what was, in order.
fn drain(sched: &mut Scheduler, now: Mono) -> Vec<u32> {
    let mut got = Vec::new();
    while let Some(action) = sched.poll(now) {
        if let Action::Request { peer, index } = action {
            sched.handle(Event::Arrived { peer, index }, now);
            sched.handle(Event::Verified { peer, index }, now);
            got.push(index);
        }
    }
    got
}

fn indices(asked: &[(u32, u32)]) -> Vec<u32> {
    asked.iter().map(|(_, index)| *index).collect()
}

#[test]
fn nothing_is_fetched_but_what_is_read() {
    let mut sched = on_demand(1000);
    join(&mut sched, 0, full(1000));
    let now = at_ms(1);
    assert!(drain(&mut sched, now).is_empty());
    assert!(!sched.is_needed() && !sched.is_starved());
    read(&mut sched, std::slice::from_ref(&(500..503)), now);
    assert!(sched.is_needed());
    assert_eq!(drain(&mut sched, now), [500, 501, 502]);
    assert!(!sched.is_needed() && !sched.is_complete());
}

#[test]
fn of_several_readers_each_gets_what_is_nearest_to_it_first() {
    let mut sched = on_demand(1000);
    join(&mut sched, 0, full(1000));
    let now = at_ms(1);
    read(&mut sched, &[900..904, 10..14], now);
    assert_eq!(drain(&mut sched, now), [10, 900, 11, 901, 12, 902, 13, 903]);
}

#[test]
fn readers_of_the_same_share_what_is_fetched() {
    let mut sched = on_demand(100);
    join(&mut sched, 0, full(100));
    let now = at_ms(1);
    read(&mut sched, &[10..14, 11..15], now);
    let mut got = drain(&mut sched, now);
    got.sort_unstable();
    assert_eq!(got, [10, 11, 12, 13, 14]);
}

#[test]
fn what_a_reader_that_left_had_asked_for_is_taken_back() {
    let mut sched = on_demand(1000);
    join(&mut sched, 0, full(1000));
    let now = at_ms(1);
    read(&mut sched, &[0..4, 500..504], now);
    assert_eq!(asked(&mut sched, now).len(), 8);
    read(&mut sched, std::slice::from_ref(&(500..504)), now);
    let actions: Vec<Action> = std::iter::from_fn(|| sched.poll(now)).collect();
    let cancelled: Vec<u32> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Cancel { index, .. } => Some(*index),
            _ => None,
        })
        .collect();
    assert_eq!(cancelled, [0, 1, 2, 3]);
    // What was on its way all the same is kept.
    let peer = PeerSlot(0);
    sched.handle(Event::Arrived { peer, index: 1 }, now);
    sched.handle(Event::Verified { peer, index: 1 }, now);
    read(&mut sched, std::slice::from_ref(&(0..4)), now);
    assert_eq!(indices(&asked(&mut sched, now)), [0, 2, 3]);
}

#[test]
fn a_seek_does_not_wait_for_what_was_asked_before_it() {
    let mut sched = on_demand(1000);
    join(&mut sched, 0, full(1000));
    let now = at_ms(1);
    read(&mut sched, std::slice::from_ref(&(0..64)), now);
    let before = asked(&mut sched, now).len();
    assert_eq!(before, SchedulerConfig::default().first_depth as usize);
    read(&mut sched, std::slice::from_ref(&(800..864)), now);
    let after = indices(&asked(&mut sched, now));
    assert_eq!(after, (800..808).collect::<Vec<_>>());
}

#[test]
fn a_download_of_all_brings_what_is_read_first() {
    let mut sched = scheduler(1000, Order::RarestFirst, &[], 3);
    join(&mut sched, 0, full(1000));
    let now = at_ms(1);
    read(&mut sched, std::slice::from_ref(&(700..705)), now);
    let got = drain(&mut sched, now);
    assert_eq!(got[..5], [700, 701, 702, 703, 704]);
    assert!(sched.is_complete());
}

#[test]
fn nothing_but_the_first_group_is_fetched_for_a_reader_until_it_is_proven() {
    let mut sched = on_demand(1000);
    join(&mut sched, 0, full(1000));
    let now = at_ms(1);
    let (ranges, first) = (std::iter::once(40..60).collect(), vec![40, 41]);
    sched.handle(Event::Ranges { ranges, first }, now);
    assert_eq!(indices(&asked(&mut sched, now)), [40, 41]);
    sched.handle(Event::Proven, now);
    assert_eq!(indices(&asked(&mut sched, now))[..2], [42, 43]);
}

#[test]
fn readers_are_starved_when_nobody_has_anything_they_need() {
    let mut sched = on_demand(1000);
    join(&mut sched, 0, bitmap(1000, 300..1000));
    read(&mut sched, &[10..12, 50..51], Mono::default());
    assert!(sched.is_starved());
    assert_eq!(sched.orphans(0, 9), [10, 11, 50]);
    read(&mut sched, &[10..12, 350..351], Mono::default());
    assert!(!sched.is_starved());
}

#[test]
fn what_readers_need_does_not_wait_for_a_slow_peer_or_one_that_leaves() {
    let mut gone = Link::new(200.0, 10);
    gone.leaves_at = Some(at_ms(200));
    let links = vec![gone, Link::new(100.0, 10), Link::new(0.1, 10)];
    let mut world = World::of(on_demand(4000), 4000, links);
    let now = world.now;
    read(&mut world.sched, &[1000..1040, 3000..3040], now);
    while world.now < at_ms(4_000) {
        world.act();
        world.step();
    }
    let got = |range: Range<usize>| world.got[range].iter().filter(|got| **got).count();
    assert_eq!((got(1000..1040), got(3000..3040)), (40, 40));
    assert_eq!(got(0..4000), 80);
}

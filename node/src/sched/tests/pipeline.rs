//! How much is asked of a peer ahead.

use super::*;

/// Runs to `until` and returns the longest queue since `from`.
fn longest_queue(world: &mut World, from: Mono, until: Mono) -> usize {
    let mut longest = 0;
    while world.now < until {
        world.act();
        if world.now >= from {
            let queue = |p: &super::super::peer::Peer| p.asked.len();
            longest = longest.max(world.sched.peers.iter().map(queue).max().unwrap_or(0));
        }
        world.step();
    }
    longest
}

fn came(world: &World) -> u32 {
    world.outcome.by_peer.values().sum()
}

#[test]
fn a_far_peer_is_kept_busy() {
    // 10 MB are on the way: 38 chunks.
    let links = vec![Link::new(400.0, 200)];
    let outcome = World::new(2000, links.clone(), 1).run(Duration::from_secs(60));
    let efficiency = outcome.efficiency(2000, &links);
    // Filling the queue costs three round trips of 10.5 s.
    assert!(efficiency >= 0.93, "{efficiency}");
}

#[test]
fn queues_are_as_long_as_the_way_and_a_little_longer_and_do_not_grow() {
    // Chunks of 10.5 ms; an answer takes 30 ms, 250 ms are added: 27 chunks.
    let mut world = World::new(40_000, vec![Link::new(200.0, 20)], 1);
    let longest = longest_queue(&mut world, at_ms(1_000), at_ms(100_000));
    assert!((20..=28).contains(&longest), "{longest}");
    assert!(came(&world) > 9_450, "{} of 9530", came(&world));
}

#[test]
fn a_slow_peer_has_a_short_queue() {
    // A chunk takes 2.1 s.
    let mut world = World::new(1000, vec![Link::new(1.0, 50)], 1);
    let longest = longest_queue(&mut world, at_ms(60_000), at_ms(300_000));
    assert_eq!(longest, 2);
}

#[test]
fn a_way_that_becomes_long_is_filled_again() {
    let mut world = World::new(40_000, vec![Link::new(200.0, 10)], 1);
    longest_queue(&mut world, at_ms(0), at_ms(20_000));
    world.links[0].rtt = ms(600);
    longest_queue(&mut world, at_ms(0), at_ms(50_000));
    let before = came(&world);
    longest_queue(&mut world, at_ms(0), at_ms(60_000));
    let in_10_s = came(&world) - before;
    assert!(in_10_s > 850, "{in_10_s} of 953");
}

#[test]
fn large_chunks_are_bounded_by_their_bytes() {
    let cfg = SchedulerConfig::default();
    let have = HaveBitmap::new(100);
    let mut sched = Scheduler::new(cfg, &have, 4 << 20, Order::RarestFirst, &[], 1);
    join(&mut sched, 0, full(100));
    assert_eq!(asked(&mut sched, Mono::default()).len(), 4);
}

//! The end of a download, which the slowest peer decides unless others take over.

use super::*;

/// Runs and says how well the links were used.
fn run(chunks: usize, links: Vec<Link>, seed: u64) -> (Outcome, f64) {
    let outcome = World::new(chunks, links.clone(), seed).run(Duration::from_secs(600));
    assert!(outcome.complete, "{outcome:?}");
    let efficiency = outcome.efficiency(chunks, &links);
    (outcome, efficiency)
}

#[test]
fn four_equal_peers_end_within_two_chunks_of_each_other_and_send_nothing_twice() {
    for (seed, rtt_ms) in [(1, 1), (2, 1), (3, 10), (4, 40)] {
        let (outcome, efficiency) = run(4096, vec![Link::new(200.0, rtt_ms); 4], seed);
        let ends = outcome.last_by_peer.values();
        let (first, last) = (ends.clone().min().unwrap(), ends.max().unwrap());
        // A chunk takes 10.5 ms.
        let spread = last.since(*first);
        assert!(spread <= ms(21 + 2 * rtt_ms), "{spread:?} at {rtt_ms} ms");
        assert_eq!(outcome.duplicates, 0);
        assert!(efficiency >= 0.985, "{efficiency} at {rtt_ms} ms");
    }
}

/// 50 to 400 Mbit/s, near and far.
fn unequal() -> Vec<Link> {
    let rates_mbit = [50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0];
    let rtts_ms = [1, 40, 5, 30, 10, 20, 2, 15];
    let links = rates_mbit.into_iter().zip(rtts_ms);
    links.map(|(rate, rtt)| Link::new(rate, rtt)).collect()
}

#[test]
fn eight_unequal_peers_are_as_fast_as_their_sum() {
    let links = unequal();
    for seed in 1..5 {
        for links in [links.clone(), links.iter().rev().cloned().collect()] {
            let (outcome, efficiency) = run(4096, links, seed);
            assert!(efficiency >= 0.97, "{efficiency}");
            assert!(outcome.duplicates <= 40, "{}", outcome.duplicates);
        }
    }
}

#[test]
fn links_that_come_and_go_a_little_are_used_as_well() {
    for seed in 1..5 {
        let mut links = unequal();
        links.iter_mut().for_each(|l| l.jitter = 0.8);
        let (outcome, efficiency) = run(4096, links, seed);
        assert!(efficiency >= 0.97, "{efficiency}");
        assert!(outcome.duplicates <= 40, "{}", outcome.duplicates);
    }
}

#[test]
fn a_peer_that_becomes_slow_before_the_end_does_not_hold_it_up() {
    let mut world = World::new(1000, vec![Link::new(200.0, 10); 3], 1);
    // 262 MB at 75 MB/s take 3.5 s.
    while world.now < at_ms(3_300) {
        world.act();
        world.step();
    }
    world.links[2].bytes_per_s = 250e3;
    let outcome = world.run(Duration::from_secs(60));
    assert!(
        outcome.complete && outcome.finished_at.0 < ms(4_200),
        "{outcome:?}"
    );
    assert!(outcome.duplicates <= 10, "{}", outcome.duplicates);
}

#[test]
fn a_small_file_comes_from_unequal_peers_without_waiting_for_the_slowest() {
    let links = vec![Link::new(400.0, 5), Link::new(5.0, 5)];
    let (outcome, efficiency) = run(100, links, 1);
    assert!(efficiency >= 0.8, "{efficiency}");
    assert!(outcome.duplicates <= 4, "{}", outcome.duplicates);
}

#[test]
fn a_peer_that_vanishes_at_the_end_with_a_full_queue_costs_less_than_its_patience() {
    // Without a word at 95 %: nothing tells of it but its silence.
    let silent = Link {
        silent_from: Some(at_ms(10_200)),
        ..Link::new(200.0, 10)
    };
    let links = vec![
        Link::new(200.0, 10),
        Link::new(200.0, 10),
        Link::new(200.0, 10),
        silent,
    ];
    let (outcome, _) = run(4096, links, 1);
    assert!(outcome.finished_at.0 < ms(11_800), "{outcome:?}");
    assert!(outcome.duplicates <= 40, "{}", outcome.duplicates);
}

#[test]
fn a_peer_that_leaves_with_a_full_queue_leaves_it_to_the_others() {
    let leaving = Link {
        leaves_at: Some(at_ms(5_000)),
        ..Link::new(200.0, 10)
    };
    let links = vec![Link::new(200.0, 10), Link::new(200.0, 10), leaving];
    let (outcome, _) = run(3000, links, 1);
    // 15 s × 25 MB/s are missing: 786 MB at 75 MB/s for 5 s, then at 50 MB/s.
    assert!(outcome.finished_at.0 < ms(13_400), "{outcome:?}");
    assert_eq!(outcome.duplicates, 0);
}

#[test]
fn equally_slow_peers_do_not_take_chunks_from_each_other_again_and_again() {
    let (chunks, links) = (40, vec![Link::new(1.0, 50); 5]);
    let mut world = World::new(chunks, links, 3);
    let mut requests = vec![0; chunks];
    while !world.sched.is_complete() {
        world.act_noting(|action| {
            if let Action::Request { index, .. } = action {
                requests[index as usize] += 1;
            }
        });
        world.step();
        assert!(world.now.0 < Duration::from_secs(60), "{:?}", world.outcome);
    }
    assert!(requests.iter().all(|n| *n <= 4), "{requests:?}");
    // 2.1 s a chunk, eight of them each.
    assert!(world.now.0 < ms(21_500), "{:?}", world.now);
    assert!(world.outcome.duplicates <= 4);
}

#[test]
fn what_a_peer_has_begun_to_send_is_not_cancelled() {
    let mut sched = scheduler(8, Order::RarestFirst, &[], 1);
    join(&mut sched, 0, full(8));
    let queue: Vec<u32> = asked(&mut sched, Mono::default())
        .iter()
        .map(|(_, index)| *index)
        .collect();
    let (peer, index, now) = (PeerSlot(0), queue[0], at_ms(5_000));
    sched.handle(Event::Arrived { peer, index }, now);
    sched.handle(Event::Verified { peer, index }, now);
    join(&mut sched, 1, full(8));
    let (mut cancelled, mut helped) = (Vec::new(), Vec::new());
    while let Some(action) = sched.poll(now) {
        match action {
            Action::Cancel { index, .. } => cancelled.push(index),
            Action::Request { index, .. } => helped.push(index),
            _ => {}
        }
    }
    // 5 s a chunk there, half a second here: the last first, and of the two that were begun the second only twice.
    let last_first: Vec<u32> = queue[3..].iter().rev().copied().collect();
    assert_eq!(cancelled, last_first);
    assert_eq!(helped, [&last_first[..], &queue[2..3]].concat());
}

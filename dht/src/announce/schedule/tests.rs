//! When keys are due.

use super::*;

mod paged;

const NOW: u32 = 2_000_000_000;
const HOUR: u32 = 3600;

fn schedule() -> Schedule {
    let mut schedule = Schedule::new(&AnnounceTimes::default(), &Point([0; 32]));
    schedule.set_network(20, 0);
    schedule
}

fn key(n: u8) -> Key {
    [n; 32]
}

fn announce(schedule: &mut Schedule, key: Key, last_ok: u32) {
    schedule.insert(key, Kind::Chunk);
    schedule.acknowledged([(key, 20)], last_ok);
}

fn run(schedule: &mut Schedule, now: u32) -> Vec<Key> {
    let run = schedule.take_run(now, &RunLimits::ALL);
    run.keys.into_iter().map(|(key, _)| key).collect()
}

fn done_and_due(schedule: &mut Schedule, now: u32) -> (u64, u64) {
    let totals = schedule.totals(now);
    (totals.done, totals.due)
}

#[test]
fn files_come_before_new_chunks_before_renewals() {
    let mut schedule = schedule();
    announce(&mut schedule, key(1), NOW - 42 * HOUR);
    schedule.insert(key(2), Kind::Chunk);
    schedule.insert(key(3), Kind::File);
    let mut order = Vec::new();
    for _ in 0..3 {
        let taken = schedule.take_run(NOW, &RunLimits::ALL);
        assert_eq!(taken.keys.len(), 1);
        assert_eq!(taken.renewals, taken.keys[0].0 == key(1));
        order.push(taken.keys[0].0);
        schedule.acknowledged([(taken.keys[0].0, 20)], NOW);
    }
    assert_eq!(order, [key(3), key(2), key(1)]);
    assert!(run(&mut schedule, NOW).is_empty());
    assert_eq!(done_and_due(&mut schedule, NOW), (3, 0));
}

#[test]
fn each_class_has_its_own_limit_and_goes_on_where_it_was() {
    let limits = RunLimits {
        files: 2,
        new: 4,
        renewals: 3,
    };
    let mut schedule = schedule();
    for n in 0..10 {
        schedule.insert(key(n), Kind::File);
        schedule.insert(key(n + 10), Kind::Chunk);
        announce(&mut schedule, key(n + 20), NOW - 42 * HOUR);
    }
    let mut runs = Vec::new();
    loop {
        let run = schedule.take_run(NOW, &limits);
        if run.keys.is_empty() {
            break;
        }
        runs.push(run.keys.len());
        schedule.acknowledged(run.keys.iter().map(|(key, _)| (*key, 20)), NOW);
    }
    assert_eq!(runs, [2, 2, 2, 2, 2, 4, 4, 2, 3, 3, 3, 1]);
}

#[test]
fn a_run_lies_together_in_the_keyspace() {
    let mut schedule = schedule();
    for n in 0..1000u32 {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_le_bytes());
        schedule.insert(key, Kind::Chunk);
    }
    let limits = RunLimits {
        new: 100,
        ..RunLimits::ALL
    };
    let mut widths = 0;
    for _ in 0..10 {
        let run = schedule.take_run(NOW, &limits);
        let at = run.keys.iter().map(|(key, _)| bucket_of(key));
        let (first, last) = (at.clone().min().unwrap(), at.max().unwrap());
        widths += last - first;
        schedule.acknowledged(run.keys.iter().map(|(key, _)| (*key, 20)), NOW);
    }
    assert!(widths <= BUCKETS, "{widths}");
}

#[test]
fn nothing_is_announced_again_within_the_interval_after_a_restart() {
    let mut schedule = schedule();
    for n in 0..200 {
        announce(&mut schedule, key(n), NOW - 19 * HOUR);
    }
    assert!(run(&mut schedule, NOW).is_empty());
    let renewed = run(&mut schedule, NOW + 11 * HOUR).len();
    assert!((20..180).contains(&renewed), "{renewed}");
    assert_eq!(run(&mut schedule, NOW + 23 * HOUR).len(), 200);
}

#[test]
fn a_shorter_interval_makes_keys_due_and_a_longer_one_does_not() {
    let mut schedule = schedule();
    (0..200).for_each(|n| announce(&mut schedule, key(n), NOW - 4 * HOUR));
    assert!(run(&mut schedule, NOW).is_empty());
    schedule.set_interval(2 * HOUR);
    assert_eq!(run(&mut schedule, NOW).len(), 200);
    schedule.set_interval(22 * HOUR);
    assert!(run(&mut schedule, NOW).is_empty());
}

#[test]
fn failures_wait_longer_and_longer_and_peers_end_the_wait() {
    let mut schedule = schedule();
    schedule.insert(key(1), Kind::Chunk);
    let mut now = NOW;
    let mut waits = Vec::new();
    for _ in 0..12 {
        assert_eq!(run(&mut schedule, now).len(), 1);
        schedule.failed([key(1)], now);
        let next = schedule.next_due(now);
        waits.push(next - now);
        now = next;
    }
    assert!(
        waits.is_sorted() && waits[0] == 5 && waits[11] == 5 << 8,
        "{waits:?}"
    );
    schedule.failed([key(1)], now);
    assert!(run(&mut schedule, now + 1).is_empty());
    assert_eq!(schedule.totals(now + 1).failed, 1);
    schedule.retry_failed();
    assert_eq!(run(&mut schedule, now + 1).len(), 1);
    assert_eq!(done_and_due(&mut schedule, now), (0, 1));
}

#[test]
fn a_thin_key_is_announced_again_when_the_network_has_grown() {
    let mut schedule = schedule();
    schedule.set_network(2, 0);
    schedule.insert(key(1), Kind::Chunk);
    schedule.acknowledged([(key(1), 1)], NOW);
    schedule.acknowledged([(key(1), 2)], NOW);
    let later = NOW + rhythm::THIN_SECS;
    assert!(run(&mut schedule, later).is_empty());
    schedule.set_network(30, 0);
    assert!(run(&mut schedule, later - 1).is_empty());
    assert_eq!(run(&mut schedule, later).len(), 1);
}

#[test]
fn an_expired_success_counts_as_none() {
    let mut schedule = schedule();
    announce(&mut schedule, key(1), NOW);
    assert_eq!(schedule.totals(NOW + 47 * HOUR).done, 1);
    assert_eq!(done_and_due(&mut schedule, NOW + 48 * HOUR), (0, 1));
    assert_eq!(schedule.totals(NOW).last_success, NOW);
}

#[test]
fn a_clock_set_back_does_not_stop_renewals() {
    let mut schedule = schedule();
    announce(&mut schedule, key(1), NOW);
    assert!(run(&mut schedule, NOW).is_empty());
    let past = NOW - 24 * 365 * HOUR;
    assert_eq!(done_and_due(&mut schedule, past), (0, 1));
    assert_eq!(run(&mut schedule, past).len(), 1);
    // Nobody takes it: it waits like any other failure.
    schedule.failed([key(1)], past);
    assert!(run(&mut schedule, past + 4).is_empty());
    assert_eq!(run(&mut schedule, past + 5).len(), 1);
    schedule.acknowledged([(key(1), 20)], past + 5);
    assert_eq!(done_and_due(&mut schedule, past + 5), (1, 0));
    assert!(run(&mut schedule, past + 19 * HOUR).is_empty());
}

#[test]
fn a_wait_longer_than_any_is_none() {
    let mut schedule = schedule();
    schedule.insert_held(key(1), NOW);
    assert!(run(&mut schedule, NOW - 24 * HOUR).is_empty());
    assert_eq!(run(&mut schedule, NOW - 25 * HOUR).len(), 1);
}

#[test]
fn what_is_asked_for_by_hand_is_due_once() {
    let mut schedule = schedule();
    (0..5).for_each(|n| announce(&mut schedule, key(n), NOW - HOUR));
    assert!(schedule.force(&key(3)) && !schedule.force(&key(9)));
    assert_eq!(run(&mut schedule, NOW), [key(3)]);
    schedule.acknowledged([(key(3), 20)], NOW);
    assert!(run(&mut schedule, NOW).is_empty());
    assert_eq!(schedule.force_all(), 5);
    assert_eq!(run(&mut schedule, NOW).len(), 5);
    assert_eq!(schedule.totals(NOW).due, 5);
}

#[test]
fn some_keys_are_told_of() {
    let mut schedule = schedule();
    announce(&mut schedule, key(1), NOW - 2 * HOUR);
    announce(&mut schedule, key(2), NOW - HOUR);
    schedule.insert(key(3), Kind::Chunk);
    schedule.failed([key(3)], NOW - 3);
    let status = schedule.status_of(&[key(1), key(2), key(3), key(4)], NOW);
    let expected = KeysStatus {
        keys: 4,
        unscheduled: 1,
        done: 2,
        due: 1,
        failed: 1,
        copies_min: 0,
        copies_median: 20,
        oldest_success: Some(NOW - 2 * HOUR),
        last_success: Some(NOW - HOUR),
        next_due: Some(NOW + 2),
    };
    assert_eq!(status, expected);
}

#[test]
fn what_runs_out_while_it_waits_comes_before_renewals() {
    let mut schedule = schedule();
    for n in 0..100 {
        announce(&mut schedule, key(n), NOW - 47 * HOUR);
    }
    let limits = RunLimits {
        renewals: 10,
        ..RunLimits::ALL
    };
    let run = schedule.take_run(NOW, &limits);
    assert!(run.renewals && run.keys.len() == 10);
    let later = NOW + 2 * HOUR;
    let run = schedule.take_run(later, &limits);
    assert!(!run.renewals && run.keys.len() == 100, "{}", run.keys.len());
}

#[test]
fn a_clock_that_catches_up_leaves_nothing_due_that_is_not() {
    let mut schedule = schedule();
    schedule.insert(key(1), Kind::Chunk);
    schedule.acknowledged([(key(1), 20)], NOW + 5);
    // The clock is set back by some seconds, somebody looks, and the clock catches up.
    let _ = schedule.next_due(NOW);
    let later = NOW + 60;
    assert!(run(&mut schedule, later).is_empty());
    assert!(schedule.next_due(later) > later, "the engine would spin");
}

#[test]
fn a_chunk_that_becomes_a_file_is_due_for_its_value_is_nowhere() {
    let mut schedule = schedule();
    schedule.insert(key(1), Kind::Chunk);
    schedule.acknowledged([(key(1), 20)], NOW);
    schedule.insert(key(1), Kind::File);
    assert_eq!(run(&mut schedule, NOW + 1), [key(1)]);
}

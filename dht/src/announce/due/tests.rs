use super::*;

const NOW: u32 = 2_000_000_000;
const HOUR: u32 = 3600;

fn table() -> DueTable {
    DueTable::new(&AnnounceTimes::default())
}

fn key(n: u8) -> Key {
    [n; 32]
}

#[test]
fn files_come_before_new_chunks_before_renewals() {
    let mut due = table();
    due.load(key(1), Kind::Chunk, 20, NOW - 23 * HOUR);
    due.insert(key(2), Kind::Chunk);
    due.insert(key(3), Kind::File);
    let mut order = Vec::new();
    for _ in 0..3 {
        let run = due.take_run(NOW, &RunLimits::ALL);
        assert_eq!(run.len(), 1);
        order.push(run[0].0);
        due.acknowledged([run[0].0], NOW);
    }
    assert_eq!(order, [key(3), key(2), key(1)]);
    assert!(due.take_run(NOW, &RunLimits::ALL).is_empty());
    assert_eq!(due.status(NOW), (3, 0));
}

#[test]
fn each_kind_has_its_own_limit() {
    let limits = RunLimits {
        files: 2,
        new: 4,
        renewals: 3,
    };
    let mut due = table();
    for n in 0..10 {
        due.insert(key(n), Kind::File);
        due.insert(key(n + 10), Kind::Chunk);
        due.load(key(n + 20), Kind::Chunk, 20, NOW - 23 * HOUR);
    }
    assert_eq!(due.take_run(NOW, &limits).len(), 2);
    due.acknowledged((0..10).map(key), NOW);
    assert_eq!(due.take_run(NOW, &limits).len(), 4);
    due.acknowledged((10..20).map(key), NOW);
    assert_eq!(due.take_run(NOW, &limits).len(), 3);
}

#[test]
fn nothing_is_announced_again_within_the_interval_after_a_restart() {
    let mut due = table();
    for n in 0..200 {
        due.load(key(n), Kind::Chunk, 20, NOW - 19 * HOUR);
    }
    assert!(due.take_run(NOW, &RunLimits::ALL).is_empty());
    let renewed = due.take_run(NOW + 2 * HOUR, &RunLimits::ALL).len();
    assert!(
        (1..200).contains(&renewed),
        "spread over time, not {renewed} at once"
    );
    assert_eq!(due.take_run(NOW + 3 * HOUR, &RunLimits::ALL).len(), 200);
}

#[test]
fn failures_wait_longer_and_longer_and_peers_end_the_wait() {
    let mut due = table();
    due.insert(key(1), Kind::Chunk);
    let mut now = NOW;
    let mut waits = Vec::new();
    for _ in 0..12 {
        assert_eq!(due.take_run(now, &RunLimits::ALL).len(), 1);
        due.run_over([key(1)], now);
        let next = due.next_due().unwrap();
        waits.push(next - now);
        now = next;
    }
    assert!(waits.is_sorted() && waits[0] == 5 && waits[11] == 5 << 8);
    due.run_over([key(1)], now);
    assert!(due.take_run(now + 1, &RunLimits::ALL).is_empty());
    due.retry_failed(now + 1);
    assert_eq!(due.take_run(now + 1, &RunLimits::ALL).len(), 1);
    assert_eq!(due.status(now), (0, 1));
}

#[test]
fn a_thin_key_is_announced_again_when_the_network_has_grown() {
    let mut due = table();
    due.insert(key(1), Kind::Chunk);
    due.take_run(NOW, &RunLimits::ALL);
    due.acknowledged([key(1)], NOW);
    due.acknowledged([key(1)], NOW);
    due.refresh_thin(NOW + THIN_SECS, 3);
    assert!(due.take_run(NOW + THIN_SECS, &RunLimits::ALL).is_empty());
    due.refresh_thin(NOW + THIN_SECS - 1, 30);
    assert!(
        due.take_run(NOW + THIN_SECS - 1, &RunLimits::ALL)
            .is_empty()
    );
    due.refresh_thin(NOW + THIN_SECS, 30);
    assert_eq!(due.take_run(NOW + THIN_SECS, &RunLimits::ALL).len(), 1);
}

#[test]
fn an_expired_success_counts_as_to_do() {
    let mut due = table();
    due.load(key(1), Kind::Chunk, 3, NOW);
    assert_eq!(due.status(NOW + 47 * HOUR), (1, 0));
    assert_eq!(due.status(NOW + 48 * HOUR), (0, 1));
}

#[test]
fn a_clock_set_back_does_not_stop_renewals() {
    let mut due = table();
    due.load(key(1), Kind::Chunk, 20, NOW);
    let past = NOW - 24 * 365 * HOUR;
    assert_eq!(due.status(past), (0, 1));
    assert_eq!(due.take_run(past, &RunLimits::ALL).len(), 1);
    // Nobody takes it: it waits like any other failure.
    due.run_over([key(1)], past);
    assert!(due.take_run(past + 4, &RunLimits::ALL).is_empty());
    assert_eq!(due.take_run(past + 5, &RunLimits::ALL).len(), 1);
    due.acknowledged([key(1)], past + 5);
    due.run_over([key(1)], past + 5);
    assert_eq!(due.status(past + 5), (1, 0));
    assert!(due.take_run(past + 19 * HOUR, &RunLimits::ALL).is_empty());
}

#[test]
fn a_wait_longer_than_any_is_due() {
    let mut due = table();
    due.insert_held(key(1), NOW);
    assert!(due.take_run(NOW - 22 * HOUR, &RunLimits::ALL).is_empty());
    assert_eq!(due.take_run(NOW - 22 * HOUR - 1, &RunLimits::ALL).len(), 1);
}

#[test]
fn changes_reach_the_disk_once() {
    let mut due = table();
    due.insert(key(1), Kind::Chunk);
    due.acknowledged([key(1)], NOW);
    due.insert(key(2), Kind::File);
    due.remove(&key(2));
    let ops = due.take_dirty(100);
    assert_eq!(ops.len(), 2);
    assert!(matches!(&ops[0], DiskOp::Put(..)));
    assert!(matches!(&ops[1], DiskOp::Remove(..)));
    assert!(due.take_dirty(100).is_empty());
}

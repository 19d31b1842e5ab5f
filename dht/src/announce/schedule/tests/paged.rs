//! A schedule of which most is on the disk is as one that is in memory.

use std::path::Path;

use proptest::prelude::*;

use super::*;

/// Few enough that buckets come and go all the time.
const ROOM: usize = 3;

fn number(n: u16) -> Key {
    let mut key = [0; 32];
    key[..2].copy_from_slice(&n.to_be_bytes());
    key
}

fn paged(dir: &Path, now: u32) -> Schedule {
    let mut paged = Schedule::new(&AnnounceTimes::default(), &Point([0; 32]));
    let shelf = Shelf::open(dir, |at, stored| paged.load(at, stored, now, |_| {})).unwrap();
    paged.keep_on(Arc::new(shelf), ROOM);
    paged
}

fn write(schedule: &mut Schedule) {
    while schedule.dirty_len() > 0 {
        let buckets = schedule.take_dirty(2);
        schedule.shelf().unwrap().write(&buckets).unwrap();
        schedule.written(&buckets);
    }
}

#[derive(Clone, Debug)]
enum Action {
    Insert(u16, bool),
    Hold(u16),
    Remove(u16),
    Acknowledge(u16, u8),
    Fail(u16),
    Force(u16),
    ForceAll,
    Retry,
    Network(usize, u32),
    Interval(u32),
    Wait(u32),
    Write,
    Reopen,
}

fn action() -> impl Strategy<Value = Action> {
    let key = 0u16..40;
    prop_oneof![
        6 => (key.clone(), any::<bool>()).prop_map(|(n, file)| Action::Insert(n, file)),
        1 => key.clone().prop_map(Action::Hold),
        2 => key.clone().prop_map(Action::Remove),
        5 => (key.clone(), 0u8..25).prop_map(|(n, copies)| Action::Acknowledge(n, copies)),
        3 => key.clone().prop_map(Action::Fail),
        1 => key.prop_map(Action::Force),
        1 => Just(Action::ForceAll),
        1 => Just(Action::Retry),
        1 => (0usize..25, 0u32..14).prop_map(|(peers, depth)| Action::Network(peers, depth)),
        1 => (HOUR..40 * HOUR).prop_map(Action::Interval),
        3 => (0..20 * HOUR).prop_map(Action::Wait),
        4 => Just(Action::Write),
        1 => Just(Action::Reopen),
    ]
}

fn act(schedule: &mut Schedule, action: &Action, now: u32) {
    match *action {
        Action::Insert(n, file) => {
            let kind = if file { Kind::File } else { Kind::Chunk };
            schedule.insert(number(n), kind);
        }
        Action::Hold(n) => schedule.insert_held(number(n), now + 60),
        Action::Remove(n) => {
            schedule.remove(&number(n));
        }
        Action::Acknowledge(n, copies) => schedule.acknowledged([(number(n), copies)], now),
        Action::Fail(n) => schedule.failed([number(n)], now),
        Action::Force(n) => {
            schedule.force(&number(n));
        }
        Action::ForceAll => {
            schedule.force_all();
        }
        Action::Retry => schedule.retry_failed(),
        Action::Network(peers, depth) => schedule.set_network(peers, depth),
        Action::Interval(secs) => schedule.set_interval(secs),
        Action::Wait(_) | Action::Write | Action::Reopen => {}
    }
}

/// How all keys stand: a restart knows of the successes of keys that are left, and what is over due is due.
fn totals(schedule: &mut Schedule, now: u32) -> Totals {
    let totals = schedule.totals(now);
    assert_eq!(schedule.next_due(now), totals.next_due);
    Totals {
        last_success: 0,
        next_due: totals.next_due.max(now),
        ..totals
    }
}

/// What anybody can see.
fn seen(schedule: &mut Schedule, now: u32) -> (Totals, KeysStatus, Vec<Key>, Vec<Key>) {
    let keys: Vec<Key> = (0..40).map(number).collect();
    let mut status = schedule.status_of(&keys, now);
    status.next_due = status.next_due.map(|due| due.max(now));
    let (all, sample) = (schedule.keys_of(0..BUCKETS), schedule.sample(5));
    (totals(schedule, now), status, all, sample)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn it_does_what_one_in_memory_does(actions in proptest::collection::vec(action(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut now = NOW;
        let mut model = Schedule::new(&AnnounceTimes::default(), &Point([0; 32]));
        let mut schedule = paged(dir.path(), now);
        let (mut network, mut interval) = ((0, 0), 22 * HOUR);
        for action in actions {
            act(&mut model, &action, now);
            act(&mut schedule, &action, now);
            match action {
                Action::Network(peers, depth) => network = (peers, depth),
                Action::Interval(secs) => interval = secs,
                Action::Wait(secs) => now += secs,
                Action::Write => write(&mut schedule),
                Action::Reopen => {
                    // What is to be done with buckets that are away is done when they are fetched.
                    for _ in 0..2 {
                        schedule.keys_of(0..BUCKETS);
                        write(&mut schedule);
                    }
                    schedule = paged(dir.path(), now);
                    schedule.set_network(network.0, network.1);
                    schedule.set_interval(interval);
                    schedule.cursors = model.cursors;
                }
                _ => {}
            }
            // From afar a bucket may seem to be due that is not, and never the other way round.
            let (far, expected) = (totals(&mut schedule, now), totals(&mut model, now));
            prop_assert!(far.next_due <= expected.next_due);
            prop_assert_eq!(Totals { next_due: expected.next_due, ..far }, expected);
            prop_assert_eq!(seen(&mut schedule, now), seen(&mut model, now));
            let limits = RunLimits { files: 3, new: 3, renewals: 3 };
            let (run, expected) = (schedule.take_run(now, &limits), model.take_run(now, &limits));
            prop_assert_eq!(run.keys, expected.keys);
            prop_assert_eq!(run.renewals, expected.renewals);
            for n in 0..40 {
                let known = schedule.status_of(&[number(n)], now).unscheduled == 0;
                prop_assert_eq!(schedule.tags().may_have(&number(n)), known);
            }
        }
    }
}

#[test]
fn buckets_go_when_there_are_many_and_stay_while_they_wait_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut schedule = paged(dir.path(), NOW);
    (0..100).for_each(|n| schedule.insert(number(n), Kind::Chunk));
    assert_eq!((schedule.keys_here, schedule.is_crowded()), (100, true));
    let buckets = schedule.take_dirty(usize::MAX);
    schedule.totals(NOW);
    assert_eq!(schedule.keys_here, 100, "they are nowhere else");
    schedule.shelf().unwrap().write(&buckets).unwrap();
    schedule.written(&buckets);
    assert!(schedule.keys_here <= ROOM);
    assert_eq!(schedule.totals(NOW).due, 100);
    let run = schedule.take_run(NOW, &RunLimits::ALL);
    assert_eq!(run.keys.len(), 100);
    assert!(schedule.keys_here <= ROOM + 2, "{}", schedule.keys_here);
}

#[test]
fn what_the_disk_has_lost_is_not_in_the_schedule_and_can_enter_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut schedule = paged(dir.path(), NOW);
    (0..50).for_each(|n| schedule.insert(number(n), Kind::Chunk));
    write(&mut schedule);
    drop(schedule);
    let path = dir.path().join("schedule");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let mut schedule = paged(dir.path(), NOW);
    let left = schedule.len();
    assert!((20..30).contains(&left), "{left}");
    (0..50).for_each(|n| schedule.insert(number(n), Kind::Chunk));
    assert_eq!((schedule.len(), schedule.totals(NOW).due), (50, 50));
}

#[test]
fn entries_that_cannot_be_are_left_out() {
    let mut schedule = Schedule::new(&AnnounceTimes::default(), &Point([0; 32]));
    let entry = |n: u8, flags: u8| {
        let mut entry = vec![n; 32];
        entry.extend([flags, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        entry
    };
    // Out of order, twice, with an unknown flag, cut off.
    let stored = [
        entry(3, 0),
        entry(1, 1),
        entry(1, 0),
        entry(2, 0x80),
        vec![9; 40],
    ]
    .concat();
    let mut files = Vec::new();
    schedule.load(7, &stored, NOW, |key| files.push(key));
    assert_eq!((schedule.len(), files), (2, vec![key(1)]));
}

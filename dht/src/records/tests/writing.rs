//! The way to the disk: what fails is tried again, and who announces too fast waits.

use super::*;
use crate::announce::schedule::Kind;
use crate::records::changes::MAX_WAITING;
use crate::records::disk::Sink;
use crate::records::layout::DiskOp;
use crate::records::writer::Backlog;

/// Fails as often as it is told to.
#[derive(Default)]
struct Flaky {
    failures: usize,
    written: Vec<DiskOp>,
}

impl Sink for Flaky {
    fn apply(&mut self, ops: &[DiskOp]) -> Result<(), StoreError> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(StoreError::Closed);
        }
        self.written.extend_from_slice(ops);
        Ok(())
    }
}

/// A store whose changes nobody takes but the test.
fn unwritten(clock: &Arc<AtomicU32>) -> Records {
    let clock = clock.clone();
    Records {
        me: peer(0),
        keypair: keypair(0).clone(),
        tables: Mutex::new(tables(Limits::default())),
        due: Mutex::new(Schedule::new(&AnnounceTimes::default(), &Point([0; 32]))),
        tags: Arc::default(),
        writer: None,
        written: Notify::new(),
        clock: Arc::new(move || clock.load(Ordering::SeqCst)),
    }
}

fn number(n: u32) -> Key {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&n.to_le_bytes());
    key
}

#[test]
fn a_batch_that_failed_is_written_later() {
    let records = unwritten(&Arc::new(AtomicU32::new(START)));
    let keys: Vec<Key> = (0..3_000).map(number).collect();
    add_provided(&records, &peer(1), &[], &keys, Duration::from_secs(60));
    let (mut disk, mut backlog) = (
        Flaky {
            failures: 2,
            ..Flaky::default()
        },
        Backlog::default(),
    );
    assert!(backlog.write_all(&mut disk, &records).is_err());
    assert!(backlog.write_all(&mut disk, &records).is_err());
    assert!(disk.written.is_empty());
    backlog.write_all(&mut disk, &records).unwrap();
    // The peer and its records.
    assert_eq!(disk.written.len(), 3_001);
    backlog.write_all(&mut disk, &records).unwrap();
    assert_eq!(disk.written.len(), 3_001);
}

#[tokio::test]
async fn who_announces_faster_than_the_disk_writes_waits() {
    let records = Arc::new(unwritten(&Arc::new(AtomicU32::new(START))));
    assert!(records.room().await);
    let keys: Vec<Key> = (0..u32::try_from(MAX_WAITING).unwrap())
        .map(number)
        .collect();
    let taken = add_provided(&records, &peer(1), &[], &keys, Duration::from_secs(60));
    assert_eq!(taken, keys.len(), "refused rather than made to wait");
    let mut room = std::pin::pin!(records.room());
    assert!(futures::poll!(&mut room).is_pending(), "nobody waits");
    let (mut disk, mut backlog) = (Flaky::default(), Backlog::default());
    backlog.write_all(&mut disk, &records).unwrap();
    assert!(room.await);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let records = unwritten(&Arc::new(AtomicU32::new(START)));
    let keys: Vec<Key> = (0..u32::try_from(MAX_WAITING).unwrap())
        .map(number)
        .collect();
    add_provided(&records, &peer(1), &[], &keys, Duration::from_secs(60));
    assert!(!records.room().await);
}

#[tokio::test]
async fn without_a_folder_nothing_waits_for_a_disk() {
    let times = AnnounceTimes::default();
    let limits = Limits::default();
    let records = Records::open(None, keypair(0), limits, &times, system_clock()).unwrap();
    let keys: Vec<Key> = (0..100).map(key).collect();
    records.schedule(&keys, Kind::Chunk).await.unwrap();
    add_provided(
        &records,
        &peer(1),
        &[addr(1)],
        &keys,
        Duration::from_secs(60),
    );
    assert_eq!(records.due().len(), 100);
    assert_eq!(records.due().dirty_len(), 0, "changes pile up");
    assert_eq!(records.tables().dirty_len(), 0, "changes pile up");
    let now = records.now();
    assert_eq!(records.tables().providers(&key(7), now, 0).len(), 1);
    records.close().await.unwrap();
    records.sync().await.unwrap();
}

#[test]
fn a_log_of_history_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU32::new(START));
    let runtime = runtime();
    let records = open(dir.path(), Limits::default(), &clock);
    let keys: Vec<Key> = (0..20_000).map(number).collect();
    runtime
        .block_on(records.schedule(&keys[..50], Kind::Chunk))
        .unwrap();
    for round in 0..30 {
        runtime.block_on(records.room());
        let ttl = Duration::from_secs(3600 + round);
        add_provided(&records, &peer(1), &[addr(1)], &keys, ttl);
        runtime.block_on(records.sync()).unwrap();
    }
    runtime.block_on(records.close()).unwrap();
    drop(records);
    let log_bytes: usize = Disk::open(dir.path())
        .unwrap()
        .dump()
        .iter()
        .map(|(_, part)| part.len())
        .sum();
    // Thirty times 820 kB, if nothing ever went.
    assert!(log_bytes < 16 << 20, "{log_bytes}");
    let records = open(dir.path(), Limits::default(), &clock);
    let tables = records.tables();
    let whole = |key| tables.providers(key, START, 0)[0].expires == START + 3629;
    assert!(keys.iter().all(whole));
    drop(tables);
    assert_eq!(records.due().len(), 50);
    runtime.block_on(records.close()).unwrap();
}

//! Buffered appends: against a model with crashes, on full disks, and beside readers.

use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::direct::direct_align_bytes;
use crate::store::medium::DirMedium;
use crate::store::memory::MemoryMedium;
use crate::testing::bytes_of;

const STORE: [u8; 16] = [9; 16];
const BUFFER: usize = 16 * 1024;
const PACK_BYTES: u64 = 100_000;

fn sync(packs: &Packs) -> Result<Vec<(u32, u64)>, StoreError> {
    packs.write_out()?;
    packs.sync(&packs.sync_point())
}

#[derive(Clone, Debug)]
enum Action {
    Append(usize),
    Sync,
    WriteOut,
    /// The records from this one on, as many as the second.
    Free(usize, usize),
    Seal,
    /// Whether what was written and not synced survives.
    Crash(bool),
    /// Of the oldest pack, if all in it is freed.
    RemoveOldest,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        8 => prop_oneof![0..100usize, 3000..6000usize, 0..3 * BUFFER].prop_map(Action::Append),
        2 => Just(Action::Sync),
        1 => Just(Action::WriteOut),
        2 => (0..40usize, 1..8usize).prop_map(|(from, count)| Action::Free(from, count)),
        1 => Just(Action::Seal),
        1 => any::<bool>().prop_map(Action::Crash),
        1 => Just(Action::RemoveOldest),
    ];
    proptest::collection::vec(action, 1..60)
}

struct Known {
    at: Location,
    payload: Vec<u8>,
    durable: bool,
    freed: bool,
}

/// What a crash leaves, given whether unsynced bytes survive.
type Crash<'a> = &'a dyn Fn(bool) -> Option<Arc<dyn Medium>>;

struct Harness {
    medium: Arc<dyn Medium>,
    packs: Packs,
    known: Vec<Known>,
    seed: u64,
}

impl Harness {
    fn new(medium: Arc<dyn Medium>) -> Self {
        Self {
            packs: Packs::open(Arc::clone(&medium), STORE, PACK_BYTES).unwrap(),
            medium,
            known: Vec::new(),
            seed: 0,
        }
    }

    fn run(&mut self, action: &Action) {
        match *action {
            Action::Append(len) => {
                self.seed += 1;
                let payload = bytes_of(self.seed, len);
                let hash = *blake3::hash(&payload).as_bytes();
                let at = self.packs.append(RecordKind::Chunk, &hash, &payload);
                self.known.push(Known {
                    at: at.unwrap(),
                    payload,
                    durable: false,
                    freed: false,
                });
            }
            Action::Sync => {
                let ends = sync(&self.packs).unwrap();
                for known in &mut self.known {
                    let end = ends.iter().find(|(pack, _)| *pack == known.at.pack);
                    known.durable |= end.is_some_and(|(_, end)| known.at.next_offset() <= *end);
                    assert!(known.durable, "a sync covers all that was appended");
                }
            }
            Action::WriteOut => {
                self.packs.write_out().unwrap();
                assert_eq!(self.packs.unwritten_bytes(), 0);
            }
            Action::Free(from, count) => {
                let dying = self.known.iter_mut().skip(from).take(count);
                let dying: Vec<Location> = dying
                    .filter(|known| !known.freed)
                    .map(|known| {
                        known.freed = true;
                        known.at
                    })
                    .collect();
                self.packs.free(&dying).unwrap();
            }
            Action::Seal => self.packs.seal_active(),
            Action::RemoveOldest => {
                let Some(id) = self.packs.ids().unwrap().first().copied() else {
                    return;
                };
                let mut inside = self.known.iter().filter(|known| known.at.pack == id);
                if inside.all(|known| known.freed) {
                    let is_active = self.packs.is_active(id);
                    assert_eq!(self.packs.remove(id).is_err(), is_active);
                    assert_eq!(self.packs.ids().unwrap().contains(&id), is_active);
                }
            }
            Action::Crash(_) => unreachable!(),
        }
    }

    /// Opens what is left, as recovery does.
    fn reopen(&mut self, left: Option<Arc<dyn Medium>>) {
        // No thread writes any more when the medium is used again.
        self.packs = Packs::open(Arc::new(MemoryMedium::default()), STORE, 0).unwrap();
        self.medium = left.unwrap_or_else(|| Arc::clone(&self.medium));
        self.packs = Packs::open(Arc::clone(&self.medium), STORE, PACK_BYTES).unwrap();
        let mut live = Vec::new();
        let ids = self.packs.ids().unwrap();
        for id in &ids {
            self.packs.sync_pack(*id).unwrap();
            let visit = &mut |record: Scanned| {
                live.extend((!record.dead).then_some(record.at));
                Ok(())
            };
            let end = self
                .packs
                .scan(*id, PACK_HEADER_BYTES, Verify::Payloads, visit)
                .unwrap();
            if ids.last() == Some(id) {
                self.packs.resume(*id, end.end).unwrap();
            }
        }
        self.known.retain_mut(|known| {
            let found = live.contains(&known.at);
            assert!(!(found && known.freed), "{:?} came back", known.at);
            assert!(
                found || known.freed || !known.durable,
                "{:?} is lost",
                known.at
            );
            known.durable = true;
            found
        });
        assert_eq!(live.len(), self.known.len(), "a record nobody wrote");
    }

    fn check(&self) {
        for known in self.known.iter().filter(|known| !known.freed) {
            assert_eq!(self.packs.read(known.at).unwrap(), known.payload);
        }
    }
}

fn run_all(medium: Arc<dyn Medium>, actions: &[Action], crash: Crash<'_>) {
    let mut harness = Harness::new(medium);
    for action in actions {
        match action {
            Action::Crash(keep_unsynced) => harness.reopen(crash(*keep_unsynced)),
            action => harness.run(action),
        }
        harness.check();
    }
    harness.run(&Action::Sync);
    harness.reopen(crash(false));
    harness.check();
}

fn run_in_memory(buffer_bytes: usize, actions: &[Action]) {
    let blocks = |below| {
        Arc::new(SmallBlocks {
            below,
            buffer_bytes,
            space_bytes: None,
        })
    };
    let medium = blocks(MemoryMedium::default());
    let current = RefCell::new(Arc::clone(&medium));
    run_all(medium, actions, &|keep_unsynced| {
        let left = blocks(current.borrow().below.power_cut(keep_unsynced));
        *current.borrow_mut() = Arc::clone(&left);
        Some(left)
    });
}

/// A medium that is written in small blocks, and may be nearly full.
struct SmallBlocks<M> {
    below: M,
    buffer_bytes: usize,
    /// Without a limit, files are written directly where the medium below can do that.
    space_bytes: Option<Arc<AtomicI64>>,
}

struct NearlyFull {
    below: Arc<dyn PackFile>,
    space_bytes: Arc<AtomicI64>,
}

impl<M: Medium> SmallBlocks<M> {
    fn wrap(&self, below: Arc<dyn PackFile>) -> Arc<dyn PackFile> {
        match self.space_bytes.clone() {
            Some(space_bytes) => Arc::new(NearlyFull { below, space_bytes }),
            None => below,
        }
    }
}

impl<M: Medium> Medium for SmallBlocks<M> {
    fn ids(&self) -> io::Result<Vec<u32>> {
        self.below.ids()
    }
    fn open(&self, id: u32) -> io::Result<Arc<dyn PackFile>> {
        Ok(self.wrap(self.below.open(id)?))
    }
    fn create(&self, id: u32, header: &[u8]) -> io::Result<Arc<dyn PackFile>> {
        Ok(self.wrap(self.below.create(id, header)?))
    }
    fn remove(&self, id: u32) -> io::Result<()> {
        self.below.remove(id)
    }
    fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }
    fn disk_bytes_of(&self, id: u32) -> io::Result<u64> {
        self.below.disk_bytes_of(id)
    }
    fn disk_bytes(&self) -> u64 {
        self.below.disk_bytes()
    }
    fn path(&self) -> PathBuf {
        self.below.path()
    }
}

impl PackFile for NearlyFull {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.below.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        // Only what makes the file longer needs space, and a full disk lets the first part through.
        let end = offset + buf.len() as u64;
        let more = i64::try_from(end.saturating_sub(self.len()?)).unwrap();
        let space = self.space_bytes.fetch_sub(more, Ordering::Relaxed);
        if space >= more {
            return self.below.write_at(buf, offset);
        }
        self.space_bytes.store(0, Ordering::Relaxed);
        let missing = usize::try_from(more - space).unwrap();
        self.below.write_at(&buf[..buf.len() - missing], offset)?;
        Err(io::ErrorKind::StorageFull.into())
    }
    fn len(&self) -> io::Result<u64> {
        self.below.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let freed = i64::try_from(self.len()?.saturating_sub(len)).unwrap();
        self.space_bytes.fetch_add(freed, Ordering::Relaxed);
        self.below.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.below.sync()
    }
    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        self.below.punch(range)
    }
}

fn nearly_full(buffer_bytes: usize, space: i64) -> (Arc<dyn Medium>, Arc<AtomicI64>) {
    let space_bytes = Arc::new(AtomicI64::new(space));
    let medium = SmallBlocks {
        below: MemoryMedium::default(),
        buffer_bytes,
        space_bytes: Some(Arc::clone(&space_bytes)),
    };
    (Arc::new(medium), space_bytes)
}

fn small_blocks(dir: &Path, direct_io: bool) -> Arc<dyn Medium> {
    let below = DirMedium::new(dir.to_owned()).unwrap();
    Arc::new(SmallBlocks {
        below: below.with_direct_io(direct_io),
        buffer_bytes: BUFFER,
        space_bytes: None,
    })
}

/// A folder of its own on the file system of the temporary files, and one in memory where there is one.
fn folders() -> Vec<tempfile::TempDir> {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.into_iter().chain(tempfile::tempdir()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn power_cuts_lose_nothing_synced(
        buffer_bytes in prop_oneof![Just(0), Just(4096), Just(BUFFER)],
        actions in actions(),
    ) {
        run_in_memory(buffer_bytes, &actions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn folders_keep_what_was_appended(actions in actions(), direct_io: bool) {
        for folder in folders() {
            run_all(small_blocks(folder.path(), direct_io), &actions, &|_| None);
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_appended() {
    // A block of its own, in the middle of one, and less than the pack's header.
    for space in [10_000, 40_000, 100] {
        let (medium, left) = nearly_full(BUFFER, space);
        let packs = Packs::open(medium.clone(), STORE, u64::MAX).unwrap();
        let mut kept = Vec::new();
        let mut append = |n: u64| {
            let payload = bytes_of(n, 3000);
            let hash = *blake3::hash(&payload).as_bytes();
            let at = packs.append(RecordKind::Chunk, &hash, &payload)?;
            kept.push((at, payload));
            Ok::<_, StoreError>(())
        };
        let error = (0..100).find_map(|n| append(n).err()).unwrap();
        assert!(error.is_no_space(), "{error}");
        // Nothing is told to be durable, and what a failed write took is given back.
        assert!(sync(&packs).unwrap_err().is_no_space());
        let len = medium.open(0).unwrap().len().unwrap();
        assert!(len <= PACK_HEADER_BYTES + space.unsigned_abs(), "{len}");
        assert!(append(200).unwrap_err().is_no_space());
        // Room again: all that was appended is there, and nothing that failed.
        left.store(1 << 20, Ordering::Relaxed);
        append(300).unwrap();
        let ends = sync(&packs).unwrap();
        let (last, _) = kept.last().unwrap();
        assert_eq!(ends, [(0, last.next_offset())]);
        let mut found = Vec::new();
        let visit = &mut |record: Scanned| {
            found.push((record.at, record.payload.unwrap().to_vec()));
            Ok(())
        };
        let end = packs
            .scan(0, PACK_HEADER_BYTES, Verify::Payloads, visit)
            .unwrap();
        assert_eq!((found, end.gaps), (kept, 0));
    }
}

#[test]
fn what_is_no_chunk_is_written_at_once_or_never() {
    let (medium, left) = nearly_full(BUFFER, 100);
    let packs = Packs::open(medium.clone(), STORE, u64::MAX).unwrap();
    let append =
        |kind, payload: &[u8]| packs.append(kind, blake3::hash(payload).as_bytes(), payload);
    let chunk = append(RecordKind::Chunk, &[1; 40]).unwrap();
    let tombstone = append(RecordKind::Tombstone, &[2; 32]);
    assert!(tombstone.unwrap_err().is_no_space());
    left.store(1000, Ordering::Relaxed);
    let later = append(RecordKind::Tombstone, &[3; 32]).unwrap();
    assert_eq!(medium.open(0).unwrap().len().unwrap(), later.next_offset());
    let mut found = Vec::new();
    let visit = &mut |record: Scanned| {
        found.push(record.at);
        Ok(())
    };
    packs.walk(0, visit).unwrap();
    assert_eq!(found, [chunk, later]);
}

#[test]
fn a_record_larger_than_the_buffer_is_taken_back_whole() {
    let (medium, left) = nearly_full(4096, 5_000_000);
    let packs = Packs::open(medium.clone(), STORE, u64::MAX).unwrap();
    let append = |payload: &[u8]| {
        let hash = *blake3::hash(payload).as_bytes();
        packs.append(RecordKind::Manifest, &hash, payload)
    };
    let large = bytes_of(1, 3_000_000);
    let first = append(&large).unwrap();
    let small = append(b"small").unwrap();
    assert!(append(&large).unwrap_err().is_no_space());
    assert_eq!(medium.open(0).unwrap().len().unwrap(), small.next_offset());
    left.store(10_000_000, Ordering::Relaxed);
    let again = append(&large).unwrap();
    assert_eq!(again.offset, small.next_offset());
    for at in [first, again] {
        assert_eq!(packs.read(at).unwrap(), large);
    }
    assert_eq!(packs.read(small).unwrap(), b"small".as_slice());
}

#[test]
fn readers_see_every_record_from_its_append_on() {
    for direct_io in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let medium = small_blocks(folder.path(), direct_io);
        let packs = Packs::open(medium, STORE, PACK_BYTES).unwrap();
        let places: Mutex<Vec<(Location, u64)>> = Mutex::default();
        let done = AtomicBool::new(false);
        let len_of = |n: u64| usize::try_from(n * 37 % 9000).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut turn = 0usize;
                    while !done.load(Ordering::Relaxed) {
                        turn += 1;
                        let newest = lock(&places).last().copied();
                        let any = lock(&places).get(turn % 300).copied();
                        for (at, n) in newest.into_iter().chain(any) {
                            assert_eq!(packs.read(at).unwrap(), bytes_of(n, len_of(n)));
                        }
                    }
                });
            }
            for n in 0..600u64 {
                let payload = bytes_of(n, len_of(n));
                let hash = *blake3::hash(&payload).as_bytes();
                let at = packs.append(RecordKind::Chunk, &hash, &payload).unwrap();
                lock(&places).push((at, n));
                if n % 50 == 0 {
                    sync(&packs).unwrap();
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn direct_writes_are_of_whole_pages() {
    let align = direct_align_bytes();
    assert!(align.is_power_of_two() && align >= 4096);
    assert!(align.is_multiple_of(rustix::param::page_size()));
    // The twin in memory refuses what is not aligned, whatever a buffer's size.
    for buffer_bytes in [1, 5000, BUFFER + 1] {
        let medium = SmallBlocks {
            below: MemoryMedium::default(),
            buffer_bytes,
            space_bytes: None,
        };
        let packs = Packs::open(Arc::new(medium), STORE, u64::MAX).unwrap();
        for n in 0..50 {
            let payload = bytes_of(n, 3000);
            let hash = *blake3::hash(&payload).as_bytes();
            packs.append(RecordKind::Chunk, &hash, &payload).unwrap();
        }
        sync(&packs).unwrap();
    }
}

#[test]
fn reading_ahead_and_sizes_are_of_the_pack() {
    let folder = tempfile::tempdir().unwrap();
    let medium = Arc::new(DirMedium::new(folder.path().to_owned()).unwrap());
    let packs = Packs::open(medium, STORE, u64::MAX).unwrap();
    let payload = bytes_of(1, 1 << 20);
    let hash = *blake3::hash(&payload).as_bytes();
    let places = [(); 3].map(|()| packs.append(RecordKind::Chunk, &hash, &payload).unwrap());
    sync(&packs).unwrap();
    assert_eq!(places[0].record_bytes(), (1 << 20) + 48);
    let full = packs.disk_bytes_of(0).unwrap();
    assert!(full >= 3 << 20, "{full}");
    packs.will_need(&places);
    packs.free(&places[..2]).unwrap();
    let left = packs.disk_bytes_of(0).unwrap();
    // Where holes cannot be punched nothing comes back before a compaction.
    assert!(
        left == full || full - left >= (2 << 20) - 8192,
        "{left} of {full}"
    );
    assert_eq!(packs.read(places[2]).unwrap(), payload);
}

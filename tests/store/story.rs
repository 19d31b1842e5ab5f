//! What a process does to a store until it is killed, the log of what it was promised, and the check that
//! every promise was kept.
//!
//! The log is a file outside the store, one line a fact; a line without its end was not written. `storing`
//! and `removing` come before the deed, `stored`, `removed` and `chunks` after the store acknowledged it;
//! `collecting` and `unsure` take promises of loose chunks back.
//! Numbers are seeds: all content follows from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use casnode_cas::{
    Address, ChunkHash, Chunking, Claim, EntryKind, ImportError, ImportOptions, Listing, SmallFile,
    Store, StoreConfig, StoreError, import_reader,
};

/// Whole files that a writer keeps at a time; one more, and one of them is removed.
const KEPT_FILES: usize = 24;

/// Set to write packs through the page cache.
const BUFFERED: &str = "CASNODE_CRASH_BUFFERED";

/// A writer ends by itself after this long, should nobody kill it.
const LIFE: Duration = Duration::from_secs(20);

/// Small packs and a small reserve: every mechanism comes into play within a few megabytes.
pub(crate) fn config() -> StoreConfig {
    let mut config = StoreConfig::default();
    config.direct_io = std::env::var_os(BUFFERED).is_none();
    config.pack_bytes = 8 << 20;
    config.reserve_bytes = 1 << 20;
    config.min_free_bytes = 1 << 20;
    config
}

/// `len` bytes that follow from `name` and `seed`.
pub(crate) fn bytes_of(name: &str, seed: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes()).update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Files that a directory lists.
const MEMBERS: u64 = 40;

/// Every eleventh file is the listing of a directory.
fn is_dir(seed: u64) -> bool {
    seed % 11 == 10
}

fn members(seed: u64) -> Vec<SmallFile> {
    let member = |n| {
        let bytes = bytes_of("member", seed * MEMBERS + n, 1 + n * 97 % 3_000);
        SmallFile {
            address: Address::of(&bytes),
            bytes: bytes.into(),
            name: None,
        }
    };
    (0..MEMBERS).map(member).collect()
}

fn listing_bytes(seed: u64) -> Vec<u8> {
    let mut builder = Listing::builder();
    for (n, member) in members(seed).into_iter().enumerate() {
        let kind = EntryKind::File {
            address: member.address,
            bytes: member.bytes.len() as u64,
            executable: false,
        };
        builder.push(&format!("folder {seed}/{n}"), kind).unwrap();
    }
    builder.finish().unwrap().encode()
}

/// A file of up to 1.2 MB, and now and then of more than a write to the disk takes at once. Every second
/// one begins like its neighbours, so that they share chunks.
pub(crate) fn file_bytes(seed: u64) -> Vec<u8> {
    if is_dir(seed) {
        return listing_bytes(seed);
    }
    let mut bytes = Vec::new();
    if seed.is_multiple_of(2) {
        bytes = bytes_of("family", seed / 8, 300_000);
    }
    let len = if seed.is_multiple_of(5) {
        3_000
    } else {
        900_000
    };
    let long = if seed % 7 == 6 { 5_000_000 } else { 0 };
    bytes.extend(bytes_of("file", seed, 1 + seed * 104_729 % len + long));
    bytes
}

/// Three chunks that belong to no file; one of them is small enough for the index.
fn loose_chunks(seed: u64) -> [Vec<u8>; 3] {
    let len = 1 + seed * 7_919 % 90_000;
    [(0, len), (1, 20_000), (2, 1 + len % 900)].map(|(n, len)| bytes_of("chunk", seed * 3 + n, len))
}

/// Stores file `seed`; every third is cut by content. A directory comes with its members.
pub(crate) fn import(store: &Store, seed: u64) -> Result<Address, ImportError> {
    if !is_dir(seed) {
        return import_file(store, seed);
    }
    let _hold = store.hold_members();
    store.add_small_files(&members(seed), Claim::Member)?;
    let address = import_file(store, seed)?;
    store.enter_directory(&address, Claim::Pinned)?;
    Ok(address)
}

fn import_file(store: &Store, seed: u64) -> Result<Address, ImportError> {
    let bytes = file_bytes(seed);
    let by_content = seed.is_multiple_of(3);
    let options = ImportOptions {
        name: Some(format!("file {seed}")),
        chunking: if by_content {
            Chunking::FastCdc
        } else {
            Chunking::Fixed
        },
        ..ImportOptions::default()
    };
    let mut go_on = |_: u64, _: Option<u64>| ControlFlow::Continue(());
    let size = Some(bytes.len() as u64);
    let done = import_reader(store, &mut bytes.as_slice(), size, &options, &mut go_on)?;
    Ok(done.address)
}

/// The log, for writing.
pub(crate) struct Log(File);

impl Log {
    pub(crate) fn append_to(path: &Path) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(path);
        let log = Self(log.unwrap());
        // Ends a line that a kill may have cut off.
        log.say("");
        log
    }

    /// One write, so that two threads never mix their lines.
    pub(crate) fn say(&self, line: &str) {
        (&self.0).write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// Whether a line says that the store acknowledged something.
fn is_promise(word: &str) -> bool {
    matches!(word, "stored" | "removed" | "chunks")
}

/// The whole lines of a log.
fn lines(text: &str) -> Vec<(&str, u64)> {
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let words = whole.lines().filter_map(|line| line.split_once(' '));
    words
        .map(|(word, seed)| (word, seed.parse().unwrap()))
        .collect()
}

/// Takes the last promise of each writing thread back, for good: a simulated power cut races with the one
/// sync under way, on which both may wait.
pub(crate) fn excuse_last(log: &Path) {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut lines = lines(&text);
    lines.reverse();
    let last = |words: &[&str]| lines.iter().find(|(word, _)| words.contains(word)).copied();
    let log = Log::append_to(log);
    match last(&["stored", "removed"]) {
        Some(("stored", seed)) => log.say(&format!("storing {seed}")),
        Some((_, seed)) => log.say(&format!("removing {seed}")),
        None => {}
    }
    if let Some((_, seed)) = last(&["chunks"]) {
        log.say(&format!("unsure {seed}"));
    }
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Stored,
    Removed,
    /// Storing or removing it was under way.
    Open,
}

/// What the store owes us.
#[derive(Default)]
pub(crate) struct Story {
    pub(crate) files: BTreeMap<u64, Fate>,
    /// Seeds of acknowledged loose chunks that no collection may have taken.
    pub(crate) chunks: BTreeSet<u64>,
    /// Above every seed in the log.
    pub(crate) next: u64,
    pub(crate) acknowledged: usize,
}

impl Story {
    /// Reads a log.
    pub(crate) fn read(log: &Path) -> Self {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines = lines(&text);
        let mut story = Self {
            acknowledged: lines.iter().filter(|(word, _)| is_promise(word)).count(),
            ..Self::default()
        };
        for (word, seed) in lines {
            story.next = story.next.max(seed + 1);
            match word {
                "storing" | "removing" => story.files.insert(seed, Fate::Open),
                "stored" => story.files.insert(seed, Fate::Stored),
                "removed" => story.files.insert(seed, Fate::Removed),
                "chunks" => {
                    story.chunks.insert(seed);
                    continue;
                }
                "unsure" => {
                    story.chunks.remove(&seed);
                    continue;
                }
                "collecting" => {
                    story.chunks.clear();
                    continue;
                }
                other => panic!("unknown word {other:?} in the log"),
            };
        }
        story
    }

    fn stored(&self) -> Vec<u64> {
        let stored = |(seed, fate): (&u64, &Fate)| (*fate == Fate::Stored).then_some(*seed);
        self.files.iter().filter_map(stored).collect()
    }
}

/// Stores and removes files, and beside it puts and collects loose chunks, until it is killed.
pub(crate) fn write(folder: &Path, log_path: &Path) {
    let mut story = Story::read(log_path);
    let log = Log::append_to(log_path);
    let store = Store::open(folder, config()).unwrap();
    let (first, ends) = (story.next, Instant::now() + LIFE);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seed in (first..).take_while(|_| Instant::now() < ends) {
                for chunk in loose_chunks(seed) {
                    store.put(&ChunkHash::of(&chunk), &chunk).unwrap();
                }
                store.commit().unwrap();
                log.say(&format!("chunks {seed}"));
                if seed % 16 == 15 {
                    log.say(&format!("collecting {seed}"));
                    collect(&store);
                }
            }
        });
        for seed in (first..).take_while(|_| Instant::now() < ends) {
            log.say(&format!("storing {seed}"));
            import(&store, seed).unwrap();
            log.say(&format!("stored {seed}"));
            story.files.insert(seed, Fate::Stored);
            let stored = story.stored();
            if stored.len() > KEPT_FILES {
                let victim = stored[usize::try_from(seed * 7_919).unwrap() % stored.len()];
                log.say(&format!("removing {victim}"));
                let address = Address::of(&file_bytes(victim));
                store.remove_file(&address).unwrap().unwrap();
                log.say(&format!("removed {victim}"));
                story.files.insert(victim, Fate::Removed);
            }
        }
    });
}

/// Everything that gives space back.
pub(crate) fn collect(store: &Store) {
    let report = store.gc(&mut |_| ControlFlow::Continue(())).unwrap();
    assert!(report.evicted.is_empty(), "there is no limit");
}

/// A file's bytes, through its manifest; `None` when there is no entry.
pub(crate) fn read_back(store: &Store, address: &Address) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(manifest) = store.manifest(address)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    for chunk in manifest.chunks() {
        let found = store.get(&chunk.hash)?;
        bytes.extend_from_slice(&found.ok_or(StoreError::Corrupt { hash: chunk.hash })?);
    }
    Ok(Some(bytes))
}

/// Everything is read and hashed; nothing may be found.
pub(crate) fn verify(store: &Store) {
    let mut go_on = |_: u64, _: u64| ControlFlow::Continue(());
    let found = store.verify(None, &mut go_on).unwrap();
    assert!(found.bad.is_empty() && found.lost.is_empty(), "{found:?}");
    assert!(found.bad_manifests.is_empty(), "{found:?}");
}

/// All members of a directory are here, or none.
fn check_members(store: &Store, seed: u64, fate: Fate) {
    for member in members(seed) {
        let found = read_back(store, &member.address).unwrap();
        let expected = (fate == Fate::Stored).then(|| member.bytes.to_vec());
        assert!(found == expected, "a member of directory {seed}");
    }
}

/// Panics unless every promise was kept; `unless` names files of which bytes may be reported as damaged or
/// missing, and never be wrong.
pub(crate) fn check(store: &Store, story: &Story, unless: &BTreeSet<u64>) {
    for (&seed, &fate) in &story.files {
        let bytes = file_bytes(seed);
        let address = Address::of(&bytes);
        let found = read_back(store, &address);
        if let Ok(Some(found)) = &found {
            assert!(*found == bytes, "file {seed} has other bytes");
        }
        match fate {
            Fate::Stored if unless.contains(&seed) => {}
            Fate::Stored => {
                let found = found.unwrap_or_else(|error| panic!("file {seed}: {error}"));
                assert!(found.is_some(), "file {seed} is gone");
                let entry = store.file(&address).unwrap().unwrap();
                assert_eq!(entry.name, Some(format!("file {seed}")));
                assert!(entry.is_pinned());
                assert_eq!(entry.directory, is_dir(seed));
            }
            Fate::Removed => assert!(matches!(found, Ok(None)), "file {seed} is back"),
            Fate::Open => {}
        }
        if is_dir(seed) && fate != Fate::Open && !unless.contains(&seed) {
            check_members(store, seed, fate);
        }
    }
    for &seed in &story.chunks {
        for chunk in loose_chunks(seed) {
            let found = store.get(&ChunkHash::of(&chunk)).unwrap();
            assert!(found.is_some_and(|found| found == chunk), "chunk of {seed}");
        }
    }
}

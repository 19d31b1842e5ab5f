//! A disk that is full at every step. Needs the right to mount a tmpfs; says so where it is missing.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use casnode_cas::{Address, ChunkHash, ImportError, Store, StoreError};

use crate::story::{self, Fate, Story};

/// Nothing here takes longer unless it hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long the disk runs full again and again.
const RACE: Duration = Duration::from_secs(3);

const BASE: std::ops::Range<u64> = 0..6;

/// A small file system with a store; unmounted when dropped, even while something hangs in it.
struct Small {
    dir: tempfile::TempDir,
}

impl Small {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"]);
        let mounted = command.arg(dir.path()).output().ok()?.status.success();
        if !mounted {
            println!("skipped: no right to mount");
        }
        mounted.then_some(Self { dir })
    }

    fn others(&self) -> PathBuf {
        self.dir.path().join("others")
    }

    /// The database gives its lock back a little after a failure, from a thread of its own: waited for.
    fn open(&self) -> Result<Store, StoreError> {
        let folder = self.dir.path().join("store");
        in_time("open", move || {
            loop {
                match Store::open(&folder, story::config()) {
                    Err(error) if error.to_string().contains("could not acquire lock") => {
                        thread::sleep(Duration::from_millis(5));
                    }
                    result => return result,
                }
            }
        })
    }

    /// Someone else takes all but `free_bytes`.
    fn fill(&self, free_bytes: u64) {
        let file = fs::File::create(self.others()).unwrap();
        let free = rustix::fs::statvfs(self.dir.path()).unwrap();
        let take_bytes = (free.f_bavail * free.f_frsize).saturating_sub(free_bytes);
        let flags = rustix::fs::FallocateFlags::empty();
        // Others may be quicker: then it is full without us.
        let _ = rustix::fs::fallocate(&file, flags, 0, take_bytes.max(1));
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let mut command = Command::new("umount");
        let _ = command.arg("--lazy").arg(self.dir.path()).status();
    }
}

/// Runs `step` beside a watchdog.
fn in_time<T: Send + 'static>(what: &str, step: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        let _ = sender.send(step());
    });
    let done = receiver.recv_timeout(DEADLINE);
    done.unwrap_or_else(|error| panic!("'{what}' on a full disk: {error}"))
}

/// The files of the beginning, less one.
fn story_without(removed: Option<u64>) -> Story {
    let mut story = Story::default();
    story.files.extend(BASE.map(|seed| (seed, Fate::Stored)));
    story.files.extend(removed.map(|seed| (seed, Fate::Open)));
    story
}

fn address(seed: u64) -> Address {
    Address::of(&story::file_bytes(seed))
}

fn store_error(error: ImportError) -> StoreError {
    match error {
        ImportError::Store(error) => error,
        other => panic!("{other}"),
    }
}

type Step = fn(&Store) -> Result<(), StoreError>;

const STEPS: [(&str, Step); 6] = [
    ("nothing but closing", |_| Ok(())),
    ("put and commit", |store| {
        for n in 0..200 {
            let chunk = story::bytes_of("full", n, 60_000);
            store.put(&ChunkHash::of(&chunk), &chunk)?;
            store.commit()?;
        }
        Ok(())
    }),
    ("store files", |store| {
        for seed in 100..120 {
            story::import(store, seed).map_err(store_error)?;
        }
        Ok(())
    }),
    ("remove", |store| store.remove_file(&address(2)).map(drop)),
    ("collect", |store| {
        store.gc(&mut |_| ControlFlow::Continue(())).map(drop)
    }),
    ("verify", |store| {
        store
            .verify(None, &mut |_, _| ControlFlow::Continue(()))
            .map(|found| assert!(found.bad.is_empty()))
    }),
];

#[test]
fn a_disk_that_is_full_at_any_step_is_a_clean_error_and_loses_nothing() {
    const KIB: u64 = 1024;
    let free = [0, 4 * KIB, 32 * KIB, 200 * KIB, 700 * KIB, 2_500 * KIB];
    for (what, step) in STEPS {
        for free_bytes in free {
            let Some(small) = Small::mount() else { return };
            one_case(
                &small,
                &format!("{what}, {free_bytes} bytes left"),
                step,
                free_bytes,
            );
        }
    }
}

fn one_case(small: &Small, what: &str, step: Step, free_bytes: u64) {
    let store = small.open().unwrap();
    for seed in BASE {
        story::import(&store, seed).unwrap();
    }
    let loose = story::bytes_of("loose", 0, 100_000);
    store.put(&ChunkHash::of(&loose), &loose).unwrap();
    store.commit().unwrap();
    let whole = story_without(what.starts_with("remove").then_some(2));
    let nothing = BTreeSet::new();

    small.fill(free_bytes);
    let shared = store.clone();
    let result = in_time(what, move || step(&shared));
    if let Err(error) = &result {
        assert!(error.is_no_space(), "{what}: {error}");
    }
    story::check(&store, &whole, &nothing);
    in_time(what, move || drop(store));
    match small.open() {
        Ok(store) => story::check(&store, &whole, &nothing),
        Err(error) => assert!(error.is_no_space(), "{what}, then open: {error}"),
    }

    fs::remove_file(small.others()).unwrap();
    let store = small.open().unwrap();
    story::check(&store, &whole, &nothing);
    story::import(&store, 50).unwrap();
    store.remove_file(&address(0)).unwrap().unwrap();
    drop(store);
    let store = small.open().unwrap();
    let mut after = whole;
    after.files.extend([(0, Fate::Removed), (50, Fate::Stored)]);
    story::check(&store, &after, &nothing);
}

/// Fills the disk and frees it again, without looking at what the store does.
fn come_and_go(dir: &Path, stop: &AtomicBool) {
    let others = dir.join("others");
    let block = vec![1; 1 << 20];
    while !stop.load(Ordering::Relaxed) {
        let mut file = fs::File::create(&others).unwrap();
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        drop(file);
        let _ = fs::remove_file(&others);
    }
}

#[test]
fn a_disk_that_runs_full_at_any_moment_loses_nothing() {
    let Some(small) = Small::mount() else { return };
    let store = small.open().unwrap();
    for seed in BASE {
        story::import(&store, seed).unwrap();
    }
    drop(store);
    let whole = story_without(None);
    let stop = AtomicBool::new(false);
    let (mut stored, mut refused) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| come_and_go(small.dir.path(), &stop));
        let ends = Instant::now() + RACE;
        for seed in (100..).take_while(|_| Instant::now() < ends) {
            match small.open().and_then(|store| keep_one(store, seed)) {
                Ok(()) => stored += 1,
                Err(error) if error.is_no_space() => refused += 1,
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    panic!("{error}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{stored} files stored and removed, {refused} refused");
    let store = small.open().unwrap();
    story::check(&store, &whole, &BTreeSet::new());
    // What was given up on a full disk could not always be removed: a collection does that.
    store
        .gc(&mut |_| ControlFlow::Continue(()))
        .map(drop)
        .unwrap();
    story::import(&store, 50).unwrap();
}

/// Stores a file, sees it whole, and removes it, as far as the disk lets it.
fn keep_one(store: Store, seed: u64) -> Result<(), StoreError> {
    in_time("store and remove", move || {
        story::import(&store, seed).map_err(store_error)?;
        let found = story::read_back(&store, &address(seed))?;
        assert!(found.is_some_and(|found| found == story::file_bytes(seed)));
        store.remove_file(&address(seed)).map(drop)
    })
}

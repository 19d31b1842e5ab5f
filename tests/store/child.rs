//! The child: what it is told by its environment, and how its parent runs it.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use casnode_cas::{Address, Store};

use crate::story::{self, Story};

const ROLE: &str = "CASNODE_CRASH_CHILD";
const FOLDER: &str = "CASNODE_CRASH_STORE";
const LOG: &str = "CASNODE_CRASH_LOG";
/// Set when the last promise does not count.
const BUT_LAST: &str = "CASNODE_CRASH_BUT_LAST";
/// Files that may be damaged, comma separated.
const UNLESS: &str = "CASNODE_CRASH_UNLESS";

/// Opening and checking a small store takes longer than this only when it hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// Does what the environment says; nothing in a parent.
pub(crate) fn run() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let path = |variable| PathBuf::from(std::env::var_os(variable).unwrap());
    let (folder, log) = (path(FOLDER), path(LOG));
    match role.as_str() {
        "write" => story::write(&folder, &log),
        "rebuild" => {
            Store::rebuild_index(&folder).unwrap();
            story::write(&folder, &log);
        }
        "tail" => crate::torn::write_tail(&folder, &log),
        "check" => check(&folder, &log),
        "empty" => empty(&folder, &log),
        other => panic!("{ROLE}={other}?"),
    }
}

fn check(folder: &Path, log: &Path) {
    if std::env::var_os(BUT_LAST).is_some() {
        story::excuse_last(log);
    }
    let story = Story::read(log);
    let store = open(folder);
    let unless: BTreeSet<u64> = std::env::var(UNLESS)
        .unwrap_or_default()
        .split(',')
        .filter(|seed| !seed.is_empty())
        .map(|seed| seed.parse().unwrap())
        .collect();
    story::check(&store, &story, &unless);
    for &seed in &unless {
        // A chunk that is known is taken on trust; damage shows when it is read, and storing mends it then.
        let address = story::import(&store, seed).unwrap();
        if story::read_back(&store, &address).is_err() {
            story::import(&store, seed).unwrap();
        }
    }
    story::check(&store, &story, &BTreeSet::new());
    story::verify(&store);
    println!("\nkept {}", story.acknowledged);
}

/// Removes every file; then nothing may be left.
fn empty(folder: &Path, log: &Path) {
    let story = Story::read(log);
    let store = open(folder);
    story::check(&store, &story, &BTreeSet::new());
    // Members go with their directories, or as leftovers of one whose removal or storing was cut off.
    let files = store.own_files().unwrap();
    for file in &files {
        store.remove_file(&file.address).unwrap().unwrap();
    }
    story::collect(&store);
    let stats = store.stats().unwrap();
    assert_eq!((stats.files, stats.chunks, stats.stored_bytes), (0, 0, 0));
    assert_eq!(
        store.file(&Address::of(&story::file_bytes(0))).unwrap(),
        None
    );
    println!("\nkept {}", story.acknowledged);
}

fn open(folder: &Path) -> Store {
    let started = Instant::now();
    let store = Store::open(folder, story::config()).unwrap();
    println!("\nopened {}", started.elapsed().as_millis());
    store
}

/// A folder for a store, its log, and what its processes say.
pub(crate) struct Stage {
    dir: tempfile::TempDir,
}

/// What a process that checks a store says.
pub(crate) struct Checked {
    pub(crate) opened_ms: u64,
    pub(crate) acknowledged: u64,
    /// Its warnings, and panics it caught.
    pub(crate) said: String,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub(crate) fn start(&self, role: &str, unless: &str) -> Child {
        let file = |name: &str| File::create(self.dir.path().join(name)).unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(FOLDER, self.store())
            .env(LOG, self.log())
            .env(UNLESS, unless)
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap()
    }

    fn said(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.path().join(name)).unwrap()).into_owned()
    }

    /// Kills a writer; it must not have failed by itself.
    pub(crate) fn kill(&self, mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
        let said = self.said("err");
        assert!(!said.contains("panicked"), "a writer failed:\n{said}");
    }

    /// Runs a child that checks the store and ends. It must do so in time and find every promise kept.
    pub(crate) fn finish(&self, role: &str, unless: &str) -> Checked {
        let mut child = self.start(role, unless);
        let ends = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > ends {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("'{role}' hangs:\n{}", self.said("err"));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let (out, said) = (self.said("out"), self.said("err"));
        assert!(
            status.success(),
            "'{role}' found a promise broken:\n{out}{said}"
        );
        let number = |word: &str| {
            let found = out.lines().find_map(|line| line.strip_prefix(word));
            found.unwrap().trim().parse().unwrap()
        };
        let checked = Checked {
            opened_ms: number("opened"),
            acknowledged: number("kept"),
            said,
        };
        let limit_ms = crate::number("CASNODE_CRASH_OPEN_LIMIT_MS", u64::MAX);
        assert!(
            checked.opened_ms <= limit_ms,
            "{} ms to open",
            checked.opened_ms
        );
        checked
    }
    /// Has the index built anew, and everything removed: then nothing may be left. (References may be
    /// counted too high after a crash; the packs know better.)
    pub(crate) fn finish_empty(&self) -> Checked {
        std::fs::remove_dir_all(self.store().join("index")).unwrap();
        self.finish("empty", "")
    }
}

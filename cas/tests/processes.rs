//! Stores across processes: killed while they write, and locked by one another.
//!
//! The test binary is its own child: with `CASNODE_TEST_STORE` set it stores into that folder, and says
//! on standard output what was acknowledged.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use casnode_cas::{
    Address, ChunkHash, ImportOptions, Store, StoreConfig, StoreError, import_reader,
};

const FOLDER_VARIABLE: &str = "CASNODE_TEST_STORE";

/// Bytes that the seed alone decides; their length too.
fn content(seed: u64, chunk: bool) -> Vec<u8> {
    let len = if chunk {
        1 + seed * 7919 % 90_000
    } else {
        1 + seed * 104_729 % 900_000
    };
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    blake3_fill(seed, &mut bytes);
    bytes
}

fn blake3_fill(seed: u64, bytes: &mut [u8]) {
    use rand::{RngCore, SeedableRng};
    rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(bytes);
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Not a test of its own: the child of the tests below. Without the variable there is nothing to do.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER_VARIABLE) else {
        return;
    };
    let store = Store::open(Path::new(&folder), StoreConfig::default()).unwrap();
    let first: u64 = std::env::var("CASNODE_TEST_FIRST")
        .unwrap()
        .parse()
        .unwrap();
    say("\nopen\n");
    for seed in first.. {
        for n in 0..4 {
            let bytes = content(seed * 10 + n, true);
            store.put(&ChunkHash::of(&bytes), &bytes).unwrap();
        }
        store.commit().unwrap();
        let bytes = content(seed, false);
        let mut go_on = |_: u64, _: Option<u64>| ControlFlow::Continue(());
        let options = ImportOptions {
            name: Some(format!("file {seed}")),
            ..Default::default()
        };
        let done =
            import_reader(&store, &mut bytes.as_slice(), None, &options, &mut go_on).unwrap();
        say(&format!("stored {seed} {}\n", done.address));
        if seed % 3 == 2 {
            say(&format!("removing {}\n", seed - 2));
            store
                .remove_file(&Address::of(&content(seed - 2, false)))
                .unwrap();
            say(&format!("removed {}\n", seed - 2));
        }
    }
}

fn start(folder: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER_VARIABLE, folder)
        .env("CASNODE_TEST_FIRST", first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[derive(Default)]
struct Acknowledged {
    /// Seed and address of the files stored and not removed; `None` while a removal was under way.
    files: BTreeMap<u64, Option<Address>>,
    next: u64,
}

/// Reads what the child says until `lines` acknowledgements, kills it, and reads what it had said.
fn kill_after(child: &mut Child, lines: usize, acknowledged: &mut Acknowledged) {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut seen = 0;
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        // A line without its end was cut by the kill: it was not acknowledged.
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        match words.as_slice() {
            ["stored", seed, address] if line.ends_with('\n') => {
                let seed = seed.parse().unwrap();
                acknowledged
                    .files
                    .insert(seed, Some(address.parse().unwrap()));
                acknowledged.next = seed + 1;
            }
            ["removing", seed] if line.ends_with('\n') => {
                acknowledged.files.insert(seed.parse().unwrap(), None);
            }
            ["removed", seed] if line.ends_with('\n') => {
                acknowledged.files.remove(&seed.parse().unwrap());
            }
            _ => {}
        }
        seen += 1;
        if seen == lines {
            child.kill().unwrap();
        }
        line.clear();
    }
    child.wait().unwrap();
}

fn check(store: &Store, acknowledged: &Acknowledged) {
    for (seed, address) in &acknowledged.files {
        let Some(address) = address else { continue };
        let entry = store.file(address).unwrap().unwrap();
        assert_eq!(entry.name.as_deref(), Some(format!("file {seed}").as_str()));
        let manifest = store.manifest(address).unwrap().unwrap();
        let mut bytes = Vec::new();
        for chunk in manifest.chunks() {
            bytes.extend_from_slice(&store.get(&chunk.hash).unwrap().unwrap());
        }
        assert!(bytes == content(*seed, false), "file {seed}");
        for n in 0..4 {
            let chunk = content(seed * 10 + n, true);
            assert_eq!(store.get(&ChunkHash::of(&chunk)).unwrap().unwrap(), chunk);
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    for lines in [3, 9, 4, 14, 2, 7, 11, 5] {
        let mut child = start(folder.path(), acknowledged.next);
        kill_after(&mut child, lines, &mut acknowledged);
        let store = Store::open(folder.path(), StoreConfig::default()).unwrap();
        check(&store, &acknowledged);
        // A file whose storing was cut off may be complete; the next child says so again or anew.
        let extra = store
            .files()
            .unwrap()
            .len()
            .abs_diff(acknowledged.files.len());
        assert!(
            extra <= 1 + lines,
            "{extra} files more or less than acknowledged"
        );
    }
    assert!(
        acknowledged.files.len() >= 8,
        "too few files to mean anything"
    );
    std::fs::remove_dir_all(folder.path().join("index")).unwrap();
    check(
        &Store::open(folder.path(), StoreConfig::default()).unwrap(),
        &acknowledged,
    );
}

#[test]
fn a_store_has_one_owner_and_the_other_is_told_who() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Store::locked_by(folder.path()).unwrap(), None);
    let mut child = start(folder.path(), 0);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line != "open\n" {
        line.clear();
        assert!(
            output.read_line(&mut line).unwrap() > 0,
            "the child ended early"
        );
    }
    let error = Store::open(folder.path(), StoreConfig::default()).unwrap_err();
    assert!(
        matches!(error, StoreError::Locked { pid } if pid == Some(child.id())),
        "{error}"
    );
    assert!(error.is_locked());
    assert_eq!(
        Store::locked_by(folder.path()).unwrap(),
        Some(Some(child.id()))
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(Store::locked_by(folder.path()).unwrap(), None);
    let store = Store::open(folder.path(), StoreConfig::default()).unwrap();
    let me = Some(Some(std::process::id()));
    assert_eq!(Store::locked_by(folder.path()).unwrap(), me);
    drop(store);
    assert_eq!(Store::locked_by(folder.path()).unwrap(), None);
}

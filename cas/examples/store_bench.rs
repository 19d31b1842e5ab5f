//! A store by itself, for `scripts/bench-store.sh`: what cannot be measured from outside the process.
//!
//! `fill DIR COUNT BYTES` puts so many distinct chunks, `open DIR` opens and walks them, `read DIR ADDRESS`
//! reads a stored file in order. Each prints one line of JSON: seconds, bytes, and the most memory it had.

#![allow(clippy::unwrap_used, missing_docs)]

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use casnode_cas::{ChunkHash, Store, StoreConfig};

/// New bytes after which `fill` commits, as an import does.
const COMMIT_BYTES: u64 = 64 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["fill", dir, count, bytes] => {
            fill(
                Path::new(dir),
                count.parse().unwrap(),
                bytes.parse().unwrap(),
            );
        }
        ["open", dir] => open(Path::new(dir)),
        ["read", dir, address] => read(Path::new(dir), address),
        _ => {
            eprintln!("usage: store_bench fill DIR COUNT BYTES | open DIR | read DIR ADDRESS");
            std::process::exit(2);
        }
    }
}

fn start(dir: &Path) -> (Store, f64) {
    let started = Instant::now();
    let store = Store::open(dir, StoreConfig::default()).unwrap();
    (store, started.elapsed().as_secs_f64())
}

/// Chunks from the number that are already there on, so that a store can be filled in stages.
fn fill(dir: &Path, count: u64, chunk_bytes: usize) {
    let (store, open_s) = start(dir);
    let first = store.stats().unwrap().chunks;
    let started = Instant::now();
    let mut chunk = vec![0; chunk_bytes];
    let mut uncommitted_bytes = 0;
    for n in first..first + count {
        blake3::Hasher::new()
            .update(&n.to_le_bytes())
            .finalize_xof()
            .fill(&mut chunk);
        store.put(&ChunkHash::of(&chunk), &chunk).unwrap();
        uncommitted_bytes += chunk_bytes as u64;
        if uncommitted_bytes >= COMMIT_BYTES {
            store.commit().unwrap();
            uncommitted_bytes = 0;
        }
    }
    store.commit().unwrap();
    report(&store, open_s, started, count * chunk_bytes as u64);
}

fn open(dir: &Path) {
    let (store, open_s) = start(dir);
    let started = Instant::now();
    let mut bytes = 0;
    let mut visit = |_: &ChunkHash, len_bytes: u32| {
        bytes += u64::from(len_bytes);
        ControlFlow::Continue(())
    };
    store.for_each_chunk(&mut visit).unwrap();
    report(&store, open_s, started, bytes);
}

fn read(dir: &Path, address: &str) {
    let (store, open_s) = start(dir);
    let manifest = store.manifest(&address.parse().unwrap()).unwrap().unwrap();
    let started = Instant::now();
    let mut bytes = 0;
    for chunk in manifest.chunks() {
        bytes += store.get(&chunk.hash).unwrap().unwrap().len() as u64;
    }
    report(&store, open_s, started, bytes);
}

fn report(store: &Store, open_s: f64, started: Instant, bytes: u64) {
    let seconds = started.elapsed().as_secs_f64();
    let stats = store.stats().unwrap();
    println!(
        "{{\"open_s\":{open_s:.4},\"seconds\":{seconds:.4},\"bytes\":{bytes},\"chunks\":{},\"stored_bytes\":{},\"peak_kib\":{}}}",
        stats.chunks,
        stats.stored_bytes,
        peak_kib()
    );
}

/// Most memory this process ever had in use, in KiB; 0 where the system does not say.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let digits = line.and_then(|rest| rest.split_whitespace().next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

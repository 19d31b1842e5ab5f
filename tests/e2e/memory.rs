//! A node keeps to the memory it was told to.

use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::Duration;

use casnode_cas::{
    ChunkHash, ChunkRef, ChunkerParams, Claim, MAX_CHUNK_BYTES, Manifest, ProofBuilder, Store,
    StoreConfig,
};

use crate::content::Sample;
use crate::harness::{Home, Node};

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Puts a file into a store that no daemon has yet, cut into the largest chunks there can be.
fn put_in_largest_chunks(data_dir: &Path, bytes: &[u8]) {
    let store = Store::open(data_dir, StoreConfig::default()).unwrap();
    let mut proof = ProofBuilder::new();
    let mut chunks = Vec::new();
    for chunk in bytes.chunks(MAX_CHUNK_BYTES as usize) {
        proof.update(chunk);
        let hash = ChunkHash::of(chunk);
        store.put(&hash, chunk).unwrap();
        chunks.push(ChunkRef {
            hash,
            len_bytes: u32::try_from(chunk.len()).unwrap(),
        });
    }
    store.commit().unwrap();
    let params = ChunkerParams::Fixed {
        chunk_bytes: MAX_CHUNK_BYTES,
    };
    let manifest = Manifest::new(params, chunks, proof.finish()).unwrap();
    store
        .add_file(&manifest, Some("large"), Claim::Pinned)
        .unwrap();
}

/// Memory of a process that is no file's, in MiB.
fn anonymous_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    kib.map_or(0, |kib| kib.parse::<u64>().unwrap() / 1024)
}

#[test]
#[cfg(target_os = "linux")]
fn little_memory_is_enough_for_the_largest_chunks_from_several_peers() {
    const BUDGET_MIB: u64 = 64;
    let memory = ["--memory", "64MiB"];
    let sample = Sample::new(71, 24 * MAX_CHUNK_BYTES as usize + 1);
    let listen = ["--listen", "/ip4/127.0.0.1/tcp/0"];
    let providers: Vec<Node> = (0..3)
        .map(|_| {
            let home = Home::new();
            put_in_largest_chunks(home.path(), &sample.bytes);
            Node::start_as(home, &[], &[listen, memory].concat())
        })
        .collect();
    let getter = Home::new();
    let mut call = getter
        .networked(["get", "--json", &sample.address], &[])
        .args(memory);
    for provider in &providers {
        call = call.args(["--peer", &provider.addr]);
    }
    let mut running = call.arg("-o").arg(sample.copy_path()).spawn();
    let pids: Vec<u32> = providers.iter().map(|p| &p.child).map(Child::id).collect();
    let (mut getting, mut providing) = (0, 0);
    while running.is_running() {
        getting = getting.max(anonymous_mib(running.id()));
        let most = pids.iter().map(|pid| anonymous_mib(*pid)).max();
        providing = providing.max(most.unwrap_or(0));
        thread::sleep(LOOK);
    }
    running.wait().ok();
    sample.assert_at(&sample.copy_path());
    println!("at most {getting} MiB to fetch, {providing} MiB to provide");
    assert!(
        getting > 0 && getting <= BUDGET_MIB,
        "{getting} MiB to fetch"
    );
    assert!(
        providing > 0 && providing <= BUDGET_MIB,
        "{providing} MiB to provide"
    );
}

//! What a million records cost: memory of the whole process, and the time of a restart.
//!
//! `cargo run --release -p casnode-dht --example records -- --keys 1000000`
//!
//! Every figure is taken in a process of its own, so that none sees what another has left behind.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use casnode_dht::lab::StoreAlone;
use casnode_dht::{Key, Keypair, Multiaddr, PeerId};

/// Peers that announce.
const PEERS: u64 = 20;
/// Keys of one batch.
const BATCH_KEYS: u64 = 1024;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => measure(1_000_000),
        ["--keys", keys] => measure(keys.parse()?),
        ["child", step, dir, keys] => child(step, Path::new(dir), keys.parse()?),
        _ => Err("usage: records [--keys <number>]".into()),
    }
}

/// Runs the steps one after the other, each in a child of its own.
fn measure(keys: u64) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("casnode-records-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    println!(
        "{:<28} {:>9} {:>9} {:>10} {:>10} {:>9}",
        "step", "open ms", "work ms", "RSS MiB", "peak MiB", "disk MiB"
    );
    let done = ["empty", "hold", "reopen", "schedule", "reopen-both"]
        .iter()
        .try_for_each(|step| {
            let status = Command::new(std::env::current_exe()?)
                .args(["child", step])
                .arg(&dir)
                .arg(keys.to_string())
                .status()?;
            match status.success() {
                true => Ok(()),
                false => Err(format!("{step} failed").into()),
            }
        });
    std::fs::remove_dir_all(&dir)?;
    done
}

fn child(step: &str, dir: &Path, keys: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let began = Instant::now();
    let store = StoreAlone::open(dir, &Keypair::ed25519_from_bytes([7; 32])?)?;
    let open_ms = began.elapsed().as_millis();
    let began = Instant::now();
    match step {
        "hold" => runtime.block_on(hold(&store, keys))?,
        "schedule" => {
            let own: Vec<Key> = (0..keys).map(|n| key(u64::MAX - n)).collect();
            runtime.block_on(store.schedule(&own))?;
        }
        _ => {}
    }
    let work_ms = began.elapsed().as_millis();
    if step != "empty" {
        let missing = (0..keys).filter(|n| store.providers(&key(*n)) != 1).count();
        if missing > 0 {
            return Err(format!("{missing} records are missing").into());
        }
    }
    if step == "reopen-both" && u64::try_from(store.scheduled())? != keys {
        return Err("keys of the schedule are missing".into());
    }
    // The writer has had its turn: what it needed for that counts.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let (rss, peak) = (status_mib("VmRSS:")?, status_mib("VmHWM:")?);
    runtime.block_on(store.close())?;
    println!(
        "{step:<28} {open_ms:>9} {work_ms:>9} {rss:>10} {peak:>10} {:>9}",
        folder_bytes(dir)? >> 20
    );
    Ok(())
}

/// Announces all keys, each by one peer, as batches come from the network.
async fn hold(store: &StoreAlone, keys: u64) -> Result<()> {
    let peers = (0..PEERS).map(|n| -> Result<(PeerId, Multiaddr)> {
        let remote = format!("/ip4/203.0.{n}.7/tcp/4101").parse()?;
        Ok((PeerId::random(), remote))
    });
    let peers: Vec<_> = peers.collect::<Result<_>>()?;
    let batches = keys.div_ceil(BATCH_KEYS);
    for (batch, (peer, remote)) in (0..batches).zip(peers.iter().cycle()) {
        let first = batch * BATCH_KEYS;
        let batch: Vec<Key> = (first..keys.min(first + BATCH_KEYS)).map(key).collect();
        let taken = store.take(*peer, remote, &batch).await;
        if taken != batch.len() {
            return Err(format!("{taken} of {} keys taken", batch.len()).into());
        }
    }
    Ok(())
}

/// The `n`th key: as random as hashes are.
fn key(n: u64) -> Key {
    let mut state = n;
    let mut key = [0; 32];
    for part in key.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state = mixed ^ (mixed >> 31);
        part.copy_from_slice(&state.to_le_bytes());
    }
    key
}

/// A figure of this process, as the system counts it.
fn status_mib(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no such figure")?
        .parse()?;
    Ok(kib >> 10)
}

fn folder_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => folder_bytes(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}

//! What a directory of many small files costs: entering it, opening it from the packs alone, removing it; and how long
//! somebody else's commit waits meanwhile.
//!
//! ```text
//! cargo run --release --package casnode-cas --example directories -- FOLDER [FILES]
//! ```

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use casnode_cas::{
    Address, ChunkHash, Claim, EntryKind, ImportOptions, Listing, SmallFile, Store, StoreConfig,
    import_reader,
};

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// Runs a step while another thread commits a chunk over and over.
fn step<T>(name: &str, store: &Store, run: impl FnOnce() -> T) -> T {
    // A peak of this step alone.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_kib();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            for number in 0u64.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let bytes = number.to_le_bytes();
                let began = Instant::now();
                store.put(&ChunkHash::of(&bytes), &bytes).unwrap();
                store.commit().unwrap();
                longest = longest.max(began.elapsed());
                thread::sleep(Duration::from_millis(5));
            }
            longest
        });
        let began = Instant::now();
        let result = run();
        let took = began.elapsed();
        let more = peak_kib() - before;
        done.store(true, Ordering::Relaxed);
        let longest = waits.join().unwrap();
        println!(
            "{name}: {took:.2?}; longest commit {longest:.2?}; {more} KiB more memory at most"
        );
        result
    })
}

fn main() {
    let mut args = std::env::args_os().skip(1);
    let folder = PathBuf::from(args.next().unwrap());
    let files: u64 = args
        .next()
        .map_or(100_000, |n| n.to_str().unwrap().parse().unwrap());
    let store = Store::open(&folder, StoreConfig::default()).unwrap();
    let mut builder = Listing::builder();
    let hold = store.hold_members();
    step("stored", &store, || {
        for first in (0..files).step_by(512) {
            let small = (first..files.min(first + 512)).map(|number| {
                let bytes = number.to_le_bytes().repeat(128);
                SmallFile {
                    address: Address::of(&bytes),
                    bytes: bytes.into(),
                    name: None,
                }
            });
            let small: Vec<_> = small.collect();
            store.add_small_files(&small, Claim::Member).unwrap();
            for (number, file) in (first..).zip(small) {
                let kind = EntryKind::File {
                    address: file.address,
                    bytes: 1024,
                    executable: false,
                };
                let path = format!("some/folder/{}/file-{number}", number / 100);
                builder.push(&path, kind).unwrap();
            }
        }
    });
    let listing = builder.finish().unwrap().encode();
    let options = ImportOptions {
        claim: Claim::Own,
        ..ImportOptions::default()
    };
    let size = Some(listing.len() as u64);
    let mut go_on = |_, _| std::ops::ControlFlow::Continue(());
    let imported = import_reader(&store, &mut &listing[..], size, &options, &mut go_on).unwrap();
    let address = imported.address;
    println!("{files} files, a listing of {} bytes", listing.len());
    drop(listing);
    let entered = step("entered", &store, || {
        store.enter_directory(&address, Claim::Own).unwrap()
    });
    assert_eq!((entered.members, entered.missing), (files, 0));
    drop(hold);
    step("own files", &store, || {
        assert_eq!(store.own_files().unwrap().len(), 1)
    });
    let swept = step("swept", &store, || store.drop_orphans().unwrap());
    assert!(swept.files.is_empty());
    let usage = step("usage", &store, || store.usage(None).unwrap());
    assert_eq!(usage.len(), 1);
    drop(store);
    let began = Instant::now();
    Store::rebuild_index(&folder).unwrap();
    println!("rebuilt: {:.2?}", began.elapsed());
    let store = Store::open(&folder, StoreConfig::default()).unwrap();
    let removed = step("removed", &store, || {
        store.remove_file(&address).unwrap().unwrap()
    });
    assert_eq!(removed.files.len() as u64, files + 1);
    assert_eq!(store.stats().unwrap().files, 0);
}

//! Downloads whose output shares its blocks with the store.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::content::{CHUNK, Sample};
use crate::harness::{Home, Node, wait_until};
use crate::proxy::Proxy;
use crate::xfs::Xfs;

/// Slow enough to be broken off.
const RATE: u64 = 8 << 20;

fn home_on(xfs: &Xfs) -> Home {
    let mut dir = tempfile::Builder::new();
    Home(dir.prefix("cn").tempdir_in(xfs.path()).unwrap())
}

fn files_in(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

/// Fetches a file from this peer alone.
fn get(home: &Home, sample: &Sample, to: &Path, peer: &str) -> Value {
    let words = ["get", "--json", &sample.address, "--peer", peer];
    let call = home.networked(words, &[]).arg("-o").arg(to);
    let report = call.run().ok().json();
    sample.assert_at(to);
    report
}

/// Fails the test unless the file is kept: whoever asks gets it, from this store alone.
#[track_caller]
fn assert_kept(home: Home, sample: &Sample) -> Home {
    let alone = sample.folder.path().join("alone");
    let words = ["get", "--json", &sample.address, "--timeout", "60s"];
    let call = home.networked(words, &[]).arg("-o").arg(&alone);
    let report = call.run().ok().json();
    assert_eq!(report["fetched_chunks"], 0, "{report}");
    sample.assert_at(&alone);
    fs::remove_file(&alone).unwrap();
    assert_eq!(files_in(&home.path().join("unfinished")), 0);
    assert_eq!(files_in(&home.path().join("clones")), 1);
    let node = Node::start_on(home, &[]);
    let report = get(&Home::new(), sample, &alone, &node.addr);
    assert_eq!(report["fetched_chunks"], sample.chunks(), "{report}");
    fs::remove_file(&alone).unwrap();
    node.leave()
}

#[test]
fn a_get_is_written_once_and_what_is_kept_does_not_hang_on_its_output() {
    let Some(xfs) = Xfs::mount() else { return };
    let a = Node::start(&[]);
    let (small, sample) = (Sample::new(900, 777), Sample::new(901, 192 * CHUNK + 77));
    a.store(&sample.path);
    let home = home_on(&xfs);
    // What any store occupies.
    home.networked(["store"], &[]).arg(&small.path).run().ok();
    let before = xfs.free_bytes();
    let output = xfs.path().join("output");
    get(&home, &sample, &output, &a.addr);
    let used_bytes = before - xfs.free_bytes();
    let size_bytes = sample.bytes.len() as u64;
    assert!(used_bytes < size_bytes * 5 / 4, "{used_bytes} bytes");
    drop(a);
    // Whatever becomes of the output.
    let changed = fs::OpenOptions::new().write(true).open(&output).unwrap();
    changed.write_all_at(&[7; 3 * CHUNK], 11).unwrap();
    changed.set_len(100 * CHUNK as u64).unwrap();
    changed.sync_all().unwrap();
    let home = assert_kept(home, &sample);
    fs::remove_file(&output).unwrap();
    let home = assert_kept(home, &sample);
    home.call(["verify"]).run().ok();
}

#[test]
fn a_get_that_was_broken_off_goes_on_with_another_output() {
    for which in [Signal::INT, Signal::KILL] {
        let Some(xfs) = Xfs::mount() else { return };
        let a = Node::start(&[]);
        let sample = Sample::new(902, 192 * CHUNK + 77);
        a.store(&sample.path);
        let proxy = Proxy::start(&a, RATE);
        let home = home_on(&xfs);
        let (first, second) = (xfs.path().join("first"), xfs.path().join("second"));
        let words = ["get", &sample.address, "--peer", &proxy.addr];
        let call = home.networked(words, &[]).arg("-o").arg(&first);
        let mut broken = call.spawn();
        wait_until("a part of the download", || {
            proxy.relayed_bytes() > 24 << 20
        });
        assert!(broken.is_running(), "it was over before");
        broken.signal(which);
        broken.wait();
        assert!(!first.exists());
        let report = get(&home, &sample, &second, &a.addr);
        let (local, fetched) = (&report["local_chunks"], &report["fetched_chunks"]);
        assert!(local.as_u64().unwrap() > 0, "{report}");
        assert!(fetched.as_u64().unwrap() < sample.chunks(), "{report}");
        drop(a);
        fs::remove_file(&second).unwrap();
        assert_kept(home, &sample);
    }
}

//! Files that stay where they are, and files that are not kept: no byte of them is in a data directory.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::content::{CHUNK, Sample};
use crate::harness::{Call, Home, Node, Run, casnode, wait_until};
use crate::hostile::Hostile;
use crate::hostile_peers;
use crate::proxy::Proxy;

/// What packs may hold of a file none of whose chunks is kept there: its manifest and its entry.
const NO_CHUNKS_BYTES: u64 = CHUNK as u64;

/// Slow enough to be broken off.
const RATE: u64 = 8 << 20;

/// The two ways to write a file once.
const WAYS: [&str; 2] = ["--no-keep", "--in-place"];

/// Bytes that the chunks of a data directory occupy, in packs or where blocks are shared.
fn pack_bytes(data_dir: &Path) -> u64 {
    let folders = ["packs", "clones", "unfinished"];
    let folders = folders.map(|folder| fs::read_dir(data_dir.join(folder)));
    let files = folders.into_iter().flatten().flatten();
    let blocks = files.map(|file| file.unwrap().metadata().unwrap().blocks());
    blocks.sum::<u64>() * 512
}

#[track_caller]
fn assert_no_chunks(data_dir: &Path) {
    let bytes = pack_bytes(data_dir);
    assert!(bytes <= NO_CHUNKS_BYTES, "{bytes} bytes in the packs");
}

/// What is in a file's own folder.
fn files_beside(sample: &Sample) -> Vec<String> {
    let entries = fs::read_dir(sample.folder.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A get into the copy's place, from this peer alone.
fn get(home: &Home, sample: &Sample, way: &str, peer: &str) -> Call {
    let words = ["get", "--json", way, &sample.address, "--peer", peer];
    home.networked(words, &[]).arg("-o").arg(sample.copy_path())
}

/// Begins a get that takes seconds, and ends it with this signal when a part of it is there.
fn broken_off(home: &Home, sample: &Sample, way: &str, proxy: &Proxy, by: Signal) -> Run {
    let mut call = get(home, sample, way, &proxy.addr).spawn();
    wait_until("a part of the download", || proxy.relayed_bytes() > 8 << 20);
    assert!(
        call.is_running(),
        "it was over before it could be broken off"
    );
    call.signal(by);
    call.wait()
}

fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn a_file_that_is_not_kept_is_written_once() {
    let a = Node::start(&[]);
    let sample = Sample::new(700, 20 * CHUNK + 5);
    a.store(&sample.path);
    let home = Home::new();
    let report = get(&home, &sample, "--no-keep", &a.addr).run().ok().json();
    sample.assert_at(&sample.copy_path());
    assert_eq!(number(&report, "fetched_chunks"), sample.chunks());
    assert_eq!(number(&report, "fetched_bytes"), sample.bytes.len() as u64);
    assert_eq!(number(&report, "local_bytes"), 0);
    assert_no_chunks(home.path());
    assert_eq!(home.call(["ls"]).run().ok().text(), "");
    assert_eq!(files_beside(&sample), ["copy.bin", "sample.bin"]);
}

#[test]
fn what_was_kept_before_stays_and_is_used() {
    let a = Node::start(&[]);
    let sample = Sample::new(701, 12 * CHUNK);
    a.store(&sample.path);
    let home = Home::new();
    home.networked(["get", &sample.address, "--peer", &a.addr], &[])
        .arg("-o")
        .arg(sample.folder.path().join("kept.bin"))
        .run()
        .ok();
    for way in WAYS {
        let report = get(&home, &sample, way, &a.addr).run().ok().json();
        sample.assert_at(&sample.copy_path());
        assert_eq!(number(&report, "local_bytes"), sample.bytes.len() as u64);
        assert_eq!(number(&report, "fetched_bytes"), 0);
        fs::remove_file(sample.copy_path()).unwrap();
        let stat = home.call(["stat", "--json", &sample.address]).run().ok();
        assert_eq!(stat.json()["state"], "complete", "{way}");
    }
}

#[test]
fn a_get_that_was_killed_goes_on_from_its_output() {
    let a = Node::start(&[]);
    let sample = Sample::new(702, 100 * CHUNK);
    a.store(&sample.path);
    for way in WAYS {
        let home = Home::new();
        let proxy = Proxy::start(&a, RATE);
        broken_off(&home, &sample, way, &proxy, Signal::KILL);
        assert!(!sample.copy_path().exists());
        assert_eq!(files_beside(&sample).len(), 2, "the original and a part");
        assert_no_chunks(home.path());
        let report = get(&home, &sample, way, &a.addr).run().ok().json();
        sample.assert_at(&sample.copy_path());
        let (local, fetched) = (
            number(&report, "local_chunks"),
            number(&report, "fetched_chunks"),
        );
        assert_eq!(local + fetched, sample.chunks(), "{report}");
        assert!(local >= 16, "eight MiB came through: {report}");
        assert_no_chunks(home.path());
        assert_eq!(files_beside(&sample), ["copy.bin", "sample.bin"]);
        fs::remove_file(sample.copy_path()).unwrap();
    }
}

#[test]
fn an_interrupted_get_says_that_it_goes_on_and_wrong_bytes_in_its_output_are_fetched_again() {
    let a = Node::start(&[]);
    let sample = Sample::new(703, 100 * CHUNK);
    a.store(&sample.path);
    let home = Home::new();
    let proxy = Proxy::start(&a, RATE);
    let run = broken_off(&home, &sample, "--no-keep", &proxy, Signal::INT);
    run.exits(130).says("goes on");
    let names = files_beside(&sample);
    let part = names.iter().find(|name| name.ends_with(".part")).unwrap();
    let part = sample.folder.path().join(part);
    // All that is there becomes wrong.
    let file = fs::File::options().write(true).open(&part).unwrap();
    for chunk in 0..sample.chunks() {
        file.write_all_at(b"?", chunk * CHUNK as u64 + 7).unwrap();
    }
    drop(file);
    let report = get(&home, &sample, "--no-keep", &a.addr).run().ok().json();
    sample.assert_at(&sample.copy_path());
    assert_eq!(number(&report, "fetched_chunks"), sample.chunks());
}

#[test]
fn a_get_of_a_copy_goes_on_from_the_output_too() {
    let a = Node::start(&[]);
    let sample = Sample::new(704, 100 * CHUNK);
    a.store(&sample.path);
    let home = Home::new();
    let proxy = Proxy::start(&a, RATE);
    broken_off(&home, &sample, "--in-place", &proxy, Signal::KILL);
    let report = home
        .networked(
            [
                "get",
                "--copy",
                "--json",
                &sample.address,
                "--peer",
                &a.addr,
            ],
            &[],
        )
        .arg("-o")
        .arg(sample.copy_path())
        .run()
        .ok()
        .json();
    sample.assert_at(&sample.copy_path());
    let local = number(&report, "local_chunks");
    assert!(local >= 16, "eight MiB came through: {report}");
    assert!(pack_bytes(home.path()) >= sample.bytes.len() as u64);
    assert_eq!(files_beside(&sample), ["copy.bin", "sample.bin"]);
}

#[test]
fn a_file_that_was_fetched_in_place_is_had_from_there() {
    let mut a = Node::start(&[]);
    let sample = Sample::new(705, 20 * CHUNK + 5);
    a.store(&sample.path);
    let b = Node::start(&[&a.addr]);
    b.call(["get", "--in-place", &sample.address, "-o"])
        .arg(sample.copy_path())
        .run()
        .ok();
    a.kill();
    assert_no_chunks(b.data_dir());
    let listed = b.call(["ls", "--json"]).run().ok().json();
    assert_eq!(listed["state"], "complete", "{listed}");
    assert_eq!(listed["in_place"], sample.copy_path().to_str().unwrap());
    assert_eq!(listed["source_state"], "intact");
    let c = Home::new();
    let to = sample.folder.path().join("third.bin");
    c.networked(["get", &sample.address, "--peer", &b.addr], &[])
        .arg("-o")
        .arg(&to)
        .run()
        .ok();
    sample.assert_at(&to);
    // Still so when the daemon begins anew, and read from its own output.
    let b = Node::start_on(b.leave(), &[]);
    fs::remove_file(&to).unwrap();
    b.call(["get", &sample.address, "-o"]).arg(&to).run().ok();
    sample.assert_at(&to);
    assert_no_chunks(b.data_dir());
}

#[test]
fn a_changed_file_is_never_served_and_others_are_asked() {
    let a = Node::start(&[]);
    let sample = Sample::new(706, 20 * CHUNK);
    let b = Node::start(&[]);
    let stored = b
        .call(["store", "--in-place", "--json"])
        .arg(&sample.path)
        .run()
        .ok()
        .json();
    assert_eq!(
        number(&stored, "referenced_bytes"),
        sample.bytes.len() as u64
    );
    assert_no_chunks(b.data_dir());
    let file = fs::File::options().write(true).open(&sample.path).unwrap();
    let wrong = [sample.bytes[10 * CHUNK] ^ 1];
    file.write_all_at(&wrong, 10 * CHUNK as u64).unwrap();
    drop(file);
    let alone = Home::new();
    let words = ["get", &sample.address, "--peer", &b.addr];
    alone
        .networked(words, &[])
        .args(["--timeout", "3s", "-o"])
        .arg(sample.copy_path())
        .run()
        // 10 where the changed chunk is asked for first: then this provider had nothing to give.
        .exits_one_of(&[10, 11, 12, 15]);
    assert!(!sample.copy_path().exists());
    let listed = b.call(["ls", "--json"]).run().ok().json();
    assert_eq!(listed["source_state"], "changed", "{listed}");
    assert_eq!(listed["state"], "partial", "{listed}");
    let right = sample.folder.path().join("right.bin");
    fs::write(&right, &sample.bytes).unwrap();
    a.store(&right);
    let words = ["get", &sample.address, "--peer", &b.addr, "--peer", &a.addr];
    alone
        .networked(words, &[])
        .arg("-o")
        .arg(sample.copy_path())
        .run()
        .ok();
    sample.assert_at(&sample.copy_path());
}

#[test]
fn an_output_that_was_removed_is_fetched_again() {
    let a = Node::start(&[]);
    let sample = Sample::new(707, 12 * CHUNK);
    a.store(&sample.path);
    let home = Home::new();
    for _ in 0..2 {
        let report = get(&home, &sample, "--in-place", &a.addr).run().ok().json();
        sample.assert_at(&sample.copy_path());
        assert_eq!(number(&report, "fetched_chunks"), sample.chunks());
        let listed = home.call(["ls", "--json"]).run().ok().json();
        assert_eq!(listed["source_state"], "intact", "{listed}");
        assert_no_chunks(home.path());
        fs::remove_file(sample.copy_path()).unwrap();
    }
}

#[test]
fn an_output_that_is_there_already_changes_nothing() {
    let a = Node::start(&[]);
    let sample = Sample::new(708, 3 * CHUNK);
    a.store(&sample.path);
    let home = Home::new();
    for way in WAYS {
        fs::write(sample.copy_path(), &sample.bytes).unwrap();
        let report = get(&home, &sample, way, &a.addr).run().ok().json();
        assert_eq!(report["unchanged"], true, "{way}: {report}");
    }
    assert_eq!(home.call(["ls"]).run().ok().text(), "");
}

#[test]
fn an_output_that_is_there_already_ends_a_get_that_was_killed_at_its_end() {
    let a = Node::start(&[]);
    let sample = Sample::new(712, 100 * CHUNK);
    a.store(&sample.path);
    let home = Home::new();
    let proxy = Proxy::start(&a, RATE);
    broken_off(&home, &sample, "--in-place", &proxy, Signal::KILL);
    let listed = home.call(["ls", "--json"]).run().ok().json();
    assert_eq!(listed["state"], "partial", "{listed}");
    fs::write(sample.copy_path(), &sample.bytes).unwrap();
    let report = get(&home, &sample, "--in-place", &a.addr).run().ok().json();
    assert_eq!(report["unchanged"], true, "{report}");
    let listed = home.call(["ls", "--json"]).run().ok().json();
    assert_eq!(listed["state"], "complete", "{listed}");
    assert_eq!(listed["source_state"], "intact", "{listed}");
    assert_no_chunks(home.path());
    get(&home, &sample, "--no-keep", &a.addr).run().ok();
    let listed = home.call(["ls", "--json"]).run().ok().json();
    assert_eq!(listed["state"], "complete", "what is whole stays: {listed}");
}

#[test]
fn what_is_in_an_unfinished_output_is_had_by_others() {
    let mut a = Node::start(&[]);
    let sample = Sample::new(709, 100 * CHUNK);
    a.store(&sample.path);
    let proxy = Proxy::start(&a, RATE);
    let b = Node::start(&[]);
    let words = ["get", "--in-place", &sample.address, "--peer", &proxy.addr];
    let get = b.call(words).arg("-o").arg(sample.copy_path()).spawn();
    wait_until("a part of the download", || proxy.relayed_bytes() > 8 << 20);
    a.kill();
    let c = Home::new();
    let words = ["get", "--copy", &sample.address, "--peer", &b.addr];
    c.networked(words, &[])
        .args(["--timeout", "4s", "-o"])
        .arg(sample.folder.path().join("third.bin"))
        .run()
        .exits_one_of(&[11, 15]);
    let stat = c.call(["stat", "--json", &sample.address]).run().ok();
    let here = number(&stat.json(), "chunks_here");
    assert!(here >= 16 && here < sample.chunks(), "{here}");
    assert_no_chunks(b.data_dir());
    get.signal(Signal::INT);
    get.wait().exits(130);
}

/// Keys that a daemon tells others to have, or is about to.
fn announced(node: &Node) -> u64 {
    let status = node.status();
    number(&status, "announced") + number(&status, "to_announce")
}

#[test]
fn what_has_not_stayed_is_announced_no_more() {
    let a = Node::start(&[]);
    let sample = Sample::new(710, 100 * CHUNK);
    a.store(&sample.path);
    let b = Node::start(&[]);
    let proxy = Proxy::start(&a, RATE);
    let get = || {
        let words = ["get", "--no-keep", "--json", &sample.address];
        b.call(words)
            .args(["--peer", &proxy.addr, "-o"])
            .arg(sample.copy_path())
    };
    for is_finished in [false, true] {
        let call = get().spawn();
        wait_until("the file to be announced", || announced(&b) > 0);
        if is_finished {
            let report = call.wait().ok().json();
            assert!(number(&report, "local_chunks") > 0, "{report}");
        } else {
            wait_until("a part of the download", || proxy.relayed_bytes() > 4 << 20);
            call.signal(Signal::INT);
            call.wait().exits(130).says("goes on");
        }
        wait_until("the announcement to be withdrawn", || announced(&b) == 0);
    }
    sample.assert_at(&sample.copy_path());
    assert_no_chunks(b.data_dir());
    assert_eq!(b.call(["ls"]).run().ok().text(), "");
}

#[test]
fn a_forged_manifest_beside_an_honest_peer_leaves_no_trace_in_the_output() {
    let sample = Sample::new(711, 40 * CHUNK);
    let honest = Node::start(&[]);
    honest.store(&sample.path);
    let slow = Proxy::start(&honest, RATE);
    for way in WAYS {
        let liar = Hostile::start(hostile_peers::forged_manifest(&sample), &[]);
        let home = Home::new();
        get(&home, &sample, way, &liar.addr)
            .args(["--peer", &slow.addr])
            .run()
            .ok();
        sample.assert_at(&sample.copy_path());
        assert_no_chunks(home.path());
        assert_eq!(files_beside(&sample), ["copy.bin", "sample.bin"]);
        fs::remove_file(sample.copy_path()).unwrap();
    }
}

#[test]
fn a_pipe_has_no_place_to_stay_at() {
    let home = Home::new();
    home.networked(["store", "--in-place", "-"], &[])
        .input(b"bytes".to_vec())
        .run()
        .exits(2)
        .says("--in-place");
    let address = crate::content::address(b"bytes");
    for way in WAYS {
        home.networked(["get", way, &address, "-o", "-"], &[])
            .run()
            .exits(2)
            .says(way);
    }
    casnode(["get", "--no-keep", "--pin", &address])
        .run()
        .exits(2);
}

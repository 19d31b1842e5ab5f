//! What stays of a fetched file by default: its bytes take their space once.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::content::{CHUNK, Sample, random};
use crate::harness::{Call, Home, Node, folder, wait_until};
use crate::proxy::Proxy;

/// The smallest file that is kept in place.
const LARGE: usize = 64 * CHUNK;

/// Slow enough to be broken off.
const RATE: u64 = 8 << 20;

/// Where blocks are shared nothing is kept in place by default, and these tests have nothing to say.
pub(crate) fn shares_blocks() -> bool {
    let probe = casnode_cas::probe_folder(folder().path()).unwrap();
    if probe.shares_blocks {
        eprintln!("skipped: the file system of the temporary folder shares blocks");
    }
    probe.shares_blocks
}

/// Bytes that everything beneath a folder occupies on the disk.
fn disk_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => disk_bytes(&entry.path()),
        data => data.map_or(0, |data| data.blocks() * 512),
    };
    entries.map(bytes).sum()
}

fn get(home: &Home, words: &[&str], sample: &Sample, to: &Path, peer: &str) -> Call {
    let call = home.networked(["get", "--json", &sample.address, "--peer", peer], &[]);
    call.args(words).arg("-o").arg(to)
}

/// What the store says of the file.
fn stat(home: &Home, sample: &Sample) -> Value {
    home.call(["stat", "--json", &sample.address])
        .run()
        .ok()
        .json()
}

#[track_caller]
fn assert_in_place(home: &Home, sample: &Sample, at: &Path) {
    let stat = stat(home, sample);
    assert_eq!(stat["state"], "complete", "{stat}");
    assert_eq!(stat["in_place"], at.to_str().unwrap(), "{stat}");
    assert_eq!(stat["source_state"], "intact", "{stat}");
}

#[test]
fn a_large_file_takes_its_space_once_and_a_copy_of_it_twice() {
    if shares_blocks() {
        return;
    }
    let a = Node::start(&[]);
    let (small, sample) = (Sample::new(811, 10), Sample::new(800, LARGE));
    a.store(&sample.path);
    for (words, kept, most) in [
        (&[][..], "in_place", 1.2),
        (&["--copy"], "copy", 2.2),
        (&["--pin"], "copy", 2.2),
    ] {
        let home = Home::new();
        // With the reserve that every data directory has.
        home.networked(["store"], &[]).arg(&small.path).run().ok();
        let before = disk_bytes(home.path());
        let run = get(&home, words, &sample, &sample.copy_path(), &a.addr).run();
        let run = run.ok();
        let report = run.json();
        sample.assert_at(&sample.copy_path());
        assert_eq!(report["kept"], kept, "{report}");
        let output = fs::metadata(sample.copy_path()).unwrap().blocks() * 512;
        let taken = (disk_bytes(home.path()) + output).saturating_sub(before);
        let size = sample.bytes.len() as f64;
        assert!(
            (taken as f64) < most * size,
            "{taken} bytes taken: {report}"
        );
        match kept {
            "in_place" => {
                run.says("unchanged").says("--copy");
                assert_in_place(&home, &sample, &sample.copy_path());
            }
            _ => {
                assert!(taken as f64 > 1.9 * size, "{taken} bytes taken: {report}");
                assert_eq!(stat(&home, &sample)["in_place"], Value::Null);
            }
        }
        fs::remove_file(sample.copy_path()).unwrap();
    }
}

#[test]
fn a_smaller_file_is_copied_and_so_is_what_goes_into_the_data_directory() {
    let a = Node::start(&[]);
    let small = Sample::new(801, LARGE - 1);
    a.store(&small.path);
    let home = Home::new();
    let report = get(&home, &[], &small, &small.copy_path(), &a.addr).run();
    assert_eq!(report.ok().json()["kept"], "copy");
    let large = Sample::new(802, LARGE);
    a.store(&large.path);
    let inside = home.path().join("out/copy");
    let report = get(&home, &[], &large, &inside, &a.addr).run().ok().json();
    large.assert_at(&inside);
    assert_eq!(report["kept"], "copy", "{report}");
}

#[test]
fn a_second_output_leaves_the_first_one_in_place_and_a_copy_can_be_made_at_any_time() {
    if shares_blocks() {
        return;
    }
    let a = Node::start(&[]);
    let sample = Sample::new(803, LARGE + 5);
    a.store(&sample.path);
    let home = Home::new();
    let (first, second) = (sample.copy_path(), sample.folder.path().join("second.bin"));
    get(&home, &[], &sample, &first, &a.addr).run().ok();
    let report = get(&home, &[], &sample, &second, &a.addr).run().ok().json();
    sample.assert_at(&second);
    assert_eq!(report["fetched_bytes"], 0, "{report}");
    assert_eq!(report["in_place"], first.to_str().unwrap(), "{report}");
    assert_in_place(&home, &sample, &first);
    // In the very place of the file that is kept there.
    for words in [&["--force"][..], &["--force", "--no-keep"]] {
        get(&home, words, &sample, &first, &a.addr).run().ok();
        sample.assert_at(&first);
        assert_in_place(&home, &sample, &first);
    }
    // An output that is there already, and one that is made anew.
    for words in [&["--copy"][..], &["--copy", "--force"]] {
        let report = get(&home, words, &sample, &first, &a.addr).run();
        let report = report.ok().json();
        assert_eq!(report["kept"], "copy", "{report}");
        assert_eq!(report["fetched_bytes"], 0, "{report}");
        assert_eq!(stat(&home, &sample)["in_place"], Value::Null);
    }
    fs::remove_file(&first).unwrap();
    fs::remove_file(&second).unwrap();
    home.call(["verify"]).run().ok();
    let report = get(&home, &[], &sample, &first, &a.addr).run().ok().json();
    assert_eq!(report["fetched_bytes"], 0, "{report}");
    assert_eq!(report["kept"], "copy", "what is whole stays as it is");
}

#[test]
fn a_copy_over_the_file_in_place_is_one() {
    if shares_blocks() {
        return;
    }
    let a = Node::start(&[]);
    let sample = Sample::new(804, LARGE);
    a.store(&sample.path);
    let home = Home::new();
    let to = sample.copy_path();
    get(&home, &[], &sample, &to, &a.addr).run().ok();
    let report = get(&home, &["--copy", "--force"], &sample, &to, &a.addr).run();
    assert_eq!(report.ok().json()["kept"], "copy");
    fs::remove_file(&to).unwrap();
    home.call(["verify"]).run().ok();
    assert_eq!(stat(&home, &sample)["state"], "complete");
}

#[test]
fn an_output_that_was_moved_edited_or_removed_is_told_once_and_fetched_anew() {
    if shares_blocks() {
        return;
    }
    let mut a = Node::start(&[]);
    let sample = Sample::new(805, LARGE);
    a.store(&sample.path);
    let (to, moved) = (sample.copy_path(), sample.folder.path().join("moved.bin"));
    let home = Home::new();
    get(&home, &[], &sample, &to, &a.addr).run().ok();
    fs::rename(&to, &moved).unwrap();
    let run = home.call(["ls", "--json"]).run().ok().says("is missing");
    assert_eq!(run.json()["source_state"], "missing");
    let again = home.call(["ls"]).run().ok();
    assert!(!again.stderr.contains("is missing"), "told twice");
    // Where it was moved to it is found by the next get.
    let report = get(&home, &[], &sample, &moved, &a.addr).run().ok().json();
    assert_eq!(report["unchanged"], true, "{report}");
    assert_in_place(&home, &sample, &moved);
    let mut bytes = sample.bytes.clone();
    bytes[CHUNK] ^= 1;
    fs::write(&moved, &bytes).unwrap();
    let report = get(&home, &[], &sample, &to, &a.addr).run().ok().json();
    sample.assert_at(&to);
    assert_eq!(report["fetched_chunks"], sample.chunks(), "{report}");
    assert_in_place(&home, &sample, &to);
    // A daemon that begins says so by name, and nobody is given anything of it.
    a.kill();
    fs::remove_file(&to).unwrap();
    let b = Node::start_on(home, &[]);
    wait_until("the daemon to say so", || b.said().contains("is missing"));
    assert_eq!(b.said().matches("is missing").count(), 1);
    let (other, place) = (Home::new(), sample.folder.path().join("other.bin"));
    get(&other, &["--timeout", "4s"], &sample, &place, &b.addr)
        .run()
        .exits_one_of(&[10, 11]);
}

#[test]
fn what_was_begun_one_way_is_gone_on_with_the_other_way() {
    if shares_blocks() {
        return;
    }
    let a = Node::start(&[]);
    let sample = Sample::new(806, 100 * CHUNK);
    a.store(&sample.path);
    for (first, second) in [(&[][..], &["--copy"][..]), (&["--copy"], &[])] {
        let home = Home::new();
        let proxy = Proxy::start(&a, RATE);
        let mut call = get(&home, first, &sample, &sample.copy_path(), &proxy.addr).spawn();
        wait_until("a part of the download", || proxy.relayed_bytes() > 8 << 20);
        assert!(call.is_running());
        call.signal(Signal::KILL);
        call.wait();
        let report = get(&home, second, &sample, &sample.copy_path(), &a.addr).run();
        let report = report.ok().json();
        sample.assert_at(&sample.copy_path());
        let local = report["local_chunks"].as_u64().unwrap();
        assert!(local >= 16, "eight MiB came through: {report}");
        let expected = if second.is_empty() {
            "in_place"
        } else {
            "copy"
        };
        assert_eq!(report["kept"], expected, "{report}");
        let left = fs::read_dir(sample.folder.path()).unwrap().count();
        assert_eq!(left, 2, "the original and the copy, and nothing else");
        home.call(["verify"]).run().ok();
        fs::remove_file(sample.copy_path()).unwrap();
    }
}

#[test]
fn a_limit_counts_nothing_that_is_in_place_and_nothing_has_to_go_for_it() {
    if shares_blocks() {
        return;
    }
    let a = Node::start(&[]);
    let (small, large) = (Sample::new(807, 4 * CHUNK), Sample::new(808, 160 * CHUNK));
    a.store(&small.path);
    let link = a.call(["store", "--link"]).arg(&large.path).run().ok();
    let home = Home::new();
    let limited = |words: &[&str]| {
        let words = [&["--max-store", "64MiB"][..], words].concat();
        home.networked(words, &[&a.addr])
    };
    let place = |name: &str| large.folder.path().join(name);
    limited(&["get", &small.address])
        .arg("-o")
        .arg(place("small"))
        .run()
        .ok();
    // By a link it is known beforehand that a copy does not fit.
    for (to, address) in [("one", large.address.as_str()), ("two", link.text().trim())] {
        let copy = limited(&["get", "--copy", address]);
        copy.arg("-o").arg(place(to)).run().exits(13);
        let get = limited(&["get", address]);
        get.arg("-o").arg(place(to)).run().ok();
        large.assert_at(&place(to));
        home.call(["rm", &large.address]).run().ok();
        assert!(place(to).exists(), "the file stays");
    }
    let listed = home.call(["ls", "--json"]).run().ok().json();
    assert_eq!(listed["address"], small.address, "nothing had to go");
}

#[test]
fn large_files_of_a_directory_are_kept_where_they_are_written() {
    if shares_blocks() {
        return;
    }
    let mut a = Node::start(&[]);
    let source = folder();
    let tree = source.path().join("tree");
    fs::create_dir_all(tree.join("deep/er")).unwrap();
    let large = Sample::new(809, LARGE + 1);
    fs::copy(&large.path, tree.join("deep/er/large")).unwrap();
    fs::copy(&large.path, tree.join("twin")).unwrap();
    fs::write(tree.join("middle"), random(810, 8 * CHUNK)).unwrap();
    fs::write(tree.join("small"), b"small").unwrap();
    let address = a.store(&tree);
    let to = source.path().join("to");
    let words = ["get", "--json", &address, "-o"];
    let pinned = Home::new();
    let call = pinned.networked(["get", "--json", "--pin", &address], &[&a.addr]);
    let report = call.arg("-o").arg(source.path().join("pinned"));
    assert_eq!(report.run().ok().json()["kept_in_place"], 0);
    let b = Node::start(&[&a.addr]);
    let run = b.call(words).arg(&to).run().ok();
    let report = run.json();
    assert_eq!(report["kept_in_place"], 1, "{report}");
    run.says("1 large file");
    a.kill();
    let stat = b.call(["stat", "--json", &large.address]).run().ok().json();
    assert_eq!(stat["state"], "complete", "{stat}");
    assert_eq!(stat["source_state"], "intact", "{stat}");
    let kept = stat["in_place"].as_str().unwrap();
    let places = ["deep/er/large", "twin"].map(|path| to.join(path));
    assert!(places.iter().any(|place| place.to_str() == Some(kept)));
    places.iter().for_each(|place| large.assert_at(place));
    let c = Home::new();
    let third = source.path().join("third");
    let call = c.networked(["get", &address, "--peer", &b.addr], &[]);
    call.arg("-o").arg(&third).run().ok();
    large.assert_at(&third.join("twin"));
    // Again: all of it is there.
    let report = b.call(words).arg(&to).run().ok().json();
    assert_eq!(report["here"], 4, "{report}");
}

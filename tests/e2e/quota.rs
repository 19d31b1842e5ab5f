//! A store with a limit: what goes, what stays, and what is refused.

use serde_json::Value;

use crate::content::{CHUNK, Sample};
use crate::harness::{Home, Node, wait_until};

/// The smallest limit there is. The reserve takes half of it.
const LIMIT: &str = "64MiB";
const LIMIT_BYTES: u64 = 64 << 20;

/// Chunks of a file of which three fit beside each other, and four do not.
const THIRD: usize = 32;

/// A call that stores under the limit.
fn store(home: &Home, words: &[&str], sample: &Sample) -> crate::harness::Call {
    home.networked(["--max-store", LIMIT, "store"], &[])
        .args(words)
        .arg(&sample.path)
}

fn addresses(home: &Home) -> Vec<String> {
    let listed = home.call(["ls", "--json"]).run().ok().json_lines();
    let address = |file: &Value| file["address"].as_str().unwrap().to_owned();
    listed.iter().map(address).collect()
}

#[track_caller]
fn assert_within(home: &Home) {
    let status = home.call(["status", "--json"]).run().ok().json();
    let used = status["disk_bytes"].as_u64().unwrap();
    assert!(used <= LIMIT_BYTES, "{status}");
}

#[test]
fn a_file_that_cannot_fit_is_13_before_anything_is_written() {
    let home = Home::new();
    let small = Sample::new(320, 4 * CHUNK);
    store(&home, &["--no-pin"], &small).run().ok();
    let large = Sample::new(321, 160 * CHUNK);
    let run = store(&home, &[], &large).run().exits(13);
    let run = run.says(&format!("{} bytes needed", large.bytes.len()));
    run.says("--max-store");
    assert_eq!(
        addresses(&home),
        [small.address.as_str()],
        "nothing had to go"
    );
    assert_within(&home);
    // Without the limit it fits.
    home.networked(["--max-store", "none", "store"], &[])
        .arg(&large.path)
        .run()
        .ok();
}

#[test]
fn a_stream_that_does_not_fit_is_13_and_leaves_nothing() {
    let home = Home::new();
    let large = Sample::new(322, 160 * CHUNK);
    home.networked(["--max-store", LIMIT, "store", "-"], &[])
        .input(large.bytes.clone())
        .run()
        .exits(13);
    assert_eq!(addresses(&home), Vec::<String>::new());
    home.call(["gc"]).run().ok();
    assert_within(&home);
    let small = Sample::new(323, 40 * CHUNK);
    store(&home, &[], &small).run().ok();
}

#[test]
fn the_least_recently_used_files_go_and_pinned_ones_stay() {
    let home = Home::new();
    let files: Vec<Sample> = (330..334)
        .map(|seed| Sample::new(seed, THIRD * CHUNK))
        .collect();
    // The oldest is pinned; of the others the one stored first goes first.
    store(&home, &[], &files[0]).run().ok();
    store(&home, &["--no-pin"], &files[1]).run().ok();
    store(&home, &["--no-pin"], &files[2]).run().ok();
    assert_eq!(addresses(&home).len(), 3, "three fit");
    let plan = home.call(["gc", "--dry-run", "--json"]).run().ok().json();
    assert_eq!(plan["evict_files"], 0, "{plan}");
    store(&home, &[], &files[3]).run().ok();
    let left = [&files[0], &files[2], &files[3]].map(|file| file.address.clone());
    assert_eq!(addresses(&home), left);
    assert_within(&home);
    // What remains is whole.
    home.call(["verify"]).run().ok();
    // All that is left to go is one file: two new ones are too many, and then none goes.
    let two = Sample::new(334, 2 * THIRD * CHUNK);
    store(&home, &[], &two).run().exits(13);
    assert_eq!(addresses(&home), left);
}

#[test]
fn what_is_here_already_needs_no_room() {
    let home = Home::new();
    let file = Sample::new(335, 3 * THIRD * CHUNK);
    store(&home, &[], &file).run().ok();
    let report = store(&home, &["--json"], &file).run().ok().json();
    assert_eq!(report["new_bytes"], 0, "{report}");
    assert_within(&home);
}

#[test]
fn a_daemon_announces_no_more_what_had_to_go() {
    let home = Home::new();
    let files: Vec<Sample> = (340..344)
        .map(|seed| Sample::new(seed, THIRD * CHUNK))
        .collect();
    store(&home, &["--no-pin"], &files[0]).run().ok();
    let other = Node::start(&[]);
    let node = Node::start_on(home, &[&other.addr]);
    for file in &files[1..3] {
        node.store(&file.path);
    }
    let scheduled = || {
        let status = node.status();
        status["announced"].as_u64().unwrap() + status["to_announce"].as_u64().unwrap()
    };
    let keys_of_three = 3 * (THIRD as u64 + 1);
    wait_until("all keys to be scheduled", || scheduled() == keys_of_three);
    node.store(&files[3].path);
    assert_eq!(node.status()["files"], 3);
    wait_until("the keys of the file that went to be withdrawn", || {
        scheduled() == keys_of_three
    });
    // It is not offered any more.
    let get = other.call(["get", &files[0].address, "--timeout", "5s", "-o"]);
    get.arg(files[0].copy_path()).run().exits_one_of(&[10, 11]);
}

#[test]
fn a_get_that_does_not_fit_is_13_and_says_how_it_would() {
    let a = Node::start(&[]);
    let large = Sample::new(345, 160 * CHUNK);
    a.store(&large.path);
    let home = Home::new();
    let words = ["--max-store", LIMIT, "get", "--copy", &large.address];
    home.networked(words, &[&a.addr])
        .arg("-o")
        .arg(large.copy_path())
        .run()
        .exits(13)
        .says("--no-keep");
    assert!(!large.copy_path().exists());
    // Where no file is made, there is nothing that could be kept instead.
    for words in [&["cat"][..], &["get", "--store-only"], &["get", "-o", "-"]] {
        let words = [&["--max-store", LIMIT], words, &[&large.address]].concat();
        let run = home.networked(words, &[&a.addr]).run().exits(13);
        let run = run.says("casnode rm");
        assert!(!run.stderr.contains("--no-keep"), "{}", run.stderr);
        assert!(!run.stderr.contains("--in-place"), "{}", run.stderr);
    }
    assert_within(&home);
}

#[test]
fn a_get_makes_room_for_itself() {
    let a = Node::start(&[]);
    let wanted = Sample::new(346, THIRD * CHUNK);
    a.store(&wanted.path);
    let home = Home::new();
    let files: Vec<Sample> = (347..350)
        .map(|seed| Sample::new(seed, THIRD * CHUNK))
        .collect();
    for file in &files {
        store(&home, &["--no-pin"], file).run().ok();
    }
    home.networked(["--max-store", LIMIT, "get", &wanted.address], &[&a.addr])
        .arg("-o")
        .arg(wanted.copy_path())
        .run()
        .ok();
    wanted.assert_at(&wanted.copy_path());
    let left = [&files[1], &files[2], &wanted].map(|file| file.address.clone());
    assert_eq!(addresses(&home), left);
    assert_within(&home);
}

//! Sharing as the command line shows it: limits, swarms, and for how long what was fetched is served.

use rustix::process::Signal;
use serde_json::Value;

use crate::content::{CHUNK, Sample};
use crate::harness::{Home, Node, Running, wait_until};
use crate::provide::assert_fields;

const MIB: u64 = 1 << 20;

/// A node with a limit of what it sends.
fn limited(max_up: &str) -> Node {
    let options = ["--listen", "/ip4/127.0.0.1/tcp/0", "--max-up", max_up];
    Node::start_as(Home::new(), &[], &options)
}

fn limits(node: &Node) -> Value {
    node.call(["limits", "--json"]).run().ok().json()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_rate_without_its_unit_is_refused_with_advice() {
    let home = Home::new();
    for (words, advice) in [
        (
            &["daemon", "--no-mdns", "--max-up", "10"][..],
            "10MiB/s or 10Mbit/s",
        ),
        (
            &["daemon", "--no-mdns", "--max-down", "10MiB"],
            "write 10MiB/s",
        ),
        (&["limits", "--up", "10"], "10MiB/s or 10Mbit/s"),
        (&["limits", "--down", "10Mb/s"], "Mbit/s"),
    ] {
        home.call(words).run().exits(2).says(advice);
    }
    home.call(["limits"]).run().exits(1).says("no daemon runs");
}

#[test]
fn a_provider_sends_no_faster_than_its_limit_and_counts_every_byte() {
    let a = limited("2MiB/s");
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(400, 64 * CHUNK);
    a.store(&sample.path);
    let report = b.get(&sample.address, &sample.copy_path());
    sample.assert_at(&sample.copy_path());
    let seconds = report["seconds"].as_f64().unwrap();
    assert!(seconds > 6.0, "16 MiB at 2 MiB/s came in {seconds} s");
    let limits = limits(&a);
    assert_fields(
        &limits,
        &[
            "down_bytes_per_s",
            "local",
            "up_now_bytes_per_s",
            "down_now_bytes_per_s",
            "down_bytes",
        ],
    );
    assert_eq!(limits["up_bytes_per_s"], 2 * MIB);
    let sent = number(&limits["up_bytes"]);
    let taken = number(&self::limits(&b)["down_bytes"]);
    let content = sample.bytes.len() as u64;
    for bytes in [sent, taken] {
        // What the transport adds, and what was asked twice, is little.
        assert!(
            (content..content * 5 / 4).contains(&bytes),
            "{bytes} of {content}"
        );
    }
}

#[test]
fn a_limit_is_lifted_while_a_transfer_goes_on() {
    let a = limited("256KiB/s");
    let b = Node::start(&[&a.addr]);
    // It would take four minutes.
    let sample = Sample::new(401, 256 * CHUNK);
    a.store(&sample.path);
    let mut get = b
        .call(["get", "--json", &sample.address, "-o"])
        .arg(sample.copy_path())
        .spawn();
    wait_until("the transfer to be under way", || {
        number(&limits(&b)["down_bytes"]) > MIB
    });
    assert!(get.is_running());
    let changed = a
        .call(["limits", "--up", "none", "--json"])
        .run()
        .ok()
        .json();
    assert!(changed["up_bytes_per_s"].is_null(), "{changed}");
    get.wait().ok();
    sample.assert_at(&sample.copy_path());
    let text = a
        .call(["limits", "--down", "3MB/s", "--local", "off"])
        .run()
        .ok()
        .text();
    assert!(
        text.contains("not limited") && text.contains("at most"),
        "{text}"
    );
}

/// What a node says of how long a file is served.
fn seed(node: &Node, sample: &Sample) -> Value {
    let stat = node.call(["stat", "--json", &sample.address]).run().ok();
    stat.json()["seed"].clone()
}

fn wait_until_over(node: &Node, sample: &Sample) {
    wait_until("the seeding to be over", || {
        seed(node, sample)["over"] == true
    });
}

/// Fails the test if this node serves the file to anybody.
fn assert_not_served(node: &Node, sample: &Sample) {
    let home = Home::new();
    home.networked(["get", &sample.address, "--timeout", "3s"], &[])
        .args(["--peer", &node.addr, "-o"])
        .arg(home.path().join("copy"))
        .run()
        .exits_one_of(&[10, 11]);
}

/// Fails the test unless this node serves the file.
fn assert_served(node: &Node, sample: &Sample) {
    let home = Home::new();
    let copy = home.path().join("copy");
    home.networked(["get", &sample.address, "--peer", &node.addr], &[])
        .arg("-o")
        .arg(&copy)
        .run()
        .ok();
    sample.assert_at(&copy);
}

/// Two nodes, of which the second has fetched a file of the first, with these words. The first is gone then.
fn fetched(seed: u64, words: &[&str]) -> (Node, Sample) {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(seed, 6 * CHUNK);
    a.store(&sample.path);
    b.call(["get", &sample.address, "-o"])
        .arg(sample.copy_path())
        .args(words)
        .run()
        .ok();
    (b, sample)
}

/// A get without a daemon that stays and serves, once others can find it there; and the node it fetched from, which has
/// the file no more.
fn lingering(number: u64, policy: &str) -> (Running, Node, Home, Sample) {
    let a = Node::start(&[]);
    let sample = Sample::new(number, 6 * CHUNK);
    a.store(&sample.path);
    let home = Home::new();
    let running = home
        .networked(["get", &sample.address, "--seed", policy], &[])
        .arg("-o")
        .arg(sample.copy_path())
        .args(["--bootstrap", &a.addr])
        .spawn();
    wait_until("it to be a provider", || {
        let found = a.call(["providers", "--json", &sample.address]).run();
        found.status.success() && found.json()["providers"].as_array().unwrap().len() == 2
    });
    a.call(["rm", &sample.address]).run().ok();
    (running, a, home, sample)
}

#[test]
fn a_signal_ends_a_get_that_only_serves_yet_and_that_is_no_failure() {
    let (running, _a, home, sample) = lingering(406, "until-exit");
    running.signal(Signal::INT);
    running.wait().ok();
    sample.assert_at(&sample.copy_path());
    let stat = home
        .call(["stat", "--json", &sample.address])
        .run()
        .ok()
        .json();
    assert_eq!(stat["seed"]["over"], true, "{stat}");
}

#[test]
fn without_a_daemon_nothing_is_served_unless_that_is_wanted() {
    let a = Node::start(&[]);
    let sample = Sample::new(407, 3 * CHUNK);
    a.store(&sample.path);
    let home = Home::new();
    home.networked(["get", &sample.address], &[&a.addr])
        .arg("-o")
        .arg(sample.copy_path())
        .run()
        .ok()
        .says("not served to others: no daemon runs");
    home.networked(["get", "--no-keep", "--seed", "30m", &sample.address], &[])
        .run()
        .exits(2)
        .says("nothing can be served");
    // That was said of the command. What is here is served by a daemon.
    let b = Node::start_on(home, &[]);
    assert_eq!(seed(&b, &sample)["policy"], "forever");
    assert_served(&b, &sample);
}

fn swarm(node: &Node, sample: &Sample) -> Value {
    node.call(["status", "--json", &sample.address])
        .run()
        .ok()
        .json()
}

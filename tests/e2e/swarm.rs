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

#[test]
fn what_is_fetched_with_seed_none_is_neither_served_nor_announced_until_it_is_stored() {
    let (b, sample) = fetched(402, &["--seed", "none"]);
    let told = seed(&b, &sample);
    assert_eq!(
        (&told["policy"], &told["over"]),
        (&"none".into(), &true.into())
    );
    let announced = || {
        let status = b
            .call(["provide", "status", "--json", &sample.address])
            .run()
            .ok()
            .json();
        [&status["file"], &status["chunks"]]
            .map(|part| number(&part["keys"]) - number(&part["unscheduled"]))
    };
    wait_until("it to leave the schedule", || announced() == [0, 0]);
    assert_not_served(&b, &sample);
    b.call(["provide", "now", &sample.address])
        .run()
        .exits(1)
        .says("served no more");
    // It is so after a restart, too.
    let b = Node::start_on(b.leave(), &[]);
    assert_eq!(seed(&b, &sample)["policy"], "none");
    assert_not_served(&b, &sample);
    b.store(&sample.path);
    assert_eq!(seed(&b, &sample)["policy"], "forever");
    assert_served(&b, &sample);
}

#[test]
fn what_is_served_for_a_time_is_served_no_longer() {
    let (b, sample) = fetched(403, &["--seed", "1h"]);
    assert_served(&b, &sample);
    let told = seed(&b, &sample);
    assert_eq!(told["policy"], "1h");
    assert_fields(
        &told,
        &["finished_unix_ms", "left_ms", "uploaded_bytes", "ratio"],
    );
    // It is here; all that changes is for how long it is served.
    b.call(["get", &sample.address, "--force", "-o"])
        .arg(sample.copy_path())
        .args(["--seed", "1s"])
        .run()
        .ok();
    wait_until_over(&b, &sample);
    assert_not_served(&b, &sample);
    b.call(["stat", &sample.address]).run().ok();
}

#[test]
fn a_daemon_serves_by_its_own_rule_until_the_ratio_is_reached() {
    let a = Node::start(&[]);
    let options = ["--listen", "/ip4/127.0.0.1/tcp/0", "--seed", "ratio=1"];
    let b = Node::start_as(Home::new(), &[&a.addr], &options);
    let sample = Sample::new(404, 6 * CHUNK);
    a.store(&sample.path);
    b.call(["get", &sample.address, "-o"])
        .arg(sample.copy_path())
        .run()
        .ok()
        .says("ratio=1");
    drop(a);
    assert_eq!(seed(&b, &sample)["over"], false);
    assert_served(&b, &sample);
    wait_until_over(&b, &sample);
    assert_eq!(seed(&b, &sample)["uploaded_bytes"], sample.bytes.len());
    assert_not_served(&b, &sample);
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
fn a_get_without_a_daemon_serves_until_the_ratio_is_reached_and_ends_well() {
    let (running, a, _home, sample) = lingering(405, "ratio=1");
    let c = Node::start(&[&a.addr]);
    let copy = sample.folder.path().join("second.bin");
    c.get(&sample.address, &copy);
    sample.assert_at(&copy);
    let run = running
        .wait()
        .ok()
        .says("serving it to others: ratio=1")
        .says("(ratio 1.00)");
    assert_eq!(run.text().trim(), sample.copy_path().to_str().unwrap());
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
fn a_reader_of_standard_output_sees_its_end_before_the_serving_is_over() {
    let a = Node::start(&[]);
    let sample = Sample::new(450, 6 * CHUNK);
    a.store(&sample.path);
    let home = Home::new();
    let mut running = home
        .networked(["get", &sample.address, "-o", "-", "--seed", "1h"], &[])
        .args(["--bootstrap", &a.addr])
        .spawn();
    wait_until("the pipe to end", || {
        running.stdout_has_ended() || !running.is_running()
    });
    assert!(
        running.is_running(),
        "the pipe ended with the command alone"
    );
    running.signal(Signal::INT);
    assert_eq!(running.wait().ok().stdout, sample.bytes);
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

#[test]
fn a_swarm_is_shown_from_both_sides_while_a_transfer_goes_on() {
    let a = limited("512KiB/s");
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(408, 128 * CHUNK);
    a.store(&sample.path);
    let mut get = b
        .call(["get", &sample.address, "-o"])
        .arg(sample.copy_path())
        .spawn();
    let moves = |node: &Node, way: &str| {
        let there = node.call(["status", "--json", &sample.address]).run();
        there.status.success() && there.json()["peers"][0][way].as_u64() > Some(0)
    };
    wait_until("both to see it move", || {
        moves(&a, "up_bytes_per_s") && moves(&b, "down_bytes_per_s")
    });
    wait_until("the giver to hear of what came", || {
        number(&swarm(&a, &sample)["peers"][0]["have_chunks"]) > 0
    });
    let giver = swarm(&a, &sample);
    assert_fields(
        &giver,
        &[
            "address",
            "name",
            "bytes",
            "chunks",
            "chunks_here",
            "mode",
            "copies",
            "up_bytes",
            "down_bytes",
            "seed",
        ],
    );
    assert_eq!(
        (&giver["chunks"], &giver["chunks_here"]),
        (&128.into(), &128.into())
    );
    assert_eq!(giver["mode"], "fair");
    assert!(giver["copies"].as_f64() >= Some(1.0), "{giver}");
    let peer = &giver["peers"][0];
    assert_eq!(peer["peer"], b.peer_id, "{giver}");
    assert_eq!(
        (&peer["choked_by_us"], &peer["interested_in_us"]),
        (&false.into(), &true.into())
    );
    assert_eq!(peer["transport"], "tcp");
    assert!(number(&peer["have_chunks"]) < 128, "{giver}");

    let taker = swarm(&b, &sample);
    let peer = &taker["peers"][0];
    assert_eq!(peer["peer"], a.peer_id, "{taker}");
    assert_eq!(
        (&peer["chokes_us"], &peer["interests_us"]),
        (&false.into(), &true.into())
    );
    assert_eq!(peer["have_chunks"], 128, "{taker}");
    assert!(number(&peer["down_bytes"]) > 0, "{taker}");
    let text = b.call(["status", &sample.address]).run().ok().text();
    for part in ["fair, 1 peer", "100 %", "serves us", "served"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(get.is_running(), "it was over before it was looked at");
    a.call(["limits", "--up", "none"]).run().ok();
    get.wait().ok();
    sample.assert_at(&sample.copy_path());
    a.call(["status", &Sample::new(409, 1).address])
        .run()
        .exits(10);
}

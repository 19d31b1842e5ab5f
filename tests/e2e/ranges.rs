//! Ranges of files: what is here and what is not, proven, and no more of it than is needed.

use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::content::{CHUNK, Sample};
use crate::harness::{CASNODE, Call, Node, Run, wait_until};
use crate::hostile::{Hostile, Manner};
use crate::hostile_peers::{forged_manifest, wrong_bytes};
use crate::proxy::Proxy;

/// Slow enough that a file is not there at once.
const SLOW: u64 = 2 << 20;

fn cat(node: &Node, address: &str, offset: usize, length: usize, peers: &[&str]) -> Call {
    let (offset, length) = (offset.to_string(), length.to_string());
    let call = node.call(["cat", address, "--offset", &offset, "--length", &length]);
    peers
        .iter()
        .fold(call, |call, peer| call.args(["--peer", peer]))
}

fn stat(node: &Node, address: &str) -> Value {
    let run = node.call(["stat", "--json", address]).run().ok();
    run.json()
}

fn chunks_here(node: &Node, address: &str) -> u64 {
    stat(node, address)["chunks_here"].as_u64().unwrap()
}

#[track_caller]
fn assert_slice(run: &Run, sample: &Sample, offset: usize, length: usize) {
    assert!(
        run.stdout == sample.bytes[offset..offset + length],
        "{length} bytes from {offset} on are others ({} came)",
        run.stdout.len()
    );
}

#[test]
fn ranges_of_a_file_that_is_here_are_its_bytes() {
    let sample = Sample::new(300, 3 * CHUNK + 77);
    let node = Node::start(&[]);
    node.call(["store", "--chunker", "fastcdc"])
        .arg(&sample.path)
        .run()
        .ok();
    let size = sample.bytes.len();
    let ranges = [
        (0, 0),
        (0, 1),
        (size - 1, 1),
        (size, 0),
        (CHUNK - 1, 2),
        (5, size - 5),
    ];
    for (offset, length) in ranges {
        let run = cat(&node, &sample.address, offset, length, &[]).run().ok();
        assert_slice(&run, &sample, offset, length);
    }
    let offset = (size - 9).to_string();
    let rest = node.call(["cat", &sample.address, "--json", "--offset", &offset]);
    let rest = rest.run().ok();
    assert_slice(&rest, &sample, size - 9, 9);
    let report: Value = serde_json::from_str(rest.stderr.trim()).unwrap();
    assert_eq!(report["bytes"], 9);
    assert_eq!(report["size_bytes"], size as u64);
    for (offset, length) in [(size, 1), (size + 1, 0), (0, size + 1)] {
        let run = cat(&node, &sample.address, offset, length, &[]).run();
        let run = run.exits(2).says(&format!("which has {size} bytes"));
        assert!(run.stdout.is_empty());
    }
}

#[test]
fn of_a_file_elsewhere_no_more_is_fetched_than_the_range_needs_and_once() {
    let sample = Sample::new(301, 200 * CHUNK);
    let mut provider = Node::start(&[]);
    provider.store(&sample.path);
    let node = Node::start(&[&provider.addr]);
    let (offset, length) = (100 * CHUNK - 50, 100);
    let run = cat(&node, &sample.address, offset, length, &[]).run().ok();
    assert_slice(&run, &sample, offset, length);
    assert_eq!(chunks_here(&node, &sample.address), 2);
    let run = cat(&node, &sample.address, 150 * CHUNK, CHUNK, &[])
        .run()
        .ok();
    assert_slice(&run, &sample, 150 * CHUNK, CHUNK);
    assert_eq!(chunks_here(&node, &sample.address), 3);
    provider.kill();
    let run = cat(&node, &sample.address, offset, length, &[]).run().ok();
    assert_slice(&run, &sample, offset, length);
    // What was read by ranges is no get, and a get goes on with it.
    assert_eq!(stat(&node, &sample.address)["state"], "partial");
}

#[test]
fn a_file_that_is_read_to_its_last_range_is_whole() {
    let sample = Sample::new(302, 20 * CHUNK);
    let provider = Node::start(&[]);
    provider.store(&sample.path);
    let node = Node::start(&[&provider.addr]);
    let (half, size) = (10 * CHUNK, sample.bytes.len());
    for (offset, length) in [(half, size - half), (0, half)] {
        let run = cat(&node, &sample.address, offset, length, &[]).run().ok();
        assert_slice(&run, &sample, offset, length);
    }
    wait_until("the file to be whole", || {
        stat(&node, &sample.address)["state"] == "complete"
    });
}

#[test]
fn a_liar_never_gets_a_byte_out() {
    let sample = Sample::new(303, 30 * CHUNK);
    for script in [wrong_bytes(&sample), forged_manifest(&sample)] {
        let liar = Hostile::start(script, &[]);
        let node = Node::start(&[]);
        let peers = [liar.addr.as_str()];
        let call = cat(&node, &sample.address, 9 * CHUNK, CHUNK, &peers);
        let run = call.args(["--timeout", "60s"]).run();
        let run = run.exits_one_of(&[10, 11, 12, 15]);
        assert!(run.stdout.is_empty(), "{} bytes came", run.stdout.len());
    }
}

#[test]
fn beside_a_liar_and_a_peer_that_sends_nothing_the_range_comes_of_an_honest_one() {
    let sample = Sample::new(304, 60 * CHUNK);
    let honest = Node::start(&[]);
    honest.store(&sample.path);
    let slow = Proxy::start(&honest, 8 << 20);
    let liar = Hostile::start(wrong_bytes(&sample), &[]);
    let mut script = wrong_bytes(&sample);
    script.manner = Manner::Silent;
    let silent = Hostile::start(script, &[]);
    let node = Node::start(&[]);
    let peers = [liar.addr.as_str(), &silent.addr, &slow.addr];
    let (offset, length) = (7 * CHUNK + 5, 40 * CHUNK);
    let run = cat(&node, &sample.address, offset, length, &peers)
        .run()
        .ok();
    assert_slice(&run, &sample, offset, length);
}

#[test]
fn when_a_provider_dies_in_the_middle_the_rest_comes_of_another() {
    let sample = Sample::new(305, 80 * CHUNK);
    let mut first = Node::start(&[]);
    first.store(&sample.path);
    let slow = Proxy::start(&first, SLOW);
    let node = Node::start(&[]);
    let length = sample.bytes.len();
    let call = cat(&node, &sample.address, 0, length, &[&slow.addr]).spawn();
    wait_until("some of it to come", || slow.relayed_bytes() > 1 << 20);
    first.kill();
    let second = Node::start(&[&node.addr]);
    second.store(&sample.path);
    assert_slice(&call.wait().ok(), &sample, 0, length);
}

#[test]
fn readers_at_different_places_share_one_download() {
    let sample = Sample::new(306, 60 * CHUNK);
    let provider = Node::start(&[]);
    provider.store(&sample.path);
    let slow = Proxy::start(&provider, 4 << 20);
    let node = Node::start(&[]);
    let ranges = [(0, 10), (40, 10), (45, 10), (5, 10)];
    let calls = ranges.map(|(from, chunks)| {
        let (offset, length) = (from * CHUNK, chunks * CHUNK);
        cat(&node, &sample.address, offset, length, &[&slow.addr]).spawn()
    });
    for (call, (from, chunks)) in calls.into_iter().zip(ranges) {
        assert_slice(&call.wait().ok(), &sample, from * CHUNK, chunks * CHUNK);
    }
    assert_eq!(chunks_here(&node, &sample.address), 30);
    let sent = slow.relayed_bytes();
    assert!(sent < 36 * CHUNK as u64, "{sent} bytes for 30 chunks");
}

#[test]
fn what_a_reader_that_leaves_wanted_is_not_fetched_any_more() {
    let sample = Sample::new(307, 200 * CHUNK);
    let provider = Node::start(&[]);
    provider.store(&sample.path);
    let slow = Proxy::start(&provider, SLOW);
    let node = Node::start(&[]);
    let mut leaves = Command::new(CASNODE)
        .arg("--data-dir")
        .arg(node.data_dir())
        .args(["cat", &sample.address, "--peer", &slow.addr])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = leaves.stdout.take().unwrap();
    output.read_exact(&mut vec![0; CHUNK]).unwrap();
    drop(output);
    leaves.kill().unwrap();
    leaves.wait().unwrap();
    // Whoever reads elsewhere now does not wait for all that was asked for before.
    let (offset, length) = (150 * CHUNK, CHUNK);
    let run = cat(&node, &sample.address, offset, length, &[&slow.addr])
        .run()
        .ok();
    assert_slice(&run, &sample, offset, length);
    let here = chunks_here(&node, &sample.address);
    // No more than was read ahead, however long all this took.
    assert!(here < 100, "{here} of 200 chunks came");
}

#[test]
fn a_get_of_the_whole_file_and_readers_of_it_do_not_hinder_each_other() {
    let sample = Sample::new(308, 100 * CHUNK);
    let provider = Node::start(&[]);
    provider.store(&sample.path);
    let slow = Proxy::start(&provider, 4 << 20);
    let node = Node::start(&[]);
    let reader = cat(&node, &sample.address, 0, 40 * CHUNK, &[&slow.addr]).spawn();
    wait_until("some of it to come", || slow.relayed_bytes() > 1 << 20);
    let get = node.call(["get", &sample.address, "--peer", &slow.addr, "-o"]);
    let get = get.arg(sample.copy_path()).spawn();
    let (offset, length) = (90 * CHUNK, 2 * CHUNK);
    let run = cat(&node, &sample.address, offset, length, &[]).run().ok();
    assert_slice(&run, &sample, offset, length);
    assert_slice(&reader.wait().ok(), &sample, 0, 40 * CHUNK);
    get.wait().ok();
    sample.assert_at(&sample.copy_path());
}

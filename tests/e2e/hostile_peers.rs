//! Peers that lie about content: the address decides, and the liar is named.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::Value;

use crate::content::{CHUNK, Sample, chunks_of, manifest_over};
use crate::harness::{Home, Node, Run, wait_until};
use crate::hostile::{Hostile, Manner, Script, swarm_peer};
use crate::proxy::Proxy;

/// The honest peer is slow, so that the liar gets its turn.
const RATE: u64 = 8 << 20;

fn flipped(chunk: &Bytes) -> Bytes {
    let mut bytes = chunk.to_vec();
    bytes[0] ^= 1;
    bytes.into()
}

fn key(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// A true manifest; every chunk has a wrong bit.
pub(crate) fn wrong_bytes(sample: &Sample) -> Script {
    let chunks = chunks_of(&sample.bytes);
    let lies = chunks.iter().map(|chunk| (key(chunk), flipped(chunk)));
    Script {
        manifest: manifest_over(&sample.bytes, &chunks),
        chunks: lies.collect(),
        manner: Manner::Proper,
        swarm: Vec::new(),
    }
}

/// A true proof tree over a false list of chunks, and those very chunks.
pub(crate) fn forged_manifest(sample: &Sample) -> Script {
    let false_chunks: Vec<Bytes> = chunks_of(&sample.bytes).iter().map(flipped).collect();
    let chunks: HashMap<_, _> = false_chunks
        .iter()
        .map(|chunk| (key(chunk), chunk.clone()))
        .collect();
    Script {
        manifest: manifest_over(&sample.bytes, &false_chunks),
        chunks,
        manner: Manner::Proper,
        swarm: Vec::new(),
    }
}

fn get(sample: &Sample, peers: &[&str]) -> Run {
    let home = Home::new();
    let call = home.networked(["get", "--json", &sample.address, "--timeout", "60s"], &[]);
    let call = peers
        .iter()
        .fold(call, |call, peer| call.args(["--peer", peer]));
    call.arg("-o").arg(sample.copy_path()).run()
}

fn part_of<'a>(report: &'a Value, peer: &str) -> Option<&'a Value> {
    report["providers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|provider| provider["peer"] == peer)
}

#[test]
pub(crate) fn wrong_bytes_beside_an_honest_peer_are_rejected_counted_and_named() {
    let sample = Sample::new(60, 80 * CHUNK);
    let honest = Node::start(&[]);
    honest.store(&sample.path);
    let slow = Proxy::start(&honest, RATE);
    let liar = Hostile::start(wrong_bytes(&sample), &[]);
    let run = get(&sample, &[&liar.addr, &slow.addr])
        .ok()
        .says(&liar.peer_id);
    sample.assert_at(&sample.copy_path());
    let report = run.json();
    assert!(report["rejected_chunks"].as_u64().unwrap() > 0, "{report}");
    let part = part_of(&report, &liar.peer_id)
        .unwrap_or_else(|| panic!("the liar is not named: {report}"));
    assert!(part["rejected"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(part["bytes"], 0, "{report}");
    assert!(
        liar.served_chunks() < sample.chunks() / 2,
        "it was asked on and on: {}",
        liar.served_chunks()
    );
    assert_eq!(
        part_of(&report, &honest.peer_id).unwrap()["bytes"],
        sample.bytes.len()
    );
}

/// Whoever lies can cut the file in a way that nobody else does.
#[test]
fn liars_with_a_cutting_of_their_own_do_not_stop_a_download() {
    let sample = Sample::new(68, 40 * CHUNK);
    let honest = Node::start(&[]);
    let words = ["store", "--chunker", "fastcdc"];
    honest.call(words).arg(&sample.path).run().ok();
    let slow = Proxy::start(&honest, RATE);
    for script in [wrong_bytes(&sample), odd(&sample, Manner::Silent)] {
        let _ = std::fs::remove_file(sample.copy_path());
        let liar = Hostile::start(script, &[]);
        get(&sample, &[&liar.addr, &slow.addr]).ok();
        sample.assert_at(&sample.copy_path());
    }
}

#[test]
pub(crate) fn wrong_bytes_alone_give_no_file() {
    let sample = Sample::new(61, 20 * CHUNK);
    let liar = Hostile::start(wrong_bytes(&sample), &[]);
    get(&sample, &[&liar.addr])
        .exits_one_of(&[12, 15])
        .says(&liar.peer_id);
    assert!(liar.served_chunks() > 0, "the liar was never asked");
    assert_eq!(
        std::fs::read_dir(sample.folder.path()).unwrap().count(),
        1,
        "a copy or a part of one was left"
    );
}

#[test]
fn a_liar_found_through_the_dht_is_rejected_too() {
    let sample = Sample::new(62, 100 * CHUNK);
    let middle = Node::start(&[]);
    let honest = Hostile::start(odd(&sample, Manner::Held), &[&middle.addr]);
    let liar = Hostile::start(wrong_bytes(&sample), &[&middle.addr]);
    let getter = Node::start(&[&middle.addr]);
    let words = ["get", "--json", &sample.address, "-o"];
    let get = getter.call(words).arg(sample.copy_path()).spawn();
    wait_until("the liar to be asked", || liar.served_chunks() > 0);
    honest.release();
    let report = get.wait().ok().json();
    sample.assert_at(&sample.copy_path());
    assert!(report["rejected_chunks"].as_u64().unwrap() > 0, "{report}");
    let part = part_of(&report, &liar.peer_id)
        .unwrap_or_else(|| panic!("the liar is not named: {report}"));
    assert!(part["rejected"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(part["bytes"], 0, "{report}");
    assert_eq!(
        part_of(&report, &honest.peer_id).unwrap()["bytes"],
        sample.bytes.len()
    );
}

#[test]
fn a_forged_manifest_beside_an_honest_peer_costs_little() {
    let sample = Sample::new(63, 80 * CHUNK);
    let honest = Node::start(&[]);
    honest.store(&sample.path);
    let slow = Proxy::start(&honest, RATE);
    let liar = Hostile::start(forged_manifest(&sample), &[]);
    get(&sample, &[&liar.addr, &slow.addr]).ok();
    sample.assert_at(&sample.copy_path());
    // One group tells, and a group of the usual size is one chunk.
    assert!(
        liar.served_chunks() <= 4,
        "{} chunks of a forgery were fetched",
        liar.served_chunks()
    );
}

#[test]
fn a_forged_manifest_alone_gives_no_file() {
    let sample = Sample::new(64, 20 * CHUNK);
    let liar = Hostile::start(forged_manifest(&sample), &[]);
    get(&sample, &[&liar.addr])
        .exits_one_of(&[12, 15])
        .says(&liar.peer_id);
    assert_eq!(
        std::fs::read_dir(sample.folder.path()).unwrap().count(),
        1,
        "a copy or a part of one was left"
    );
}

#[test]
fn chunks_of_a_forgery_are_not_kept() {
    let sample = Sample::new(65, 20 * CHUNK);
    let liar = Hostile::start(forged_manifest(&sample), &[]);
    let home = Home::new();
    home.networked(
        [
            "get",
            &sample.address,
            "--timeout",
            "30s",
            "--peer",
            &liar.addr,
        ],
        &[],
    )
    .arg("-o")
    .arg(sample.copy_path())
    .run()
    .exits_one_of(&[12, 15]);
    // Another, honest peer later: nothing of the forgery stands in the way.
    let honest = Node::start(&[]);
    honest.store(&sample.path);
    home.networked(["get", &sample.address], &[&honest.addr])
        .arg("-o")
        .arg(sample.copy_path())
        .run()
        .ok();
    sample.assert_at(&sample.copy_path());
    let status = home.call(["status", "--json"]).run().ok().json();
    assert_eq!(status["chunks"], sample.chunks(), "{status}");
}

/// True chunks and a true manifest, told in a manner that no honest peer has.
pub(crate) fn odd(sample: &Sample, manner: Manner) -> Script {
    let chunks = chunks_of(&sample.bytes);
    Script {
        manifest: manifest_over(&sample.bytes, &chunks),
        chunks: chunks
            .iter()
            .map(|chunk| (key(chunk), chunk.clone()))
            .collect(),
        manner,
        swarm: Vec::new(),
    }
}

const ODD: [Manner; 12] = [
    Manner::EndlessManifest,
    Manner::WrongBitmap,
    Manner::Unasked,
    Manner::Silent,
    Manner::AlwaysBusy,
    Manner::LyingBitmap,
    Manner::NeverUnchokes,
    Manner::FlipFlop,
    Manner::PeersFlood,
    Manner::GotFlood,
    Manner::GotOutOfRange,
    Manner::Oversized,
];

#[test]
fn odd_manners_beside_an_honest_peer_do_not_stop_a_download() {
    let sample = Sample::new(66, 24 * CHUNK);
    let honest = Node::start(&[]);
    honest.store(&sample.path);
    let slow = Proxy::start(&honest, RATE);
    for manner in ODD {
        let _ = std::fs::remove_file(sample.copy_path());
        let peer = Hostile::start(odd(&sample, manner), &[]);
        get(&sample, &[&peer.addr, &slow.addr]).ok();
        sample.assert_at(&sample.copy_path());
    }
}

/// What no honest peer does: whoever does it is asked no more.
const RUDE: [Manner; 7] = [
    Manner::WrongBitmap,
    Manner::Unasked,
    Manner::FlipFlop,
    Manner::PeersFlood,
    Manner::GotFlood,
    Manner::GotOutOfRange,
    Manner::Oversized,
];

#[test]
fn odd_manners_alone_end_within_the_time_limit() {
    let sample = Sample::new(67, 24 * CHUNK);
    let start = |manner: Manner| {
        let copy = sample.folder.path().join(format!("{manner:?}"));
        let peer = Hostile::start(odd(&sample, manner), &[]);
        let home = Home::new();
        // With whoever is let go it ends sooner.
        let limit = if RUDE.contains(&manner) { "60s" } else { "4s" };
        let words = ["get", &sample.address, "--timeout", limit];
        let call = home.networked(words, &[]).args(["--peer", &peer.addr]);
        let get = call.arg("-o").arg(&copy).spawn();
        (manner, copy, peer, home, get)
    };
    let gets: Vec<_> = ODD.into_iter().map(start).collect();
    for (manner, copy, peer, _home, get) in gets {
        let run = get.wait();
        if RUDE.contains(&manner) {
            let why = "a peer does not keep to the protocol";
            let (said, whom) = (&run.stderr, &peer.peer_id);
            let is_let_go = said.contains(why) && said.contains(whom);
            assert!(is_let_go, "{manner:?} is not let go:\n{said}");
        }
        if run.status.success() {
            sample.assert_at(&copy);
        } else {
            run.exits_one_of(&[10, 11, 12, 15]);
            assert!(!copy.exists(), "{manner:?}");
        }
    }
}

/// Two of four die, and a third begins to lie when it has told the truth for a while.
#[test]
fn a_download_survives_deaths_and_a_liar_half_way() {
    let sample = Sample::new(69, 256 * CHUNK);
    let mut nodes: Vec<Node> = (0..3).map(|_| Node::start(&[])).collect();
    for node in &nodes {
        node.store(&sample.path);
    }
    let slow: Vec<Proxy> = nodes.iter().map(|node| Proxy::start(node, RATE)).collect();
    let turncoat = Hostile::start(odd(&sample, Manner::LiarAfter(20)), &[]);
    let addrs = [&slow[0].addr, &slow[1].addr, &slow[2].addr, &turncoat.addr];
    let home = Home::new();
    let call = home.networked(["get", "--json", &sample.address], &[]);
    let call = addrs
        .iter()
        .fold(call, |call, addr| call.args(["--peer", addr]));
    let get = call.arg("-o").arg(sample.copy_path()).spawn();
    for (dying, sent_bytes) in [(0, 4 << 20), (1, 6 << 20)] {
        wait_until("a part to have come from it", || {
            slow[dying].relayed_bytes() > sent_bytes
        });
        nodes[dying].kill();
    }
    let report = get.wait().ok().says(&turncoat.peer_id).json();
    sample.assert_at(&sample.copy_path());
    assert!(report["rejected_chunks"].as_u64().unwrap() > 0, "{report}");
    let size = sample.bytes.len() as u64;
    let duplicates = report["duplicate_bytes"].as_u64().unwrap();
    assert!(duplicates <= size / 100, "{report}");
    for node in &nodes {
        let part = part_of(&report, &node.peer_id).unwrap();
        assert!(part["bytes"].as_u64().unwrap() > 0, "{report}");
    }
}

#[test]
fn a_provider_that_comes_to_a_crawl_holds_nobody_up() {
    let sample = Sample::new(70, 40 * CHUNK);
    let (crawling, honest) = (Node::start(&[]), Node::start(&[]));
    crawling.store(&sample.path);
    honest.store(&sample.path);
    let (slow, other) = (
        Proxy::start(&crawling, RATE),
        Proxy::start(&honest, RATE / 2),
    );
    let home = Home::new();
    let call = home.networked(["get", "--json", &sample.address], &[]);
    let call = call.args(["--peer", &slow.addr, "--peer", &other.addr]);
    let get = call.arg("-o").arg(sample.copy_path()).spawn();
    wait_until("a part to have come", || slow.relayed_bytes() > 1 << 20);
    slow.crawl();
    get.wait().ok();
    sample.assert_at(&sample.copy_path());
}

#[test]
fn a_provider_that_comes_to_a_crawl_alone_leaves_a_part() {
    let sample = Sample::new(71, 40 * CHUNK);
    let crawling = Node::start(&[]);
    crawling.store(&sample.path);
    let slow = Proxy::start(&crawling, RATE);
    let home = Home::new();
    let words = ["get", &sample.address, "--timeout", "12s"];
    let call = home.networked(words, &[]).args(["--peer", &slow.addr]);
    let get = call.arg("-o").arg(sample.copy_path()).spawn();
    wait_until("a part to have come", || slow.relayed_bytes() > 2 << 20);
    slow.crawl();
    get.wait().exits(15).says("are here and kept");
    assert!(!sample.copy_path().exists());
}

#[test]
fn whoever_gets_no_turn_is_told_so() {
    let sample = Sample::new(72, 80 * CHUNK);
    let peer = Hostile::start(odd(&sample, Manner::NeverUnchokes), &[]);
    // A slow machine may not even come to ask within the first.
    let is_told = ["5s", "20s", "60s"].into_iter().any(|limit| {
        let home = Home::new();
        let words = ["get", &sample.address, "--timeout", limit];
        let call = home.networked(words, &[]).args(["--peer", &peer.addr]);
        let run = call.arg("-o").arg(sample.copy_path()).run();
        let why = "1 peer has it and gave this node no turn";
        run.status.code() == Some(11) && run.stderr.contains(why)
    });
    assert!(is_told);
    assert_eq!(peer.served_chunks(), 0);
}

/// Nobody else knows of the one who serves: no DHT leads there.
#[test]
fn whom_a_peer_of_the_swarm_tells_of_is_asked() {
    let sample = Sample::new(73, 80 * CHUNK);
    let honest = Node::start(&[]);
    honest.store(&sample.path);
    let mut script = odd(&sample, Manner::NeverUnchokes);
    script.swarm = vec![swarm_peer(&honest.peer_id, &honest.addr)];
    let teller = Hostile::start(script, &[]);
    let report = get(&sample, &[&teller.addr]).ok().json();
    sample.assert_at(&sample.copy_path());
    let part = part_of(&report, &honest.peer_id).unwrap();
    assert_eq!(part["bytes"], sample.bytes.len(), "{report}");
}

#[test]
fn a_peer_that_has_no_place_at_first_is_asked_again() {
    // Too many chunks for the metadata record to have the manifest.
    let sample = Sample::new(68, 80 * CHUNK);
    let full = Hostile::start(odd(&sample, Manner::FullAtFirst), &[]);
    get(&sample, &[&full.addr]).ok();
    sample.assert_at(&sample.copy_path());
}

//! `casnode why` names the cause in its last line.

use crate::content::{CHUNK, Sample};
use crate::harness::{Call, Home, Node, Run};
use crate::hostile::{Hostile, Manner, Script};
use crate::hostile_peers::{forged_manifest, wrong_bytes};

/// Fails the test unless the last line names the cause; the whole is told in JSON as well.
#[track_caller]
fn assert_cause(run: &Run, words: &str) {
    let text = run.text();
    let last = text.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("cause: ") && last.contains(words),
        "{text}\n{}",
        run.stderr
    );
    assert!(last.contains("what to do: "), "{text}");
}

fn why(node: &Node, address: &str) -> Call {
    node.call(["why", address])
}

#[test]
fn an_address_that_nobody_knows() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(720, 1);
    let run = why(&b, &sample.address).run().exits(10);
    assert_cause(&run, "nobody is known to have it");
    assert_eq!(why(&b, &sample.address).unread(), Some(10));
    let json = why(&b, &sample.address)
        .arg("--json")
        .run()
        .exits(10)
        .json();
    assert_eq!(json["cause"], "unknown");
    let steps = json["steps"].as_array().unwrap();
    let hop = steps.iter().find(|step| step["kind"] == "hop");
    let hop = hop.unwrap_or_else(|| panic!("no hop in {json}"));
    assert_eq!(hop["peer"], a.peer_id);
    assert!(
        hop["shared_bits"].is_u64() && hop["took_ms"].is_u64(),
        "{hop}"
    );
}

#[test]
fn a_provider_that_is_down() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let mut provider = Node::start(&[&a.addr]);
    let sample = Sample::new(721, 2 * CHUNK);
    assert_eq!(provider.store(&sample.path), sample.address);
    let run = why(&b, &sample.address).run().ok();
    assert_cause(&run, "nothing is wrong: 1 provider can give it");
    assert!(
        run.text().contains("proven against the address"),
        "{}",
        run.text()
    );
    provider.kill();
    let run = why(&b, &sample.address).run().exits(10);
    assert_cause(&run, "none can be reached");
    assert!(
        run.text().contains("refused: nobody listens there"),
        "{}",
        run.text()
    );
    assert!(!b.home.path().join("sample.bin").exists());
}

#[test]
fn a_provider_that_lies() {
    let sample = Sample::new(722, 20 * CHUNK);
    for script in [wrong_bytes(&sample), forged_manifest(&sample)] {
        let a = Node::start(&[]);
        let liar = Hostile::start(script, &[&a.addr]);
        let run = why(&a, &sample.address).run().exits(12);
        assert_cause(&run, "sent bytes that are not the file's");
        let json = why(&a, &sample.address)
            .arg("--json")
            .run()
            .exits(12)
            .json();
        let steps = json["steps"].as_array().unwrap();
        let chunk = steps.iter().find(|step| step["kind"] == "chunk").unwrap();
        assert_eq!(chunk["peer"], liar.peer_id, "{json}");
    }
}

#[test]
fn a_provider_that_gives_no_turn_or_no_answer() {
    let sample = Sample::new(723, 4 * CHUNK);
    for (manner, words) in [
        (Manner::NeverUnchokes, "had no turn for this node"),
        (Manner::Silent, "did not answer in time"),
    ] {
        let honest = wrong_bytes(&sample);
        let liar = Hostile::start(Script { manner, ..honest }, &[]);
        let call = Home::new();
        let run = call.networked(["why", &sample.address, "--peer", &liar.addr], &[]);
        assert_cause(&run.run().exits(11), words);
    }
}

#[test]
fn nobody_to_ask() {
    let sample = Sample::new(724, 1);
    let run = why(&Node::start(&[]), &sample.address).run().exits(10);
    assert_cause(&run, "connected to no peers");
    // A port that nobody listens on any more.
    let gone = Node::start(&[]);
    let addr = gone.addr.clone();
    drop(gone);
    let home = Home::new();
    let run = home
        .networked(["why", &sample.address], &[&addr])
        .run()
        .exits(10);
    assert_cause(&run, "none that it was told to join by answers");
    assert!(run.text().contains("to join by: "), "{}", run.text());
}

#[test]
fn a_file_that_has_no_room_here() {
    let a = Node::start(&[]);
    // Smaller than what is kept in place, which needs no room.
    let (sample, pinned) = (Sample::new(725, 60 * CHUNK), Sample::new(728, 80 * CHUNK));
    assert_eq!(a.store(&sample.path), sample.address);
    let home = Home::new();
    home.networked(["--max-store", "64MiB", "store"], &[])
        .arg(&pinned.path)
        .run()
        .ok();
    let words = ["why", "--max-store", "64MiB", &sample.address];
    let run = home.networked(words, &[&a.addr]).run().exits(13);
    assert_cause(&run, &format!("it needs {} bytes", sample.bytes.len()));
    assert_cause(&run, "--max-store");
}

#[test]
fn a_file_that_is_here_already() {
    let a = Node::start(&[]);
    let sample = Sample::new(726, 3 * CHUNK);
    assert_eq!(a.store(&sample.path), sample.address);
    let run = why(&a, &sample.address).run().ok();
    assert_cause(&run, "it is here already");
    let link = format!("casnode:{}?n=x", sample.address);
    assert_cause(&why(&a, &link).run().ok(), "it is here already");
}

//! Whichever cipher two nodes prefer, files come over whole, and both say what their connection is encrypted with.

use serde_json::Value;

use crate::content::{CHUNK, Sample};
use crate::harness::{Home, Node, wait_until};

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const AES: &str = "tls13-aes-128-gcm";
const CHACHA20: &str = "tls13-chacha20-poly1305";

fn node(bootstrap: &[&str], listen: &str, cipher: &str) -> Node {
    let options = ["--listen", listen, "--cipher", cipher];
    Node::start_as(Home::new(), bootstrap, &options)
}

/// What a node says of its one peer, once it has it.
fn peer_of(node: &Node) -> Value {
    let mut peers = Vec::new();
    wait_until("the two to meet", || {
        let listed = node.call(["peers", "--json"]).run().ok();
        peers = listed.json_lines();
        peers.len() == 1
    });
    peers.remove(0)
}

/// A file goes from one to the other; the connection is what it has to be, as both see it.
fn assert_carried(from: &Node, to: &Node, seed: u64, transport: &str, cipher: &str) {
    let sample = Sample::new(seed, 5 * CHUNK + 77);
    assert_eq!(from.store(&sample.path), sample.address);
    let report = to.get(&sample.address, &sample.copy_path());
    sample.assert_at(&sample.copy_path());
    assert_eq!(report["fetched_chunks"], sample.chunks());
    for (one, other) in [(from, to), (to, from)] {
        let peer = peer_of(one);
        assert_eq!(peer["peer"], other.peer_id);
        assert_eq!(peer["transport"], transport, "{peer}");
        assert_eq!(peer["cipher"], cipher, "{peer}");
        let shown = one.call(["peers"]).run().ok().text();
        assert!(shown.contains(cipher), "{shown}");
    }
}

#[test]
fn files_come_over_whole_with_either_cipher_on_one_side_or_both() {
    let pairs = [
        ("chacha20", "chacha20", CHACHA20),
        ("chacha20", "auto", CHACHA20),
        ("auto", "chacha20", CHACHA20),
        ("aes", "aes", AES),
        ("auto", "aes", AES),
    ];
    for (seed, (provides, fetches, cipher)) in (700..).zip(pairs) {
        let a = node(&[], TCP, provides);
        let b = node(&[&a.addr], TCP, fetches);
        assert_carried(&a, &b, seed, "tcp", cipher);
    }
}

#[test]
fn over_quic_files_come_over_whole_and_its_own_encryption_is_named() {
    let a = node(&[], QUIC, "auto");
    let b = node(&[&a.addr], QUIC, "chacha20");
    assert_carried(&a, &b, 710, "quic", "quic-tls13");
}

#[test]
fn a_get_without_a_daemon_takes_the_cipher_from_its_option_or_its_variable() {
    let a = node(&[], TCP, "auto");
    let sample = Sample::new(711, 3 * CHUNK);
    assert_eq!(a.store(&sample.path), sample.address);
    for is_typed in [true, false] {
        let home = Home::new();
        let target = home.path().join("copy");
        // It stays after that, so that its connection can be looked at.
        let words = ["get", &sample.address, "--seed", "forever", "--peer"];
        let get = home.call(words).arg(&a.addr);
        let get = get.args(["--no-mdns", "--listen", TCP, "-o"]).arg(&target);
        let get = match is_typed {
            true => get.args(["--cipher", "chacha20"]),
            false => get.env("CASNODE_CIPHER", "chacha20"),
        };
        let running = get.spawn();
        assert_eq!(peer_of(&a)["cipher"], CHACHA20);
        wait_until("the copy", || target.exists());
        sample.assert_at(&target);
        drop(running);
        wait_until("it to be gone", || a.status()["peers"] == 0);
    }
    let call = Home::new().call(["get", &sample.address]);
    let wrong = call.env("CASNODE_CIPHER", "rot13").run();
    wrong.exits(2).says("a cipher is auto, aes or chacha20");
}

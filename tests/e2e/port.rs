//! Strangers at the node's port.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::content::{CHUNK, Sample, random};
use crate::harness::{Home, LIMIT, Node, wait_until};

#[test]
fn garbage_half_open_and_oversized_input_leave_the_node_alive() {
    let node = Node::start(&[]);
    let sample = Sample::new(90, 4 * CHUNK);
    node.store(&sample.path);
    let connect = || {
        let stream = TcpStream::connect(node.socket_addr()).unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream
    };
    assert_eq!(dropped(&node), []);
    // A protocol name of 2 GiB, in multistream-select's own length prefix, at once and after its greeting: the
    // node hangs up without waiting for the rest.
    for head in [
        &b"\xff\xff\xff\xff\x07/multistream"[..],
        b"\x13/multistream/1.0.0\n\xff\xff\xff\x7f",
    ] {
        let mut stream = connect();
        stream.write_all(head).unwrap();
        hung_up(&mut stream);
    }
    assert_handshakes_failed(&node, 2);
    // Garbage, and another protocol's greeting.
    for seed in 0..20 {
        let mut stream = connect();
        // The node may hang up in the middle of it.
        let _ = stream.write_all(&random(seed, 64 << 10));
    }
    connect()
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    assert_handshakes_failed(&node, 23);
    // Said nothing, and stays. Fewer than the node takes at once from one machine.
    let half_open: Vec<TcpStream> = (0..25).map(|_| connect()).collect();
    // It serves on.
    Home::new()
        .networked(["get", &sample.address], &[&node.addr])
        .arg("-o")
        .arg(sample.copy_path())
        .run()
        .ok();
    sample.assert_at(&sample.copy_path());
    // Nobody is kept for ever who says nothing.
    assert_handshakes_failed(&node, 48);
    drop(half_open);
    node.leave();
}

/// What the node has dropped, by name.
fn dropped(node: &Node) -> Vec<(String, u64)> {
    let status = node.status();
    let counts = status["dropped"].as_array().unwrap().iter();
    counts
        .map(|one| {
            let what = one["what"].as_str().unwrap().to_owned();
            (what, one["count"].as_u64().unwrap())
        })
        .collect()
}

/// Waits until so many handshakes have failed, and nothing else was dropped.
#[track_caller]
fn assert_handshakes_failed(node: &Node, count: u64) {
    let failed = |node: &Node| {
        let all = dropped(node);
        all.iter()
            .find(|(what, _)| what == "failed_handshakes")
            .map_or(0, |(_, count)| *count)
    };
    wait_until("the handshakes to fail", || failed(node) >= count);
    assert_eq!(dropped(node), [("failed_handshakes".to_owned(), count)]);
}

/// Waits until the other side hangs up; a reset is as good as an end.
fn hung_up(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut ignored = [0; 1 << 10];
    loop {
        match stream.read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                return;
            }
        }
    }
}

/// More half-open connections than a node takes at once: honest peers get in when those time out.
#[test]
fn a_flood_of_half_open_connections_passes() {
    let node = Node::start(&[]);
    let sample = Sample::new(91, 4 * CHUNK);
    node.store(&sample.path);
    let flood: Vec<TcpStream> = (0..400)
        .filter_map(|_| TcpStream::connect(node.socket_addr()).ok())
        .collect();
    assert!(flood.len() > 300);
    let home = Home::new();
    wait_until("the file in spite of the flood", || {
        let get = home
            .networked(["get", &sample.address, "--timeout", "20s"], &[&node.addr])
            .arg("-o")
            .arg(sample.copy_path())
            .run();
        get.status.success()
    });
    sample.assert_at(&sample.copy_path());
    assert_eq!(node.status()["files"], 1);
}

//! Strangers at the node's port.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::content::{CHUNK, Sample, random};
use crate::harness::{Home, Node, wait_until};

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
    // Said nothing, and stays. Fewer than the node takes at once.
    let half_open: Vec<TcpStream> = (0..40).map(|_| connect()).collect();
    for seed in 0..20 {
        let mut stream = connect();
        // The node may hang up in the middle of it.
        let _ = stream.write_all(&random(seed, 64 << 10));
    }
    for head in [
        // A protocol name of 2 GiB, in multistream-select's own length prefix.
        &b"\xff\xff\xff\xff\x07/multistream"[..],
        b"\x13/multistream/1.0.0\n\xff\xff\xff\x7f",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"",
    ] {
        let mut stream = connect();
        let _ = stream.write_all(head);
    }
    // It serves on, and says what it dropped.
    Home::new()
        .networked(["get", &sample.address], &[&node.addr])
        .arg("-o")
        .arg(sample.copy_path())
        .run()
        .ok();
    sample.assert_at(&sample.copy_path());
    wait_until("the node to say what it dropped", || {
        !node.status()["dropped"].as_array().unwrap().is_empty()
    });
    drop(half_open);
    node.leave();
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

//! Numbers for a monitoring system: what happens moves them.

use std::collections::HashMap;

use crate::content::{CHUNK, Sample};
use crate::harness::{Home, Node, wait_until};
use crate::hostile::Hostile;
use crate::hostile_peers::wrong_bytes;

/// Each metric without a label.
fn metrics(node: &Node) -> HashMap<String, f64> {
    let text = node.call(["metrics"]).run().ok().text();
    let numbers = text.lines().filter(|line| !line.starts_with('#'));
    numbers
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Fails the test unless each of these is greater than before.
#[track_caller]
fn assert_moved(before: &HashMap<String, f64>, after: &HashMap<String, f64>, names: &[&str]) {
    for name in names {
        assert!(
            after[*name] > before[*name],
            "{name}: {} and {}",
            before[*name],
            after[*name]
        );
    }
}

#[test]
fn a_transfer_moves_the_numbers_of_both_sides() {
    let a = Node::start(&[]);
    let options = ["--listen", "/ip4/127.0.0.1/tcp/0", "--max-store", "1GiB"];
    let b = Node::start_as(Home::new(), &[&a.addr], &options);
    let (a_before, b_before) = (metrics(&a), metrics(&b));
    let sample = Sample::new(410, 8 * CHUNK);
    a.store(&sample.path);
    b.get(&sample.address, &sample.copy_path());
    // What is announced when the file is there, and counted when it is sent.
    wait_until("the announcement", || {
        metrics(&b)["casnode_dht_announced_keys_total"] > 0.0
    });
    let (a_after, b_after) = (metrics(&a), metrics(&b));
    let stored = [
        "casnode_store_files",
        "casnode_store_chunks",
        "casnode_store_chunk_bytes",
        "casnode_store_disk_bytes",
        "casnode_dht_scheduled_keys",
        "casnode_dht_announced_copies_total",
        "casnode_dht_lookups_total",
        "casnode_dht_requests_total",
        "casnode_dht_sent_bytes_total",
        "casnode_dht_taken_bytes_total",
    ];
    assert_moved(&a_before, &a_after, &stored);
    assert_moved(&b_before, &b_after, &stored);
    let sent = [
        "casnode_uploaded_chunks_total",
        "casnode_uploaded_chunk_bytes_total",
    ];
    assert_moved(&a_before, &a_after, &sent);
    assert_eq!(b_after["casnode_downloaded_chunks_total"], 8.0);
    assert_eq!(
        b_after["casnode_downloaded_chunk_bytes_total"],
        (8 * CHUNK) as f64
    );
    assert_eq!(b_after["casnode_store_max_bytes"], f64::from(1 << 30));
    assert_eq!(b_after["casnode_dht_connected_peers"], 1.0);
    assert_eq!(b_after["casnode_downloaded_wrong_chunks_total"], 0.0);
}

#[test]
fn wrong_bytes_are_counted() {
    let sample = Sample::new(411, 8 * CHUNK);
    let liar = Hostile::start(wrong_bytes(&sample), &[]);
    let node = Node::start(&[]);
    let get = node
        .call([
            "get",
            &sample.address,
            "--peer",
            &liar.addr,
            "--timeout",
            "5s",
            "-o",
        ])
        .arg(sample.copy_path())
        .run();
    assert_ne!(get.status.code(), Some(0));
    assert!(metrics(&node)["casnode_downloaded_wrong_chunks_total"] >= 1.0);
}

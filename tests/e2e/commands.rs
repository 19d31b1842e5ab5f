//! The commands that look and tidy, in text and JSON.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::content::{CHUNK, Sample};
use crate::harness::{Home, LIMIT, Node, wait_until};

fn assert_fields(object: &Value, fields: &[&str]) {
    for field in fields {
        assert!(
            object.get(field).is_some(),
            "{field} is missing in {object}"
        );
    }
}

#[test]
fn store_says_what_was_new() {
    let node = Node::start(&[]);
    let sample = Sample::new(140, 5 * CHUNK);
    let first = node
        .call(["store", "--json"])
        .arg(&sample.path)
        .run()
        .ok()
        .json();
    assert_fields(
        &first,
        &["address", "bytes", "chunks", "new_chunks", "name"],
    );
    assert_eq!(
        (&first["chunks"], &first["new_chunks"]),
        (&5.into(), &5.into())
    );
    assert_eq!(first["name"], "sample.bin");
    let again = node
        .call(["store", "--json"])
        .arg(&sample.path)
        .run()
        .ok()
        .json();
    assert_eq!(
        (&again["chunks"], &again["new_chunks"]),
        (&5.into(), &0.into())
    );
    assert_eq!(node.status()["files"], 1);
}

#[test]
fn ls_stat_and_rm_tell_the_same_story_with_and_without_a_daemon() {
    let node = Node::start(&[]);
    let (one, two) = (Sample::new(141, 2 * CHUNK + 1), Sample::new(142, 10));
    node.store(&one.path);
    node.store(&two.path);
    let with = node.call(["ls", "--json"]).run().ok().json_lines();
    let stat_with = node
        .call(["stat", "--json", &one.address])
        .run()
        .ok()
        .json();
    let home = node.leave();
    let without = home.call(["ls", "--json"]).run().ok().json_lines();
    let stat_without = home
        .call(["stat", "--json", &one.address])
        .run()
        .ok()
        .json();
    assert_eq!(with, without);
    assert_eq!(stat_with, stat_without);
    let addresses: Vec<_> = with
        .iter()
        .map(|file| file["address"].as_str().unwrap())
        .collect();
    assert_eq!(
        addresses,
        [&one.address, &two.address],
        "in the order they were stored"
    );
    assert_fields(&with[0], &["address", "name", "bytes", "chunks", "state"]);
    assert_fields(
        &stat_with,
        &[
            "address",
            "name",
            "bytes",
            "chunks",
            "chunks_here",
            "bytes_here",
            "chunker",
            "manifest",
        ],
    );
    assert_eq!(stat_with["chunks_here"], 3);
    let text = home.call(["ls"]).run().ok().text();
    assert!(
        text.lines().count() == 2 && text.contains("sample.bin"),
        "{text}"
    );
    assert!(
        home.call(["stat", &one.address])
            .run()
            .ok()
            .text()
            .contains(&one.address)
    );

    // Letters of either case name the same file.
    let removed = home
        .call(["rm", "--json", &one.address.to_uppercase()])
        .run()
        .ok()
        .json();
    assert_eq!(removed["freed_chunks"], 3);
    assert_eq!(removed["freed_bytes"], one.bytes.len());
    home.call(["stat", &one.address]).run().exits(10);
    let left = home.call(["ls", "--json"]).run().ok().json();
    assert_eq!(left["address"], two.address);
    let status = home.call(["status", "--json"]).run().ok().json();
    assert_eq!(
        (&status["files"], &status["chunks"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn a_removed_file_is_not_served_but_what_it_shared_is() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let one = Sample::new(143, 4 * CHUNK);
    let mut bytes = one.bytes.clone();
    bytes.truncate(2 * CHUNK);
    let two_path = one.folder.path().join("two");
    std::fs::write(&two_path, &bytes).unwrap();
    // So that the metadata record and the chunks' provider records are with somebody else, too, and outlive the file.
    wait_until("the two to meet", || a.status()["peers"] == 1);
    let store = |path: &Path| {
        let call = a.call(["store", "--chunker", "fixed"]).arg(path);
        call.run().ok().text().trim().to_owned()
    };
    store(&one.path);
    let two = store(&two_path);
    wait_until("all chunks to be announced", || {
        a.status()["to_announce"] == 0
    });
    let removed = a.call(["rm", "--json", &one.address]).run().ok().json();
    assert_eq!(
        removed["freed_chunks"], 2,
        "two chunks belong to the other file as well"
    );
    let copy = one.copy_path();
    b.get(&two, &copy);
    assert!(std::fs::read(&copy).unwrap() == bytes);
    // One who has nothing of it yet: the record tells what it consists of, and half of it can be had. Nobody offers
    // the rest, which ends the get without any --timeout.
    let c = Node::start(&[&a.addr, &b.addr]);
    c.call(["get", &one.address, "-o"])
        .arg(one.folder.path().join("gone"))
        .spawn()
        // A turn at a busy peer may be waited for, and 30 s for somebody who has the rest.
        .wait_at_most(3 * LIMIT)
        .exits(15)
        .says("2 of 4 chunks are here and kept");
}

#[test]
fn providers_of_files_and_chunks() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(144, 6 * CHUNK);
    a.store(&sample.path);
    wait_until("all chunks to be announced", || {
        a.status()["to_announce"] == 0
    });
    assert!(a.status()["announced"].as_u64().unwrap() >= 7);
    let chunk = blake3::hash(&sample.bytes[CHUNK..2 * CHUNK])
        .to_hex()
        .to_string();
    for key in [&sample.address, &chunk] {
        let found = b.call(["providers", "--json", key]).run().ok().json();
        assert_fields(&found, &["key", "providers", "asked_peers"]);
        assert_eq!(found["providers"][0]["peer"], a.peer_id, "{found}");
        assert!(
            b.call(["providers", key])
                .run()
                .ok()
                .text()
                .contains(&a.peer_id)
        );
        // A node of one's own for the length of the command does as well.
        let found = Home::new()
            .networked(["providers", key], &[&b.addr])
            .run()
            .ok()
            .text();
        assert!(found.contains(&a.peer_id), "{found}");
    }
    // The one who provides it knows it, too.
    assert!(
        a.call(["providers", &chunk])
            .run()
            .ok()
            .text()
            .contains(&a.peer_id)
    );
}

#[test]
fn provider_records_outlive_those_who_hold_them() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(145, 6 * CHUNK);
    a.store(&sample.path);
    wait_until("all chunks to be announced", || {
        a.status()["to_announce"] == 0
    });
    let b = Node::start_on(b.leave(), &[&a.addr]);
    let a_id = a.peer_id.clone();
    let a = Node::start_on(a.leave(), &[&b.addr]);
    assert_eq!(a.peer_id, a_id);
    let status = a.status();
    assert_eq!(
        status["to_announce"], 0,
        "nothing is due again after a restart: {status}"
    );
    let chunk = blake3::hash(&sample.bytes[..CHUNK]).to_hex().to_string();
    wait_until("the records to be found", || {
        let found = b.call(["providers", "--json", &chunk]).run();
        found.text().contains(&a_id)
    });
}

#[test]
fn status_and_peers() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    wait_until("the two to meet", || a.status()["peers"] == 1);
    let status = a.status();
    let fields = [
        "peer_id",
        "listen",
        "peers",
        "files",
        "chunks",
        "stored_bytes",
        "disk_bytes",
        "announced",
        "to_announce",
    ];
    assert_fields(&status, &fields);
    assert_eq!(status["daemon"], true);
    let listen = status["listen"].as_array().unwrap();
    assert!(
        listen.iter().all(|addr| addr
            .as_str()
            .unwrap()
            .ends_with(&format!("/p2p/{}", a.peer_id))),
        "{status}"
    );
    let peers = b.call(["peers", "--json"]).run().ok().json();
    assert_eq!(peers["peer"], a.peer_id);
    assert_eq!(peers["outbound"], true);
    assert_eq!(peers["transport"], "tcp");
    assert!(a.call(["peers"]).run().ok().text().contains(&b.peer_id));
    assert!(a.call(["status"]).run().ok().text().contains(&a.peer_id));
}

#[test]
fn a_daemon_says_who_and_where_it_is() {
    let node = Node::start(&[]);
    let said = node.said();
    for part in [&node.peer_id, &node.addr, node.data_dir().to_str().unwrap()] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    // Alone in the world is no reason for a warning.
    let home = Home::new();
    let store = Sample::new(149, 10);
    let quiet = home
        .networked(["-q", "store"], &[])
        .arg(&store.path)
        .run()
        .ok();
    assert_eq!(quiet.stderr.lines().count(), 1, "{}", quiet.stderr);
    assert!(
        quiet.stderr.starts_with("warning: no daemon"),
        "{}",
        quiet.stderr
    );
}

#[test]
fn without_a_daemon_status_tells_of_the_store_and_peers_of_nothing() {
    let home = Home::new();
    let sample = Sample::new(146, 3 * CHUNK);
    home.networked(["store"], &[]).arg(&sample.path).run().ok();
    let status = home.call(["status", "--json"]).run().ok().json();
    assert_eq!(status["daemon"], false);
    assert_eq!(
        (&status["files"], &status["chunks"]),
        (&1.into(), &3.into())
    );
    assert_eq!(status["stored_bytes"], sample.bytes.len());
    assert_eq!(status["listen"], Value::Array(Vec::new()));
    assert!(
        home.call(["status"])
            .run()
            .ok()
            .text()
            .contains("none runs")
    );
    home.call(["peers"])
        .run()
        .exits(1)
        .says("no daemon runs")
        .says("casnode daemon");
}

#[test]
fn socket_and_identity_are_for_their_owner_alone() {
    let node = Node::start(&[]);
    let mut sockets = 0;
    let mut folders = vec![node.data_dir().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let about = entry.metadata().unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            if about.file_type().is_socket() {
                sockets += 1;
            }
            if about.file_type().is_socket() || name.contains("key") || name.contains("identity") {
                assert_eq!(
                    about.permissions().mode() & 0o077,
                    0,
                    "{name} is open to others"
                );
            }
            if about.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    assert_eq!(sockets, 1);
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let home = Home::new();
    let sample = Sample::new(147, 20 * CHUNK);
    home.networked(["store"], &[]).arg(&sample.path).run().ok();
    for words in [
        vec!["ls"],
        vec!["completions", "bash"],
        vec!["get", &sample.address, "-o", "-"],
    ] {
        // The very binary with a standard output that nobody reads.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_casnode"));
        let output = command
            .args(&words)
            .arg("--data-dir")
            .arg(home.path())
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {stderr}");
        assert!(
            !stderr.contains("panicked") && !stderr.contains("error:"),
            "{words:?}: {stderr}"
        );
    }
}

#[test]
fn flags_that_a_running_daemon_makes_idle_are_remarked_on() {
    let a = Node::start(&[]);
    let sample = Sample::new(148, 100);
    a.call(["store", "--no-mdns"])
        .arg(&sample.path)
        .run()
        .ok()
        .says("warning: a daemon runs");
}

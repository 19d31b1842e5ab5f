//! Calls by name: followed, listed, ended.

use std::fs;

use serde_json::json;

use super::raw::{Connection, JSON, call, get, request};
use crate::content::{CHUNK, Sample};
use crate::harness::{Node, folder, wait_until};
use crate::proxy::Proxy;

/// Begins an upload that does not end.
fn endless_upload(node: &Node, name: &str) -> Connection {
    let mut connection = Connection::open(node);
    let head = format!(
        "PUT /v1/content HTTP/1.1\r\nHost: x\r\nCasnode-Call: {name}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    connection.send(head.as_bytes()).unwrap();
    connection.send_chunk(&vec![7; 3 * CHUNK]).unwrap();
    connection
}

fn names(node: &Node) -> Vec<String> {
    let list = get(node, "/v1/calls").json();
    let calls = list["calls"].as_array().unwrap().clone();
    let name = |call: &serde_json::Value| call["name"].as_str().unwrap().to_owned();
    calls.iter().map(name).collect()
}

#[test]
fn a_call_tells_its_events_and_its_end() {
    let node = Node::start(&[]);
    let sample = Sample::new(310, 5 * CHUNK);
    let headers = ["Accept: text/event-stream"];
    let put = request("PUT /v1/content", &headers, &sample.bytes);
    let answer = Connection::open(&node).ask(&put);
    assert!(answer.head.contains("text/event-stream"), "{}", answer.head);
    let events = answer.events();
    let (name, data) = events.last().unwrap();
    assert_eq!(
        (name.as_str(), &data["address"]),
        ("result", &json!(sample.address))
    );
    // Nobody is connected, and that is told.
    assert!(
        events
            .iter()
            .any(|(name, data)| name == "warning" && data["message"].is_string())
    );
    let stat = request(
        "POST /v1/stat",
        &[JSON, headers[0]],
        b"{\"address\": \"zz\"}",
    );
    let events = Connection::open(&node).ask(&stat).events();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].0.as_str(), &events[0].1["error"]["kind"]),
        ("error", &json!("usage"))
    );
}

#[test]
fn a_large_file_of_a_directory_tells_how_far_it_is() {
    let source = Node::start(&[]);
    let dir = folder();
    let sample = Sample::new(311, 64 * CHUNK);
    fs::create_dir(dir.path().join("source")).unwrap();
    fs::copy(&sample.path, dir.path().join("source/large")).unwrap();
    let address = source.store(&dir.path().join("source"));
    let proxy = Proxy::start(&source, 8 << 20);
    let taker = Node::start(&[&proxy.addr]);
    let to = dir.path().join("copy");
    let output = json!({"at": to});
    let fields = json!({"address": address, "output": output, "peers": [proxy.addr]}).to_string();
    let headers = [JSON, "Accept: text/event-stream"];
    let call = request("POST /v1/get_tree", &headers, fields.as_bytes());
    let events = Connection::open(&taker).ask(&call).events();
    assert_eq!(events.last().unwrap().0, "result", "{events:?}");
    let is_on_the_way = |(name, data): &(String, serde_json::Value)| {
        let (done, total) = (&data["done_bytes"], &data["total_bytes"]);
        name == "progress"
            && data["phase"] == "fetching"
            && data["sources"] == 1
            && (1..total.as_u64().unwrap_or(0)).contains(&done.as_u64().unwrap_or(0))
    };
    assert!(events.iter().any(is_on_the_way), "{events:?}");
}

#[test]
fn two_follow_one_call_and_a_late_one_hears_its_end() {
    let node = Node::start(&[]);
    let path = "/v1/calls/mine/events";
    // One is there before the call.
    let mut early = Connection::open(&node);
    early
        .send(&request(&format!("GET {path}"), &[], b""))
        .unwrap();
    let mut upload = endless_upload(&node, "mine");
    let mut second = Connection::open(&node);
    second
        .send(&request(&format!("GET {path}"), &[], b""))
        .unwrap();
    wait_until("the call to be listed", || {
        names(&node).contains(&"mine".to_owned())
    });
    assert_eq!(get(&node, "/v1/calls").json()["calls"][0]["op"], "store");
    upload.send(b"0\r\n\r\n").unwrap();
    let stored = upload.answer().unwrap().json();
    for follower in [&mut early, &mut second] {
        let events = follower.answer().unwrap().events();
        assert_eq!(
            events.last().unwrap(),
            &("result".to_owned(), stored.clone())
        );
    }
    let late = get(&node, path).events();
    assert_eq!(late.last().unwrap().1, stored);
    let calls = get(&node, "/v1/calls").json();
    assert_eq!(
        (&calls["calls"][0]["name"], &calls["calls"][0]["ended"]),
        (&json!("mine"), &json!(true))
    );
}

#[test]
fn a_name_is_taken_while_its_call_runs_and_a_call_can_be_ended() {
    let node = Node::start(&[]);
    let mut upload = endless_upload(&node, "one");
    wait_until("the call to run", || names(&node) == ["one"]);
    let again = request("POST /v1/ls", &[JSON, "Casnode-Call: one"], b"{}");
    Connection::open(&node).ask(&again).is_error(409, "busy");
    let end = request("DELETE /v1/calls/one", &[], b"");
    assert_eq!(Connection::open(&node).ask(&end).status, 204);
    upload.answer().unwrap().is_error(503, "interrupted");
    Connection::open(&node).ask(&end).is_error(404, "not_found");
    assert_eq!(call(&node, "ls", "{}").json()["files"], json!([]));
    // Its name is free.
    let ls = Connection::open(&node).ask(&again);
    assert_eq!(ls.json()["result"], "ls");
}

#[test]
fn a_client_that_leaves_cancels_its_call() {
    let node = Node::start(&[]);
    // Waiting for a provider that there is not; nothing was sent to the client yet.
    let mut connection = Connection::open(&node);
    let line = format!("GET /v1/content/{}", "ab".repeat(32));
    connection
        .send(&request(&line, &["Casnode-Call: left"], b""))
        .unwrap();
    wait_until("the call to run", || names(&node) == ["left"]);
    drop(connection);
    let events = get(&node, "/v1/calls/left/events").events();
    let (name, data) = events.last().unwrap();
    assert_eq!(
        (name.as_str(), &data["error"]["kind"]),
        ("error", &json!("interrupted"))
    );
}

//! Content in and out over the socket.

use super::raw::{Connection, JSON, call, get, request};
use crate::content::{CHUNK, Sample, address};
use crate::harness::{Node, folder, wait_until};
use crate::proxy::Proxy;

#[test]
fn content_goes_in_and_out_and_an_operation_tells_of_it() {
    let node = Node::start(&[]);
    let sample = Sample::new(300, 5 * CHUNK + 7);
    let put = request(
        "PUT /v1/content?name=a%20b.bin&chunker=fixed",
        &[],
        &sample.bytes,
    );
    let mut connection = Connection::open(&node);
    let stored = connection.ask(&put);
    assert_eq!(stored.status, 200, "{stored:?}");
    let stored = stored.json();
    assert_eq!(stored["result"], "store");
    assert_eq!(stored["address"], address(&sample.bytes));
    assert_eq!(stored["chunks"], 6);
    // The connection goes on.
    let path = format!("/v1/content/{}", address(&sample.bytes));
    let fetched = connection.ask(&request(&format!("GET {path}"), &[], b""));
    assert!(fetched.head.contains("application/octet-stream"));
    assert!(fetched.body == sample.bytes);
    let range = format!("GET {path}?offset_bytes=300000&length_bytes=5");
    let range = connection.ask(&request(&range, &[], b""));
    assert_eq!(range.body, sample.bytes[300_000..300_005]);
    let cat = format!(
        "{{\"address\": \"{}\", \"offset_bytes\": 7}}",
        address(&sample.bytes)
    );
    let cat = connection.ask(&request("POST /v1/cat", &[JSON], cat.as_bytes()));
    assert!(cat.body == sample.bytes[7..]);
    let beyond = format!("GET {path}?offset_bytes={}", sample.bytes.len() + 1);
    connection
        .ask(&request(&beyond, &[], b""))
        .is_error(400, "usage");
    let fields = format!("{{\"address\": \"{}\"}}", address(&sample.bytes));
    let stat = connection.ask(&request("POST /v1/stat", &[JSON], fields.as_bytes()));
    assert_eq!(stat.json()["name"], "a b.bin");
    assert_eq!(stat.json()["pinned"], true);
    assert_eq!(stat.json()["state"], "complete");
    assert!(stat.head.contains("casnode-api: 8"), "{}", stat.head);
}

#[test]
fn a_directory_has_no_content_and_its_files_have() {
    let node = Node::start(&[]);
    let folder = folder();
    std::fs::create_dir(folder.path().join("a")).unwrap();
    std::fs::write(folder.path().join("a/b c.txt"), b"inside").unwrap();
    let fields = serde_json::json!({ "path": folder.path() }).to_string();
    let stored = call(&node, "store_tree", &fields).json();
    let path = format!("/v1/content/{}", stored["address"].as_str().unwrap());
    assert_eq!(get(&node, &format!("{path}/a/b%20c.txt")).body, b"inside");
    get(&node, &format!("{path}/a/none")).is_error(404, "not_found");
    let error = get(&node, &path).is_error(400, "usage");
    assert!(
        error["next"].as_str().unwrap().contains("a file in it"),
        "{error}"
    );
}

#[test]
fn nothing_is_content_too_and_a_chunked_body_is_read_to_its_end() {
    let node = Node::start(&[]);
    let mut connection = Connection::open(&node);
    let head =
        "PUT /v1/content?pinned=false HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    connection.send(head.as_bytes()).unwrap();
    connection.send_chunk(b"two ").unwrap();
    connection.send_chunk(b"parts").unwrap();
    connection.send(b"0\r\n\r\n").unwrap();
    let stored = connection.answer().unwrap().json();
    assert_eq!(stored["address"], address(b"two parts"));
    let empty = connection.ask(b"PUT /v1/content HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(empty.json()["address"], address(b""));
    let fetched = get(&node, &format!("/v1/content/{}", address(b"")));
    assert_eq!((fetched.status, fetched.body.len()), (200, 0));
    assert!(
        !call(&node, "pin_ls", "{}")
            .json()
            .to_string()
            .contains(&address(b"two parts"))
    );
}

#[test]
fn an_upload_that_breaks_off_stores_nothing() {
    let node = Node::start(&[]);
    let part = vec![7; 3 * CHUNK];
    let chunked = "PUT /v1/content HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let counted = format!(
        "PUT /v1/content HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        part.len() + 1
    );
    for (head, is_chunked) in [(chunked, true), (&counted, false)] {
        let mut connection = Connection::open(&node);
        connection.send(head.as_bytes()).unwrap();
        match is_chunked {
            true => connection.send_chunk(&part).unwrap(),
            false => connection.send(&part).unwrap(),
        }
        wait_until("the call to run", || {
            get(&node, "/v1/calls").json()["calls"] != serde_json::json!([])
        });
        drop(connection);
        wait_until("the call to end", || {
            get(&node, "/v1/calls").json()["calls"] == serde_json::json!([])
        });
        assert_eq!(
            call(&node, "ls", "{}").json()["files"],
            serde_json::json!([])
        );
    }
}

#[test]
fn a_download_that_fails_in_the_middle_does_not_look_whole() {
    let mut source = Node::start(&[]);
    let sample = Sample::new(301, 64 * CHUNK);
    let address = source.store(&sample.path);
    let proxy = Proxy::start(&source, 4 << 20);
    let taker = Node::start(&[&proxy.addr]);
    let mut connection = Connection::open(&taker);
    let line = format!("GET /v1/content/{address}?timeout_ms=6000");
    connection
        .send(&request(&line, &["Casnode-Call: broken"], b""))
        .unwrap();
    let (status, head) = connection.head().unwrap();
    assert_eq!(status, 200);
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let mut body = connection.chunk().unwrap().unwrap();
    source.kill();
    let end = loop {
        match connection.chunk() {
            Ok(Some(chunk)) => body.extend(chunk),
            end => break end,
        }
    };
    assert!(end.is_err(), "it ended as if it were whole");
    assert!(sample.bytes.starts_with(&body) && body.len() < sample.bytes.len());
    let events = get(&taker, "/v1/calls/broken/events").events();
    let (name, data) = events.last().unwrap();
    assert_eq!(name, "error", "{data}");
}

#[test]
fn what_nobody_has_is_not_found() {
    let node = Node::start(&[]);
    let path = format!("/v1/content/{}?timeout_ms=500", "ab".repeat(32));
    let answer = get(&node, &path);
    assert!(matches!(answer.status, 404 | 504), "{answer:?}");
    get(&node, "/v1/content/xyz").is_error(400, "usage");
    get(&node, &format!("{path}&seed=never")).is_error(400, "usage");
}

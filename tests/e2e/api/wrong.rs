//! Requests that are wrong: each is told what is wrong with it, and holds up nobody.

use std::time::Duration;

use super::raw::{Connection, JSON, call, get, request};
use crate::harness::Node;

#[test]
fn each_wrong_request_is_told_what_is_wrong() {
    let node = Node::start(&[]);
    call(&node, "fly", "{}").is_error(404, "not_found");
    get(&node, "/v2/stat").is_error(404, "not_found");
    get(&node, "/v1/calls/nobody%20here/events").is_error(400, "usage");
    let method = get(&node, "/v1/stat");
    method.is_error(405, "usage");
    assert!(method.head.contains("allow: post"), "{}", method.head);
    for (fields, part) in [
        ("{\"address\": 5}", "`address`"),
        ("{}", "`address`"),
        ("{\"adress\": \"ab\"}", "`adress`"),
        ("{\"address\": ", "EOF"),
        ("5", "expected"),
        ("", "EOF"),
    ] {
        let error = call(&node, "stat", fields).is_error(400, "usage");
        let why = error["why"].as_str().unwrap();
        assert!(why.contains(part), "{fields}: {why}");
    }
    let wrong = r#"{"address": "ab", "output": {"file": {"path": 5}}}"#;
    let error = call(&node, "get", wrong).is_error(400, "usage");
    assert!(
        error["why"]
            .as_str()
            .unwrap()
            .contains("`output.file.path`"),
        "{error}"
    );
    let error = call(&node, "store", r#"{"source": {"file": "a/b"}}"#).is_error(400, "usage");
    assert!(
        error["what"].as_str().unwrap().contains("absolute"),
        "{error}"
    );
    // A stream has no place beside JSON.
    let error = call(&node, "store", r#"{"source": "stream"}"#).is_error(400, "usage");
    assert!(
        error["next"].as_str().unwrap().contains("/v1/content"),
        "{error}"
    );
}

#[test]
fn what_is_no_json_or_too_long_is_refused_before_it_is_read() {
    let node = Node::start(&[]);
    for headers in [&[][..], &["Content-Type: text/plain"]] {
        let form = request("POST /v1/ls", headers, b"{}");
        Connection::open(&node).ask(&form).is_error(415, "usage");
    }
    let announced = format!(
        "POST /v1/ls HTTP/1.1\r\nHost: x\r\n{JSON}\r\nContent-Length: {}\r\n\r\n",
        (16 << 20) + 1
    );
    Connection::open(&node)
        .ask(announced.as_bytes())
        .is_error(413, "usage");
    let mut connection = Connection::open(&node);
    let chunked =
        format!("POST /v1/ls HTTP/1.1\r\nHost: x\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.send(chunked.as_bytes()).unwrap();
    // Whether it is told while it sends or afterwards, it is told.
    while connection.send_chunk(&[b' '; 1 << 20]).is_ok() {}
    let mut answer = Connection::open(&node);
    assert_eq!(answer.ask(&request("GET /v1/calls", &[], b"")).status, 200);
}

#[test]
fn a_client_of_another_version_is_refused_with_advice() {
    let node = Node::start(&[]);
    let ask = |version: &str| {
        let header = format!("Casnode-Api: {version}");
        Connection::open(&node).ask(&request("POST /v1/ls", &[JSON, &header], b"{}"))
    };
    for version in ["7", "9", "x"] {
        let error = ask(version).is_error(400, "usage");
        assert!(
            error["next"].as_str().unwrap().contains("version"),
            "{error}"
        );
        assert!(error["why"].as_str().unwrap().contains(version), "{error}");
    }
    assert_eq!(ask("8").status, 200);
}

#[test]
fn a_client_that_does_not_say_what_it_wants_is_cut() {
    let node = Node::start(&[]);
    let mut slow = Connection::open(&node);
    slow.send(b"GET /v1/calls HT").unwrap();
    let mut silent = Connection::open(&node);
    for connection in [&mut slow, &mut silent] {
        let end = connection.head();
        let is_end = match end {
            Ok((status, _)) => status == 408,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        assert!(is_end, "it was not cut");
    }
    // A head of any length is not read to its end either.
    let mut long = Connection::open(&node);
    long.send(b"GET /v1/calls HTTP/1.1\r\nHost: x\r\n").unwrap();
    let mut line = b"X-Long: ".to_vec();
    line.resize(128 << 10, b'x');
    let sent = long.send(&line);
    let refused = sent.and_then(|()| long.head());
    assert!(refused.map_or(true, |(status, _)| status == 431));
}

#[test]
fn the_description_is_the_one_of_the_documents() {
    let node = Node::start(&[]);
    let answer = get(&node, "/v1/openapi.json");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    assert!(answer.body == std::fs::read(file).unwrap());
}

#[test]
fn a_crowd_that_says_nothing_holds_nobody_up_for_long() {
    let node = Node::start(&[]);
    let crowd: Vec<Connection> = (0..128).map(|_| Connection::open(&node)).collect();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(get(&node, "/v1/calls").status, 200);
    drop(crowd);
}

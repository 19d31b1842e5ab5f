//! The API over TCP: who is let in.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;

use super::raw::{Answer, Connection, JSON, request};
use crate::harness::{Home, Node};

struct Served {
    node: Node,
    addr: SocketAddr,
    token: String,
}

fn serve() -> Served {
    let options = ["--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0"];
    let node = Node::start_as(
        Home::new(),
        &[],
        &[&options[..], &["--http-host", "node.example"]].concat(),
    );
    let addr = node.status()["http"].as_str().unwrap().parse().unwrap();
    let token = fs::read_to_string(node.data_dir().join("api.token")).unwrap();
    Served {
        node,
        addr,
        token: token.trim().to_owned(),
    }
}

impl Served {
    fn ask(&self, line: &str, headers: &[&str], body: &[u8]) -> Answer {
        Connection::tcp(self.addr).ask(&request(line, headers, body))
    }

    /// Asks with a Host of one's own.
    fn ask_as(&self, host: &str, headers: &[&str]) -> Answer {
        let bearer = format!("Authorization: Bearer {}", self.token);
        let headers = [headers, &[&bearer, JSON, "Content-Length: 2"]].concat();
        let headers: String = headers
            .iter()
            .map(|header| format!("{header}\r\n"))
            .collect();
        let text = format!("POST /v1/ls HTTP/1.1\r\n{host}{headers}\r\n{{}}");
        Connection::tcp(self.addr).ask(text.as_bytes())
    }
}

#[test]
fn only_who_shows_the_token_is_let_in() {
    let served = serve();
    let file = served.node.data_dir().join("api.token");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let right = format!("Authorization: Bearer {}", served.token);
    let ls = |headers: &[&str]| {
        let headers = [headers, &[JSON]].concat();
        served.ask("POST /v1/ls", &headers, b"{}")
    };
    assert_eq!(ls(&[&right]).json()["result"], "ls");
    let wrong = format!("Authorization: Bearer {}", "0".repeat(64));
    let short = &right[..right.len() - 1];
    for headers in [
        &[][..],
        &[wrong.as_str()],
        &[short],
        &[right.as_str(), right.as_str()],
    ] {
        let answer = ls(headers);
        answer.is_error(401, "usage");
        assert!(
            answer.head.contains("www-authenticate: bearer"),
            "{}",
            answer.head
        );
    }
    // Neither reading, nor following, nor ending is for others.
    for line in [
        "GET /v1/calls",
        "GET /v1/openapi.json",
        "GET /v1/calls/x/events",
        "DELETE /v1/calls/x",
        "PUT /v1/content",
    ] {
        served.ask(line, &[], b"").is_error(401, "usage");
    }
    // The token stays over a restart.
    let home = served.node.leave();
    let again = fs::read_to_string(home.path().join("api.token")).unwrap();
    assert_eq!(again.trim(), served.token);
}

#[test]
fn only_who_calls_this_machine_by_its_name_is_let_in() {
    let served = serve();
    let port = served.addr.port();
    for (host, origin) in [
        (format!("localhost:{port}"), None),
        (
            format!("127.0.0.1:{port}"),
            Some(format!("http://127.0.0.1:{port}")),
        ),
        (
            "node.example".to_owned(),
            Some("https://node.example".to_owned()),
        ),
    ] {
        let origin = origin.map(|origin| format!("Origin: {origin}"));
        let origin: Vec<&str> = origin.iter().map(String::as_str).collect();
        let answer = served.ask_as(&format!("Host: {host}\r\n"), &origin);
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
        assert!(!answer.head.contains("access-control"), "{}", answer.head);
    }
    for (host, origin) in [
        ("Host: evil.example\r\n", None),
        ("Host: 192.0.2.1\r\n", None),
        ("", None),
        ("Host: localhost\r\nHost: localhost\r\n", None),
        ("Host: localhost\r\n", Some("Origin: http://evil.example")),
        ("Host: localhost\r\n", Some("Origin: null")),
        ("Host: localhost\r\n", Some("Origin: http://localhost:3000")),
    ] {
        let answer = served.ask_as(host, origin.as_slice());
        assert_eq!(answer.status, 403, "{host:?} {origin:?}: {answer:?}");
    }
    // Health too is for those who call it by its name.
    let health = "GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(
        Connection::tcp(served.addr).ask(health.as_bytes()).status,
        403
    );
}

#[test]
fn health_and_numbers_need_no_token() {
    let served = serve();
    assert_eq!(served.ask("GET /healthz", &[], b"").body, b"ok\n");
    assert_eq!(served.ask("GET /readyz", &[], b"").body, b"ready\n");
    let metrics = served.ask("GET /metrics", &[], b"");
    assert!(
        metrics.head.contains("text/plain; version=0.0.4"),
        "{}",
        metrics.head
    );
    let printed = served.node.call(["metrics"]).run().ok().text();
    let names = |text: &str| -> Vec<String> {
        let helps = text.lines().filter(|line| line.starts_with("# HELP"));
        helps.map(str::to_owned).collect()
    };
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(names(&text).len() > 5);
    assert_eq!(names(&text), names(&printed));
}

#[test]
fn a_node_whose_peers_do_not_answer_is_not_ready() {
    let gone = Node::start(&[]);
    let addr = gone.addr.clone();
    drop(gone);
    let options = ["--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0"];
    let node = Node::start_as(Home::new(), &[&addr], &options);
    let http = node.status()["http"].as_str().unwrap().parse().unwrap();
    let answer = Connection::tcp(http).ask(&request("GET /readyz", &[], b""));
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, b"no peer is connected\n");
}

#[test]
fn an_address_that_is_taken_is_an_error_where_it_was_asked_for() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let home = Home::new();
    home.call(["daemon", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"])
        .args(["--http", &addr])
        .run()
        .exits(1)
        .says(&addr)
        .says("--http");
    assert!(!home.path().join("api.sock").exists());
}

#[test]
fn a_token_file_that_others_may_read_is_refused() {
    let home = Home::new();
    fs::write(home.path().join("api.token"), "ab".repeat(32)).unwrap();
    fs::set_permissions(
        home.path().join("api.token"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    home.call(["daemon", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"])
        .args(["--http", "127.0.0.1:0"])
        .run()
        .exits(1)
        .says("api.token");
}

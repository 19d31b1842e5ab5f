//! The node's page, and the way to it. What the page does in a browser is looked at by `scripts/check-web.sh`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use crate::api::raw::{Answer, Connection, request};
use crate::content::{CHUNK, Sample};
use crate::harness::{Home, Node, folder, wait_until};

fn serve(http: &str) -> Node {
    let options = ["--listen", "/ip4/127.0.0.1/tcp/0", "--http", http];
    Node::start_as(Home::new(), &[], &options)
}

fn ask(node: &Node, line: &str) -> Answer {
    let addr: SocketAddr = node.status()["http"].as_str().unwrap().parse().unwrap();
    Connection::tcp(addr).ask(&request(line, &[], b""))
}

#[test]
fn the_page_is_for_everybody_and_runs_nothing_but_its_own_script() {
    let node = serve("127.0.0.1:0");
    let page = ask(&node, "GET /");
    assert_eq!(page.status, 200, "{}", page.head);
    let head = &page.head;
    assert!(
        head.contains("content-type: text/html; charset=utf-8"),
        "{head}"
    );
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    let policy = head
        .lines()
        .find_map(|line| line.strip_prefix("content-security-policy: "));
    let policy = policy.unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let text = String::from_utf8(page.body).unwrap();
    assert!(text.starts_with("<!doctype html>") && text.ends_with("</html>\n"));
    // Nothing of the node is in it.
    let token = fs::read_to_string(node.data_dir().join("api.token")).unwrap();
    assert!(!text.contains(token.trim()) && !text.contains(&node.peer_id));
    ask(&node, "POST /").is_error(405, "usage");
    let socket = Connection::open(&node).ask(&request("GET /", &[], b""));
    assert_eq!((socket.status, socket.body.len()), (200, text.len()));
}

#[test]
fn the_way_to_the_page_has_the_token_and_no_program_is_told_it() {
    let node = serve("127.0.0.1:0");
    let token = fs::read_to_string(node.data_dir().join("api.token")).unwrap();
    let http = node.status()["http"].as_str().unwrap().to_owned();
    let url = format!("http://{http}/#token={}", token.trim());
    assert_eq!(node.call(["web"]).run().ok().text(), format!("{url}\n"));
    let json = node.call(["web", "--json"]).run().ok().json();
    assert_eq!(json["url"], url.as_str());
    assert_eq!(json["opened"], false);

    // What is opened is a file that its owner alone can read.
    let programs = folder();
    let opener = programs.path().join("xdg-open");
    let told = programs.path().join("told");
    fs::write(
        &opener,
        format!(
            "#!/bin/sh\necho \"$*\" > {0}.new && mv {0}.new {0}\n",
            told.display()
        ),
    )
    .unwrap();
    fs::set_permissions(&opener, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", programs.path().display());
    node.call(["web", "--open"]).env("PATH", path).run().ok();
    wait_until("the browser", || told.exists());
    let way = node.data_dir().join("web.html");
    assert_eq!(
        fs::read_to_string(&told).unwrap().trim(),
        way.to_str().unwrap()
    );
    assert!(fs::read_to_string(&way).unwrap().contains(&url));
    assert_eq!(
        fs::metadata(&way).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let nothing = folder();
    let without = node.call(["web", "--open"]).env("PATH", nothing.path());
    without.run().exits(1).says("xdg-open").says("casnode web");
}

#[test]
fn who_has_no_page_is_told_what_to_do() {
    let home = Home::new();
    home.call(["web"]).run().exits(1).says("casnode daemon");
    let node = serve("off");
    let run = node.call(["web"]).run().exits(1);
    run.says("the daemon has no page")
        .says("--http 127.0.0.1:4180");
}

#[test]
fn what_goes_nowhere_is_in_the_store_alone() {
    let a = Node::start(&[]);
    let sample = Sample::new(710, 3 * CHUNK + 5);
    a.store(&sample.path);
    let b = Node::start(&[&a.addr]);
    let here = folder();
    let get = b.call(["get", &sample.address, "--store-only"]);
    let run = get.current_dir(here.path()).run().ok();
    assert_eq!(run.text().trim(), sample.address);
    assert_eq!(fs::read_dir(here.path()).unwrap().count(), 0);
    let again = b
        .call(["get", &sample.address, "--store-only", "--json"])
        .run()
        .ok()
        .json();
    assert_eq!(
        (&again["path"], &again["fetched_bytes"]),
        (&serde_json::Value::Null, &0.into())
    );
    let stat = b
        .call(["stat", "--json", &sample.address])
        .run()
        .ok()
        .json();
    assert_eq!(stat["state"], "complete");
    // It is served from the store, and a swarm of nobody has a map as well.
    b.get(&sample.address, &sample.copy_path());
    sample.assert_at(&sample.copy_path());
    let swarm = b
        .call(["status", "--json", &sample.address])
        .run()
        .ok()
        .json();
    assert_eq!(swarm["map"]["here"], serde_json::json!([1, 1, 1, 1]));
    assert_eq!(swarm["map"]["chunks_per_cell"], 1);
    b.call(["get", &sample.address, "--store-only", "-o", "x"])
        .run()
        .exits(2);

    let tree = folder();
    fs::write(tree.path().join("a"), "a").unwrap();
    let directory = a.store(tree.path());
    let run = b.call(["get", &directory, "--store-only"]).run().exits(2);
    run.says("it is a directory").says("casnode ls");
}

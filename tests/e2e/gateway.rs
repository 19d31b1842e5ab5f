//! The gateway, as browsers and players use it, and as others misuse it.

use std::net::SocketAddr;

use casnode_cas::{EntryKind, Listing};

use crate::api::raw::{Answer, Connection, request};
use crate::content::{CHUNK, Sample, address, random};
use crate::harness::{Home, Node, wait_until};
use crate::hostile::{Hostile, Manner};
use crate::hostile_peers::odd;
use crate::proxy::Proxy;

/// Slow enough that a file is not there at once.
const SLOW: u64 = 2 << 20;

struct Served {
    node: Node,
    addr: SocketAddr,
}

fn serve() -> Served {
    serve_with(&[])
}

fn serve_with(bootstrap: &[&str]) -> Served {
    let options = ["--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0"];
    let node = Node::start_as(Home::new(), bootstrap, &options);
    let addr = node.status()["http"].as_str().unwrap().parse().unwrap();
    Served { node, addr }
}

impl Served {
    fn open(&self) -> Connection {
        Connection::tcp(self.addr)
    }

    #[track_caller]
    fn get(&self, path: &str, headers: &[&str]) -> Answer {
        let line = format!("GET {path}");
        self.open().ask(&request(&line, headers, b""))
    }

    /// An answer of which the body is not read.
    #[track_caller]
    fn head(&self, line: &str, headers: &[&str]) -> (u16, String) {
        let mut connection = self.open();
        connection.send(&request(line, headers, b"")).unwrap();
        connection.head().unwrap()
    }

    fn chunks_here(&self, address: &str) -> u64 {
        let stat = self.node.call(["stat", "--json", address]).run().ok();
        stat.json()["chunks_here"].as_u64().unwrap()
    }

    /// Stores bytes under a name.
    fn put(&self, name: &str, bytes: &[u8]) -> String {
        let call = self.node.call(["store", "-", "--name", name]);
        call.input(bytes.to_vec())
            .run()
            .ok()
            .text()
            .trim()
            .to_owned()
    }
}

/// A header's value, in lower case.
#[track_caller]
fn said<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_else(|| panic!("no {name} in:\n{head}"))
}

#[test]
fn ranges_are_the_bytes_of_the_file() {
    let served = serve();
    let sample = Sample::new(400, 4 * CHUNK + 12_345);
    let store = served.node.call(["store", "--chunker", "fastcdc"]);
    store.arg(&sample.path).run().ok();
    let size = sample.bytes.len();
    let path = format!("/b3/{}", sample.address);
    let whole = served.get(&path, &[]);
    assert!(whole.status == 200 && whole.body == sample.bytes);
    let mut connection = served.open();
    let numbers = random(401, 200 * 16);
    for pair in numbers.chunks(16) {
        let number = |part: &[u8]| u64::from_le_bytes(part.try_into().unwrap()) as usize % size;
        let (a, b) = (number(&pair[..8]), number(&pair[8..]));
        let (first, last) = (a.min(b), a.max(b));
        let range = format!("Range: bytes={first}-{last}");
        let answer = connection.ask(&request(&format!("GET {path}"), &[&range], b""));
        assert_eq!(answer.status, 206);
        assert!(answer.body == sample.bytes[first..=last], "{range}");
        let content_range = format!("bytes {first}-{last}/{size}");
        assert_eq!(said(&answer.head, "content-range"), content_range);
    }
    let end = served.get(&path, &["Range: bytes=-100"]);
    assert!(end.status == 206 && end.body == sample.bytes[size - 100..]);
}

#[test]
fn what_is_said_of_a_file_is_what_caches_and_players_need() {
    let served = serve();
    let bytes = random(402, 100_000);
    let address = served.put("a film.mp4", &bytes);
    let path = format!("/b3/{address}");
    let (status, head) = served.head(&format!("HEAD {path}"), &["Range: bytes=0-1"]);
    assert_eq!(status, 200);
    for (name, value) in [
        ("content-length", "100000"),
        ("content-type", "video/mp4"),
        ("accept-ranges", "bytes"),
        ("etag", &format!("\"{address}\"")),
        ("cache-control", "public, max-age=31536000, immutable"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        (
            "content-disposition",
            "inline; filename=\"a film.mp4\"; filename*=utf-8''a%20film.mp4",
        ),
    ] {
        assert_eq!(said(&head, name), value, "{name}");
    }
    let etag = format!("\"{address}\"");
    let none_match = format!("If-None-Match: \"x\", W/{etag}");
    let (status, head) = served.head(&format!("GET {path}"), &[&none_match]);
    assert_eq!((status, said(&head, "etag")), (304, etag.as_str()));
    let range = "Range: bytes=10-19";
    let same = served.get(&path, &[range, &format!("If-Range: {etag}")]);
    assert!(same.status == 206 && same.body == bytes[10..20]);
    let other = served.get(&path, &[range, "If-Range: \"x\""]);
    assert!(other.status == 200 && other.body == bytes);
    let several = served.get(&path, &["Range: bytes=0-1,5-6"]);
    assert!(several.status == 200 && several.body == bytes);
    assert_eq!(served.get(&path, &["If-Match: \"x\""]).status, 412);
    for range in ["bytes=100000-", "bytes=100000-100001", "bytes=-0"] {
        let beyond = served.get(&path, &[&format!("Range: {range}")]);
        assert_eq!(beyond.status, 416, "{range}");
        assert_eq!(said(&beyond.head, "content-range"), "bytes */100000");
    }
    let last = served.get(&path, &["Range: bytes=99999-200000"]);
    assert!(last.status == 206 && last.body == bytes[99_999..]);
    let saved = served.get(&format!("{path}?download&filename=x.txt"), &[]);
    assert!(said(&saved.head, "content-disposition").starts_with("attachment; filename=\"x.txt\""));
    assert_eq!(
        said(&saved.head, "content-type"),
        "text/plain; charset=utf-8"
    );
    assert_eq!(served.get(&path, &[]).body, bytes);
    let (status, _) = served.head(&format!("POST {path}"), &["Content-Length: 0"]);
    assert_eq!(status, 405);
}

#[test]
fn the_end_of_a_file_is_there_before_its_middle() {
    let sample = Sample::new(403, 240 * CHUNK);
    let provider = Node::start(&[]);
    provider.store(&sample.path);
    let slow = Proxy::start(&provider, SLOW);
    let served = serve_with(&[&slow.addr]);
    let path = format!("/b3/{}", sample.address);
    // Somebody who watches it from the beginning.
    let mut player = served.open();
    player
        .send(&request(&format!("GET {path}"), &[], b""))
        .unwrap();
    assert_eq!(player.head().unwrap().0, 200);
    let mut begins = vec![0; 3 * CHUNK];
    player.read_exact(&mut begins).unwrap();
    assert!(begins == sample.bytes[..3 * CHUNK]);
    for from in [239 * CHUNK + 17, 150 * CHUNK] {
        let range = format!("Range: bytes={from}-{}", from + 999);
        let answer = served.get(&path, &[&range]);
        assert!(answer.status == 206 && answer.body == sample.bytes[from..from + 1000]);
    }
    // No more than what the player took, what is on its way to it, and what is read ahead: 64 chunks.
    let here = served.chunks_here(&sample.address);
    assert!(here < 160, "{here} of 240 chunks had come");
    let mut more = vec![0; 5 * CHUNK];
    player.read_exact(&mut more).unwrap();
    assert!(more == sample.bytes[3 * CHUNK..8 * CHUNK]);
}

#[test]
fn whoever_leaves_in_the_middle_wants_nothing_more() {
    let sample = Sample::new(404, 300 * CHUNK);
    let provider = Node::start(&[]);
    provider.store(&sample.path);
    let slow = Proxy::start(&provider, SLOW);
    let served = serve_with(&[&slow.addr]);
    let path = format!("/b3/{}", sample.address);
    let mut leaves = served.open();
    leaves
        .send(&request(&format!("GET {path}"), &[], b""))
        .unwrap();
    leaves.head().unwrap();
    leaves.read_exact(&mut vec![0; CHUNK]).unwrap();
    drop(leaves);
    let from = 250 * CHUNK;
    let range = format!("Range: bytes={from}-{}", from + CHUNK - 1);
    let answer = served.get(&path, &[&range]);
    assert!(answer.status == 206 && answer.body == sample.bytes[from..from + CHUNK]);
    let here = served.chunks_here(&sample.address);
    assert!(here < 160, "{here} of 300 chunks came");
}

#[test]
fn a_file_that_cannot_be_had_to_its_end_breaks_off() {
    let sample = Sample::new(405, 60 * CHUNK);
    let turncoat = Hostile::start(odd(&sample, Manner::LiarAfter(20)), &[]);
    let served = serve_with(&[&turncoat.addr]);
    let mut player = served.open();
    let line = format!("GET /b3/{}", sample.address);
    player.send(&request(&line, &[], b"")).unwrap();
    let (status, head) = player.head().unwrap();
    assert_eq!(
        (status, said(&head, "content-length")),
        (200, &*sample.bytes.len().to_string())
    );
    let mut body = Vec::new();
    let mut piece = vec![0; 1 << 14];
    while player.read_exact(&mut piece).is_ok() {
        body.extend_from_slice(&piece);
    }
    assert!(!body.is_empty() && body.len() < sample.bytes.len());
    assert!(sample.bytes.starts_with(&body), "wrong bytes came");
}

#[test]
fn what_is_not_there_is_said_in_words() {
    let served = serve();
    let path = format!("/b3/{}", "ab".repeat(32));
    let page = served.get(&path, &["Accept: text/html,*/*"]);
    assert!(matches!(page.status, 404 | 504), "{}", page.status);
    assert!(said(&page.head, "content-type").starts_with("text/html"));
    let text = String::from_utf8(page.body).unwrap();
    assert!(text.contains("could not be fetched"), "{text}");
    let lines = served.get(&path, &[]);
    assert!(said(&lines.head, "content-type").starts_with("text/plain"));
}

#[test]
fn nothing_leads_out_of_a_directory_or_into_the_disk() {
    let served = serve();
    let file = served.put("x", b"inside");
    let listing = directory(&[("a/x", &file)]);
    let address = served.put("dir", &listing);
    for path in [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/a/../a/x",
        "/a//x",
        "/./a/x",
        "/%00",
        "/a%2fx",
        "/%252e%252e/x",
        "//etc/passwd",
        "/a\\..\\x",
    ] {
        let answer = served.get(&format!("/b3/{address}{path}"), &[]);
        assert!(
            matches!(answer.status, 400 | 404),
            "{path}: {}",
            answer.status
        );
        assert!(
            !String::from_utf8_lossy(&answer.body).contains("root:"),
            "{path}"
        );
    }
    for path in [
        "/b3/..%2f..%2fetc%2fpasswd",
        "/b3/etc/passwd",
        "/b3/zz",
        "/b3/",
    ] {
        let status = served.get(path, &[]).status;
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
    let inside = served.get(&format!("/b3/{address}/a/x"), &[]);
    assert!(inside.status == 200 && inside.body == b"inside");
}

#[test]
fn no_name_becomes_a_header() {
    let served = serve();
    let address = served.put("plain", b"bytes");
    for name in [
        "a%0d%0aSet-Cookie:%20x=1",
        "%0a%0a<script>",
        "a%00b",
        "%22;x=%22",
    ] {
        for path in [
            format!("/b3/{address}?filename={name}"),
            format!("/b3/{address}/{name}"),
        ] {
            let answer = served.get(&path, &[]);
            assert!(!answer.head.contains("set-cookie:"), "{}", answer.head);
            assert!(matches!(answer.status, 200 | 400 | 404), "{path}");
        }
    }
    let quoted = served.get(&format!("/b3/{address}?filename=%22;x=%22"), &[]);
    let name = said(&quoted.head, "content-disposition");
    assert_eq!(name.matches('"').count(), 2, "{name}");
}

/// An encoded directory of files.
fn directory(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = Listing::builder();
    for (path, address) in files {
        let kind = match address.strip_prefix("-> ") {
            Some(target) => EntryKind::Symlink {
                target: target.to_owned(),
            },
            None => EntryKind::File {
                address: address.parse().unwrap(),
                bytes: 1,
                executable: false,
            },
        };
        builder.push(path, kind).unwrap();
    }
    builder.finish().unwrap().encode()
}

#[test]
fn a_directory_is_a_site() {
    let served = serve();
    let page = served.put("p", b"<h1>home</h1><script>alert(1)</script>");
    let style = served.put("s", b"h1{color:red}");
    let evil = "<img src=x onerror=alert(1)>\"'.txt";
    let listing = directory(&[
        ("site/index.html", &page),
        ("site/css/a b.css", &style),
        ("deep/er/x.css", &style),
        (evil, &style),
        ("in", "-> deep/er/x.css"),
        ("out", "-> ../../etc/passwd"),
        ("away", "-> /etc/passwd"),
    ]);
    let address = served.put("dir", &listing);
    let root = format!("/b3/{address}");
    let (status, head) = served.head(&format!("GET {root}"), &[]);
    assert_eq!(
        (status, said(&head, "location")),
        (302, &*format!("{root}/"))
    );
    let list = served.get(&format!("{root}/"), &[]);
    let html = String::from_utf8(list.body).unwrap();
    assert!(list.status == 200 && said(&list.head, "content-type").starts_with("text/html"));
    assert!(html.contains("href=\"./site/\"") && html.contains("href=\"./deep/\""));
    assert!(html.contains("&lt;img src=x onerror") && !html.contains("<img"));
    // A stored page is shown, and is nobody.
    let index = served.get(&format!("{root}/site/"), &[]);
    assert!(index.body.starts_with(b"<h1>home"));
    assert_eq!(
        said(&index.head, "content-type"),
        "text/html; charset=utf-8"
    );
    let policy = said(&index.head, "content-security-policy");
    assert!(
        policy.starts_with("sandbox; default-src 'none'"),
        "{policy}"
    );
    assert!(!policy.contains("allow-"), "{policy}");
    let css = served.get(&format!("{root}/site/css/a%20b.css"), &["Range: bytes=0-1"]);
    assert!(css.status == 206 && css.body == b"h1");
    assert_eq!(said(&css.head, "content-type"), "text/css; charset=utf-8");
    let (status, head) = served.head(&format!("GET {root}/deep/er"), &[]);
    assert_eq!(
        (status, said(&head, "location")),
        (302, &*format!("{root}/deep/er/"))
    );
    let (status, head) = served.head(&format!("GET {root}/in"), &[]);
    let target = format!("{root}/deep/er/x.css");
    assert_eq!((status, said(&head, "location")), (302, target.as_str()));
    for path in ["out", "away", "nothing", "site/index.html/", "deep/x"] {
        assert_eq!(
            served.get(&format!("{root}/{path}"), &[]).status,
            404,
            "{path}"
        );
    }
    // What only begins like a directory is a file.
    let broken = served.put("b", &listing[..listing.len() - 1]);
    let broken = served.get(&format!("/b3/{broken}"), &[]);
    assert!(broken.status == 200 && broken.body == listing[..listing.len() - 1]);
}

#[test]
fn no_page_of_another_site_reads_here() {
    let served = serve();
    let address = served.put("x", b"bytes");
    for host in ["evil.example", "127.0.0.1.evil.example"] {
        let text = format!("GET /b3/{address} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(served.open().ask(text.as_bytes()).status, 403, "{host}");
    }
    let answer = served.get(&format!("/b3/{address}"), &["Origin: http://evil.example"]);
    assert_eq!(answer.status, 403);
    let shown = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"];
    let answer = served.get(&format!("/b3/{address}"), &shown);
    assert_eq!(answer.status, 403);
    let plain = served.get(&format!("/b3/{address}"), &[]);
    assert!(!plain.head.contains("access-control"), "{}", plain.head);
    assert_eq!(address, crate::content::address(b"bytes"));
}

#[test]
fn clients_that_do_not_read_hold_nobody_up_for_long() {
    let served = serve();
    let sample = Sample::new(406, 128 * CHUNK);
    served.node.store(&sample.path);
    let line = format!("GET /b3/{}", sample.address);
    let mut slow: Vec<Connection> = (0..100).map(|_| served.open()).collect();
    for client in &mut slow {
        client.send(&request(&line, &[], b"")).unwrap();
    }
    let answers: Vec<u16> = slow.iter_mut().map(|c| c.head().unwrap().0).collect();
    let sent = answers.iter().filter(|status| **status == 200).count();
    assert!((1..=64).contains(&sent), "{sent} are sent the file");
    assert!(answers.iter().all(|status| matches!(status, 200 | 503)));
    // The daemon answers, and what a slow client is not sent waits in the store.
    assert!(served.node.status()["peer_id"].is_string());
    slow.drain(..50);
    wait_until("a place", || {
        served.head(&line, &["Range: bytes=0-9"]).0 == 206
    });
    drop(slow);
    let whole = served.get(line.trim_start_matches("GET "), &[]);
    assert!(whole.status == 200 && whole.body == sample.bytes);
    assert_eq!(sample.address, address(&sample.bytes));
}

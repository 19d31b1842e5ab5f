//! The DHT, networks and numbers as the command line shows them.

use crate::content::{CHUNK, Sample};
use crate::harness::{Home, Node, wait_until};
use crate::provide::{assert_fields, three, wait_until_done};

#[test]
fn networks_of_different_names_have_nothing_to_do_with_each_other() {
    let a = Node::start(&[]);
    let elsewhere = ["--listen", "/ip4/127.0.0.1/tcp/0", "--network", "elsewhere"];
    let b = Node::start_as(Home::new(), &[&a.addr], &elsewhere);
    let c = Node::start(&[&a.addr, &b.addr]);
    wait_until("those of one network to meet", || {
        a.status()["peers"] == 1 && c.status()["peers"] == 1
    });
    let sample = Sample::new(308, 2 * CHUNK);
    a.store(&sample.path);
    wait_until_done(&a, 3);
    c.call(["dht", "get", &sample.address]).run().ok();
    for words in [
        &["dht", "get", &sample.address][..],
        &["providers", &sample.address],
    ] {
        b.call(words).run().exits(10);
        let outside = Home::new();
        let call = outside.networked(words, &[&a.addr]);
        call.args(["--network", "elsewhere", "--timeout", "3s"])
            .run()
            .exits(10);
    }
    assert_eq!(b.call(["peers", "--json"]).run().ok().text(), "");
    assert_eq!(b.status()["network"], "elsewhere");
    assert_eq!(a.status()["network"], "main");
    assert_eq!(a.status()["peers"], 1, "the stranger is no peer");
    // A command for another network than the daemon's would do its work in the wrong one.
    b.call(["providers", &sample.address, "--network", "main"])
        .run()
        .exits(2)
        .says("is in the network elsewhere");
    b.call(["providers", &sample.address])
        .env("CASNODE_NETWORK", "elsewhere")
        .run()
        .exits(10);
}

#[test]
fn the_dht_can_be_looked_at() {
    let [a, b, c] = three();
    let sample = Sample::new(309, 2 * CHUNK);
    a.store(&sample.path);
    wait_until_done(&a, 3);
    let looked = b
        .call(["dht", "lookup", "--json", &sample.address])
        .run()
        .ok()
        .json();
    assert_fields(
        &looked,
        &["key", "peers", "asked_peers", "complete", "took_ms"],
    );
    assert_eq!(looked["complete"], true);
    let peers: Vec<_> = looked["peers"].as_array().unwrap().iter().collect();
    assert_eq!(peers.len(), 2, "{looked}");
    for peer in &peers {
        assert_fields(peer, &["peer", "shared_bits", "addrs"]);
        assert!(
            [&a.peer_id, &c.peer_id]
                .iter()
                .any(|id| peer["peer"] == **id),
            "{looked}"
        );
    }
    assert!(
        peers[0]["shared_bits"].as_u64() >= peers[1]["shared_bits"].as_u64(),
        "{looked}"
    );
    let text = b.call(["dht", "lookup", &sample.address]).run().ok().text();
    assert!(text.contains("complete"), "{text}");

    for call in [
        b.call(["dht", "get", "--json", &sample.address]),
        Home::new().networked(["dht", "get", "--json", &sample.address], &[&b.addr]),
    ] {
        let got = call.run().ok().json();
        assert_fields(
            &got,
            &["key", "record", "providers", "asked_peers", "took_ms"],
        );
        let record = &got["record"];
        assert_eq!(
            (&record["bytes"], &record["chunks"]),
            (&sample.bytes.len().into(), &2.into())
        );
        assert_eq!(
            (&record["kind"], &record["name"]),
            (&"file".into(), &"sample.bin".into())
        );
        assert_fields(
            record,
            &[
                "record_bytes",
                "chunker",
                "has_manifest",
                "publisher",
                "published_unix_ms",
            ],
        );
        assert_eq!(got["providers"][0]["peer"], a.peer_id, "{got}");
    }
    // A chunk has providers and no record.
    let chunk = blake3::hash(&sample.bytes[..CHUNK]).to_hex().to_string();
    let got = b.call(["dht", "get", "--json", &chunk]).run().ok().json();
    assert!(got["record"].is_null(), "{got}");
    b.call(["dht", "get", &"0".repeat(64)])
        .run()
        .exits(10)
        .says("peers asked");

    for call in [
        a.call(["dht", "put-test", "--json"]),
        Home::new().networked(["dht", "put-test", "--json"], &[&b.addr]),
    ] {
        let put = call.run().ok().json();
        assert_eq!(put["ok"], true);
        assert_fields(
            &put,
            &["key", "lookup_ms", "put_ms", "read_ms", "value_read"],
        );
        for count in [
            "closest_peers",
            "provider_copies",
            "value_copies",
            "provider_read",
        ] {
            assert!(put[count].as_u64().unwrap() >= 2, "{count}: {put}");
        }
    }
    let text = a.call(["dht", "put-test"]).run().ok().text();
    assert!(text.contains("result     works"), "{text}");
    Home::new()
        .networked(["dht", "put-test", "--timeout", "1s"], &[])
        .run()
        .exits(10)
        .says("connected to no peers");
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let [a, _b, _c] = three();
    let sample = Sample::new(310, 2 * CHUNK);
    a.store(&sample.path);
    wait_until_done(&a, 3);
    let text = a.call(["metrics"]).run().ok().text();
    let mut typed = std::collections::HashMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(typed.insert(name, kind), None, "{name} is there twice");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(
                rest.split_once(' ')
                    .is_some_and(|(_, help)| !help.is_empty()),
                "{line}"
            );
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let kind = typed
                .get(name)
                .unwrap_or_else(|| panic!("{line} has no type"));
            assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
            assert_eq!(name.ends_with("_total"), *kind == "counter", "{line}");
        }
    }
    for line in [
        "casnode_store_files 1",
        "casnode_store_chunks 2",
        "casnode_dht_announced_keys_total 3",
        "casnode_dht_dropped_total{what=\"bad_frames\"} 0",
    ] {
        assert!(
            text.lines().any(|l| l == line),
            "{line} is missing in {text}"
        );
    }
    let lines = a.call(["metrics", "--json"]).run().ok().json_lines();
    assert_eq!(lines.len(), typed.len());
    assert_fields(&lines[0], &["name", "help", "kind", "values"]);
    // Without a daemon there are the store's numbers.
    let text = a.leave().call(["metrics"]).run().ok().text();
    assert!(
        text.contains("casnode_store_files 1\n") && !text.contains("casnode_dht"),
        "{text}"
    );
}

#[test]
fn a_node_becomes_a_client_and_a_server_again_while_it_runs() {
    let a = Node::start(&[]);
    let listen = ["--listen", "/ip4/127.0.0.1/tcp/0", "--dht-mode", "server"];
    let b = Node::start_as(Home::new(), &[&a.addr], &listen);
    let key = "5".repeat(64);
    let closest = || {
        let looked = a.call(["dht", "lookup", "--json", &key]).run();
        looked.text().contains(&b.peer_id)
    };
    wait_until("the server to be found", closest);
    let mode = |words: &[&str]| {
        let call = b.call(["dht", "mode", "--json"]).args(words);
        let said = call.run().ok().json();
        (
            said["mode"].as_str().unwrap().to_owned(),
            said["serving"].as_bool().unwrap(),
        )
    };
    assert_eq!(mode(&[]), ("server".to_owned(), true));
    assert_eq!(mode(&["client"]), ("client".to_owned(), false));
    assert_eq!(b.status()["dht_mode"], "client");
    wait_until("the client to be left out of lookups", || !closest());
    assert_eq!(mode(&["server"]), ("server".to_owned(), true));
    wait_until("the server to be found again", closest);
    assert_eq!(mode(&["auto"]).0, "auto");
    let text = b.call(["status"]).run().ok().text();
    assert!(text.contains("main, auto (now a "), "{text}");
    Home::new()
        .call(["dht", "mode"])
        .run()
        .exits(1)
        .says("no daemon runs");
}

#[test]
fn a_daemon_can_be_a_client_from_the_start() {
    let listen = [
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--dht-mode",
        "client",
        "--profile",
        "lab",
    ];
    let client = Node::start_as(Home::new(), &[], &listen);
    let status = client.status();
    assert_eq!(
        (&status["dht_mode"], &status["dht_serving"]),
        (&"client".into(), &false.into())
    );
    assert_eq!(status["network_peers"], 1);
}

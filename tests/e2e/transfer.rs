//! Files go in on one node and come out on another.

use serde_json::Value;

use crate::content::{CHUNK, Sample};
use crate::harness::{Home, Node, Running, casnode, folder, wait_until};
use crate::proxy::Proxy;

/// Slow enough that a transfer takes seconds, fast enough that it takes few.
const RATE: u64 = 8 << 20;

/// Starts a get that asks these two peers, and whom they know.
fn get_from(getter: &Home, sample: &Sample, peers: [&str; 2]) -> Running {
    let words = ["get", "--json", &sample.address];
    let call = getter.networked(words, &[]);
    let call = peers
        .iter()
        .fold(call, |call, peer| call.args(["--peer", peer]));
    call.arg("-o").arg(sample.copy_path()).spawn()
}

/// Which peers sent accepted bytes.
fn senders(report: &Value) -> Vec<&str> {
    let providers = report["providers"].as_array().unwrap();
    let used = providers
        .iter()
        .filter(|provider| provider["bytes"].as_u64().unwrap() > 0);
    used.map(|provider| provider["peer"].as_str().unwrap())
        .collect()
}

#[test]
fn a_file_is_found_through_a_node_in_the_middle() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let c = Node::start(&[&b.addr]);
    let sample = Sample::new(1, 5 * CHUNK + 77);
    assert_eq!(a.store(&sample.path), sample.address);
    let report = c.get(&sample.address, &sample.copy_path());
    sample.assert_at(&sample.copy_path());
    assert_eq!(report["address"], sample.address);
    assert_eq!(report["bytes"], sample.bytes.len());
    assert_eq!(report["chunks"], sample.chunks());
    assert_eq!(report["fetched_chunks"], sample.chunks());
    assert_eq!(report["rejected_chunks"], 0);
    assert_eq!(report["path"], sample.copy_path().to_str().unwrap());
    assert_eq!(senders(&report), [&a.peer_id]);
}

#[test]
fn sizes_at_every_edge_come_back_as_they_went() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    for (seed, len) in (10..).zip([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK]) {
        let sample = Sample::new(seed, len);
        assert_eq!(a.store(&sample.path), sample.address, "{len}");
        let report = b.get(&sample.address, &sample.copy_path());
        sample.assert_at(&sample.copy_path());
        assert_eq!(report["chunks"], sample.chunks(), "{len}");
    }
}

#[test]
fn a_file_is_cut_by_content_unless_told_otherwise() {
    let home = Home::new();
    let sample = Sample::new(22, 6 * CHUNK);
    let store = home.call(["store"]).arg(&sample.path);
    store.without_env("CASNODE_CHUNKER").run().ok();
    let stat = home.call(["stat", "--json", &sample.address]).run().ok();
    let chunker = stat.json()["chunker"].to_string();
    assert!(chunker.contains("fastcdc, 64/192/1024 KiB"), "{chunker}");
}

#[test]
fn either_chunker_gives_the_same_address() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(20, 6 * CHUNK + 1);
    let stored = a
        .call([
            "store",
            "--json",
            "--chunker",
            "fastcdc",
            "--name",
            "cut by content",
        ])
        .arg(&sample.path)
        .run()
        .ok()
        .json();
    assert_eq!(stored["address"], sample.address);
    assert_eq!(stored["name"], "cut by content");
    let report = b.get(&sample.address, &sample.copy_path());
    sample.assert_at(&sample.copy_path());
    assert_eq!(report["chunks"], stored["chunks"]);
}

#[test]
fn two_providers_share_the_work() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(30, 40 * CHUNK);
    a.store(&sample.path);
    b.store(&sample.path);
    // Both at the same moderate speed, so that neither can finish before the other has begun.
    let (slow_a, slow_b) = (Proxy::start(&a, RATE), Proxy::start(&b, RATE));
    let getter = Home::new();
    let get = get_from(&getter, &sample, [&slow_a.addr, &slow_b.addr]);
    let report = get.wait().ok().json();
    sample.assert_at(&sample.copy_path());
    let mut used = senders(&report);
    used.sort();
    let mut both = [&a.peer_id, &b.peer_id];
    both.sort();
    assert_eq!(used, both, "{report}");
    let sent: u64 = report["providers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(sent, sample.bytes.len() as u64);
}

#[test]
fn both_providers_are_found_through_the_dht() {
    // Slow enough that neither can finish before the other is found.
    let options = ["--listen", "/ip4/127.0.0.1/tcp/0", "--max-up", "2MiB/s"];
    let a = Node::start_as(Home::new(), &[], &options);
    let b = Node::start_as(Home::new(), &[&a.addr], &options);
    let c = Node::start(&[&b.addr]);
    let sample = Sample::new(31, 100 * CHUNK);
    a.store(&sample.path);
    b.store(&sample.path);
    wait_until("both to be known as providers", || {
        let words = ["providers", "--json", &sample.address];
        let found = c.call(words).run().text();
        found.contains(&a.peer_id) && found.contains(&b.peer_id)
    });
    let report = c.get(&sample.address, &sample.copy_path());
    sample.assert_at(&sample.copy_path());
    assert_eq!(senders(&report).len(), 2, "{report}");
}

#[test]
fn who_has_fetched_a_file_provides_it() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let c = Node::start(&[&a.addr, &b.addr]);
    let sample = Sample::new(32, 9 * CHUNK);
    a.store(&sample.path);
    b.get(&sample.address, &sample.copy_path());
    wait_until("b to be known as a provider", || {
        let found = c.call(["providers", "--json", &sample.address]).run();
        found.text().contains(&b.peer_id)
    });
    let home = a.into_home();
    let copy = sample.folder.path().join("second copy");
    let report = c.get(&sample.address, &copy);
    sample.assert_at(&copy);
    assert_eq!(senders(&report), [&b.peer_id]);
    drop(home);
}

/// Its records at others still name the port it had.
#[test]
fn a_provider_that_comes_back_on_another_port_is_found() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let c = Node::start(&[&b.addr]);
    // Too large for its metadata record to hold the manifest.
    let sample = Sample::new(44, 100 * CHUNK);
    a.store(&sample.path);
    wait_until("a's records to be out", || a.status()["to_announce"] == 0);
    c.call(["providers", &sample.address]).run().ok();
    let before = a.addr.clone();
    let a = Node::start_on(a.leave(), &[&b.addr]);
    assert_ne!(a.addr, before);
    let report = c.get(&sample.address, &sample.copy_path());
    sample.assert_at(&sample.copy_path());
    assert_eq!(senders(&report), [&a.peer_id]);
}

#[test]
fn a_provider_may_die_in_the_middle() {
    let mut a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(33, 80 * CHUNK);
    a.store(&sample.path);
    b.store(&sample.path);
    let (slow_a, slow_b) = (Proxy::start(&a, RATE), Proxy::start(&b, RATE));
    let getter = Home::new();
    let mut get = get_from(&getter, &sample, [&slow_a.addr, &slow_b.addr]);
    wait_until("a to have sent a part", || slow_a.relayed_bytes() > 4 << 20);
    assert!(
        get.is_running(),
        "the download was over before anybody could die"
    );
    a.kill();
    let report = get.wait().ok().json();
    sample.assert_at(&sample.copy_path());
    assert_eq!(senders(&report).len(), 2, "{report}");
    assert_eq!(report["rejected_chunks"], 0);
}

#[test]
fn a_provider_may_stall_in_the_middle() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(34, 40 * CHUNK);
    a.store(&sample.path);
    b.store(&sample.path);
    let (slow_a, slow_b) = (Proxy::start(&a, RATE), Proxy::start(&b, RATE));
    let getter = Home::new();
    let get = get_from(&getter, &sample, [&slow_a.addr, &slow_b.addr]);
    wait_until("a to have sent a part", || slow_a.relayed_bytes() > 2 << 20);
    slow_a.stall();
    get.wait().ok();
    sample.assert_at(&sample.copy_path());
}

#[test]
fn who_is_still_fetching_serves_already() {
    let a = Node::start(&[]);
    let sample = Sample::new(43, 80 * CHUNK);
    a.store(&sample.path);
    let slow = Proxy::start(&a, RATE);
    let b = Node::start(&[]);
    let first = b
        .call(["get", &sample.address, "--peer", &slow.addr, "-o"])
        .arg(sample.copy_path())
        .spawn();
    wait_until("b to have a part", || slow.relayed_bytes() > 4 << 20);
    let copy = sample.folder.path().join("second copy");
    let getter = Home::new();
    let second = getter
        .networked(["get", "--json", &sample.address, "--peer", &b.addr], &[])
        .arg("-o")
        .arg(&copy)
        .spawn();
    let report = second.wait().ok().json();
    sample.assert_at(&copy);
    assert!(senders(&report).contains(&b.peer_id.as_str()), "{report}");
    first.wait().ok();
    sample.assert_at(&sample.copy_path());
}

#[test]
fn many_calls_at_once_do_not_disturb_each_other() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let samples: Vec<_> = (300..306)
        .map(|seed| Sample::new(seed, 9 * CHUNK + 1))
        .collect();
    let stores: Vec<_> = samples
        .iter()
        .map(|sample| a.call(["store"]).arg(&sample.path).spawn())
        .collect();
    for (store, sample) in stores.into_iter().zip(&samples) {
        assert_eq!(store.wait().ok().text().trim(), sample.address);
    }
    // Each file by two callers at once, into different places.
    let places: Vec<_> = samples
        .iter()
        .flat_map(|sample| ["one", "two"].map(|name| (sample, sample.folder.path().join(name))))
        .collect();
    let gets: Vec<_> = places
        .iter()
        .map(|(sample, place)| b.call(["get", &sample.address, "-o"]).arg(place).spawn())
        .collect();
    for (get, (sample, place)) in gets.into_iter().zip(&places) {
        get.wait().ok();
        sample.assert_at(place);
    }
}

#[test]
fn quic_carries_a_file_too() {
    let a = Node::start_with(Home::new(), &[], "/ip4/127.0.0.1/udp/0/quic-v1");
    let sample = Sample::new(35, 7 * CHUNK);
    a.store(&sample.path);
    Home::new()
        .networked(["get", &sample.address], &[&a.addr])
        .args(["--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "-o"])
        .arg(sample.copy_path())
        .run()
        .ok();
    sample.assert_at(&sample.copy_path());
}

#[test]
fn nothing_need_run_but_the_storing_node() {
    let bootstrap = Node::start(&[]);
    let sample = Sample::new(36, 11 * CHUNK + 3);
    let home = Home::new();
    let stored = home
        .networked(["store"], &[&bootstrap.addr])
        .arg(&sample.path)
        .run()
        .ok();
    assert_eq!(stored.text(), format!("{}\n", sample.address));
    let _storing = Node::start_on(home, &[&bootstrap.addr]);
    let getter = Home::new();
    // The variable serves where the flag is not given.
    getter
        .networked(["get", &sample.address], &[])
        .arg("-o")
        .arg(sample.copy_path())
        .env("CASNODE_BOOTSTRAP", format!(",{} ,", bootstrap.addr))
        .run()
        .ok();
    sample.assert_at(&sample.copy_path());
}

#[test]
fn what_was_stored_with_no_network_is_published_later() {
    let home = Home::new();
    let sample = Sample::new(37, 3 * CHUNK);
    let stored = home
        .networked(["store"], &[])
        .arg(&sample.path)
        .run()
        .ok()
        .says("warning:");
    assert_eq!(stored.text().trim(), sample.address);
    let bootstrap = Node::start(&[]);
    let _storing = Node::start_on(home, &[&bootstrap.addr]);
    let getter = Node::start(&[&bootstrap.addr]);
    wait_until("the file to be announced", || {
        let found = getter.call(["providers", &sample.address]).run();
        found.status.success()
    });
    getter.get(&sample.address, &sample.copy_path());
    sample.assert_at(&sample.copy_path());
}

#[test]
fn pipes_work_at_both_ends() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(38, 9 * CHUNK + 5);
    let stored = a
        .call(["store", "-"])
        .input(sample.bytes.clone())
        .run()
        .ok();
    assert_eq!(stored.text(), format!("{}\n", sample.address));
    let got = b.call(["get", &sample.address, "-o", "-"]).run().ok();
    assert!(got.stdout == sample.bytes);
    // In this process, too, and the report does not mix with the bytes.
    let home = Home::new();
    let got = home
        .networked(["get", "--json", &sample.address, "-o", "-"], &[&a.addr])
        .run()
        .ok();
    assert!(got.stdout == sample.bytes);
    let report = got
        .stderr
        .lines()
        .find_map(|line| serde_json::from_str::<Value>(line).ok())
        .unwrap();
    assert_eq!(report["path"], Value::Null);
    let stored = home
        .networked(["store", "-", "--name", "from a pipe"], &[&a.addr])
        .input(vec![])
        .run()
        .ok();
    assert_eq!(stored.text().trim(), blake3::hash(b"").to_hex().as_str());
}

/// What a stream is fetched ahead of its reader is bounded; the reader moves on all the same.
#[test]
fn a_stream_is_longer_than_what_is_fetched_ahead_of_it() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(46, 288 * CHUNK);
    a.store(&sample.path);
    let got = b.call(["get", &sample.address, "-o", "-"]).run().ok();
    assert!(got.stdout == sample.bytes);
}

#[test]
fn the_published_name_is_the_default_and_never_leads_elsewhere() {
    let a = Node::start(&[]);
    let sample = Sample::new(39, 1000);
    a.store(&sample.path);
    let here = folder();
    let getter = Home::new();
    let got = getter
        .networked(["get", &sample.address], &[&a.addr])
        .current_dir(here.path())
        .run()
        .ok();
    assert_eq!(
        got.text().trim(),
        here.path().join("sample.bin").to_str().unwrap()
    );
    sample.assert_at(&here.path().join("sample.bin"));

    let pipe = Sample::new(40, 1000);
    a.call(["store", "-"]).input(pipe.bytes.clone()).run().ok();
    getter
        .networked(["get", &pipe.address], &[&a.addr])
        .arg("-o")
        .arg(here.path())
        .run()
        .ok();
    pipe.assert_at(&here.path().join(&pipe.address));

    // A name that would lead elsewhere is not even published.
    let climbing = Sample::new(41, 1000);
    for name in ["../climbed", "/climbed", "..", ""] {
        a.call(["store", "--name", name])
            .arg(&climbing.path)
            .run()
            .exits(2)
            .says(name);
    }
    a.call(["stat", &climbing.address]).run().exits(10);
}

/// Its manifest comes from the provider, and its name from the metadata record, whichever is here first.
#[test]
fn a_name_that_comes_late_is_the_output_s_all_the_same() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    // Too large for its metadata record to hold the manifest.
    let sample = Sample::new(45, 100 * CHUNK);
    a.store(&sample.path);
    wait_until("a's records to be out", || a.status()["to_announce"] == 0);
    let (words, homes) = (["get", &sample.address], [Home::new(), Home::new()]);
    let alone = homes.each_ref().map(|home| {
        let call = home.networked(words, &[]);
        call.args(["--peer", &a.addr])
    });
    let [alone, copied] = alone;
    for get in [b.call(words), alone, copied.arg("--copy")] {
        let here = folder();
        get.current_dir(here.path()).run().ok();
        sample.assert_at(&here.path().join("sample.bin"));
        let left = std::fs::read_dir(here.path()).unwrap().count();
        assert_eq!(left, 1, "something else was left");
    }
    let files = b.call(["ls", "--json"]).run().ok().text();
    assert!(files.contains("sample.bin"), "{files}");
}

#[test]
fn a_chunk_that_is_here_is_not_fetched_again() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let first = Sample::new(42, 8 * CHUNK);
    a.store(&first.path);
    b.get(&first.address, &first.copy_path());
    let mut bytes = first.bytes.clone();
    bytes[3 * CHUNK] ^= 1;
    let edited = first.folder.path().join("edited");
    std::fs::write(&edited, &bytes).unwrap();
    let stored = a.call(["store", "--json"]).arg(&edited).run().ok().json();
    assert_eq!(stored["new_chunks"], 1);
    let report = b.get(
        stored["address"].as_str().unwrap(),
        &first.folder.path().join("edited copy"),
    );
    assert_eq!(report["local_chunks"], 7);
    assert_eq!(report["fetched_chunks"], 1);
    assert!(std::fs::read(first.folder.path().join("edited copy")).unwrap() == bytes);
}

#[test]
fn completions_and_help_need_nothing() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            casnode(["completions", shell])
                .run()
                .ok()
                .text()
                .contains("casnode")
        );
    }
    let script = casnode(["completions", "bash", "--json"]).run().ok().json();
    assert!(
        script["script"].as_str().unwrap().contains("casnode"),
        "{script}"
    );
    let dir = folder();
    let pages = casnode(["man", "--json"]).arg(dir.path()).run().ok().json();
    assert_eq!(pages["folder"], dir.path().to_str().unwrap());
    casnode(["completions", "perl"]).run().exits(2);
    let help = casnode(["--help"]).run().ok().text();
    for code in ["10 ", "11 ", "12 ", "13 ", "15 ", "16 ", "130 "] {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(code)),
            "{code} in {help}"
        );
    }
}

//! Downloads into the store that are broken off, and what the next one makes of it.

use rustix::process::Signal;
use serde_json::Value;

use crate::content::{CHUNK, Sample};
use crate::harness::{Home, Node, Running, wait_until};
use crate::proxy::Proxy;

const RATE: u64 = 8 << 20;

/// Begins a download that takes seconds, and returns when a part of it is there.
fn half_a_get(home: &Home, sample: &Sample, proxy: &Proxy) -> Running {
    let mut get = home
        .networked(
            ["get", "--copy", &sample.address, "--peer", &proxy.addr],
            &[],
        )
        .arg("-o")
        .arg(sample.copy_path())
        .spawn();
    wait_until("a part of the download", || proxy.relayed_bytes() > 8 << 20);
    assert!(
        get.is_running(),
        "the download was over before it could be broken off"
    );
    get
}

/// Ends a download's process and everything with it.
fn finish(home: &Home, sample: &Sample, node: &Node) -> Value {
    let report = home
        .networked(["get", "--copy", "--json", &sample.address], &[&node.addr])
        .arg("-o")
        .arg(sample.copy_path())
        .run()
        .ok()
        .json();
    sample.assert_at(&sample.copy_path());
    let left: Vec<_> = std::fs::read_dir(sample.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(
        left.len(),
        2,
        "the original and the copy, and nothing else: {left:?}"
    );
    report
}

/// What was here was not fetched again. A part of the output may have more than was acknowledged.
#[track_caller]
fn assert_goes_on(report: &Value, here: u64, sample: &Sample) {
    let chunks = |key: &str| report[key].as_u64().unwrap();
    assert!(chunks("local_chunks") >= here, "{here} of {report}");
    let all = chunks("local_chunks") + chunks("fetched_chunks");
    assert_eq!(all, sample.chunks(), "{report}");
}

fn chunks_here(home: &Home, sample: &Sample) -> u64 {
    home.call(["stat", "--json", &sample.address])
        .run()
        .ok()
        .json()["chunks_here"]
        .as_u64()
        .unwrap()
}

#[test]
fn a_killed_download_goes_on_from_what_was_acknowledged() {
    let a = Node::start(&[]);
    let sample = Sample::new(50, 100 * CHUNK);
    a.store(&sample.path);
    let proxy = Proxy::start(&a, RATE);
    let home = Home::new();
    let get = half_a_get(&home, &sample, &proxy);
    get.signal(Signal::KILL);
    get.wait();
    assert!(!sample.copy_path().exists());
    let here = chunks_here(&home, &sample);
    assert!(here > 0 && here < sample.chunks(), "{here}");
    let report = finish(&home, &sample, &a);
    assert_goes_on(&report, here, &sample);
}

#[test]
fn an_interrupted_download_says_that_it_goes_on_and_does() {
    let a = Node::start(&[]);
    let sample = Sample::new(51, 100 * CHUNK);
    a.store(&sample.path);
    for which in [Signal::INT, Signal::TERM] {
        let _ = std::fs::remove_file(sample.copy_path());
        let proxy = Proxy::start(&a, RATE);
        let home = Home::new();
        let get = half_a_get(&home, &sample, &proxy);
        get.signal(which);
        get.wait().exits(130).says("goes on");
        let left: Vec<_> = std::fs::read_dir(sample.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left.len(), 1, "no copy and no part of one: {left:?}");
        let here = chunks_here(&home, &sample);
        // Eight MiB came through; what had arrived by then was kept.
        assert!(here > 16, "{here}");
        let report = finish(&home, &sample, &a);
        assert_goes_on(&report, here, &sample);
    }
}

#[test]
fn a_killed_daemon_goes_on_too() {
    let a = Node::start(&[]);
    let sample = Sample::new(52, 100 * CHUNK);
    a.store(&sample.path);
    let proxy = Proxy::start(&a, RATE);
    let b = Node::start(&[]);
    let mut get = b
        .call([
            "get",
            "--copy",
            &sample.address,
            "--peer",
            &proxy.addr,
            "-o",
        ])
        .arg(sample.copy_path())
        .spawn();
    wait_until("a part of the download", || proxy.relayed_bytes() > 8 << 20);
    let rm = b.call(["rm", &sample.address]).run().exits(16);
    rm.says("being fetched");
    assert!(get.is_running());
    let home = b.into_home();
    get.wait().exits(15).says("goes on");
    assert!(!sample.copy_path().exists());
    let b = Node::start_on(home, &[]);
    let here = b
        .call(["stat", "--json", &sample.address])
        .run()
        .ok()
        .json()["chunks_here"]
        .as_u64()
        .unwrap();
    assert!(here > 0, "{here}");
    let report = b
        .call([
            "get",
            "--copy",
            "--json",
            &sample.address,
            "--peer",
            &a.addr,
            "-o",
        ])
        .arg(sample.copy_path())
        .run()
        .ok()
        .json();
    sample.assert_at(&sample.copy_path());
    assert_goes_on(&report, here, &sample);
}

#[test]
fn a_caller_that_leaves_cancels_its_call_and_the_daemon_lives() {
    let a = Node::start(&[]);
    let sample = Sample::new(53, 100 * CHUNK);
    a.store(&sample.path);
    let proxy = Proxy::start(&a, RATE);
    let b = Node::start(&[]);
    let get = b
        .call(["get", &sample.address, "--peer", &proxy.addr, "-o"])
        .arg(sample.copy_path())
        .spawn();
    wait_until("a part of the download", || proxy.relayed_bytes() > 4 << 20);
    get.signal(Signal::INT);
    get.wait().exits(130).says("goes on");
    let stat = b
        .call(["stat", "--json", &sample.address])
        .run()
        .ok()
        .json();
    assert_eq!(stat["state"], "partial", "{stat}");
    // The download has really ended: what passes the proxy dries up.
    let mut before = proxy.relayed_bytes();
    let mut quiet = 0;
    wait_until("the provider to be left alone", || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let now = proxy.relayed_bytes();
        quiet = if now - before < 64 << 10 {
            quiet + 1
        } else {
            0
        };
        before = now;
        quiet >= 5
    });
    assert!(
        before < sample.bytes.len() as u64 / 2,
        "{before} bytes came after all"
    );
    assert!(!sample.copy_path().exists());
}

#[test]
fn a_time_limit_keeps_what_was_fetched() {
    let a = Node::start(&[]);
    let sample = Sample::new(54, 100 * CHUNK);
    a.store(&sample.path);
    let proxy = Proxy::start(&a, RATE);
    let home = Home::new();
    home.networked(
        [
            "get",
            "--copy",
            &sample.address,
            "--peer",
            &proxy.addr,
            "--timeout",
            "2s",
        ],
        &[],
    )
    .arg("-o")
    .arg(sample.copy_path())
    .run()
    .exits_one_of(&[11, 15]);
    assert!(!sample.copy_path().exists());
    let here = chunks_here(&home, &sample);
    assert!(here > 0, "{here}");
    let report = finish(&home, &sample, &a);
    assert_goes_on(&report, here, &sample);
}

#[test]
fn when_the_only_provider_dies_the_rest_waits_for_another() {
    let mut a = Node::start(&[]);
    let sample = Sample::new(55, 100 * CHUNK);
    a.store(&sample.path);
    let proxy = Proxy::start(&a, RATE);
    let home = Home::new();
    let get = home
        .networked(
            [
                "get",
                "--copy",
                &sample.address,
                "--peer",
                &proxy.addr,
                "--timeout",
                "8s",
            ],
            &[],
        )
        .arg("-o")
        .arg(sample.copy_path())
        .spawn();
    wait_until("a part of the download", || proxy.relayed_bytes() > 8 << 20);
    a.kill();
    get.wait().exits_one_of(&[11, 15]);
    let here = chunks_here(&home, &sample);
    assert!(here > 0, "{here}");
    let b = Node::start(&[]);
    b.store(&sample.path);
    let report = finish(&home, &sample, &b);
    assert_goes_on(&report, here, &sample);
}

//! `casnode bench`, small.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Call, casnode, folder, processes_with, wait_until};

/// A bench of little, in a folder of the test.
fn bench(place: &Path, runs: u8) -> Call {
    casnode([
        "bench",
        "--size",
        "8MiB",
        "--runs",
        runs.to_string().as_str(),
    ])
    .arg("--dir")
    .arg(place)
}

fn assert_nothing_is_left(place: &Path) {
    let left: Vec<_> = std::fs::read_dir(place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(processes_with(place), 0);
}

#[test]
fn a_bench_has_every_row_and_leaves_nothing() {
    let place = folder();
    let run = bench(place.path(), 1).arg("--json").run().ok();
    let rows = run.json_lines();
    let (machine, steps) = rows.split_first().unwrap();
    assert_eq!(machine["row"], "machine");
    assert!(machine["processors"].as_u64().unwrap() >= 1);
    assert_eq!(machine["size_bytes"], 8 << 20);
    let names: Vec<&str> = steps
        .iter()
        .map(|row| row["step"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "hash",
            "chunk-fixed",
            "chunk-fastcdc",
            "store-fixed",
            "store-fastcdc",
            "read",
            "read-cold",
            "tcp",
            "floor",
            "transfer-tcp-aes",
            "transfer-tcp-chacha20",
            "transfer-quic",
            "transfer-no-keep",
            "transfer-8-peers",
        ]
    );
    let is_positive = |value: &Value| value.as_f64().is_some_and(|number| number > 0.0);
    for row in steps {
        assert_eq!((&row["row"], &row["runs"]), (&"step".into(), &1.into()));
        assert_eq!(row["bytes"], 8 << 20);
        for field in ["seconds", "seconds_min", "seconds_max", "mb_per_s"] {
            assert!(is_positive(&row[field]), "{field} of {row}");
        }
        // Of so few bytes a process may use less time than the kernel counts.
        if cfg!(target_os = "linux") {
            assert!(row["cpu_s_per_gib"].is_number(), "{row}");
            assert!(is_positive(&row["peak_bytes"]), "{row}");
        }
        let step = row["step"].as_str().unwrap();
        let is_transfer = step.starts_with("transfer");
        assert_eq!(is_positive(&row["of_floor"]), is_transfer, "{row}");
        let is_pair = is_transfer || matches!(step, "tcp" | "floor");
        if cfg!(target_os = "linux") {
            for side in ["provider", "downloader"] {
                let cpu = &row[format!("{side}_cpu_s_per_gib").as_str()];
                assert_eq!(cpu.is_number(), is_pair, "{row}");
                let peak = &row[format!("{side}_peak_bytes").as_str()];
                assert_eq!(is_positive(peak), is_pair, "{row}");
            }
        }
    }
    assert_nothing_is_left(place.path());
}

#[test]
fn a_bench_of_some_steps_is_a_table_of_those() {
    let place = folder();
    let run = bench(place.path(), 1)
        .args(["--only", "floor,hash"])
        .run()
        .ok()
        .says("bench: hash\n");
    let text = run.text();
    let last: Vec<&str> = text
        .lines()
        .rev()
        .take(2)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(last, ["floor", "hash"], "{text}");
    assert_nothing_is_left(place.path());
}

#[test]
fn a_bench_is_gone_after_a_signal() {
    for which in [Signal::INT, Signal::TERM, Signal::HUP] {
        let place = folder();
        let running = bench(place.path(), 99)
            .args(["--only", "transfer-8-peers"])
            .spawn();
        wait_until("a node to run", || processes_with(place.path()) >= 2);
        running.signal(which);
        running.wait().exits(130);
        assert_nothing_is_left(place.path());
    }
}

#[test]
fn the_processes_of_a_killed_bench_leave_by_themselves() {
    let place = folder();
    let running = bench(place.path(), 99)
        .args(["--only", "transfer-no-keep"])
        .spawn();
    wait_until("a node to run", || processes_with(place.path()) >= 2);
    running.signal(Signal::KILL);
    running.wait();
    wait_until("the nodes to leave", || processes_with(place.path()) == 0);
}

#[test]
fn a_bench_refuses_what_it_cannot_do() {
    let place = folder();
    casnode(["bench", "--size", "100000TiB", "--dir"])
        .arg(place.path())
        .run()
        .exits(13)
        .says("--size");
    casnode(["bench", "--size", "5"]).run().exits(2);
    casnode(["bench", "--only", "sleep"]).run().exits(2);
    casnode(["bench", "--dir"])
        .arg(place.path().join("none"))
        .run()
        .exits(1)
        .says("cannot work in");
    assert_nothing_is_left(place.path());
}

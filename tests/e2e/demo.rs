//! `casnode demo`, small.

use std::path::Path;

use rustix::process::Signal;

use crate::content::{CHUNK, Sample};
use crate::harness::{Call, casnode, folder, wait_until};

fn demo(sample: &Sample, temp: &Path) -> Call {
    casnode(["demo", "--nodes", "4"])
        .arg(&sample.path)
        .env("TMPDIR", temp)
}

/// Processes whose command line names a folder.
fn processes_with(folder: &Path) -> usize {
    let needle = folder.to_str().unwrap().as_bytes().to_vec();
    let Ok(all) = std::fs::read_dir("/proc") else {
        return 0;
    };
    all.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| line.windows(needle.len()).any(|window| window == needle))
        .count()
}

fn assert_nothing_is_left(temp: &Path) {
    let left: Vec<_> = std::fs::read_dir(temp)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(processes_with(temp), 0);
}

#[test]
fn the_demo_shows_every_act_and_leaves_nothing() {
    let sample = Sample::new(150, 80 * CHUNK);
    let temp = folder();
    let run = demo(&sample, temp.path()).run().ok();
    let text = run.text();
    for act in [
        "nodes", "store", "get", "get both", "kill", "damage", "compare",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(act)),
            "{act} is missing in:\n{text}"
        );
    }
    assert_eq!(text.lines().count(), 7, "{text}");
    assert!(
        text.lines().last().unwrap().contains(&sample.address),
        "{text}"
    );
    assert_nothing_is_left(temp.path());
    sample.assert_at(&sample.path);
}

#[test]
fn the_demo_is_gone_after_a_signal() {
    let sample = Sample::new(151, 80 * CHUNK);
    for which in [Signal::INT, Signal::TERM] {
        let temp = folder();
        let running = demo(&sample, temp.path()).spawn();
        wait_until("a node to run", || processes_with(temp.path()) >= 2);
        running.signal(which);
        running.wait().exits(130);
        assert_nothing_is_left(temp.path());
    }
}

#[test]
fn the_nodes_of_a_killed_demo_leave_by_themselves() {
    let sample = Sample::new(152, 80 * CHUNK);
    let temp = folder();
    let running = demo(&sample, temp.path()).spawn();
    wait_until("a node to run", || processes_with(temp.path()) >= 1);
    running.signal(Signal::KILL);
    running.wait();
    wait_until("the nodes to leave", || processes_with(temp.path()) == 0);
}

#[test]
fn the_demo_refuses_what_is_no_file() {
    let temp = folder();
    casnode(["demo", "/dev/zero"])
        .env("TMPDIR", temp.path())
        .run()
        .exits(1)
        .says("/dev/zero");
    casnode(["demo"])
        .arg(temp.path().join("none"))
        .env("TMPDIR", temp.path())
        .run()
        .exits(1);
    assert_nothing_is_left(temp.path());
}

//! `casnode demo`, small.

use std::path::Path;

use rustix::process::Signal;

use crate::content::{CHUNK, Sample};
use crate::harness::{Call, casnode, folder, processes_with, wait_until};

fn demo(sample: &Sample, temp: &Path) -> Call {
    casnode(["demo", "--nodes", "4"])
        .arg(&sample.path)
        .env("TMPDIR", temp)
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
    // A download of it takes several of the reports of progress that somebody can be killed at.
    let sample = Sample::new(150, 384 * CHUNK);
    let temp = folder();
    let run = demo(&sample, temp.path()).run().ok();
    let text = run.text();
    // The name has a column of eight, and the rest of the line begins with a node, a time or a number.
    let acts: Vec<&str> = text.lines().map(|line| line[..8].trim_end()).collect();
    assert_eq!(
        acts,
        [
            "nodes", "store", "get", "get both", "kill", "damage", "compare"
        ],
        "{text}"
    );
    let line_of = |act: &str| {
        let at = acts.iter().position(|&name| name == act).unwrap();
        text.lines().nth(at).unwrap()
    };
    assert!(line_of("kill").contains("node 1 was killed when"), "{text}");
    let both = line_of("get both");
    assert!(
        both.contains("from node 1") && both.contains("from node 2"),
        "{text}"
    );
    assert!(
        line_of("damage").contains("damaged in the store of node 2"),
        "{text}"
    );
    assert!(line_of("compare").contains(&sample.address), "{text}");
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

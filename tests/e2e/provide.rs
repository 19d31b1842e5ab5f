//! Announcing as the command line shows it.

use rustix::process::Signal;
use serde_json::Value;

use crate::content::{CHUNK, Sample};
use crate::harness::{Home, Node, signal, wait_until};

pub(crate) fn assert_fields(object: &Value, fields: &[&str]) {
    for field in fields {
        assert!(
            object.get(field).is_some(),
            "{field} is missing in {object}"
        );
    }
}

/// Three nodes that have met.
pub(crate) fn three() -> [Node; 3] {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let c = Node::start(&[&a.addr, &b.addr]);
    for node in [&a, &b, &c] {
        wait_until("the three to meet", || node.status()["peers"] == 2);
    }
    [a, b, c]
}

fn provide_status(node: &Node) -> Value {
    node.call(["provide", "status", "--json"]).run().ok().json()
}

pub(crate) fn wait_until_done(node: &Node, keys: u64) -> Value {
    let mut status = Value::Null;
    wait_until("everything to be announced", || {
        status = provide_status(node);
        status["due"] == 0 && status["done"] == keys
    });
    status
}

/// The value of a metric without labels; `None` when there is no such metric.
fn metric(node: &Node, name: &str) -> Option<f64> {
    let text = node.call(["metrics"]).run().ok().text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

#[test]
fn everything_is_announced_and_provide_status_says_so() {
    let [a, b, _c] = three();
    let sample = Sample::new(300, 6 * CHUNK);
    a.store(&sample.path);
    wait_until_done(&a, sample.chunks() + 1);
    // Keys are done as they are acknowledged; the run ends a moment later.
    wait_until("the run to be over", || {
        !provide_status(&a)["last_run"].is_null()
    });
    let status = provide_status(&a);
    assert_fields(
        &status,
        &[
            "daemon",
            "keys",
            "files",
            "done",
            "due",
            "new",
            "failed",
            "last_success_unix_ms",
            "next_due_unix_ms",
            "keys_per_hour",
            "finish_secs",
            "interval_secs",
            "expiry_secs",
            "churn_percent_per_hour",
            "network_peers",
            "behind",
            "last_run",
        ],
    );
    assert_eq!((&status["keys"], &status["files"]), (&7.into(), &1.into()));
    assert_eq!((&status["failed"], &status["new"]), (&0.into(), &0.into()));
    assert!(status["last_success_unix_ms"].is_u64(), "{status}");
    assert!(status["behind"].is_null(), "{status}");
    assert_eq!(status["expiry_secs"], 48 * 3600);
    let run = &status["last_run"];
    let fields = [
        "ended_unix_ms",
        "keys",
        "lookups",
        "peers",
        "failed_peers",
        "copies",
        "took_ms",
    ];
    assert_fields(run, &fields);
    let text = a.call(["provide", "status"]).run().ok();
    assert!(text.text().contains("last run"), "{}", text.text());
    assert!(!text.stderr.contains("warning"), "{}", text.stderr);

    let file = a
        .call(["provide", "status", "--json", &sample.address])
        .run()
        .ok()
        .json();
    assert_eq!(file["address"], sample.address);
    assert_eq!(
        (&file["file"]["keys"], &file["file"]["done"]),
        (&1.into(), &1.into())
    );
    assert_eq!(
        (&file["chunks"]["keys"], &file["chunks"]["done"]),
        (&6.into(), &6.into())
    );
    for part in ["file", "chunks"] {
        assert_eq!(file[part]["unscheduled"], 0, "{file}");
        assert_eq!(
            file[part]["copies_min"], 2,
            "both others hold every key: {file}"
        );
        assert_fields(
            &file[part],
            &[
                "due",
                "failed",
                "copies_median",
                "oldest_success_unix_ms",
                "last_success_unix_ms",
                "next_due_unix_ms",
            ],
        );
    }
    let text = a
        .call(["provide", "status", &sample.address])
        .run()
        .ok()
        .text();
    assert!(text.contains("6 of 6 announced"), "{text}");
    // Nothing of it is in this one's schedule.
    b.call(["provide", "status", &sample.address])
        .run()
        .exits(10);
}

#[test]
fn what_was_announced_is_announced_again_at_once_when_that_is_wanted() {
    let [a, _b, _c] = three();
    let (one, two) = (Sample::new(301, 3 * CHUNK), Sample::new(302, 10));
    a.store(&one.path);
    a.store(&two.path);
    wait_until_done(&a, 5);
    let announced = || metric(&a, "casnode_dht_announced_keys_total").unwrap();
    let before = announced();
    let now = a
        .call(["provide", "now", "--wait", "--json", &one.address])
        .run()
        .ok()
        .json();
    assert_eq!((&now["keys"], &now["waited"]), (&4.into(), &true.into()));
    assert_eq!(now["address"], one.address);
    assert_fields(&now, &["took_ms"]);
    assert!(announced() >= before + 4.0);
    let all = a.call(["provide", "now", "--json"]).run().ok().json();
    assert_eq!((&all["keys"], &all["waited"]), (&5.into(), &false.into()));
    wait_until("all to be announced again", || announced() >= before + 9.0);
    let text = a
        .call(["provide", "now", "--wait", &two.address])
        .run()
        .ok()
        .text();
    assert!(text.starts_with("1 key announced in "), "{text}");
    a.call(["provide", "now", &Sample::new(303, 1).address])
        .run()
        .exits(10)
        .says("is not here");
}

#[test]
fn without_a_daemon_the_schedule_is_read_and_provide_now_announces_by_itself() {
    let [a, b, c] = three();
    let home = Home::new();
    let sample = Sample::new(304, 3 * CHUNK);
    home.networked(["-q", "store"], &[])
        .arg(&sample.path)
        .run()
        .ok();
    let now = home
        .networked(["provide", "now", "--json"], &[&a.addr])
        .run()
        .ok()
        .says("nobody can fetch")
        .json();
    assert_eq!((&now["keys"], &now["waited"]), (&4.into(), &true.into()));
    b.call(["providers", &sample.address]).run().ok();
    let status = home.call(["provide", "status", "--json"]).run().ok();
    let status = status
        .says("warning: ")
        .says("why: ")
        .says("casnode daemon")
        .json();
    assert_eq!(status["daemon"], false);
    assert_eq!((&status["keys"], &status["done"]), (&4.into(), &4.into()));
    assert_eq!(status["behind"]["reason"], "no_daemon");
    let file = home
        .call(["provide", "status", "--json", &sample.address])
        .run()
        .ok()
        .json();
    assert_eq!(
        (&file["file"]["done"], &file["chunks"]["done"]),
        (&1.into(), &3.into())
    );
    // Peers from before are found again without being named.
    home.networked(["provide", "now"], &[]).run().ok();
    // Alone it says so, and does not wait for what cannot come.
    let _homes = [a, b, c].map(Node::leave);
    home.networked(["provide", "now", "--timeout", "2s"], &[])
        .run()
        .exits(10)
        .says("connected to no peers");
    // Nothing is known of a folder that holds nothing.
    let empty = Home::new().call(["provide", "status"]).run().ok();
    assert_eq!(empty.stderr, "");
}

#[test]
fn nobody_to_announce_to_is_a_warning_in_three_parts() {
    let alone = Node::start(&[]);
    let sample = Sample::new(305, 2 * CHUNK);
    alone.store(&sample.path);
    let mut status = Value::Null;
    wait_until("the announcer to see that nobody is there", || {
        status = provide_status(&alone);
        !status["behind"].is_null()
    });
    assert_eq!(status["behind"]["reason"], "no_peers", "{status}");
    assert_eq!((&status["due"], &status["done"]), (&3.into(), &0.into()));
    alone
        .call(["provide", "status"])
        .run()
        .ok()
        .says("warning: 3 keys are due")
        .says("why: ")
        .says("--bootstrap");
    alone
        .call(["provide", "now"])
        .run()
        .ok()
        .says("no peer is connected");
    alone
        .call(["provide", "now", "--wait", "--timeout", "1s"])
        .run()
        .exits(10)
        .says("connected to no peers");
}

#[test]
fn a_daemon_killed_while_it_announces_goes_on_where_it_was() {
    let b = Node::start(&[]);
    let mut a = Node::start(&[&b.addr]);
    wait_until("the two to meet", || a.status()["peers"] == 1);
    let (one, two) = (Sample::new(306, 20 * CHUNK), Sample::new(311, 60 * CHUNK));
    a.store(&one.path);
    wait_until_done(&a, 21);
    // The other no longer answers, so that of the second file nothing is acknowledged.
    signal(&b.child, Signal::STOP);
    let storing = a.call(["store"]).arg(&two.path).spawn();
    wait_until("some to be announced, and some not", || {
        let status = provide_status(&a);
        status["keys"] == 82 && status["done"] == 21
    });
    a.kill();
    drop(storing);
    signal(&b.child, Signal::CONT);
    let a = Node::start_on(a.into_home(), &[&b.addr]);
    wait_until_done(&a, 82);
    let chunk = blake3::hash(&two.bytes[59 * CHUNK..]).to_hex().to_string();
    for key in [&chunk, &two.address] {
        let found = b.call(["providers", key]).run().ok().text();
        assert!(found.contains(&a.peer_id), "{found}");
    }
    let announced = metric(&a, "casnode_dht_announced_keys_total").unwrap();
    assert!(
        (announced - 61.0).abs() < 0.5,
        "{announced} keys were announced, and 61 were left"
    );
}

#[test]
fn after_a_restart_nothing_is_announced_twice() {
    let [a, b, _c] = three();
    let (one, later) = (Sample::new(312, 12 * CHUNK), Sample::new(307, 10));
    a.store(&one.path);
    wait_until_done(&a, 13);
    let a = Node::start_on(a.leave(), &[&b.addr]);
    wait_until("the network to be joined", || a.status()["peers"] == 2);
    let status = wait_until_done(&a, 13);
    assert!(status["next_due_unix_ms"].is_u64(), "{status}");
    // A later key goes out, so the announcer has been at work; the others were none of it.
    a.store(&later.path);
    wait_until_done(&a, 14);
    let announced = metric(&a, "casnode_dht_announced_keys_total").unwrap();
    assert!(
        (announced - 1.0).abs() < 0.5,
        "{announced} keys were announced"
    );
}

//! `casnode doctor` names what is wrong, and ends with 1 when something does not work.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Call, Home, Node, Run, casnode};
use crate::output::Mounted;

/// The checks of one kind.
fn of<'a>(checks: &'a [Value], kind: &str) -> Vec<&'a Value> {
    checks
        .iter()
        .filter(|check| check["check"] == kind)
        .collect()
}

/// Fails the test unless some check of this kind has this outcome and says this, and what to do.
#[track_caller]
fn assert_has(run: &Run, kind: &str, outcome: &str, words: &str) {
    let checks = run.json_lines();
    let has = of(&checks, kind).into_iter().any(|check| {
        let has_advice = check["next"].as_str().is_some_and(|next| !next.is_empty());
        check["outcome"] == outcome
            && check["what"]
                .as_str()
                .is_some_and(|what| what.contains(words))
            && has_advice == (outcome != "ok")
    });
    assert!(has, "no {outcome} of {kind} with {words:?} in {checks:#?}");
}

/// A call on this data directory.
fn on(folder: impl AsRef<Path>) -> Call {
    casnode(QUIET).arg("--data-dir").arg(folder.as_ref())
}

/// The flags of a daemon that would bother nobody.
const QUIET: [&str; 7] = [
    "doctor",
    "--json",
    "--listen",
    "/ip4/127.0.0.1/tcp/0",
    "--http",
    "off",
    "--no-mdns",
];

#[test]
fn a_healthy_node() {
    let a = Node::start(&[]);
    let home = Home::new();
    fs::set_permissions(home.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let b = Node::start_on(home, &[&a.addr]);
    let run = b.call(["doctor", "--json"]).run().ok();
    let checks = run.json_lines();
    let mut kinds: Vec<_> = checks
        .iter()
        .map(|check| check["check"].as_str().unwrap())
        .collect();
    kinds.dedup();
    let all = [
        "config",
        "daemon",
        "data_dir",
        "disk",
        "clock",
        "limits",
        "ports",
        "addresses",
        "nat",
        "bootstrap",
        "dht",
        "announcing",
    ];
    assert_eq!(kinds, all);
    assert_has(&run, "daemon", "ok", &format!("process {}", b.child.id()));
    assert_has(&run, "data_dir", "ok", "a store of format");
    assert_has(&run, "bootstrap", "ok", &a.peer_id);
    assert_has(&run, "ports", "ok", "the daemon listens");
    assert_has(&run, "dht", "ok", "1 peer connected");
    assert_has(&run, "announcing", "ok", "");
    // Loopback is all that it has.
    assert_has(&run, "addresses", "warn", "loopback alone");
    let text = b.call(["doctor"]).run().ok().text();
    assert!(
        text.contains("what to do: start the daemon with --listen"),
        "{text}"
    );
}

#[test]
fn no_daemon_and_nothing_stored() {
    let home = Home::new();
    let folder = home.path().join("none");
    let run = on(&folder).run().ok();
    assert_has(&run, "daemon", "warn", "none runs");
    assert_has(&run, "data_dir", "ok", "not there yet");
    assert_has(&run, "bootstrap", "warn", "no peer to join by is named");
    assert_has(&run, "ports", "ok", "free");
    assert!(!folder.exists(), "a doctor makes nothing");
}

#[test]
fn a_peer_to_join_by_that_is_gone() {
    let gone = Node::start(&[]);
    let addr = gone.addr.clone();
    drop(gone);
    let home = Home::new();
    let run = home.call(QUIET).args(["--bootstrap", &addr]).run().exits(1);
    assert_has(&run, "bootstrap", "fail", "refused");
    let there = Node::start(&[]);
    let run = home
        .call(QUIET)
        .args(["--bootstrap", &there.addr])
        .run()
        .ok();
    assert_has(&run, "bootstrap", "ok", &there.peer_id);
    let both = ["--bootstrap", &there.addr, "--bootstrap", &addr];
    let run = home.call(QUIET).args(both).run().ok();
    assert_has(&run, "bootstrap", "warn", "refused");
    // A daemon knows it as well.
    let alone = Node::start(&[&addr]);
    let run = alone.call(["doctor", "--json"]).run().exits(1);
    assert_has(&run, "bootstrap", "fail", "refused");
    assert_has(&run, "dht", "fail", "connected to nobody");
}

#[test]
fn a_port_that_another_process_has() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = held.local_addr().unwrap();
    let home = Home::new();
    let listen = format!("/ip4/127.0.0.1/tcp/{}", at.port());
    let run = home
        .call(["doctor", "--json", "--http", "off", "--listen", &listen])
        .run();
    assert_has(&run.exits(1), "ports", "fail", "another process has it");
    let run = home.call([
        "doctor",
        "--json",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--http",
    ]);
    let run = run.arg(at.to_string()).run().exits(1);
    assert_has(&run, "ports", "fail", "another process has it");
}

#[test]
fn a_config_file_with_a_mistake() {
    let home = Home::new();
    let file = home.path().join("c.toml");
    fs::write(&file, "max-sotre = \"1GiB\"\n").unwrap();
    let run = home
        .call(QUIET)
        .args(["--config"])
        .arg(&file)
        .run()
        .exits(1);
    assert_has(&run, "config", "fail", "line 1");
    fs::write(&file, "max-store = \"900TiB\"\n").unwrap();
    let run = home.call(QUIET).args(["--config"]).arg(&file).run().ok();
    assert_has(&run, "config", "ok", "is right: 1 key");
    assert_has(&run, "disk", "warn", "by --max-store");
}

#[test]
fn a_data_directory_that_is_open_to_others_or_of_another_program() {
    let home = Home::new();
    let folder = home.path().join("d");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
    let run = on(&folder).run().ok();
    assert_has(&run, "data_dir", "warn", "mode 755");
    fs::write(folder.join("FORMAT"), "something else").unwrap();
    let run = on(&folder).run().exits(1);
    assert_has(&run, "data_dir", "fail", "cannot be opened");
    let run = on(folder.join("FORMAT")).run().exits(1);
    assert_has(&run, "data_dir", "fail", "not a folder");
}

#[test]
fn a_full_disk_and_one_that_cannot_be_written() {
    let Some(disk) = Mounted::with("size=16m") else {
        return;
    };
    fs::write(disk.path().join("filler"), vec![1; (31 << 20) / 2]).unwrap();
    let run = on(disk.path()).run().exits(1);
    assert_has(&run, "disk", "fail", "nothing can be stored");
    assert_has(&run, "disk", "warn", "in memory");
    drop(disk);
    let Some(disk) = Mounted::with("ro") else {
        return;
    };
    let run = on(disk.path()).run().exits(1);
    assert_has(&run, "data_dir", "fail", "nothing can be written");
}

#[test]
fn too_few_open_files() {
    let home = Home::new();
    let call = home
        .call(QUIET)
        .by("sh", &["-c", "ulimit -n 200 && exec \"$0\" \"$@\""]);
    assert_has(&call.run().exits(1), "limits", "fail", "200 files");
}

//! What people hand to `store` and type as addresses, and what they are told.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::content::{CHUNK, Sample, address};
use crate::harness::{Home, Node, folder};
use crate::privileges::give_away;

fn store_fails(home: &Home, path: &str, because: &str) {
    home.networked(["store", path], &[])
        .run()
        .exits(1)
        .says(path)
        .says(because);
    assert_eq!(
        home.call(["ls", "--json"]).run().ok().text(),
        "",
        "something was stored of {path}"
    );
}

#[test]
fn what_is_no_readable_file_is_refused_and_nothing_is_stored() {
    let home = Home::new();
    let dir = folder();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    store_fails(&home, &at("missing"), "no such file");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        at("fifo"),
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    store_fails(&home, &at("fifo"), "fifo");
    store_fails(&home, "/dev/zero", "device");
    let link = at("dangling");
    std::os::unix::fs::symlink(at("missing"), &link).unwrap();
    store_fails(&home, &link, "no such file");
}

#[test]
fn a_file_that_may_not_be_read_is_refused_and_nothing_is_stored() {
    let (home, dir) = (Home::new(), folder());
    give_away(home.path());
    let secret = dir.path().join("secret");
    fs::write(&secret, b"x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let store = || {
        let call = home.networked(["store"], &[]).arg(&secret);
        call.without_privileges(dir.path()).run()
    };
    store()
        .exits(1)
        .says(secret.to_str().unwrap())
        .says("ermission denied");
    let ls = || {
        let call = home.call(["ls", "--json"]);
        call.without_privileges(dir.path()).run().ok().text()
    };
    assert_eq!(ls(), "");
    // It was that alone: readable, it is stored.
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(store().ok().text().trim(), address(b"x"));
    assert_ne!(ls(), "");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_published() {
    let sample = Sample::new(70, 160 * CHUNK);
    let home = Home::new();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, path) = (stop.clone(), sample.path.clone());
        std::thread::spawn(move || {
            let mut round = 0u8;
            while !stop.load(Ordering::Relaxed) {
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                round = round.wrapping_add(1);
                std::os::unix::fs::FileExt::write_all_at(&file, &[round], 0).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        })
    };
    let run = home.networked(["store"], &[]).arg(&sample.path).run();
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    run.exits(1).says("chang");
    assert_eq!(home.call(["ls", "--json"]).run().ok().text(), "");
    // At rest it can be stored.
    let stored = home.networked(["store"], &[]).arg(&sample.path).run().ok();
    assert_eq!(
        stored.text().trim(),
        address(&fs::read(&sample.path).unwrap())
    );
}

#[test]
fn a_malformed_address_is_a_usage_error_before_anything_is_opened() {
    let home = folder();
    let data_dir = home.path().join("not made");
    let long = "a".repeat(65);
    let strange = format!("{}z{}", "0".repeat(20), "0".repeat(43));
    for (text, fault) in [
        ("abc", "3 characters"),
        (&*long, "65 characters"),
        (&*strange, "character 21 is 'z'"),
    ] {
        for command in ["get", "stat", "rm", "providers"] {
            crate::harness::casnode([command, text])
                .arg("--data-dir")
                .arg(&data_dir)
                .run()
                .exits(2)
                .says(fault);
        }
    }
    assert!(!data_dir.exists());
}

#[test]
fn other_wrong_usage_is_2_as_well() {
    let home = Home::new();
    let address = address(b"x");
    home.call(["get"]).run().exits(2);
    home.call(["fetch", &address]).run().exits(2);
    home.call(["get", &address, "--timeout", "soon"])
        .run()
        .exits(2);
    home.call(["store", "x", "--chunker", "rabin"])
        .run()
        .exits(2);
    home.networked(["get", &address], &["not a multiaddr"])
        .run()
        .exits(2)
        .says("not a multiaddr");
    home.networked(["get", &address, "--peer", "/ip4/1.2.3"], &[])
        .run()
        .exits(2)
        .says("/ip4/1.2.3");
    for listen in ["nowhere", "/ip4/127.0.0.1/udp/0", "/unix/tmp"] {
        home.call(["daemon", "--no-mdns", "--listen", listen])
            .run()
            .exits(2)
            .says(listen);
    }
    home.networked(["get", &address], &[])
        .env("CASNODE_BOOTSTRAP", "/ip4/1.2.3.4/tcp/4101,elsewhere")
        .run()
        .exits(2)
        .says("CASNODE_BOOTSTRAP")
        .says("elsewhere");
    for (variable, wrong, allowed) in [
        ("CASNODE_NETWORK", "No Net", "a-z, 0-9 and -"),
        ("CASNODE_PROFILE", "huge", "home, server or lab"),
        ("CASNODE_DHT_MODE", "off", "auto, server or client"),
        ("CASNODE_MAX_UP", "10", "10MiB/s or 10Mbit/s"),
        ("CASNODE_MAX_DOWN", "10MiB", "write 10MiB/s"),
    ] {
        home.call(["daemon", "--no-mdns"])
            .env(variable, wrong)
            .run()
            .exits(2)
            .says(allowed);
    }
    home.networked(["store", ""], &[])
        .run()
        .exits(2)
        .says("the path is empty");
    home.networked(["get", &address, "-o", ""], &[])
        .run()
        .exits(2)
        .says("the path is empty");
}

#[test]
fn each_of_several_paths_has_an_outcome_of_its_own() {
    let (home, dir) = (Home::new(), folder());
    for name in ["a", "b"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let run = home
        .networked(["store", "a", "", "b"], &[])
        .current_dir(dir.path())
        .run();
    let run = run.exits(2).says("the path is empty");
    let stored = format!("{}\n{}\n", address(b"a"), address(b"b"));
    assert_eq!(run.text(), stored);
    // Where the daemon goes away in the middle of a call for several files, each of them is named.
    let home = Home::new();
    let daemon = UnixListener::bind(home.path().join("api.sock")).unwrap();
    std::thread::spawn(move || daemon.incoming().for_each(drop));
    let run = home.call(["store", "a", "b"]).current_dir(dir.path()).run();
    run.exits(1)
        .says("/a was not stored")
        .says("/b was not stored")
        .says("the daemon went away");
}

#[test]
fn an_unknown_address_is_10_and_says_how_many_were_asked() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let unknown = address(b"nobody has this");
    let copy = folder();
    let run = b
        .call(["get", &unknown, "--timeout", "20s", "-o"])
        .arg(copy.path().join("x"))
        .run()
        .exits(10);
    // The one that there is.
    assert_eq!(run.asked_peers(), 1);
    assert!(run.seconds < 25.0, "{}", run.seconds);
    assert_eq!(fs::read_dir(copy.path()).unwrap().count(), 0);
    let run = b.call(["providers", &unknown]).run().exits(10);
    assert_eq!(run.asked_peers(), 1);
    b.call(["stat", &unknown]).run().exits(10);
    b.call(["rm", &unknown]).run().exits(10);
}

#[test]
fn without_any_peer_it_says_how_to_name_one() {
    let home = Home::new();
    let unknown = address(b"nobody is there");
    home.networked(["get", &unknown, "--timeout", "3s"], &[])
        .run()
        .exits(10)
        .says("--bootstrap");
    // A peer that does not answer is no peer.
    let silent = "/ip4/127.0.0.1/tcp/9";
    let run = home
        .networked(["get", &unknown, "--timeout", "3s"], &[silent])
        .run()
        .exits(10)
        .says(silent);
    assert_eq!(run.asked_peers(), 0);
}

#[test]
fn names_that_are_no_text_are_stored_without_one() {
    let node = Node::start(&[]);
    let dir = folder();
    let path = dir.path().join(OsStr::from_bytes(b"odd \xff\xfe name"));
    fs::write(&path, b"content").unwrap();
    let stored = node.call(["store", "--json"]).arg(&path).run().ok().json();
    assert_eq!(stored["address"], address(b"content"));
    assert_eq!(stored["name"], serde_json::Value::Null);
    let got = node
        .call(["get", &address(b"content")])
        .current_dir(dir.path())
        .run()
        .ok();
    assert!(
        got.text().trim().ends_with(&address(b"content")),
        "{}",
        got.text()
    );
    // And such a name can be written to.
    let to = dir.path().join(OsStr::from_bytes(b"out \xff"));
    node.call(["get", &address(b"content"), "-o"])
        .arg(&to)
        .run()
        .ok();
    assert_eq!(fs::read(&to).unwrap(), b"content");
}

//! One owner for a data directory, and SIGKILL at any moment.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::content::{CHUNK, Sample};
use crate::harness::{Home, Node, wait_until};

#[test]
fn a_second_daemon_is_16_and_names_the_first() {
    let node = Node::start(&[]);
    let pid = node.child.id().to_string();
    node.call(["daemon", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"])
        .run()
        .exits(16)
        .says(&pid);
    assert_eq!(node.status()["pid"].to_string(), pid);
}

#[test]
fn a_daemon_leaves_cleanly_and_comes_back_as_itself() {
    for which in [Signal::TERM, Signal::INT] {
        let node = Node::start(&[]);
        let sample = Sample::new(100, 3 * CHUNK);
        node.store(&sample.path);
        let peer_id = node.peer_id.clone();
        let home = node.leave_by(which);
        let node = Node::start_on(home, &[]);
        assert_eq!(node.peer_id, peer_id);
        assert_eq!(node.status()["files"], 1);
        node.leave();
    }
}

#[test]
fn a_call_in_the_same_moment_as_the_daemon_starts_sees_no_lock_error() {
    let home = Home::new();
    let sample = Sample::new(101, CHUNK);
    home.networked(["store"], &[]).arg(&sample.path).run().ok();
    let node = Node::start_on(home, &[]);
    let calls: Vec<_> = (0..4).map(|_| node.call(["ls"]).spawn()).collect();
    for call in calls {
        assert!(call.wait().ok().text().contains(&sample.address));
    }
}

/// A health check that runs `status` in the moment a daemon starts must not keep it from starting.
#[test]
fn a_daemon_waits_for_a_command_that_is_about_to_end() {
    let home = Home::new();
    let (storing, mut stdin) = home.networked(["store", "-"], &[]).spawn_open();
    stdin.write_all(b"some").unwrap();
    wait_until("the command to own the data directory", || {
        home.path().join("LOCK").exists()
    });
    let holder = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        drop(stdin);
        storing.wait().ok()
    });
    let node = Node::start_on(home, &[]);
    holder.join().unwrap();
    assert_eq!(node.status()["files"], 1);
}

/// Kills a daemon at many moments of a store. What was acknowledged before must be there, whole, each time.
#[test]
fn sigkill_while_storing_loses_nothing_that_was_acknowledged() {
    let mut home = Home::new();
    let mut acknowledged: Vec<Sample> = Vec::new();
    let big = Sample::new(110, 120 * CHUNK);
    for (round, delay_ms) in (0u64..).zip([0u64, 10, 25, 45, 70, 110, 170]) {
        let node = Node::start_on(home, &[]);
        let small = Sample::new(111 + round, 2 * CHUNK + 11);
        assert_eq!(node.store(&small.path), small.address);
        acknowledged.push(small);
        let mut storing = node.call(["store"]).arg(&big.path).spawn();
        std::thread::sleep(Duration::from_millis(delay_ms));
        home = node.into_home();
        wait_until("the caller to see that the daemon is gone", || {
            !storing.is_running()
        });
    }
    let node = Node::start_on(home, &[]);
    let listed = node.call(["ls"]).run().ok().text();
    for sample in &acknowledged {
        assert!(listed.contains(&sample.address), "{listed}");
        node.get(&sample.address, &sample.copy_path());
        sample.assert_at(&sample.copy_path());
    }
    // What was not acknowledged can be stored now.
    assert_eq!(node.store(&big.path), big.address);
    node.get(&big.address, &big.copy_path());
    big.assert_at(&big.copy_path());
}

#[test]
fn sigkill_of_a_store_without_a_daemon_leaves_a_store_that_opens() {
    let home = Home::new();
    let sample = Sample::new(120, 120 * CHUNK);
    for delay_ms in [30, 60, 100, 150] {
        let storing = home.networked(["store"], &[]).arg(&sample.path).spawn();
        std::thread::sleep(Duration::from_millis(delay_ms));
        storing.signal(Signal::KILL);
        storing.wait();
        home.call(["ls"]).run().ok();
    }
    let stored = home.networked(["store"], &[]).arg(&sample.path).run().ok();
    assert_eq!(stored.text().trim(), sample.address);
}

/// A pipe whose writer died looks like one that ended; a caller that died must not.
#[test]
fn input_that_breaks_off_is_not_stored() {
    let node = Node::start(&[]);
    let half = Sample::new(125, 20 * CHUNK);
    for which in [Signal::KILL, Signal::INT] {
        let (storing, mut stdin) = node.call(["store", "-"]).spawn_open();
        stdin.write_all(&half.bytes).unwrap();
        storing.signal(which);
        let ended = storing.wait();
        assert!(ended.text().is_empty(), "{ended:?}");
        drop(stdin);
        assert_eq!(node.call(["ls", "--json"]).run().ok().text(), "");
    }
    let home = node.leave();
    let (storing, mut stdin) = home.networked(["store", "-"], &[]).spawn_open();
    stdin.write_all(&half.bytes).unwrap();
    storing.signal(Signal::INT);
    storing.wait().exits(130);
    assert_eq!(home.call(["ls", "--json"]).run().ok().text(), "");
    // The chunks of it were nobody's, and nothing of them stands in the way.
    let stored = home.networked(["store"], &[]).arg(&half.path).run().ok();
    assert_eq!(stored.text().trim(), half.address);
}

#[test]
fn a_data_directory_with_a_long_path_works() {
    let home = Home::new();
    let deep = home.path().join("d".repeat(120));
    let node = {
        std::fs::create_dir(&deep).unwrap();
        let sample = Sample::new(130, CHUNK);
        // Longer than a socket's address may be.
        let run = crate::harness::casnode([
            "store",
            "--no-mdns",
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--data-dir",
        ])
        .arg(&deep)
        .arg(&sample.path)
        .run()
        .ok();
        assert_eq!(run.text().trim(), sample.address);
        let mut daemon = crate::harness::casnode([
            "daemon",
            "--no-mdns",
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--data-dir",
        ])
        .arg(&deep)
        .spawn();
        wait_until("the daemon to answer", || {
            assert!(daemon.is_running(), "the daemon ended");
            let run = crate::harness::casnode(["status", "--json", "--data-dir"])
                .arg(&deep)
                .run();
            run.status.success() && run.json()["daemon"] == true
        });
        daemon
    };
    node.signal(Signal::TERM);
    node.wait().ok();
}

/// Flips a byte in every pack file, each MiB.
fn damage(home: &Home) {
    let mut flipped = 0;
    for entry in std::fs::read_dir(home.path().join("packs")).unwrap() {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(entry.unwrap().path())
            .unwrap();
        let mut offset = (2 << 20) + 12_345;
        while offset < file.metadata().unwrap().len() {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            file.write_all_at(&[!byte[0]], offset).unwrap();
            offset += 1 << 20;
            flipped += 1;
        }
    }
    assert!(flipped > 0);
}

#[test]
fn damaged_chunks_are_never_given_out_and_are_fetched_anew() {
    let a = Node::start(&[]);
    let sample = Sample::new(131, 40 * CHUNK);
    a.store(&sample.path);
    let home = Home::new();
    home.networked(["store"], &[]).arg(&sample.path).run().ok();
    damage(&home);
    // Alone: no wrong byte leaves, and no file is made.
    home.networked(["get", &sample.address, "--timeout", "4s"], &[])
        .arg("-o")
        .arg(sample.copy_path())
        .run()
        .exits(15);
    assert!(!sample.copy_path().exists());
    // With a provider: only what is damaged is fetched.
    let report = home
        .networked(["get", "--json", &sample.address], &[&a.addr])
        .arg("-o")
        .arg(sample.copy_path())
        .run()
        .ok()
        .json();
    sample.assert_at(&sample.copy_path());
    let fetched = report["fetched_chunks"].as_u64().unwrap();
    assert!((1..20).contains(&fetched), "{report}");
    // And now it is whole again.
    let again = home
        .networked(["get", "--json", &sample.address, "--force"], &[])
        .arg("-o")
        .arg(sample.copy_path())
        .run()
        .ok()
        .json();
    assert_eq!(again["fetched_chunks"], 0, "{again}");
}

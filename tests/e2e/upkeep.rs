//! Looking after a store: pins, collection, usage, verification and repair, rebuilding.

use std::collections::HashSet;
use std::os::unix::fs::FileExt;

use crate::content::{CHUNK, Sample, random};
use crate::harness::{Home, Node, casnode, wait_until};

/// Flips a byte in the middle of each of these, wherever the packs of a store hold them. Nobody has it open.
#[track_caller]
pub(crate) fn flip<'a>(home: &Home, wanted: impl IntoIterator<Item = &'a [u8]>) {
    let packs = std::fs::read_dir(home.path().join("packs")).unwrap();
    let packs: Vec<_> = packs.map(|entry| entry.unwrap().path()).collect();
    let contents: Vec<Vec<u8>> = packs.iter().map(|p| std::fs::read(p).unwrap()).collect();
    for bytes in wanted {
        // What begins alike is alike: the content is random.
        let head = &bytes[..bytes.len().min(64)];
        let found = contents.iter().zip(&packs).find_map(|(content, path)| {
            let finder = content.windows(head.len()).position(|w| w == head);
            finder.map(|at| (path, at + bytes.len() / 2))
        });
        let (path, at) = found.expect("the bytes are in no pack");
        let pack = std::fs::File::options().write(true).open(path).unwrap();
        pack.write_all_at(&[!bytes[bytes.len() / 2]], at as u64)
            .unwrap();
    }
}

/// The chunks of a file, as byte slices.
fn chunks(sample: &Sample) -> Vec<&[u8]> {
    sample.bytes.chunks(CHUNK).collect()
}

/// A data directory with a file in it, stored without a daemon.
fn home_with(sample: &Sample) -> Home {
    let home = Home::new();
    home.networked(["store"], &[]).arg(&sample.path).run().ok();
    home
}

#[test]
fn several_files_are_stored_in_order_and_the_first_failure_is_the_exit_code() {
    let home = Home::new();
    let (one, two) = (Sample::new(300, 3 * CHUNK), Sample::new(301, 10));
    let run = home
        .networked(["store"], &[])
        .arg(&one.path)
        .arg(one.folder.path().join("absent"))
        .arg(&two.path)
        .arg("/dev/null")
        .run()
        .exits(1)
        .says("absent was not stored")
        .says("/dev/null was not stored")
        .says("768.00 KiB new");
    assert_eq!(run.text(), format!("{}\n{}\n", one.address, two.address));
    let warnings = run.stderr.matches("warning: no daemon runs").count();
    assert_eq!(warnings, 1, "once for all: {}", run.stderr);
    for words in [
        vec!["--name", "x", "a", "b"],
        vec!["-", "-"],
        vec!["--in-place", "-"],
    ] {
        home.networked(["store"], &[]).args(words).run().exits(2);
    }
    // The second time nothing is new.
    let again = home
        .networked(["store", "--json"], &[])
        .arg(&one.path)
        .arg(&two.path)
        .run()
        .ok()
        .says("were here already");
    for report in again.json_lines() {
        assert_eq!(report["new_bytes"], 0, "{report}");
        assert_eq!(report["saved_bytes"], report["bytes"], "{report}");
    }
}

#[test]
fn pins_are_listed_and_survive_a_collection() {
    let node = Node::start(&[]);
    let (one, two) = (Sample::new(302, 3 * CHUNK), Sample::new(303, 2 * CHUNK));
    node.store(&one.path);
    node.call(["store", "--no-pin"]).arg(&two.path).run().ok();
    let pinned = |node: &Node| -> Vec<String> {
        let listed = node.call(["pin", "ls", "--json"]).run().ok();
        let address = |file: &serde_json::Value| file["address"].as_str().unwrap().to_owned();
        listed.json_lines().iter().map(address).collect()
    };
    assert_eq!(pinned(&node), [one.address.as_str()]);
    node.call(["pin", "add", &two.address]).run().ok();
    let report = node.call(["pin", "rm", "--json", &one.address]).run().ok();
    assert_eq!(report.json()["pinned"], false);
    assert_eq!(pinned(&node), [two.address.as_str()]);
    node.call(["gc"]).run().ok();
    assert_eq!(pinned(&node), [two.address.as_str()]);
    // A collection without a limit takes nothing that a file needs, pinned or not.
    assert_eq!(node.status()["files"], 2);
    let home = node.leave();
    let absent = "0".repeat(64);
    home.call(["pin", "add", &absent]).run().exits(10);
    assert!(
        home.call(["pin", "ls"])
            .run()
            .ok()
            .text()
            .contains(&two.address)
    );
}

#[test]
fn a_collection_gives_back_what_a_removed_file_left() {
    let home = Home::new();
    let (one, two) = (Sample::new(304, 64 * CHUNK), Sample::new(305, 8 * CHUNK));
    home.networked(["store"], &[])
        .args([&one.path, &two.path])
        .run()
        .ok();
    home.call(["rm", &one.address]).run().ok();
    let plan = home.call(["gc", "--dry-run", "--json"]).run().ok().json();
    assert_eq!(plan["evict_files"], 0, "{plan}");
    let report = home.call(["gc", "--json"]).run().ok().json();
    let after = report["disk_bytes_after"].as_u64().unwrap();
    let reserve = 32 << 20;
    assert!(
        after < reserve + two.bytes.len() as u64 + (2 << 20),
        "{report}"
    );
    let verified = home.call(["verify", "--json"]).run().ok().json();
    assert_eq!(verified["chunks"], 8, "{verified}");
}

#[test]
fn usage_tells_stored_from_shared() {
    let node = Node::start(&[]);
    let one = Sample::new(306, 4 * CHUNK);
    let two_path = one.folder.path().join("two");
    let mut bytes = one.bytes[..2 * CHUNK].to_vec();
    bytes.extend(random(307, CHUNK));
    std::fs::write(&two_path, &bytes).unwrap();
    node.store(&one.path);
    let two = node.store(&two_path);
    let used = node.call(["du", "--json"]).run().ok().json_lines();
    assert_eq!(used.len(), 2);
    let chunk = CHUNK as u64;
    for (usage, logical) in used.iter().zip([4, 3]) {
        assert_eq!(usage["logical_bytes"], logical * chunk, "{usage}");
        assert_eq!(usage["stored_bytes"], logical * chunk, "{usage}");
        assert_eq!(usage["shared_bytes"], 2 * chunk, "{usage}");
        assert_eq!(usage["referenced_bytes"], 0, "{usage}");
    }
    let alone = node.call(["du", "--json", &two]).run().ok().json();
    assert_eq!(alone, used[1]);
    node.call(["du", &"0".repeat(64)]).run().exits(10);
    let text = node.call(["du"]).run().ok().text();
    assert!(text.starts_with("    LOGICAL"), "{text}");
}

#[test]
fn damage_is_found_counted_and_an_error_until_it_is_repaired() {
    let sample = Sample::new(308, 12 * CHUNK);
    let other = Sample::new(309, 3 * CHUNK);
    let home = home_with(&sample);
    home.networked(["store"], &[]).arg(&other.path).run().ok();
    home.call(["verify"]).run().ok();
    assert_eq!(home.call(["verify"]).unread(), Some(0));
    flip(&home, [chunks(&sample)[3], chunks(&sample)[7]]);
    let run = home.call(["verify", "--json"]).run().exits(12);
    let report = run.says("verify --repair").json();
    assert_eq!(report["chunks"], 15, "{report}");
    assert_eq!(report["bad_chunks"], 2, "{report}");
    assert_eq!(report["bad_bytes"], 2 * CHUNK, "{report}");
    assert_eq!(report["damaged_files"], 1, "{report}");
    assert_eq!(report["damaged"][0]["address"], sample.address);
    assert_eq!(report["damaged"][0]["name"], "sample.bin");
    assert_eq!(report["missing_chunks"], 2, "{report}");
    // It is remembered, and the other file is none the worse.
    let report = home.call(["verify", "--json"]).run().exits(12).json();
    assert_eq!(
        (&report["bad_chunks"], &report["missing_chunks"]),
        (&0.into(), &2.into())
    );
    home.call(["verify", &other.address]).run().ok();
    home.call(["verify", &sample.address]).run().exits(12);
    assert_eq!(home.call(["verify"]).unread(), Some(12));
    // Nobody is there to repair it from.
    let run = home.networked(["verify", "--repair"], &[]).run().exits(12);
    assert!(run.text().contains("not repaired"), "{}", run.text());
    // Storing the file again does.
    home.networked(["store"], &[]).arg(&sample.path).run().ok();
    home.call(["verify"]).run().ok();
}

#[test]
fn a_hundred_flipped_chunks_are_fetched_again_and_only_those() {
    let a = Node::start(&[]);
    let sample = Sample::new(310, 140 * CHUNK);
    a.store(&sample.path);
    let home = home_with(&sample);
    let hundred: Vec<&[u8]> = chunks(&sample).into_iter().skip(20).take(100).collect();
    flip(&home, hundred);
    let report = home
        .networked(["verify", "--repair", "--json"], &[&a.addr])
        .run()
        .ok()
        .json();
    assert_eq!(report["bad_chunks"], 100, "{report}");
    assert_eq!(report["repaired_chunks"], 100, "{report}");
    assert_eq!(report["missing_chunks"], 0, "{report}");
    assert_eq!(report["fetched_bytes"], 100 * CHUNK, "{report}");
    assert_eq!(report["unrepaired_files"], 0, "{report}");
    home.call(["verify"]).run().ok();
    home.networked(["get", &sample.address, "-o"], &[]);
    let listed = home.call(["pin", "ls"]).run().ok().text();
    assert!(
        listed.contains(&sample.address),
        "it stays pinned: {listed}"
    );
}

#[test]
fn a_damaged_list_of_chunks_is_fetched_again() {
    let a = Node::start(&[]);
    let sample = Sample::new(311, 80 * CHUNK);
    a.store(&sample.path);
    let home = home_with(&sample);
    let manifest =
        crate::content::manifest_over(&sample.bytes, &crate::content::chunks_of(&sample.bytes));
    flip(&home, [&manifest.encode()[..]]);
    let report = home.call(["verify", "--json"]).run().exits(12).json();
    assert_eq!(report["damaged"][0]["bad_manifest"], true, "{report}");
    let report = home
        .networked(["verify", "--repair", "--json"], &[&a.addr])
        .run()
        .ok()
        .json();
    assert_eq!(report["fetched_bytes"], 0, "no chunk is missing: {report}");
    home.call(["verify"]).run().ok();
}

#[test]
fn a_daemon_finds_damage_by_itself_and_repairs_it() {
    let a = Node::start(&[]);
    let sample = Sample::new(312, 24 * CHUNK);
    a.store(&sample.path);
    let home = home_with(&sample);
    let damaged = [chunks(&sample)[5], chunks(&sample)[20]];
    flip(&home, damaged);
    let b = Node::start_on(home, &[&a.addr]);
    wait_until("the damage to be found and repaired", || {
        b.status()["scrub"]["repaired_chunks"] == 2
    });
    wait_until("the repaired chunks to be announced again", || {
        let status = b.status();
        let keys = [&status["announced"], &status["to_announce"]];
        keys.map(|n| n.as_u64().unwrap()).iter().sum::<u64>() == 25
    });
    let said = b.said();
    for bytes in damaged {
        let hash = blake3::hash(bytes).to_hex().to_string();
        assert!(said.contains(&hash), "{hash} is not named:\n{said}");
    }
    let report = b.call(["verify", "--json"]).run().ok().json();
    assert_eq!(report["bad_chunks"], 0, "{report}");
}

#[test]
fn a_file_in_place_that_changed_is_named_and_can_be_had_again() {
    let a = Node::start(&[]);
    let sample = Sample::new(316, 8 * CHUNK);
    a.store(&sample.path);
    let home = Home::new();
    let kept = sample.folder.path().join("kept here.bin");
    std::fs::write(&kept, &sample.bytes).unwrap();
    let report = home
        .networked(["store", "--in-place", "--json"], &[])
        .arg(&kept)
        .run()
        .ok()
        .says("stay in the file itself")
        .json();
    assert_eq!(report["referenced_bytes"], sample.bytes.len(), "{report}");
    assert_eq!(report["new_bytes"], 0, "{report}");
    let used = home.call(["du", "--json"]).run().ok().json();
    assert_eq!(used["referenced_bytes"], sample.bytes.len(), "{used}");
    assert_eq!(used["stored_bytes"], 0, "{used}");
    home.call(["verify"]).run().ok();
    let node = Node::start_on(home, &[]);
    let scheduled = |node: &Node| {
        let status = node.status();
        status["announced"].as_u64().unwrap() + status["to_announce"].as_u64().unwrap()
    };
    wait_until("its keys to be scheduled", || scheduled(&node) == 9);
    let home = node.leave();

    // Whoever edits it is found out when the daemon starts.
    let mut edited = sample.bytes.clone();
    edited[3 * CHUNK] ^= 1;
    std::fs::write(&kept, &edited).unwrap();
    let copied = Home::new();
    let other = sample.folder.path().join("another.bin");
    std::fs::write(&other, b"bytes").unwrap();
    copied
        .networked(["store", "--in-place"], &[])
        .arg(&other)
        .run()
        .ok();
    std::fs::remove_file(&other).unwrap();
    let listed = copied.call(["ls"]).run().ok().says("another.bin");
    assert!(listed.text().contains("in place, missing"));
    let node = Node::start_on(home, &[&a.addr]);
    wait_until("the change to be noticed", || {
        node.said()
            .contains("kept here.bin, which is kept in place, is changed")
    });
    wait_until("its keys to be withdrawn", || scheduled(&node) == 0);
    let stat = node
        .call(["stat", "--json", &sample.address])
        .run()
        .ok()
        .json();
    assert_eq!(stat["source_state"], "changed", "{stat}");
    assert_eq!(stat["state"], "partial", "{stat}");
    assert!(
        node.call(["ls"])
            .run()
            .ok()
            .text()
            .contains("in place, changed")
    );
    let found = node.call(["verify", "--json"]).run().exits(12).json();
    assert_eq!(found["damaged"][0]["source_state"], "changed", "{found}");

    // Its old content is somewhere, and can stay in the store from now on.
    let repaired = node
        .call(["verify", "--repair", "--json"])
        .run()
        .ok()
        .json();
    assert_eq!(repaired["repaired_chunks"], 8, "{repaired}");
    node.call(["verify"]).run().ok();
    let again = node.get(&sample.address, &sample.copy_path());
    assert_eq!(again["fetched_bytes"], 0, "{again}");
    sample.assert_at(&sample.copy_path());
    assert!(
        std::fs::read(&kept).unwrap() == edited,
        "the user's file is his"
    );
}

#[test]
fn an_index_is_rebuilt_from_the_packs() {
    let sample = Sample::new(313, 6 * CHUNK);
    let node = Node::start(&[]);
    node.store(&sample.path);
    node.call(["store", "rebuild-index"])
        .run()
        .exits(16)
        .says(&node.child.id().to_string());
    let home = node.leave();
    home.call(["pin", "rm", &sample.address]).run().ok();
    let before = home.call(["ls", "--json"]).run().ok().json();
    let report = home
        .call(["store", "rebuild-index", "--json"])
        .run()
        .ok()
        .json();
    assert_eq!(
        (&report["files"], &report["chunks"]),
        (&1.into(), &6.into())
    );
    assert_eq!(report["bad_records"], 0, "{report}");
    let after = home.call(["ls", "--json"]).run().ok().json();
    assert_eq!(after["pinned"], false);
    assert_eq!(before["stored_unix_ms"], after["stored_unix_ms"]);
    home.call(["verify"]).run().ok();
    // A folder without a store gets none.
    let empty = Home::new();
    empty.call(["store", "rebuild-index"]).run().exits(10);
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
    let misplaced = crate::harness::casnode(["store", "--data-dir"]);
    let misplaced = misplaced.arg(empty.path()).arg("rebuild-index").run();
    misplaced.exits(2).says("write options before `store`");
    // A file of that name is a file.
    let folder = empty.path().join("files");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("rebuild-index"), b"bytes").unwrap();
    let stored = empty
        .networked(["store", "./rebuild-index"], &[])
        .current_dir(&folder)
        .run()
        .ok();
    assert_eq!(stored.text().trim(), crate::content::address(b"bytes"));
}

/// The words of a shell that sees the data directory on a medium that cannot be written.
fn on_read_only_medium(home: &Home, words: &str) -> (Option<i32>, String, String) {
    let script = format!(
        "mount --bind {0} {0} && mount -o remount,bind,ro {0} && exec {1} --data-dir {0} {words}",
        home.path().display(),
        crate::harness::CASNODE,
    );
    let mut command = std::process::Command::new("unshare");
    let output = command.args(["-rm", "sh", "-c", &script]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn on_a_read_only_medium_reading_works_and_writing_says_why() {
    let sample = Sample::new(314, 6 * CHUNK);
    let home = home_with(&sample);
    let probe = std::process::Command::new("unshare")
        .args(["-rm", "true"])
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("no mounts of one's own on this machine: not tested");
        return;
    }
    let address = &sample.address;
    let copy = sample.copy_path();
    for words in [
        "ls".to_owned(),
        format!("stat {address}"),
        "du".to_owned(),
        "verify".to_owned(),
        format!("get {address} -o {} --no-mdns", copy.display()),
    ] {
        let (code, out, err) = on_read_only_medium(&home, &words);
        assert_eq!(code, Some(0), "{words}: {out}\n{err}");
    }
    sample.assert_at(&copy);
    let (_, status, _) = on_read_only_medium(&home, "status");
    assert!(status.contains("read only"), "{status}");
    for words in [
        format!("rm {address}"),
        "gc".to_owned(),
        format!("store --no-mdns {}", copy.display()),
        "daemon --no-mdns --listen /ip4/127.0.0.1/tcp/0".to_owned(),
    ] {
        let (code, _, err) = on_read_only_medium(&home, &words);
        assert_eq!(code, Some(1), "{words}: {err}");
        assert!(err.contains("read-only"), "{words}: {err}");
    }
    // Nothing can be fetched or asked either, whoever is named to join by.
    let nobody = "--no-mdns --bootstrap /ip4/127.0.0.1/tcp/1";
    let elsewhere = crate::content::address(b"not here");
    for (words, exit) in [
        (format!("get {elsewhere} -o {}.new", copy.display()), 10),
        (format!("cat {elsewhere}"), 10),
        (format!("why {elsewhere}"), 10),
        (format!("providers {elsewhere}"), 1),
        (format!("dht lookup {elsewhere}"), 1),
        ("provide now".to_owned(), 1),
    ] {
        let (code, out, err) = on_read_only_medium(&home, &format!("{words} {nobody}"));
        assert_eq!(code, Some(exit), "{words}: {err}");
        let told = out + &err;
        assert!(told.contains("read-only medium"), "{words}: {told}");
        assert!(told.contains("mount it for writing"), "{words}: {told}");
    }
}

#[test]
fn flags_that_nothing_comes_of_are_told() {
    let home = Home::new();
    let network = ["--bootstrap", "/ip4/127.0.0.1/tcp/1", "--network", "x"];
    for words in ["ls", "verify"] {
        let run = home.call([words]).args(network).run().ok();
        run.says("joins no network: nothing comes of --bootstrap, --network");
        let run = home.call([words]).env("CASNODE_NETWORK", "x").run().ok();
        assert!(
            run.stderr.is_empty(),
            "a variable is for all: {}",
            run.stderr
        );
    }
    // What was given is not kept where nothing is made.
    let limited = |home: &Home| home.call(["--max-store", "64MiB", "status"]).run().ok();
    limited(&home).says("nothing comes of --max-store");
    let sample = Sample::new(316, 10);
    home.networked(["store"], &[]).arg(&sample.path).run().ok();
    assert!(limited(&home).stderr.is_empty());
    let status = home.call(["status", "--json"]).run().ok().json();
    assert_eq!(status["max_store_bytes"], 64 << 20);
}

#[test]
fn a_limit_needs_a_unit_and_is_the_daemons_to_keep() {
    let home = Home::new();
    for bad in ["100", "1MiB", "lots"] {
        casnode(["--max-store", bad, "status"]).run().exits(2);
    }
    let sample = Sample::new(315, 10);
    home.networked(["--max-store", "64MiB", "store"], &[])
        .arg(&sample.path)
        .run()
        .ok();
    let node = Node::start_on(home, &[]);
    assert_eq!(node.status()["max_store_bytes"], 64 << 20, "it is kept");
    node.call(["--max-store", "64MiB", "ls"]).run().ok();
    node.call(["ls"])
        .env("CASNODE_MAX_STORE", "1GiB")
        .run()
        .exits(2)
        .says("64.00 MiB")
        .says("restart the daemon");
    let home = node.leave();
    let status = home.call(["--max-store", "none", "status", "--json"]).run();
    assert_eq!(
        status.ok().json()["max_store_bytes"],
        serde_json::Value::Null
    );
    let distinct: HashSet<_> = home
        .call(["ls"])
        .run()
        .ok()
        .text()
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(distinct.len(), 1);
}

//! Directories: a folder goes in, and the same folder comes out elsewhere.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use casnode_cas::{Address, EntryKind, Listing};
use serde_json::Value;

use crate::content::{address, random};
use crate::harness::{Call, Home, Node, folder, wait_until};
use crate::privileges::give_away;

/// What is at a path: its bits that say who may run it and its bytes, or where it leads.
#[derive(Debug, PartialEq, Eq)]
enum There {
    File(bool, Vec<u8>),
    Link(String),
    Folder,
}

/// Everything in a folder, by its path.
fn contents(root: &Path) -> BTreeMap<String, There> {
    let mut all = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let there = if kind.is_dir() {
                open.push(path.clone());
                There::Folder
            } else if kind.is_symlink() {
                There::Link(fs::read_link(&path).unwrap().to_str().unwrap().to_owned())
            } else {
                let mode = entry.metadata().unwrap().permissions().mode();
                There::File(mode & 0o111 != 0, fs::read(&path).unwrap())
            };
            let path = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            all.insert(path, there);
        }
    }
    all
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let diff = Command::new("diff")
        .args(["-r", "--no-dereference"])
        .args([one, other])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&diff.stdout).into_owned();
    assert!(diff.status.success(), "{told}");
    let (one, other) = (contents(one), contents(other));
    let names = |all: &BTreeMap<String, There>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&one), names(&other));
    let differing = one.iter().find(|(path, there)| other[*path] != **there);
    assert!(differing.is_none(), "{:?}", differing.map(|d| d.0));
}

fn write(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A folder with everything that a directory can have.
fn tree(root: &Path) {
    for n in 0..40_u64 {
        write(
            root,
            &format!("many/{}/{n}", n % 3),
            random(n, 100 + 900 * n as usize),
        );
    }
    let long = "n".repeat(255);
    write(
        root,
        &format!("{}/{long}", "d".repeat(40)),
        "a path of 296 bytes",
    );
    for name in [
        "new\nline",
        "quo\"te",
        "back\\slash",
        " spaces ",
        "-dash",
        "e\u{301}",
        "\u{e9}",
        "*",
        "ünïcödé/日本",
    ] {
        write(root, &format!("odd/{name}"), name);
    }
    write(root, ".hidden/.file", "hidden");
    write(root, "empty file", "");
    write(root, "large", random(77, 700_000));
    write(root, "bin/run", "#!/bin/sh\n");
    write(root, "bin/large run", random(78, 300_000));
    for path in ["bin/run", "bin/large run"] {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::create_dir_all(root.join("empty/folder")).unwrap();
    symlink("many/0", root.join("to folder")).unwrap();
    symlink("../bin/run", root.join("odd/to file")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    // Two loops.
    symlink(".", root.join("itself")).unwrap();
    symlink("two", root.join("one")).unwrap();
    symlink("one", root.join("two")).unwrap();
}

fn store(node: &Node, path: &Path) -> Value {
    let call = node.call(["store", "--json"]).arg(path);
    call.run().ok().json()
}

fn address_of(report: &Value) -> String {
    report["address"].as_str().unwrap().to_owned()
}

/// A `get` of a fresh home, from this node.
fn get(home: &Home, from: &Node, address: &str, out: &Path) -> Call {
    home.networked(["get", "--json", "--peer", &from.addr], &[])
        .arg(address)
        .arg("-o")
        .arg(out)
}

#[test]
fn a_folder_comes_back_with_everything_in_it() {
    let (provider, dir) = (Node::start(&[]), folder());
    let source = dir.path().join("source");
    tree(&source);
    let stored = store(&provider, &source);
    let files = contents(&source)
        .values()
        .filter(|t| matches!(t, There::File(..)))
        .count();
    assert_eq!(stored["files"], files, "{stored}");
    assert_eq!(
        (&stored["symlinks"], &stored["empty_folders"]),
        (&6.into(), &1.into())
    );
    assert_eq!(
        (&stored["left_out"], &stored["name"]),
        (&0.into(), &"source".into())
    );
    let address = address_of(&stored);

    let (home, out) = (Home::new(), dir.path().join("out"));
    let made = get(&home, &provider, &address, &out).run().ok().json();
    assert_same(&source, &out);
    assert_eq!(made["fetched"], files, "{made}");
    assert_eq!(made["providers"][0]["peer"], provider.peer_id);

    // Whoever has it fetches nothing: neither where it is there, nor elsewhere. Without a name it is called as it was.
    let again = get(&home, &provider, &address, &out).run().ok().json();
    assert_eq!(
        (&again["fetched"], &again["here"]),
        (&0.into(), &files.into())
    );
    drop(provider);
    let elsewhere = folder();
    let call = home.networked(["get", &address], &[]);
    let call = call.current_dir(elsewhere.path());
    assert_eq!(
        call.run().ok().text().trim(),
        elsewhere.path().join("source").to_str().unwrap()
    );
    assert_same(&source, &elsewhere.path().join("source"));
}

#[test]
fn a_second_store_writes_nothing_and_a_new_version_costs_what_changed() {
    let (node, dir) = (Node::start(&[]), folder());
    let source = dir.path().join("source");
    tree(&source);
    let first = store(&node, &source);
    // What changed just now is read again, since a change within the clock's resolution would not show.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let second = store(&node, &source);
    assert_eq!(first["address"], second["address"]);
    assert_eq!(second["read_files"], second["files"]);
    let unread = store(&node, &source);
    assert_eq!(
        (&unread["read_files"], &unread["new_bytes"]),
        (&0.into(), &0.into())
    );
    assert_eq!(first["address"], unread["address"]);
    assert_eq!(
        (&second["new_files"], &second["new_bytes"]),
        (&0.into(), &0.into())
    );
    write(&source, "many/0/0", "another");
    fs::remove_file(source.join("large")).unwrap();
    let third = store(&node, &source);
    assert_ne!(first["address"], third["address"]);
    assert_eq!(
        (&third["new_files"], &third["read_files"]),
        (&1.into(), &1.into())
    );
    assert_eq!(
        third["files"].as_u64().unwrap() + 1,
        first["files"].as_u64().unwrap()
    );
    // Both versions are there.
    for (report, bytes) in [(&first, &random(0, 100)), (&third, &b"another".to_vec())] {
        let place = format!("{}/many/0/0", address_of(report));
        let run = node.call(["get", &place, "-o", "-"]).run().ok();
        assert_eq!(&run.stdout, bytes);
    }
}

#[test]
fn what_cannot_be_stored_is_left_out_with_a_line_each() {
    let (home, dir) = (Home::new(), folder());
    let source = dir.path().join("source");
    write(&source, "good", "1");
    write(&source, "secret", "2");
    write(&source, "closed/inside", "3");
    rustix::fs::mkfifoat(rustix::fs::CWD, source.join("pipe"), 0o600.into()).unwrap();
    fs::write(source.join(OsStr::from_bytes(b"odd\xff")), "4").unwrap();
    symlink("/etc/passwd", source.join("absolute")).unwrap();
    fs::set_permissions(source.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    for open in [dir.path(), &source] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o755)).unwrap();
    }
    give_away(home.path());
    let call = home.networked(["store", "--json"], &[]).arg(&source);
    let run = call.without_privileges(dir.path()).run().exits(15);
    let run = run
        .says("left out: secret: ")
        .says("left out: closed: ")
        .says("left out: pipe: it is a FIFO")
        .says("left out: odd\u{fffd}: its name is not UTF-8")
        .says("1 symbolic link leads out of the folder");
    let report = run.json();
    assert_eq!(
        (&report["left_out"], &report["files"]),
        (&4.into(), &1.into())
    );
    assert_eq!(report["faults"].as_array().unwrap().len(), 4);
    assert_eq!(
        report["empty_folders"], 0,
        "what cannot be read is not empty"
    );
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();

    // What is there comes out; the link is refused with a line, and is no reason for an error.
    let out = dir.path().join("out");
    let call = home.networked(["get", "--json", &address_of(&report), "-o"], &[]);
    let call = home_call_with(call, &out);
    let run = call
        .run()
        .ok()
        .says("not written: absolute: it is a link that leads out");
    assert_eq!(run.json()["refused_symlinks"], 1);
    assert_eq!(contents(&out).keys().collect::<Vec<_>>(), ["good"]);
    home.networked(["store"], &[])
        .arg(dir.path().join("no such"))
        .run()
        .exits(1);
}

/// The value of the last word, in front of the words that `networked` added.
fn home_call_with(call: Call, out: &Path) -> Call {
    let words: Vec<_> = call.command.get_args().map(OsStr::to_owned).collect();
    let at = words.iter().position(|word| word == "-o").unwrap();
    let (before, after) = words.split_at(at + 1);
    crate::harness::casnode(before).arg(out).args(after)
}

#[test]
fn a_part_is_stored_and_fetched_by_its_path_or_by_globs() {
    let (provider, dir) = (Node::start(&[]), folder());
    let source = dir.path().join("source");
    tree(&source);
    write(&source, "target/x.o", "object");
    let call = provider.call(["store", "--json", "--exclude", "target"]);
    let whole = call.arg(&source).run().ok().json();
    let address = address_of(&whole);
    let call = provider.call(["store", "--json", "--include", "many/1", "--exclude", "*7"]);
    let part = call.arg(&source).run().ok().json();
    assert_eq!(part["files"], 11, "{part}");

    let home = Home::new();
    let out = dir.path().join("many");
    let place = format!("{address}/many");
    get(&home, &provider, &place, &out).run().ok();
    assert_same(&source.join("many"), &out);
    let out = dir.path().join("odd");
    let run = get(&home, &provider, &format!("{address}/odd/"), &out)
        .run()
        .ok();
    // It leads out of what was asked for.
    assert_eq!(run.json()["refused_symlinks"], 1);
    let out = dir.path().join("globs");
    get(&home, &provider, &address, &out)
        .args([
            "--include",
            "many/[12]",
            "--include",
            ".*",
            "--exclude",
            "1?",
        ])
        .run()
        .ok();
    assert!(out.join(".hidden/.file").exists() && out.join("many/1/1").exists());
    assert!(!out.join("many/1/10").exists() && !out.join("many/0").exists());

    // A single file, with its bits; also to standard output and into a folder.
    let run = get(
        &home,
        &provider,
        &format!("{address}/bin/run"),
        &dir.path().join("one"),
    )
    .run();
    assert_eq!(run.ok().json()["bytes"], 10);
    let mode = fs::metadata(dir.path().join("one"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111);
    get(&home, &provider, &format!("{address}/bin/large run"), &out)
        .run()
        .ok();
    assert_eq!(
        fs::read(out.join("large run")).unwrap(),
        random(78, 300_000)
    );
    let run = get(
        &home,
        &provider,
        &format!("{address}/large"),
        Path::new("-"),
    )
    .run();
    assert!(run.ok().stdout == random(77, 700_000));

    for (place, code, says) in [
        (format!("{address}/no/such"), 10, "is not in the directory"),
        (
            format!("{address}/to folder"),
            2,
            "it is a symbolic link to",
        ),
        (
            format!("{}/x", crate::content::address(b"object")),
            2,
            "is no directory",
        ),
    ] {
        let file = dir.path().join("file");
        fs::write(&file, "object").unwrap();
        provider.store(&file);
        get(&home, &provider, &place, &dir.path().join("nothing"))
            .run()
            .exits(code)
            .says(says);
    }
    let run = get(&home, &provider, &address, Path::new("-")).run();
    assert!(run.exits(2).says("it is a directory").stdout.is_empty());
    let run = get(&Home::new(), &provider, &address, Path::new("-")).run();
    assert!(
        run.exits(2).says("it is a directory").stdout.is_empty(),
        "also where nothing is here"
    );
    get(&home, &provider, &address, &dir.path().join("nothing"))
        .args(["--include", "a["])
        .run()
        .exits(2)
        .says("is no glob");
}

#[test]
fn what_is_in_a_directory_is_listed_by_levels_or_all_of_it() {
    let (provider, dir) = (Node::start(&[]), folder());
    let source = dir.path().join("source");
    tree(&source);
    let address = address_of(&store(&provider, &source));
    let home = Home::new();
    let ls = |place: &str, more: &[&str]| {
        let call = home
            .networked(["ls", "--peer", &provider.addr], &[])
            .args(more);
        call.arg(place).run().ok()
    };
    let top = ls(&address, &["--json"]).json_lines();
    let many = top.iter().find(|entry| entry["path"] == "many").unwrap();
    assert_eq!(
        (&many["kind"], &many["files"]),
        (&"folder".into(), &40.into())
    );
    let text = ls(&format!("{address}/bin"), &[]).text();
    assert_eq!(
        text,
        "x   292.97 KiB  bin/large run\nx        10 B  bin/run\n".replace("x   292", "x  292")
    );
    let all = ls(&address, &["--recursive", "--json"]).json_lines();
    let listed = all.iter().map(|entry| entry["path"].as_str().unwrap());
    let there = contents(&source);
    let leaves = there
        .iter()
        .filter(|(path, there)| **there != There::Folder || path.as_str() == "empty/folder");
    let mut expected: Vec<&str> = leaves.map(|(path, _)| path.as_str()).collect();
    expected.sort_unstable();
    assert_eq!(listed.collect::<Vec<_>>(), expected);
    let run = all.iter().find(|entry| entry["path"] == "bin/run").unwrap();
    assert_eq!(
        run["address"],
        crate::content::address(b"#!/bin/sh\n").as_str()
    );
    assert_eq!(run["executable"], true);
    provider
        .call(["ls", &format!("{address}/nowhere")])
        .run()
        .exits(10);
}

#[test]
fn a_get_that_is_killed_goes_on() {
    let slow = [
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--max-up",
        "1MiB/s",
        "--limit-local",
        "on",
    ];
    let (provider, dir) = (Node::start_as(Home::new(), &[], &slow), folder());
    let source = dir.path().join("source");
    for n in 0..150_u64 {
        write(&source, &format!("{}/{n}", n % 10), random(n, 40_000));
    }
    let address = address_of(&store(&provider, &source));
    let (home, out) = (Home::new(), dir.path().join("out"));
    let running = get(&home, &provider, &address, &out).spawn();
    let whole = || {
        let there = contents_if_any(&out).into_iter();
        let files = there.filter(|(path, _)| !path.contains(".casnode-"));
        files
            .filter(|(_, there)| matches!(there, There::File(..)))
            .count()
    };
    wait_until("some files", || whole() >= 20);
    drop(running); // killed
    let before = whole();
    assert!(before < 150, "it was too fast to be killed in the middle");
    provider.call(["limits", "--up", "none"]).run().ok();
    let made = get(&home, &provider, &address, &out).run().ok().json();
    assert!(made["here"].as_u64().unwrap() >= before as u64, "{made}");
    assert_eq!(
        made["here"].as_u64().unwrap() + made["fetched"].as_u64().unwrap(),
        150
    );
    assert_same(&source, &out);
}

fn contents_if_any(root: &Path) -> BTreeMap<String, There> {
    match root.is_dir() {
        true => std::panic::catch_unwind(|| contents(root)).unwrap_or_default(),
        false => BTreeMap::new(),
    }
}

#[test]
fn what_a_provider_lacks_comes_from_others_or_is_named() {
    let (first, dir) = (Node::start(&[]), folder());
    let source = dir.path().join("source");
    for n in 0..20_u64 {
        write(&source, &format!("a/{n}"), random(n, 3_000));
        write(&source, &format!("b/{n}"), random(100 + n, 3_000));
    }
    write(&source, "b/large", random(9, 200_000));
    write(&source, "c", "nobody has it");
    let address = address_of(&store(&first, &source));
    let part = Node::start(&[&first.addr]);
    let out = dir.path().join("part");
    let call = part
        .call(["get", &address, "--include", "a", "-o"])
        .arg(&out);
    call.run().ok();
    // Another one has the rest by itself, and knows of no directory.
    let other = Node::start(&[&part.addr]);
    let rest = fs::read_dir(source.join("b")).unwrap();
    let call = other
        .call(["store"])
        .args(rest.map(|entry| entry.unwrap().path()));
    call.run().ok();
    drop(first);
    wait_until("the two to meet", || part.status()["peers"] == 1);

    let (home, out) = (Home::new(), dir.path().join("out"));
    let call = home.networked(["get", "--json", "--timeout", "30s"], &[&part.addr]);
    let run = call.arg(&address).arg("-o").arg(&out).run();
    let made = run.exits(15).says("not written: c: ").json();
    assert_eq!((&made["failed"], &made["missing"]), (&1.into(), &1.into()));
    assert_eq!(made["fetched"], 41, "{made}");
    fs::remove_file(source.join("c")).unwrap();
    assert_same(&source, &out);
}

#[test]
fn a_listing_of_paths_that_lead_out_is_no_directory() {
    let (provider, dir) = (Node::start(&[]), folder());
    let file = EntryKind::File {
        address: Address::of(b"evil"),
        bytes: 4,
        executable: false,
    };
    let mut builder = Listing::builder();
    builder.push("xx/evil", file).unwrap();
    let mut bytes = builder.finish().unwrap().encode();
    let at = bytes.windows(3).position(|part| part == b"xx/").unwrap();
    bytes[at..at + 3].copy_from_slice(b"../");
    let listing = dir.path().join("listing");
    fs::write(&listing, &bytes).unwrap();
    write(dir.path(), "evil file", "evil");
    provider.store(&dir.path().join("evil file"));
    let address = provider.store(&listing);

    let (home, within) = (Home::new(), dir.path().join("within"));
    fs::create_dir(&within).unwrap();
    let out = within.join("out");
    for place in [format!("{address}/.."), format!("{address}/../evil")] {
        get(&home, &provider, &place, &out)
            .run()
            .exits(2)
            .says("is no directory");
    }
    let call = get(&home, &provider, &address, &out).args(["--include", "*"]);
    call.run().exits(2).says("\"..\"");
    assert_eq!(fs::read_dir(&within).unwrap().count(), 0);
    // As a file it is what it is.
    get(&home, &provider, &address, &out).run().ok();
    assert_eq!(fs::read(&out).unwrap(), bytes);
    assert_eq!(fs::read_dir(&within).unwrap().count(), 1);
}

#[test]
fn links_in_the_target_lead_nowhere_and_what_is_there_stays() {
    let (provider, dir) = (Node::start(&[]), folder());
    let source = dir.path().join("source");
    write(&source, "a/f", "new");
    write(&source, "a/large", random(5, 300_000));
    write(&source, "b", "new");
    write(&source, "c", "new");
    let address = address_of(&store(&provider, &source));
    let (out, outside) = (dir.path().join("out"), dir.path().join("outside"));
    write(&out, "b", "precious");
    write(&outside, "f", "precious");
    symlink(&outside, out.join("a")).unwrap();
    let home = Home::new();
    for force in [false, true] {
        let call = get(&home, &provider, &address, &out);
        let call = if force { call.arg("--force") } else { call };
        let run = call.run().exits(15);
        let run = run
            .says("not written: a/f: ")
            .says("not written: a/large: ");
        assert_eq!(run.json()["missing"], if force { 2 } else { 3 });
        assert_eq!(fs::read(outside.join("f")).unwrap(), b"precious");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        let expected = if force { "new" } else { "precious" };
        assert_eq!(fs::read_to_string(out.join("b")).unwrap(), expected);
        assert_eq!(fs::read_to_string(out.join("c")).unwrap(), "new");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 3, "nothing is left");
    }
}

#[test]
fn what_does_not_go_with_directories_is_refused() {
    let (home, dir) = (Home::new(), folder());
    write(dir.path(), "d/f", "1");
    write(dir.path(), "f", "1");
    let at = |words: &[&str]| {
        let call = home.networked(words.iter().copied(), &[]);
        call.current_dir(dir.path()).run().exits(2)
    };
    at(&["store", "--in-place", "d"]).says("--in-place does not go with a folder");
    at(&["store", "--sums", "d"]).says("--sums does not go with a folder");
    at(&["store", "--include", "x", "f"]).says("no folder is named");
    at(&["store", "--exclude", "[", "d"]).says("is no glob");
    at(&["store", "--name", "a/b", "d"]).says("cannot be a file's name");
    let stored = home.networked(["store"], &[]).current_dir(dir.path());
    let stored = stored.args(["d", "f", "d"]).run().ok().text();
    let addresses: Vec<&str> = stored.lines().collect();
    assert_eq!(addresses.len(), 3);
    assert_eq!(
        (addresses[0], addresses[1]),
        (addresses[2], address(b"1").as_str())
    );
    at(&["get", addresses[0], "--in-place"]).says("--in-place");
    at(&["get", addresses[0], "--no-keep", "--pin"]);
    at(&["get", addresses[0], "--seed", "forever"]).says("no daemon runs");
}

#[test]
fn a_directory_and_its_files_are_one_thing_here() {
    let (home, dir) = (Home::new(), folder());
    write(dir.path(), "d/one", "one");
    write(dir.path(), "d/two", "two");
    write(dir.path(), "e/two", "two");
    write(dir.path(), "alone", "one");
    let store = |path: &str| {
        let call = home.networked(["store"], &[]).arg(dir.path().join(path));
        call.run().ok().text().trim().to_owned()
    };
    let (d, e) = (store("d"), store("e"));
    let listed = |words: &[&str]| -> Vec<String> {
        let all = home.call(words.iter().copied()).run().ok().json_lines();
        let addresses = all
            .iter()
            .map(|file| file["address"].as_str().unwrap().to_owned());
        addresses.collect()
    };
    assert_eq!(listed(&["ls", "--json"]), [d.as_str(), e.as_str()]);
    assert_eq!(listed(&["ls", "--json", "--all"]).len(), 4);
    let text = home.call(["ls"]).run().ok().text();
    assert!(text.contains("d/  (2 files)"), "{text}");
    let (one, two) = (address(b"one"), address(b"two"));
    home.call(["rm", &one]).run().exits(2).says(&d);
    assert_eq!(store("alone"), one);
    assert_eq!(listed(&["ls", "--json"]).len(), 3);
    home.call(["rm", &d]).run().ok();
    let mut left = listed(&["ls", "--json", "--all"]);
    let mut expected = vec![e.clone(), one, two];
    left.sort();
    expected.sort();
    assert_eq!(
        left, expected,
        "what is its own, or of another directory, stays"
    );
    home.call(["rm", &e]).run().ok();
    assert_eq!(listed(&["ls", "--json", "--all"]).len(), 1);
}

//! Directories: a folder goes in, and the same folder comes out elsewhere.

mod bad_input;
mod fetching;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::content::{address, random};
use crate::harness::{Call, Home, Node, folder};

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

    // Folders on the way to it are made.
    let (home, out) = (Home::new(), dir.path().join("new/out"));
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
    let called_as_it_was = |bootstrap: &[&str]| {
        let elsewhere = folder();
        let call = home.networked(["get", &address], bootstrap);
        let call = call.current_dir(elsewhere.path());
        let place = elsewhere.path().join("source");
        assert_eq!(call.run().ok().text().trim(), place.to_str().unwrap());
        assert_same(&source, &place);
    };
    called_as_it_was(&[&provider.addr]);
    drop(provider);
    called_as_it_was(&[]);
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
    // What is gone from here is read and written again, however well it is remembered.
    for report in [&first, &third] {
        node.call(["rm", &address_of(report)]).run().ok();
    }
    let back = store(&node, &source);
    assert_eq!(back["address"], third["address"]);
    assert_eq!(back["read_files"], back["files"]);
    assert!(back["new_files"].as_u64().unwrap() > 50, "{back}");
    let place = format!("{}/many/0/3", address_of(&back));
    let run = node.call(["cat", &place]).run().ok();
    assert_eq!(run.stdout, random(3, 2_800));
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

    let cat = |place: &str, more: &[&str]| {
        let words = ["cat", "--peer", &provider.addr, place];
        Home::new().networked(words, &[]).args(more).run()
    };
    let part = ["--offset", "100", "--length", "50"];
    let run = cat(&format!("{address}/large"), &part).ok();
    assert_eq!(run.stdout, random(77, 700_000)[100..150]);
    let run = cat(&format!("{address}/empty file"), &[]).ok();
    assert!(run.stdout.is_empty());
    for (inside, code, says) in [
        ("many", 2, "it is a folder"),
        ("to folder", 2, "it is a symbolic link"),
        ("no/such", 10, "is not in the directory"),
    ] {
        let run = cat(&format!("{address}/{inside}"), &[]).exits(code);
        assert!(run.says(says).stdout.is_empty());
    }
    // Its listing is nothing for people; whoever names bytes of it means them.
    let by_daemon = provider.call(["cat", &address]).run();
    for run in [cat(&address, &[]), by_daemon] {
        let run = run.exits(2).says("many files do not go to one stream");
        assert!(run.stdout.is_empty());
    }
    assert_eq!(cat(&address, &["--length", "9"]).ok().stdout.len(), 9);

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

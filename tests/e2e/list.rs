//! Many files of a list.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use serde_json::Value;

use crate::content::{Sample, address};
use crate::harness::{Home, Node, folder, wait_until};

/// Stores files of these contents; their names and addresses.
fn store_all(node: &Node, dir: &Path, files: &BTreeMap<String, Vec<u8>>) -> Vec<(String, String)> {
    let mut listed = Vec::new();
    for part in files.iter().collect::<Vec<_>>().chunks(100) {
        let mut paths = Vec::new();
        for (number, (name, bytes)) in part.iter().enumerate() {
            let path = dir.join(format!("{}-{number}", listed.len()));
            fs::write(&path, bytes).unwrap();
            paths.push((path, (*name).clone()));
        }
        let store = node
            .call(["store"])
            .args(paths.iter().map(|(path, _)| path));
        let text = store.run().ok().text();
        let addresses = text.lines().map(str::to_owned);
        let names = paths.into_iter().map(|(_, name)| name);
        listed.extend(names.zip(addresses));
    }
    assert_eq!(listed.len(), files.len());
    listed
}

/// A line as `b3sum` prints it.
fn line(name: &str, address: &str) -> String {
    let escaped = name.replace('\\', "\\\\").replace('\n', "\\n");
    let mark = if escaped == name { "" } else { "\\" };
    format!("{mark}{address}  {escaped}")
}

fn get_list(getter: &Home, from: &Node, list: &Path, out: &Path) -> crate::harness::Call {
    getter
        .networked(["get", "--json", "--peer", &from.addr], &[])
        .arg("--list")
        .arg(list)
        .arg("-o")
        .arg(out)
}

/// The objects of the files by their paths, and the summary.
fn told(mut lines: Vec<Value>) -> (BTreeMap<String, Value>, Value) {
    let summary = lines.pop().unwrap();
    let path = |file: &Value| file["path"].as_str().unwrap().to_owned();
    let files = lines.into_iter().map(|file| (path(&file), file));
    (files.collect(), summary)
}

#[test]
fn hundreds_of_files_arrive_with_a_large_one_and_one_that_nobody_has_is_named() {
    let provider = Node::start(&[]);
    let dir = folder();
    let mut files = BTreeMap::new();
    for n in 0..496_usize {
        // Every tenth has the same bytes as the one before.
        let seed = if n % 10 == 9 { n - 1 } else { n };
        let bytes = format!("{seed} ").repeat(100 + 10 * (seed % 100));
        files.insert(format!("d{}/f{n}", n % 7), bytes.into_bytes());
    }
    let large = Sample::new(9, 300 << 10);
    files.insert("empty".to_owned(), Vec::new());
    files.insert("large one".to_owned(), large.bytes.clone());
    files.insert("d0/a b  c".to_owned(), b"spaces".to_vec());
    files.insert("new\nline \\ n".to_owned(), b"escaped".to_vec());
    let listed = store_all(&provider, dir.path(), &files);
    let mut text: String = listed
        .iter()
        .map(|(name, address)| line(name, address) + "\r\n")
        .collect();
    let missing = "ab".repeat(32);
    text.push_str(&line("nobody has it", &missing));
    let list = dir.path().join("list");
    fs::write(&list, &text).unwrap();

    let (getter, out) = (Home::new(), dir.path().join("out/in"));
    let run = get_list(&getter, &provider, &list, &out)
        .args(["--timeout", "40s"])
        .run();
    let run = run.exits_one_of(&[10, 11]).says("nobody has it");
    for (name, bytes) in &files {
        let there = fs::read(out.join(name)).unwrap();
        assert!(there == *bytes, "{name:?}");
    }
    assert!(!out.join("nobody has it").exists());
    let (told, summary) = told(run.json_lines());
    assert_eq!(told.len(), 501);
    assert_eq!(summary["fetched"], 500, "{summary}");
    assert_eq!(summary["failed"], 1);
    assert_eq!(told["nobody has it"]["state"], "failed");
    assert!(told["nobody has it"]["error"]["why"].is_string());
    assert_eq!(told["large one"]["bytes"], 300 << 10);
    assert_eq!(summary["providers"][0]["peer"], provider.peer_id);

    // They are kept: without anybody to ask they are written once more, and what is there is left as it is.
    drop(provider);
    let known: String = text
        .lines()
        .take(500)
        .map(|l| l.to_owned() + "\n")
        .collect();
    let again = getter
        .call(["get", "--json", "--list", "-", "-o"])
        .arg(dir.path().join("again"))
        .args(["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"])
        .input(known.clone().into_bytes());
    let (_, summary) = self::told(again.run().ok().json_lines());
    assert_eq!(
        (&summary["here"], &summary["failed"]),
        (&500.into(), &0.into())
    );
    fs::write(out.join("empty"), "changed").unwrap();
    let third = getter
        .call(["get", "--json", "--list", "-", "-o"])
        .arg(&out)
        .args(["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"])
        .input(known.into_bytes());
    let run = third.run().exits(1).says("it exists and is another file");
    let (told, summary) = self::told(run.json_lines());
    assert_eq!(summary["here"], 499);
    assert_eq!(told["empty"]["state"], "failed");
}

#[test]
fn what_a_store_says_of_its_files_is_a_list_of_them() {
    let (provider, dir) = (Node::start(&[]), folder());
    let names = ["a", "b\\ \nc", "d/e"];
    fs::create_dir(dir.path().join("d")).unwrap();
    for name in names {
        fs::write(dir.path().join(name), name).unwrap();
    }
    // One that cannot be stored takes nothing from the others.
    let store = ["store", "--sums", names[0], "missing", names[1], names[2]];
    let run = provider.call(store).current_dir(dir.path()).run();
    let sums = run.exits(1).says("missing").text();
    let lines = names.map(|name| line(name, &address(name.as_bytes())));
    assert_eq!(sums.lines().collect::<Vec<_>>(), lines);
    provider
        .call(["store", "--sums", "--json", "a", "d/e"])
        .current_dir(dir.path())
        .run()
        .exits(2);

    let (list, out) = (dir.path().join("sums"), dir.path().join("out"));
    fs::write(&list, sums).unwrap();
    get_list(&Home::new(), &provider, &list, &out).run().ok();
    for name in names {
        assert_eq!(fs::read_to_string(out.join(name)).unwrap(), name);
    }
}

#[test]
fn a_daemon_fetches_a_list_and_serves_what_it_fetched() {
    let provider = Node::start(&[]);
    let second = Node::start(&[&provider.addr]);
    let dir = folder();
    let files = (0..50_u32)
        .map(|n| (format!("f{n}"), n.to_le_bytes().repeat(500)))
        .collect();
    let listed = store_all(&provider, dir.path(), &files);
    let text: String = listed.iter().map(|(n, a)| line(n, a) + "\n").collect();
    let list = dir.path().join("list");
    fs::write(&list, text).unwrap();
    let out = dir.path().join("out");
    let get = second
        .call(["get", "--list"])
        .arg(&list)
        .arg("-o")
        .arg(&out);
    let run = get.run().ok().says("50 files fetched");
    assert_eq!(run.text().lines().count(), 50);
    let third = Home::new();
    drop(provider);
    let run = get_list(&third, &second, &list, &dir.path().join("third")).run();
    let (_, summary) = told(run.ok().json_lines());
    assert_eq!(summary["fetched"], 50, "{summary}");
    assert_eq!(summary["providers"][0]["peer"], second.peer_id);
    for (name, bytes) in &files {
        assert_eq!(&fs::read(out.join(name)).unwrap(), bytes);
    }
}

#[test]
fn what_leaves_the_folder_is_refused_before_anything_is_asked() {
    let (home, dir) = (Home::new(), folder());
    let address = "ab".repeat(32);
    for path in ["../up", "/etc/x", "a//b"] {
        let call = home.networked(["get", "--list", "-"], &[]);
        let call = call
            .arg("-o")
            .arg(dir.path())
            .input(line(path, &address).into_bytes());
        call.run().exits(2).says(path);
    }
    let call = home.networked(["get", "--list", "-"], &[]);
    call.args(["-o", "-"]).run().exits(2).says("name a folder");
    let twice = format!("{address}  a\n{address}  ./a\n");
    let call = home.networked(["get", "--list", "-"], &[]);
    let call = call.arg("-o").arg(dir.path()).input(twice.into_bytes());
    call.run().exits(2).says("twice");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Lines for so many files with the same bytes, more than go into one request.
fn many_lines(address: &str, count: u32) -> String {
    (0..count)
        .map(|n| line(&format!("f{n}"), address) + "\n")
        .collect()
}

/// Files of one request.
const PART: u32 = 16_384;

#[test]
fn of_a_long_list_each_line_is_looked_at_before_a_file_is_written() {
    let (home, dir) = (Home::new(), folder());
    let store = home.networked(["store", "-"], &[]).input(b"x".to_vec());
    let address = store.run().ok().text().trim().to_owned();
    for (wrong, why) in [("../up", "../up"), ("./f0", "twice")] {
        let list = many_lines(&address, PART) + &line(wrong, &address);
        let get = home
            .networked(["get", "--list", "-"], &[])
            .arg("-o")
            .arg(dir.path().join("out"))
            .input(list.into_bytes());
        get.run().exits(2).says(why);
        assert!(!dir.path().join("out").exists());
    }
}

#[test]
fn what_came_of_a_long_list_before_an_interruption_is_told() {
    let (home, dir) = (Home::new(), folder());
    let store = home.networked(["store", "-"], &[]).input(b"x".to_vec());
    let address = store.run().ok().text().trim().to_owned();
    // The last one is looked for for a while.
    let list = many_lines(&address, PART + 1) + &line("missing", &"ab".repeat(32));
    let get = home
        .networked(["get", "--json", "--list", "-"], &[])
        .arg("-o")
        .arg(dir.path())
        .input(list.into_bytes());
    let running = get.spawn();
    let last = dir.path().join(format!("f{PART}"));
    wait_until("the second part", || last.exists());
    running.signal(Signal::INT);
    let run = running.wait().exits(130).says("goes on from there");
    let (told, summary) = told(run.json_lines());
    assert_eq!(told.len(), 16_384);
    assert_eq!(summary["here"], 16_384);
}

#[test]
fn a_signal_ends_the_reading_of_a_list() {
    let (home, dir) = (Home::new(), folder());
    let list = dir.path().join("list");
    rustix::fs::mkfifoat(rustix::fs::CWD, &list, 0o600.into()).unwrap();
    let get = home.networked(["get"], &[]).arg("--list").arg(&list);
    let running = get.spawn();
    let mut writer = None;
    wait_until("the command to read the list", || {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        writer = rustix::fs::open(&list, flags, Mode::empty()).ok();
        writer.is_some()
    });
    running.signal(Signal::TERM);
    running.wait().exits(130).says("interrupted");
}

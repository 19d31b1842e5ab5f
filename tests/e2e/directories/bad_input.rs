//! What directories are refused, in part or altogether, and what is never written.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use casnode_cas::{Address, EntryKind, Listing};

use super::*;
use crate::privileges::give_away;

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

    let call = home.networked(["store"], &[]).arg(&source);
    assert_eq!(call.unread(), Some(15), "nobody hears the address");

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
    for place in [addresses[0], &format!("{}/f", addresses[0])] {
        at(&["get", place, "--swarm", "trusted"]).says("--swarm does not go with a directory");
    }
}

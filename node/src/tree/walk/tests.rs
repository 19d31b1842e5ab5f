use std::{fs, os::unix::fs::PermissionsExt, os::unix::fs::symlink, os::unix::net::UnixListener};

use super::*;

fn walk_with(root: &Path, include: &[&str], exclude: &[&str]) -> Walk {
    let own = |globs: &[&str]| globs.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>();
    let globs = Globs::new(&own(include), &own(exclude)).unwrap();
    Walker {
        root,
        globs: &globs,
        data_dir: &root.join("data"),
        max_entries: 100,
        cancel: &CancellationToken::new(),
    }
    .walk(&mut |_| {})
    .unwrap()
}

/// Each path with a mark for what it is.
fn shown(walk: &Walk) -> Vec<String> {
    let show = |found: &Found| match &found.what {
        What::File {
            stamp,
            executable: false,
        } => format!("{} {}", found.path, stamp.identity().size_bytes),
        What::File { .. } => format!("{} x", found.path),
        What::Symlink { target } => format!("{} -> {target}", found.path),
        What::EmptyFolder => format!("{}/", found.path),
    };
    walk.entries.iter().map(show).collect()
}

fn told(walk: Walk) -> Vec<(String, String)> {
    let faults = walk.faults.told().into_iter();
    faults.map(|fault| (fault.path, fault.why)).collect()
}

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for folder in ["empty", "obj", "src/deep", ".hidden"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (path, bytes) in [
        (".hidden/f", "1"),
        ("obj/a.o", "22"),
        ("run", "#!"),
        ("src/deep/b.rs", "333"),
        ("src/lib.rs", ""),
    ] {
        fs::write(root.join(path), bytes).unwrap();
    }
    fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("..", root.join("src/loop")).unwrap();
    symlink("/nowhere", root.join("src/out")).unwrap();
    dir
}

#[test]
fn everything_is_found_and_links_are_not_followed() {
    let dir = tree();
    let walk = walk_with(dir.path(), &[], &[]);
    assert_eq!(
        shown(&walk),
        [
            ".hidden/f 1",
            "empty/",
            "obj/a.o 2",
            "run x",
            "src/deep/b.rs 3",
            "src/lib.rs 0",
            "src/loop -> ..",
            "src/out -> /nowhere",
        ]
    );
    assert_eq!(walk.faults.count(), 0);
}

#[test]
fn a_folder_of_which_nothing_is_taken_is_empty_unless_only_some_is_wanted() {
    let dir = tree();
    let walk = walk_with(dir.path(), &[], &["*.o", "src", ".*"]);
    assert_eq!(shown(&walk), ["empty/", "obj/", "run x"]);
    let walk = walk_with(dir.path(), &["*.rs"], &[]);
    assert_eq!(shown(&walk), ["src/deep/b.rs 3", "src/lib.rs 0"]);
    let walk = walk_with(dir.path(), &["src", "empty"], &["deep"]);
    assert_eq!(
        shown(&walk),
        [
            "empty/",
            "src/lib.rs 0",
            "src/loop -> ..",
            "src/out -> /nowhere"
        ]
    );
}

#[test]
fn what_cannot_be_stored_is_named_and_the_rest_is_found() {
    use std::os::unix::ffi::OsStrExt;

    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::write(root.join("good"), "1").unwrap();
    fs::create_dir(root.join("data")).unwrap();
    fs::write(root.join("data/pack"), "1").unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"odd\xff");
    fs::create_dir(root.join(odd)).unwrap();
    fs::write(root.join(odd).join("in it"), "1").unwrap();
    symlink(odd, root.join("to odd")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), 0o600.into()).unwrap();
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    let walk = walk_with(root, &[], &[]);
    assert_eq!(shown(&walk), ["good 1"]);
    let told = told(walk);
    let whys: Vec<_> = told.iter().map(|(p, w)| (p.as_str(), w.as_str())).collect();
    assert_eq!(
        whys,
        [
            ("data", "it is this node's own data directory"),
            ("odd\u{fffd}", "its name is not UTF-8"),
            ("pipe", "it is a FIFO, and no file"),
            ("socket", "it is a socket, and no file"),
            ("to odd", "it leads to a path that is not UTF-8"),
        ]
    );
    let device = fs::metadata("/dev/null").unwrap();
    assert_eq!(super::kind_of(&device), "a device");
    // What is excluded is not told of.
    let walk = walk_with(root, &["good"], &[]);
    assert_eq!((shown(&walk).len(), walk.faults.count()), (1, 2));
}

#[test]
fn each_entry_is_counted_while_it_is_looked_at() {
    let dir = tree();
    let mut counts = Vec::new();
    let walker = Walker {
        root: dir.path(),
        globs: &Globs::new(&[], &[]).unwrap(),
        data_dir: &dir.path().join("data"),
        max_entries: 100,
        cancel: &CancellationToken::new(),
    };
    walker.walk(&mut |seen| counts.push(seen)).unwrap();
    // Folders, too.
    assert_eq!(counts, (1..=12).collect::<Vec<_>>());
}

#[test]
fn a_folder_that_cannot_be_looked_at_or_has_too_much_is_refused() {
    let dir = tree();
    let globs = Globs::new(&[], &[]).unwrap();
    let cancel = CancellationToken::new();
    let missing = dir.path().join("no such");
    let mut walker = Walker {
        root: &missing,
        globs: &globs,
        data_dir: dir.path(),
        max_entries: 3,
        cancel: &cancel,
    };
    assert_eq!(
        walker.walk(&mut |_| {}).unwrap_err().kind,
        ErrorKind::Failure
    );
    let file = dir.path().join("run");
    walker.root = &file;
    assert_eq!(walker.walk(&mut |_| {}).unwrap_err().why, "it is no folder");
    walker.root = dir.path();
    let error = walker.walk(&mut |_| {}).unwrap_err();
    assert!(error.why.contains("more than 3"), "{error:?}");
    walker.max_entries = 100;
    cancel.cancel();
    let error = walker.walk(&mut |_| {}).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Interrupted);
}

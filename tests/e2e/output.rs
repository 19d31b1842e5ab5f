//! Where fetched bytes may go, and what happens when they cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::content::{CHUNK, Sample};
use crate::harness::{Call, Home, Node, casnode, folder};
use crate::privileges::give_away;

#[test]
fn an_existing_output_is_left_alone_unless_forced() {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(80, 3 * CHUNK + 9);
    a.store(&sample.path);
    let to = sample.copy_path();
    fs::write(&to, b"something dear").unwrap();
    b.call(["get", &sample.address, "-o"])
        .arg(&to)
        .run()
        .exits(1)
        .says("--force");
    assert_eq!(fs::read(&to).unwrap(), b"something dear");
    b.call(["get", &sample.address, "--force", "-o"])
        .arg(&to)
        .run()
        .ok();
    sample.assert_at(&to);
    // It already is that file: nothing to refuse, nothing to write.
    let before = fs::metadata(&to).unwrap().modified().unwrap();
    let report = b.get(&sample.address, &to);
    assert_eq!(report["unchanged"], true, "{report}");
    assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), before);
    assert_eq!(fs::read_dir(sample.folder.path()).unwrap().count(), 2);
}

/// What cannot be written keeps what was fetched: the next `get` fetches nothing again.
fn fails_then_goes_on(seed: u64, to: &Path, code: i32) {
    let a = Node::start(&[]);
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(seed, 12 * CHUNK);
    a.store(&sample.path);
    b.call(["get", &sample.address, "-o"])
        .arg(to)
        .run()
        .exits(code)
        .says("error:");
    assert!(!to.exists());
    b.get(&sample.address, &sample.copy_path());
    sample.assert_at(&sample.copy_path());
    assert_eq!(fs::read_dir(sample.folder.path()).unwrap().count(), 2);
}

#[test]
fn missing_folders_are_made_and_a_file_in_their_way_is_1() {
    let (a, dir) = (Node::start(&[]), folder());
    let b = Node::start(&[&a.addr]);
    let sample = Sample::new(83, CHUNK + 1);
    a.store(&sample.path);
    let to = dir.path().join("new/sub/x");
    b.get(&sample.address, &to);
    sample.assert_at(&to);
    let unknown = crate::content::address(b"nobody has this");
    b.call(["get", &unknown, "--timeout", "1s", "-o"])
        .arg(dir.path().join("other/x"))
        .run()
        .exits(10);
    assert!(
        !dir.path().join("other").exists(),
        "made before it is needed"
    );
    fails_then_goes_on(81, &to.join("below a file"), 1);
}

/// A file system in memory, where this machine lets us make one.
pub(crate) struct Mounted(tempfile::TempDir);

impl Mounted {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn with(options: &str) -> Option<Self> {
        let dir = folder();
        let tmpfs = ["mount", "-t", "tmpfs", "-o", options, "casnode-test"];
        let mounted = as_root(&tmpfs, dir.path());
        assert!(
            mounted || !on_ci(),
            "CI has to be able to mount a small file system"
        );
        if !mounted {
            eprintln!("skipped: this user cannot mount a small file system");
        }
        mounted.then_some(Self(dir))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        as_root(&["umount", "-l"], self.0.path());
    }
}

/// Whether this is a machine where nothing may be skipped.
fn on_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Runs a command on a folder; on CI, where people expect it, by sudo if need be.
fn as_root(words: &[&str], folder: &Path) -> bool {
    let run = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        let output = command.args(&words[1..]).arg(folder).output();
        output.is_ok_and(|output| output.status.success())
    };
    run(words) || on_ci() && run(&[&["sudo", "-n"], words].concat())
}

#[test]
fn a_folder_that_cannot_be_written_is_1() {
    let a = Node::start(&[]);
    let sample = Sample::new(82, 12 * CHUNK);
    a.store(&sample.path);
    let (home, dir) = (Home::new(), folder());
    give_away(home.path());
    let get = |to: &Path| {
        home.networked(["get", "--json", &sample.address], &[&a.addr])
            .arg("-o")
            .arg(to)
            .without_privileges(dir.path())
            .run()
    };
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    get(&closed.join("x")).exits(1).says("ermission denied");
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 0);
    // What was fetched is kept, and nothing of it is fetched again.
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    give_away(&open);
    let report = get(&open.join("x")).ok().json();
    sample.assert_at(&open.join("x"));
    assert_eq!(fs::read_dir(&open).unwrap().count(), 1);
    assert_eq!(report["bytes"], sample.bytes.len(), "{report}");
}

#[test]
fn a_full_disk_is_13() {
    let Some(disk) = Mounted::with("size=1m") else {
        return;
    };
    fails_then_goes_on(83, &disk.0.path().join("x"), 13);
    assert_eq!(
        fs::read_dir(disk.0.path()).unwrap().count(),
        0,
        "a part was left on the full disk"
    );
}

#[test]
fn a_slow_reader_of_standard_output_is_waited_for_without_a_daemon() {
    // More than a pipe holds, and written at once.
    let (home, sample) = (Home::new(), Sample::new(88, CHUNK));
    home.networked(["store"], &[]).arg(&sample.path).run().ok();
    for words in [
        &["cat", &sample.address][..],
        &["get", &sample.address, "-o", "-"],
    ] {
        let slowly = ["-c", "\"$@\" | (sleep 3; wc -c)", "sh"];
        let run = home.networked(words, &[]).by("sh", &slowly).run().ok();
        assert_eq!(run.text().trim(), sample.bytes.len().to_string());
    }
}

#[test]
fn a_full_disk_behind_standard_output_is_13_with_a_daemon_and_without() {
    // One is written at once, and of the other the stream has taken all before any of it is on the disk.
    let samples = [Sample::new(86, 20 * CHUNK), Sample::new(87, 1000)];
    let a = Node::start(&[]);
    for sample in &samples {
        a.store(&sample.path);
    }
    let full = |mut call: Call| {
        let disk = fs::File::options().write(true).open("/dev/full").unwrap();
        let run = call.command.stdout(disk).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(13), "{said}");
        assert!(said.contains("free some space"), "{said}");
    };
    for sample in &samples {
        full(a.call(["cat", &sample.address]));
        full(a.call(["get", &sample.address, "-o", "-"]));
    }
    let home = a.leave();
    for sample in &samples {
        full(home.networked(["cat", &sample.address], &[]));
        full(home.networked(["get", &sample.address, "-o", "-"], &[]));
    }
}

#[test]
fn a_full_disk_under_the_store_is_13_and_the_store_lives() {
    let Some(disk) = Mounted::with("size=64m") else {
        return;
    };
    let on_disk =
        |words: &[&str]| casnode(["--data-dir".as_ref(), disk.0.path().as_os_str()]).args(words);
    let alone = ["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let small = Sample::new(84, 3 * CHUNK);
    on_disk(&["store"]).args(alone).arg(&small.path).run().ok();
    let big = Sample::new(85, 400 * CHUNK);
    on_disk(&["store"])
        .args(alone)
        .arg(&big.path)
        .run()
        .exits(13);
    // Into a full store, too.
    let a = Node::start(&[]);
    a.store(&big.path);
    on_disk(&["get", &big.address, "--bootstrap", &a.addr])
        .args(alone)
        .arg("-o")
        .arg(big.copy_path())
        .run()
        .exits(13);
    assert!(!big.copy_path().exists());
    // What was there is there, and room can be made.
    on_disk(&["get", &small.address])
        .args(alone)
        .arg("-o")
        .arg(small.copy_path())
        .run()
        .ok();
    small.assert_at(&small.copy_path());
    on_disk(&["rm", &small.address]).run().ok();
}

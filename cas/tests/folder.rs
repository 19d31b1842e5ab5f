//! The folder of a store: whose it is, and what is said when it cannot be written.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use casnode_cas::{Store, StoreConfig, StoreError};

fn open(dir: &Path) -> Result<Store, StoreError> {
    Store::open(dir, StoreConfig::default())
}

fn mode(dir: &Path) -> u32 {
    fs::metadata(dir).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_created_folder_belongs_to_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let parent = dir.path().join("new");
    let store = parent.join("store");
    open(&store).unwrap();
    assert_eq!((mode(&parent), mode(&store)), (0o700, 0o700));
}

#[test]
fn an_existing_folder_keeps_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    for wanted in [0o755, 0o770] {
        fs::set_permissions(dir.path(), Permissions::from_mode(wanted)).unwrap();
        open(dir.path()).unwrap();
        assert_eq!(mode(dir.path()), wanted);
    }
}

/// What is said must name the action, the file, and the reason.
fn assert_refused(dir: &Path, reason: &str) {
    let error = open(dir).unwrap_err();
    assert!(!error.is_corruption() && !error.is_no_space() && !error.is_locked());
    let path = dir.join("LOCK");
    let expected = format!("store: cannot write to {}: {reason}", path.display());
    assert!(error.to_string().starts_with(&expected), "{error}");
}

/// Needs not to be root, whom modes do not stop; the next test needs to be.
#[test]
fn a_folder_of_someone_else_is_refused_with_path_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let lock = dir.path().join("LOCK");
    fs::set_permissions(&lock, Permissions::from_mode(0o400)).unwrap();
    if fs::OpenOptions::new().write(true).open(&lock).is_err() {
        assert_refused(dir.path(), "Permission denied");
    }
}

#[test]
fn a_read_only_medium_is_refused_with_path_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]);
        let done = command.arg(dir.path()).output();
        done.is_ok_and(|output| output.status.success())
    };
    if !mount("size=96m") {
        return;
    }
    drop(open(dir.path()).unwrap());
    let read_only = mount("remount,ro,size=96m");
    let before = fs::read_dir(dir.path()).unwrap().count();
    let checked = std::panic::catch_unwind(|| {
        if read_only {
            assert_refused(dir.path(), "Read-only file system");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before);
            let new = dir.path().join("new");
            let error = open(&new).unwrap_err().to_string();
            let expected = format!("store: cannot create {}: Read-only", new.display());
            assert!(error.starts_with(&expected), "{error}");
        }
    });
    let _ = Command::new("umount").arg(dir.path()).status();
    checked.unwrap();
}

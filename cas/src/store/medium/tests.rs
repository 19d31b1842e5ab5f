use std::process::Command;

use super::*;
use crate::error::io_is_no_space;

/// A file system of one page; unmounted when dropped.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=4k", "tmpfs"]);
        let done = command.arg(dir.path()).output().ok()?.status.success();
        done.then_some(Self(dir))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_pack_that_cannot_be_begun_leaves_nothing() {
    let Some(tiny) = Tiny::mount() else {
        println!("skipped: no right to mount");
        return;
    };
    let medium = DirMedium::new(tiny.0.path().to_owned()).unwrap();
    let others = tiny.0.path().join("others");
    fs::write(&others, [1; 4096]).unwrap();
    for _ in 0..3 {
        let error = medium.create(0, &[2; 4096]).err().unwrap();
        assert!(io_is_no_space(&error), "{error}");
        assert!(medium.ids().unwrap().is_empty());
    }
    fs::remove_file(&others).unwrap();
    medium.create(0, &[2; 4096]).unwrap();
    let taken = medium.create(0, &[2; 4096]).err().unwrap();
    assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(medium.ids().unwrap(), [0], "and it is left alone");
}

#[test]
fn what_cannot_be_written_directly_goes_through_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, b"").unwrap();
    let file = DiskFile {
        cached: OpenOptions::new().write(true).open(&path).unwrap(),
        // Every write to it fails.
        direct: Direct::open(File::open(&path).unwrap()),
    };
    assert!(!file.write_direct(&[1; 4096], 0).unwrap());
    assert!(!file.direct.is_on(), "and is not tried again");
    file.write_at(&[1; 4096], 0).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [1; 4096]);
}

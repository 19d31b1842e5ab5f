//! A file system that shares blocks. Needs root, a loop device and `mkfs.xfs`; says so where they are
//! missing.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A mounted file system of 400 MiB; unmounted when dropped.
pub(crate) struct Xfs {
    dir: tempfile::TempDir,
}

fn done(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

impl Xfs {
    /// `None` where it cannot be.
    pub(crate) fn mount() -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("xfs").tempdir().unwrap();
        let (image, at) = (dir.path().join("image"), dir.path().join("fs"));
        fs::create_dir(&at).unwrap();
        fs::File::create(&image)
            .unwrap()
            .set_len(400 << 20)
            .unwrap();
        let made = done(
            Command::new("mkfs.xfs")
                .args(["-q", "-m", "reflink=1"])
                .arg(&image),
        );
        let mounted = made
            && done(
                Command::new("mount")
                    .args(["-o", "loop"])
                    .arg(&image)
                    .arg(&at),
            );
        if !mounted {
            println!("skipped: no mkfs.xfs, or no right to mount");
        }
        mounted.then_some(Self { dir })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("fs")
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        let _ = Command::new("sync").arg("-f").arg(self.path()).status();
        let stat = rustix::fs::statvfs(self.path()).unwrap();
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
    }
}

//! What a folder can do, found out by trying. For people who ask what is wrong; the store itself tries as it works.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::direct;
use crate::store::clone_blocks;

/// Written to see whether it can be.
const PROBE_BYTES: usize = 4096;

/// What a folder can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderProbe {
    /// Whether files around the page cache can be written there.
    pub direct_io: bool,
    /// Whether files can share blocks there.
    pub shares_blocks: bool,
    /// The time of day of whoever keeps its files, in seconds since 1970: another machine's, on a network.
    pub written_unix_s: i64,
}

/// What kind of file system a folder is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// A disk of this machine, as far as is known.
    Local(&'static str),
    /// Another machine's disk.
    Network(&'static str),
    /// Gone with the next start of the machine.
    Memory(&'static str),
    /// A program keeps it, and nobody knows where.
    Program(&'static str),
}

/// Tries what a folder can do, with two small files that are gone when this returns.
///
/// # Errors
/// When nothing can be written there.
pub fn probe_folder(dir: &Path) -> io::Result<FolderProbe> {
    let pid = std::process::id();
    let paths = ["a", "b"].map(|part| dir.join(format!(".doctor-{pid}-{part}")));
    let make = |path: &Path| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).open(path)
    };
    let [first, second] = &paths;
    let tried = make(first).and_then(|file| {
        let direct_io = direct::can_write(&file, first);
        Ok((file, direct_io, make(second)?))
    });
    // Before anything is written: who is killed now leaves nothing.
    for path in &paths {
        let _ = fs::remove_file(path);
    }
    let (mut file, direct_io, other) = tried?;
    file.write_all(&[0x5a; PROBE_BYTES])?;
    file.sync_data()?;
    Ok(FolderProbe {
        direct_io,
        shares_blocks: clone_blocks(&other, &file),
        written_unix_s: file.metadata()?.mtime(),
    })
}

/// What kind of file system a folder is on.
///
/// # Errors
/// When the folder cannot be looked at.
#[cfg(target_os = "linux")]
pub fn file_system(dir: &Path) -> io::Result<FileSystem> {
    let found = rustix::fs::statfs(dir)?;
    // The field has another type on each processor, and no kind has more bits.
    let kind = u32::try_from(i128::from(found.f_type) & 0xffff_ffff).unwrap_or_default();
    Ok(kind_of(kind))
}

/// What kind of file system a folder is on.
///
/// # Errors
/// Never, here.
#[cfg(not(target_os = "linux"))]
pub fn file_system(_dir: &Path) -> io::Result<FileSystem> {
    Ok(FileSystem::Local("a file system of unknown kind"))
}

/// By the numbers of `linux/magic.h`, and of those file systems that are not in it.
#[cfg(any(target_os = "linux", test))]
fn kind_of(kind: u32) -> FileSystem {
    use FileSystem::{Local, Memory, Network, Program};
    match kind {
        0x0000_ef53 => Local("ext4"),
        0x5846_5342 => Local("XFS"),
        0x9123_683e => Local("btrfs"),
        0x2fc1_2fc1 => Local("ZFS"),
        0xf2f5_2010 => Local("F2FS"),
        0xca45_1a4e => Local("bcachefs"),
        0x794c_7630 => Local("overlayfs"),
        0x0000_4d44 | 0x2011_bab0 => Local("FAT"),
        0x7366_746e | 0x5346_544e => Local("NTFS"),
        0x0102_1994 => Memory("tmpfs"),
        0x8584_58f6 => Memory("ramfs"),
        0x0000_6969 => Network("NFS"),
        0xff53_4d42 | 0xfe53_4d42 | 0x0000_517b => Network("SMB"),
        0x0102_1997 => Network("9p"),
        0x00c3_6400 => Network("Ceph"),
        0x0bd0_0bd0 => Network("Lustre"),
        0x5346_414f | 0x6b41_4653 => Network("AFS"),
        0x6573_5546 => Program("FUSE"),
        _ => Local("a file system of unknown kind"),
    }
}

/// Bytes an unprivileged process may still write below a folder, and all of its file system.
///
/// # Errors
/// When the folder cannot be looked at.
pub fn disk_bytes(dir: &Path) -> io::Result<(u64, u64)> {
    crate::store::available_bytes(dir)
}

/// The latest change among a folder's own files and those one level beneath, in seconds since 1970.
///
/// # Errors
/// When the folder cannot be looked at.
pub fn latest_change_unix_s(dir: &Path) -> io::Result<Option<i64>> {
    /// Files that are looked at; a store has fewer, but for clones.
    const MAX_FILES: usize = 10_000;
    let inner = fs::read_dir(dir)?
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| fs::read_dir(entry.path()).ok())
        .flatten();
    let all = fs::read_dir(dir)?.chain(inner).flatten().take(MAX_FILES);
    let times = all.filter_map(|entry| Some(entry.metadata().ok()?.mtime()));
    Ok(times.max())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_folder_is_tried_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let probe = probe_folder(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        let off = probe.written_unix_s - i64::try_from(now.as_secs()).unwrap();
        assert!(off.abs() < 3600, "{off}");
        assert!(probe_folder(&dir.path().join("none")).is_err());
        let (free, all) = disk_bytes(dir.path()).unwrap();
        assert!(free <= all && all > 0);
        file_system(dir.path()).unwrap();
    }

    #[test]
    fn the_latest_change_is_found_one_level_down_too() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(latest_change_unix_s(dir.path()).unwrap(), None);
        fs::create_dir(dir.path().join("packs")).unwrap();
        let file = File::create(dir.path().join("packs/1")).unwrap();
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(5_000_000_000);
        file.set_modified(then).unwrap();
        let latest = latest_change_unix_s(dir.path()).unwrap();
        assert_eq!(latest, Some(5_000_000_000));
    }

    #[test]
    fn other_machines_disks_are_told_apart() {
        assert_eq!(kind_of(0x6969), FileSystem::Network("NFS"));
        assert_eq!(kind_of(0x0102_1994), FileSystem::Memory("tmpfs"));
        assert_eq!(kind_of(0xef53), FileSystem::Local("ext4"));
        assert!(matches!(kind_of(7), FileSystem::Local(_)));
    }
}

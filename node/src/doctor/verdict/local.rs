//! Verdicts on the local machine.

use casnode_cas::{FileSystem, FolderProbe, StoreConfig};

use super::{Found, size};
use crate::{
    api::{DoctorCheck, DoctorKind},
    errors,
};

/// What was seen of a data directory.
#[derive(Debug, Clone)]
pub(in crate::doctor) struct DataDir {
    pub(in crate::doctor) path: String,
    pub(in crate::doctor) folder: Folder,
}

/// What is in its place.
#[derive(Debug, Clone)]
pub(in crate::doctor) enum Folder {
    /// Nothing.
    Absent,
    /// No folder.
    Other,
    /// It cannot be looked at.
    Closed(String),
    /// A folder.
    There {
        owner: u32,
        me: u32,
        /// The bits of its permissions.
        mode: u32,
        /// Why nothing can be written in it.
        unwritable: Option<String>,
        /// The store in it can only be read.
        is_read_only: bool,
        /// The version of its store, if it has one; or why it has none that can be opened.
        store: Result<Option<u16>, String>,
    },
}

/// The data directory: whose it is, who may look in, whether it can be written, and what store it has.
pub(in crate::doctor) fn data_dir(seen: &DataDir) -> Vec<DoctorCheck> {
    let (mut found, path) = (Found::new(DoctorKind::DataDir), &seen.path);
    let Folder::There {
        owner,
        me,
        mode,
        unwritable,
        is_read_only,
        store,
    } = &seen.folder
    else {
        match &seen.folder {
            Folder::Other => found.fail(
                format!("{path} is not a folder"),
                "name a folder with --data-dir",
            ),
            Folder::Closed(why) => found.fail(
                format!("{path} cannot be looked at: {why}"),
                "run this as the user that the node runs as, or name another folder with --data-dir",
            ),
            _ => {}
        }
        return found.or_ok(|| {
            format!(
                "{path} is not there yet; it is made when something is stored or a daemon starts"
            )
        });
    };
    if owner != me && *me != 0 {
        found.fail(
            format!("{path} is user {owner}'s, and this is user {me}"),
            "run this as its owner, or name another folder with --data-dir",
        );
    }
    if mode & 0o077 != 0 {
        found.warn(
            format!("others may look into {path} (mode {:03o})", mode & 0o777),
            format!("chmod 700 '{path}'"),
        );
    }
    match unwritable {
        Some(why) => found.fail(
            format!("nothing can be written in {path}: {why}"),
            "make room, mount it for writing, or give it to this user",
        ),
        None if *is_read_only => found.fail(
            format!("the store in {path} can only be read"),
            "mount it for writing, and start the daemon again",
        ),
        None => {}
    }
    if let Err(why) = store {
        found.fail(
            format!("the store in {path} cannot be opened: {why}"),
            "use the version of casnode that wrote it, put its FORMAT file back, or name another folder with --data-dir",
        );
    }
    found.or_ok(|| match store {
        Ok(Some(version)) => {
            format!("{path}: its owner's alone, writable, a store of format {version}")
        }
        _ => format!("{path}: its owner's alone, writable, no store in it yet"),
    })
}

/// What was seen of the disk.
#[derive(Debug, Clone)]
pub(in crate::doctor) struct Disk {
    pub(in crate::doctor) file_system: FileSystem,
    pub(in crate::doctor) free_bytes: u64,
    pub(in crate::doctor) total_bytes: u64,
    /// `None`: nothing could be tried.
    pub(in crate::doctor) probe: Option<FolderProbe>,
    pub(in crate::doctor) max_store_bytes: Option<u64>,
    /// What the store takes by now; without a node it is not known.
    pub(in crate::doctor) used_bytes: Option<u64>,
}

/// Less than this is soon used up.
const LITTLE_BYTES: u64 = 1 << 30;

/// Whether there is room, and whether the file system is one for a store.
pub(in crate::doctor) fn disk(seen: &Disk) -> Vec<DoctorCheck> {
    let mut found = Found::new(DoctorKind::Disk);
    let free = size(seen.free_bytes);
    let config = StoreConfig::default();
    // Small file systems have small limits, as in the store.
    let small_bytes = seen.total_bytes / 16;
    let floor_bytes = config.min_free_bytes.min(small_bytes);
    let left_bytes = seen
        .max_store_bytes
        .map(|max_bytes| max_bytes.saturating_sub(seen.used_bytes.unwrap_or_default()));
    if seen.free_bytes < floor_bytes {
        found.fail(
            format!(
                "{free} are free on the disk, and the store leaves {} alone: nothing can be stored",
                size(floor_bytes)
            ),
            "free some space; casnode gc gives back what nothing needs",
        );
    } else if let Some(left_bytes) = left_bytes.filter(|left_bytes| *left_bytes > seen.free_bytes) {
        found.warn(
            format!(
                "{free} are free, and by --max-store the store may take {} more",
                size(left_bytes)
            ),
            "lower --max-store, or free some space",
        );
    } else if seen.free_bytes < LITTLE_BYTES.min(small_bytes) {
        found.warn(
            format!("{free} are free on the disk"),
            "free some space, or limit the store with --max-store",
        );
    }
    let name = match &seen.file_system {
        FileSystem::Network(name) => {
            found.warn(
                format!("the data directory is on another machine's disk ({name})"),
                "a local disk is faster, and its locks and its syncs are sure",
            );
            name
        }
        FileSystem::Program(name) => {
            found.warn(
                format!("a program keeps the data directory ({name}); its locks and its syncs may not hold"),
                "take a local disk",
            );
            name
        }
        FileSystem::Memory(name) => {
            found.warn(
                format!("the data directory is in memory ({name}): it is gone with the next start of the machine"),
                "name a folder on a disk with --data-dir",
            );
            name
        }
        FileSystem::Local(name) => name,
    };
    found.or_ok(|| {
        let can = |can: bool| if can { "yes" } else { "no" };
        let tried = seen.probe.as_ref().map_or_else(String::new, |probe| {
            let (direct, shared) = (can(probe.direct_io), can(probe.shares_blocks));
            format!("; direct I/O: {direct}; files can share blocks: {shared}")
        });
        format!("{free} of {} free on {name}{tried}", size(seen.total_bytes))
    })
}

/// What was seen of the clock. Seconds since 1970.
#[derive(Debug, Clone, Default)]
pub(in crate::doctor) struct Clock {
    pub(in crate::doctor) now_s: i64,
    /// By whoever keeps the data directory.
    pub(in crate::doctor) disk_s: Option<i64>,
    /// When something in the data directory was changed last.
    pub(in crate::doctor) latest_change_s: Option<i64>,
    /// Of a daemon: its age by the monotonic clock, and by the time of day.
    pub(in crate::doctor) age_s: Option<(u64, i64)>,
}

/// No clock that is right says less: 2026-01-01.
const BEFORE_CASNODE_S: i64 = 1_767_225_600;

/// Differences up to this are nobody's fault.
const CLOCK_TOLERANCE_S: i64 = 120;

/// Whether the clock can be right. Nobody is asked: a wrong clock is told by what it contradicts.
pub(in crate::doctor) fn clock(seen: &Clock) -> Vec<DoctorCheck> {
    const SET: &str = "set the clock, and let the system keep it (timedatectl set-ntp true)";
    let mut found = Found::new(DoctorKind::Clock);
    let off = |other: i64| other.saturating_sub(seen.now_s);
    if seen.now_s < BEFORE_CASNODE_S {
        found.fail("the clock says a time before this program was written", SET);
    }
    if let Some(ahead_s) = seen
        .latest_change_s
        .map(off)
        .filter(|s| *s > CLOCK_TOLERANCE_S)
    {
        found.warn(
            format!("something in the data directory was written {} from now: the clock was wrong then, or is now", span(ahead_s)),
            SET,
        );
    }
    if let Some(off_s) = seen.disk_s.map(off).filter(|s| s.abs() > CLOCK_TOLERANCE_S) {
        found.warn(
            format!("the clock of the disk is off by {}", span(off_s.abs())),
            "set the clocks of both machines",
        );
    }
    let jump_s = seen
        .age_s
        .map(|(steady_s, day_s)| day_s.saturating_sub(i64::try_from(steady_s).unwrap_or(i64::MAX)));
    if let Some(jump_s) = jump_s.filter(|s| s.abs() > CLOCK_TOLERANCE_S) {
        let way = if jump_s > 0 { "forward" } else { "back" };
        found.warn(
            format!(
                "the clock went {way} by {} since the daemon started; sleep of the machine looks the same",
                span(jump_s.abs())
            ),
            "if it did not sleep, let the system keep the clock (timedatectl set-ntp true)",
        );
    }
    found.or_ok(|| {
        "nothing here contradicts it; whether it is right cannot be known: no other machine is asked".to_owned()
    })
}

/// A time for people.
fn span(s: i64) -> String {
    let s = u64::try_from(s).unwrap_or_default();
    humantime::format_duration(std::time::Duration::from_secs(s)).to_string()
}

/// Fewer open files than this are too few for a daemon with peers; and for anything.
const FEW_FILES: u64 = 4096;
const TOO_FEW_FILES: u64 = 256;

/// Whether a process may open enough files; `None`: as many as it likes.
pub(in crate::doctor) fn limits(open_files: Option<u64>) -> Vec<DoctorCheck> {
    const RAISE: &str = "raise it: LimitNOFILE=65536 in the service, or ulimit -Hn 65536 where the daemon is started";
    let mut found = Found::new(DoctorKind::Limits);
    match open_files {
        Some(n) if n < TOO_FEW_FILES => {
            found.fail(
                format!("a process may open {n} files: too few for a store"),
                RAISE,
            );
        }
        Some(n) if n < FEW_FILES => {
            found.warn(
                format!("a process may open {n} files: few for connections"),
                RAISE,
            );
        }
        _ => {}
    }
    found.or_ok(|| match open_files {
        Some(n) => format!("a process may open {}", errors::count(n, "file")),
        None => "a process may open as many files as it likes".to_owned(),
    })
}

/// What was seen of a port.
#[derive(Debug, Clone)]
pub(in crate::doctor) struct Port {
    /// As it was said.
    pub(in crate::doctor) address: String,
    /// What it is for.
    pub(in crate::doctor) of: &'static str,
    /// The flag that names another one.
    pub(in crate::doctor) flag: &'static str,
    /// Nobody asked for this very one: without it there is a warning, no failure.
    pub(in crate::doctor) is_optional: bool,
    pub(in crate::doctor) state: PortState,
}

/// Who has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doctor) enum PortState {
    /// The daemon on this data directory.
    Ours,
    Free,
    /// Somebody else.
    Taken,
    /// It cannot be had, for this reason.
    Refused(String),
}

/// Whether a port is to be had.
pub(in crate::doctor) fn port(seen: &Port) -> Vec<DoctorCheck> {
    let mut found = Found::new(DoctorKind::Ports);
    let (address, of, flag) = (&seen.address, seen.of, seen.flag);
    let wrong = match &seen.state {
        PortState::Ours | PortState::Free => None,
        PortState::Taken => Some((
            format!("{address} ({of}): another process has it"),
            format!("`ss -tulnp` tells which; end that one, or name another address with {flag}"),
        )),
        PortState::Refused(why) => Some((
            format!("{address} ({of}): it cannot be had: {why}"),
            format!("name another address with {flag}"),
        )),
    };
    match wrong {
        Some((what, next)) if seen.is_optional => found.warn(what, next),
        Some((what, next)) => found.fail(what, next),
        None => {}
    }
    found.or_ok(|| match seen.state {
        PortState::Ours => format!("{address} ({of}): the daemon listens"),
        _ => format!("{address} ({of}): free"),
    })
}

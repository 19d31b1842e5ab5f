//! Errors of the crates below, in the three parts a person needs.

#[cfg(test)]
mod tests;

use std::{io, path::Path};

use casnode_cas::{Address, ExportError, ImportError, StoreError};
use casnode_dht::DhtError;

use crate::{
    api::{ApiError, ErrorKind},
    download::{AssembleError, Target},
    node::Node,
};

/// What helps where nothing can be written.
const MOUNT_IT: &str = "mount it for writing, or name another folder with --data-dir";

/// Longest reason that is told of one peer.
const MAX_BRIEF_CHARS: usize = 160;

/// An error with its causes. A cause that its effect already tells is not told again.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.contains(&why) {
            text = format!("{text}: {why}");
        }
        cause = error.source();
    }
    text
}

/// A number with its noun.
pub(crate) fn count(n: u64, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}

/// The one cause that a dial to a peer failed for, out of the list over several lines that libp2p makes of it.
pub(crate) fn brief(error: &dyn std::error::Error) -> String {
    let text = chain(error);
    let bullet = text.lines().find_map(|line| line.trim().strip_prefix("- "));
    let brief = match (bullet, text.split_once(": ")) {
        (Some(cause), Some((head, _))) => {
            format!("{head}: {}", cause.trim_end_matches([')', ']', ':']))
        }
        _ => text.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    // Each layer of a dial tells the same once more.
    let parts = brief.split(": ").filter(|part| !part.is_empty());
    let mut parts: Vec<&str> = parts.collect();
    parts.dedup_by_key(|part| part.trim_end_matches([')', ']']));
    parts.join(": ").chars().take(MAX_BRIEF_CHARS).collect()
}

/// Nobody could be asked for a file, since nobody is connected.
pub(crate) fn no_peers(kind: ErrorKind, what: String, node: &Node) -> ApiError {
    let alone = alone(kind, what, node);
    let next = format!("{}, or name a provider with --peer", alone.next);
    ApiError { next, ..alone }
}

/// Nobody could be asked, since nobody is connected.
pub(crate) fn alone(kind: ErrorKind, what: String, node: &Node) -> ApiError {
    let named = node.bootstrap.join(", ");
    let (why, next) = match (named.is_empty(), node.serve_dht) {
        (true, false) => (
            "this node is connected to no peers, so 0 peers were asked".to_owned(),
            "name a peer of the network with --bootstrap /ip4/…/tcp/4101",
        ),
        (true, true) => (
            "the daemon is connected to no peers, so 0 peers were asked".to_owned(),
            "restart the daemon with --bootstrap /ip4/…/tcp/4101",
        ),
        (false, daemon) => (
            format!(
                "this node is connected to no peers, so 0 peers were asked; no answer from {named}"
            ),
            if daemon {
                "check that a node of the same network runs there and can be reached, or restart the daemon with \
                 another --bootstrap"
            } else {
                "check that a node of the same network runs there and can be reached, or name another with --bootstrap"
            },
        ),
    };
    ApiError::new(kind, what, why, next)
}

/// A blocking task that panicked. A bug, and said so.
pub(crate) fn panicked(error: tokio::task::JoinError) -> ApiError {
    ApiError::new(
        ErrorKind::Failure,
        "casnode failed inside",
        error.to_string(),
        "this is a bug: please report it with what you did",
    )
}

/// A daemon on a medium that it cannot write.
pub(crate) fn read_only(data_dir: &Path) -> ApiError {
    ApiError::new(
        ErrorKind::Failure,
        "the daemon did not start",
        format!("{} is on a read-only medium", data_dir.display()),
        format!(
            "{MOUNT_IT}; `casnode ls`, `stat`, `du`, `verify` and `get` of what is here work without a daemon"
        ),
    )
}

pub(crate) fn store(what: &str, error: &StoreError) -> ApiError {
    let (kind, next) = if matches!(error, StoreError::OverQuota { .. }) {
        (
            ErrorKind::NoSpace,
            "raise --max-store, or let files go with `casnode pin rm` or `casnode rm`; nothing stored is lost",
        )
    } else if matches!(error, StoreError::ReadOnly { .. }) {
        (ErrorKind::Failure, MOUNT_IT)
    } else if matches!(
        error,
        StoreError::OlderVersion { .. } | StoreError::NewerVersion { .. }
    ) {
        (
            ErrorKind::Failure,
            "use the version of casnode that wrote it, or name another folder with --data-dir",
        )
    } else if matches!(error, StoreError::IsMember { .. }) {
        (
            ErrorKind::Usage,
            "remove that directory: what only it lists goes with it",
        )
    } else if error.is_no_space() {
        (
            ErrorKind::NoSpace,
            "free some space on the disk of the data directory and try again; nothing stored is lost",
        )
    } else if error.is_corruption() {
        (
            ErrorKind::Integrity,
            "fetch the file again: damaged chunks are replaced",
        )
    } else if matches!(error, StoreError::WritesStopped) {
        (
            ErrorKind::Failure,
            "look at the disk of the data directory, then restart the daemon: it checks what is there when it starts",
        )
    } else {
        (
            ErrorKind::Failure,
            "look at the data directory's disk and permissions",
        )
    };
    ApiError::new(kind, what, chain(error), next)
}

/// What is made of what is fetched: it says which flags there are to keep less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    File,
    ManyFiles,
    /// No file: the store is the only place for it.
    Nothing,
}

impl Made {
    /// What a download makes, be it one of many.
    pub(crate) fn of(target: &Target, is_one_of_many: bool) -> Self {
        match target {
            Target::File { .. } | Target::Folder { .. } if is_one_of_many => Self::ManyFiles,
            Target::File { .. } | Target::Folder { .. } => Self::File,
            Target::Stream | Target::Keep | Target::Readers => Self::Nothing,
        }
    }
}

/// A failure to keep what is fetched: where files are made of it, there are ways to keep less.
pub(crate) fn keep(what: &str, error: &StoreError, made: Made) -> ApiError {
    let told = store(what, error);
    let next = match (error, made) {
        (StoreError::OverQuota { .. }, Made::File) => {
            "keep nothing of it with --no-keep, or only the output with --in-place; or raise --max-store"
        }
        (StoreError::OverQuota { .. }, Made::ManyFiles) => {
            "keep nothing of them with --no-keep, or raise --max-store"
        }
        _ => return told,
    };
    ApiError {
        next: next.to_owned(),
        ..told
    }
}

pub(crate) fn import(path: &str, error: &ImportError) -> ApiError {
    let what = format!("{path} was not stored");
    if let ImportError::Store(error) = error {
        return store(&what, error);
    }
    let (kind, next) = if error.is_no_space() {
        (
            ErrorKind::NoSpace,
            "free some space there and try again; nothing stored is lost",
        )
    } else {
        match error {
            ImportError::Cancelled => (ErrorKind::Interrupted, "run the command again"),
            ImportError::Changed { .. } => {
                (ErrorKind::Failure, "store it when nothing writes to it")
            }
            ImportError::NotAFile { .. } => (
                ErrorKind::Failure,
                "store a regular file, or pipe it: `casnode store -`",
            ),
            ImportError::Read(error) if error.kind() == io::ErrorKind::TimedOut => {
                (ErrorKind::TimedOut, "send it again without so long a pause")
            }
            ImportError::Read(_) => (
                ErrorKind::Failure,
                "look at what feeds it, and run the command again",
            ),
            _ => (ErrorKind::Failure, "check the path and its permissions"),
        }
    };
    ApiError::new(kind, what, chain(error), next)
}

pub(crate) fn output(error: &ExportError) -> ApiError {
    let (kind, next) = if error.is_no_space() {
        (
            ErrorKind::NoSpace,
            "free some space there and run the same get again: what was fetched is kept",
        )
    } else {
        (
            ErrorKind::Failure,
            "name another place with -o, or mend this one; what was fetched is kept",
        )
    };
    ApiError::new(kind, "the output was not written", chain(error), next)
}

/// The stream of a call that does not take what is written to it.
pub(crate) fn stream(error: &io::Error) -> ApiError {
    let kind = ErrorKind::of_io(error);
    let next = match kind {
        ErrorKind::NoSpace => {
            "free some space where it goes, and run the command again: what was fetched is kept"
        }
        _ => "look at where it goes, and run the command again: what was fetched is kept",
    };
    let what = "the output stream was not written to its end";
    ApiError::new(kind, what, error.to_string(), next)
}

pub(crate) fn assemble(error: &AssembleError, address: &Address, made: Made) -> ApiError {
    match error {
        AssembleError::Store(error) => keep(&format!("{address} could not be kept"), error, made),
        AssembleError::Output(error) => output(error),
        AssembleError::Vanished(_) => ApiError::new(
            ErrorKind::Partial,
            format!("{address} could not be put together"),
            chain(error),
            "run the same get again",
        ),
    }
}

pub(crate) fn network(what: &str, error: &DhtError) -> ApiError {
    ApiError::new(
        ErrorKind::Failure,
        what,
        chain(error),
        "check --listen and --bootstrap",
    )
}

/// A link, or a directory, has another length than the file. Whose word is wrong is not known.
pub(crate) fn wrong_size(address: &Address, told_bytes: u64, size_bytes: u64) -> ApiError {
    ApiError::new(
        ErrorKind::Integrity,
        format!("{address} was not fetched"),
        format!(
            "by its link or directory it has {told_bytes} bytes, and what there is under its address has {size_bytes}"
        ),
        "ask whoever made the link or the directory for a right one, or fetch the 64 hex digits alone",
    )
}

/// A file that was taken for a directory.
pub(crate) fn no_directory(address: &Address, why: &str) -> ApiError {
    ApiError::new(
        ErrorKind::Usage,
        format!("{address} is no directory"),
        why,
        "fetch it as a file: `casnode get <ADDRESS>`, without a path in it, --include or --exclude",
    )
}

/// A directory that was to go to a stream.
pub(crate) fn no_stream(address: &Address) -> ApiError {
    ApiError::new(
        ErrorKind::Usage,
        format!("{address} was not written"),
        "it is a directory, and many files do not go to one stream",
        "name a folder with -o, or a file in it: <ADDRESS>/<PATH>; `casnode ls <ADDRESS>` lists them",
    )
}

pub(crate) fn no_network(address: &Address, node: &Node) -> ApiError {
    let (why, next) = without_network(node.store.is_read_only());
    ApiError::new(
        ErrorKind::NotFound,
        format!("{address} could not be fetched"),
        format!("it is not all here, and {why}"),
        next,
    )
}

/// Why a node is in no network, and what to do about it: one that can note nothing joins none, whatever it is told.
pub(crate) fn without_network(is_read_only: bool) -> (&'static str, &'static str) {
    match is_read_only {
        true => (
            "the data directory is on a read-only medium: without a place to note anything, no network is joined",
            MOUNT_IT,
        ),
        false => (
            "this command runs without a network",
            "start `casnode daemon`, or give --bootstrap",
        ),
    }
}

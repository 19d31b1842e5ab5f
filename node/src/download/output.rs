//! Where a file goes, and what is there already.

use std::{
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Instant,
};

use casnode_cas::{Address, file_address};
use tokio_util::sync::CancellationToken;

use super::engine::interrupted;
use crate::{
    api::{ApiError, ErrorKind, Phase, events::EventSink},
    errors,
    steps::Steps,
    tasks::blocking,
};

/// Where fetched bytes go.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// This file.
    File { path: PathBuf, force: bool },
    /// A file in this folder, under the name that the file is published with.
    Folder { path: PathBuf, force: bool },
    /// The stream of the call.
    Stream,
    /// Nowhere but the store: what of the file is not here, or is damaged, is fetched.
    Keep,
    /// The same for what readers of ranges need, and nothing else.
    Readers,
}

/// What is at the place of the output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or something that may be replaced.
    Free,
    /// The very file.
    Same,
}

impl Target {
    /// Refuses a place that cannot come to be, before anything is fetched: what is there of the way to it has to be a
    /// folder.
    pub(super) fn check_folder(&self) -> Result<(), ApiError> {
        let folder = match self {
            Self::Stream | Self::Keep | Self::Readers => return Ok(()),
            Self::Folder { path, .. } => path.as_path(),
            Self::File { path, .. } => match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => return Ok(()),
            },
        };
        let there = folder.ancestors().find(|at| at.symlink_metadata().is_ok());
        match there {
            Some(there) if !there.is_dir() => Err(no_folder(
                folder,
                format!("{} is no folder", there.display()),
            )),
            _ => Ok(()),
        }
    }

    /// The file to make, if it is one.
    pub(crate) fn resolve(&self, name: Option<&str>, address: &Address) -> Option<(PathBuf, bool)> {
        match self {
            Self::Stream | Self::Keep | Self::Readers => None,
            Self::File { path, force } => Some((path.clone(), *force)),
            Self::Folder { path, force } => {
                let name = name.and_then(casnode_cas::safe_file_name);
                let name = name.map_or_else(|| address.to_string(), str::to_owned);
                Some((path.join(name), *force))
            }
        }
    }
}

/// Makes the folders on the way to a file, where they are missing: whoever may read the file may enter them.
pub(super) async fn make_way(path: &Path, mode: Option<u32>) -> Result<(), ApiError> {
    let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    else {
        return Ok(());
    };
    let (mode, owned) = (mode.unwrap_or(0o666), folder.to_owned());
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(mode | 0o300 | (mode & 0o444) >> 2);
    let made = blocking(move || builder.create(owned)).await;
    let made = made.map_err(errors::panicked)?;
    made.map_err(|error| no_folder(folder, error.to_string()))
}

fn no_folder(folder: &Path, why: String) -> ApiError {
    ApiError::new(
        ErrorKind::Failure,
        format!("the output cannot be written to {}", folder.display()),
        why,
        "make the folder, or name another place with -o",
    )
}

/// What is to be at a place, and who waits for a word on it.
pub(super) struct Inspection<'a> {
    pub(super) address: Address,
    /// Its length, where it is known.
    pub(super) size_bytes: Option<u64>,
    pub(super) deadline: Option<Instant>,
    pub(super) events: &'a EventSink,
    pub(super) cancel: &'a CancellationToken,
}

impl Inspection<'_> {
    /// Looks at what is at `path`. A file that already has the address needs nothing; another one needs `force`.
    pub(super) async fn of(&self, path: &Path, force: bool) -> Result<Found, ApiError> {
        let meta = match std::fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Free),
            Err(e) => return Err(refused(path, e.to_string(), ELSEWHERE)),
        };
        let kind = meta.file_type();
        if kind.is_dir() {
            let why = "a folder is in its place".to_owned();
            return Err(refused(path, why, ELSEWHERE));
        }
        if force {
            return Ok(Found::Free);
        }
        if kind.is_symlink() {
            let why = "a link is in its place".to_owned();
            return Err(refused(path, why, REPLACE));
        }
        if !kind.is_file() {
            let why = "what is in its place is no regular file".to_owned();
            let next = "name another place with -o, or send the bytes there with `-o - >PLACE`";
            return Err(refused(path, why, next));
        }
        let is_so_long = self.size_bytes.is_none_or(|bytes| bytes == meta.len());
        if is_so_long && self.is_at(path).await? {
            return Ok(Found::Same);
        }
        let why = "it exists and is another file".to_owned();
        Err(refused(path, why, REPLACE))
    }

    /// Whether the file has the address. Reading it may take long: how far it is, is told.
    async fn is_at(&self, path: &Path) -> Result<bool, ApiError> {
        let stop = self.cancel.child_token();
        let _stops = stop.clone().drop_guard(); // nobody is left to read for
        let mut steps = Steps::new(Phase::Verifying, self.events.clone(), stop);
        let owned = path.to_owned();
        let hash =
            blocking(move || file_address(&owned, &mut |done, total| steps.step(done, total)));
        let found = match self.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), hash)
                .await
                .map_err(|_| late(path))?,
            None => hash.await,
        };
        match found.map_err(errors::panicked)? {
            Ok(address) => Ok(address == self.address),
            Err(_) if self.cancel.is_cancelled() => Err(interrupted()),
            Err(error) => {
                let why = format!("it exists and could not be read: {error}");
                Err(refused(path, why, REPLACE))
            }
        }
    }
}

const ELSEWHERE: &str = "name another place with -o";
const REPLACE: &str = "name another place with -o, or replace it with --force";

fn refused(path: &Path, why: String, next: &str) -> ApiError {
    let what = format!("{} was not written", path.display());
    ApiError::new(ErrorKind::Failure, what, why, next)
}

fn late(path: &Path) -> ApiError {
    ApiError::new(
        ErrorKind::TimedOut,
        format!("{} was not written", path.display()),
        "reading the file that is in its place took all of the time",
        "try again with a longer --timeout, or replace it with --force",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspection<'a>(
        of: &[u8],
        events: &'a EventSink,
        cancel: &'a CancellationToken,
    ) -> Inspection<'a> {
        Inspection {
            address: Address::of(of),
            size_bytes: None,
            deadline: None,
            events,
            cancel,
        }
    }

    #[tokio::test]
    async fn what_is_in_the_place_of_an_output_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (events, _heard) = EventSink::new();
        let cancel = CancellationToken::new();
        let place = |name: &str| dir.path().join(name);
        std::fs::write(place("file"), b"bytes").unwrap();
        std::os::unix::fs::symlink("file", place("link")).unwrap();
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mkfifoat(rustix::fs::CWD, place("fifo"), mode).unwrap();
        let same = inspection(b"bytes", &events, &cancel);
        assert_eq!(same.of(&place("none"), false).await.unwrap(), Found::Free);
        assert_eq!(same.of(&place("file"), false).await.unwrap(), Found::Same);
        assert_eq!(same.of(&place("fifo"), true).await.unwrap(), Found::Free);
        let other = inspection(b"others", &events, &cancel);
        for (inspection, name, why) in [
            (&same, "", "a folder is in its place"),
            (&same, "link", "a link is in its place"),
            (&same, "fifo", "no regular file"),
            (&other, "file", "is another file"),
        ] {
            let error = inspection.of(&place(name), false).await.unwrap_err();
            assert!(error.why.contains(why), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_file_of_another_length_is_not_read_and_reading_one_can_be_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"bytes").unwrap();
        let (events, _heard) = EventSink::new();
        let cancel = CancellationToken::new();
        cancel.cancel();
        let inspection = inspection(b"bytes", &events, &cancel);
        let error = inspection.of(&path, false).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Interrupted);
        let longer = Inspection {
            size_bytes: Some(6),
            ..inspection
        };
        let error = longer.of(&path, false).await.unwrap_err();
        assert!(error.why.contains("is another file"), "{error:?}");
    }
}

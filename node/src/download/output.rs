//! Where a file goes, and what is there already.

use std::{
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use casnode_cas::{Address, file_address};

use crate::{
    api::{ApiError, ErrorKind},
    errors,
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

/// Looks at what is at `path`. A file that already has the address needs nothing; another one needs `force`.
pub(super) async fn inspect(path: &Path, force: bool, address: Address) -> Result<Found, ApiError> {
    let refused = |why: String, next: &str| {
        ApiError::new(
            ErrorKind::Failure,
            format!("{} was not written", path.display()),
            why,
            next,
        )
    };
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Free),
        Err(e) => return Err(refused(e.to_string(), "name another place with -o")),
    };
    if meta.is_dir() {
        return Err(refused(
            "a folder is in its place".to_owned(),
            "name another place with -o",
        ));
    }
    if force {
        return Ok(Found::Free);
    }
    let owned = path.to_owned();
    let there = match meta.is_file() {
        true => blocking(move || file_address(&owned))
            .await
            .ok()
            .and_then(Result::ok),
        false => None,
    };
    if there == Some(address) {
        return Ok(Found::Same);
    }
    Err(refused(
        "it exists and is another file".to_owned(),
        "name another place with -o, or replace it with --force",
    ))
}

//! What calls about directories take and return.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ApiError, ErrorKind, ProviderUse, path::JsonPath};

/// Entries of one page of [`super::Request::LsTree`].
pub const MAX_TREE_PAGE: usize = 8192;

/// Globs of one call.
pub const MAX_GLOBS: usize = 1024;

/// Where what is fetched of a directory goes. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeOutput {
    /// The entries of a folder go into this one, which is made if need be. A single file is written there, or, where a folder
    /// is there, into it under its own name.
    At(#[serde(with = "super::path")] OsString),
    /// Into this folder, under a name of its own: the directory's, or the last of the path inside.
    In(#[serde(with = "super::path")] OsString),
    /// The byte stream that accompanies the call; a single file alone.
    Stream,
}

/// Where what is fetched of a directory goes. Paths are absolute.
// How `TreeOutput` is described: its own path type has no schema.
#[derive(ToSchema)]
#[schema(as = TreeOutput)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "its schema is what is wanted")]
pub(super) enum JsonTreeOutput {
    /// The entries of a folder go into this one, which is made if need be. A single file is written there, or, where a folder
    /// is there, into it under its own name.
    At(JsonPath),
    /// Into this folder, under a name of its own: the directory's, or the last of the path inside.
    In(JsonPath),
    /// The byte stream that accompanies the call; a single file alone.
    Stream,
}

/// An entry of a directory that was left out, refused, or not to be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TreeFault {
    /// Where in the directory; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// What kind of failure it was.
    pub kind: ErrorKind,
    /// Why.
    pub why: String,
}

/// What `store` did with a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StoreTreeReport {
    /// The directory's address: BLAKE3 of its listing.
    pub address: String,
    /// The published name hint.
    pub name: Option<String>,
    /// Files in it.
    pub files: u64,
    /// Symbolic links in it.
    pub symlinks: u64,
    /// Empty folders in it.
    pub empty_folders: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Files that were read. The others are known unchanged since they were stored.
    pub read_files: u64,
    /// Files that were not here.
    pub new_files: u64,
    /// Bytes that were written for files that were not here.
    pub new_bytes: u64,
    /// Bytes of the listing.
    pub listing_bytes: u64,
    /// Entries of the folder that are not in the directory although nothing excluded them.
    pub left_out: u64,
    /// The first of them, at most [`super::MAX_LISTED`].
    pub faults: Vec<TreeFault>,
    /// Symbolic links that lead out of the folder: `get` does not make them.
    pub outward_symlinks: u64,
    /// Peers that acknowledged the directory's own provider record; 0: not published yet.
    pub announced_to: u32,
    /// Wall time.
    pub seconds: f64,
}

/// What `get` did with a directory, or with a folder in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GetTreeReport {
    /// The directory's address.
    pub address: String,
    /// The folder its entries are in now.
    pub path: String,
    /// Files that were asked for.
    pub files: u64,
    /// Files that came from the network.
    pub fetched: u64,
    /// Files that were here, or in place already.
    pub here: u64,
    /// Files that are not there.
    pub failed: u64,
    /// Symbolic links that are there.
    pub symlinks: u64,
    /// Symbolic links that were not made, since they lead out of the directory.
    pub refused_symlinks: u64,
    /// Empty folders that are there.
    pub empty_folders: u64,
    /// Bytes of the files that are there.
    pub bytes: u64,
    /// Files that are kept where they were written now: the store refers to them, and they must stay there unchanged.
    pub kept_in_place: u64,
    /// Wall time.
    pub seconds: f64,
    /// What is not there and why, at most [`super::MAX_LISTED`] entries.
    pub faults: Vec<TreeFault>,
    /// Entries that are not there, all of them, links that were refused apart.
    pub missing: u64,
    /// Who sent what, of the files that came many at a time.
    pub providers: Vec<ProviderUse>,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TreeEntryKind {
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A folder.
    Folder,
}

/// An entry of a directory, or a folder of it with all that is beneath.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TreeEntry {
    /// From the directory on.
    pub path: String,
    /// What it is.
    pub kind: TreeEntryKind,
    /// Its length; of a folder, of all files beneath it.
    pub bytes: u64,
    /// Files beneath it; of a file 1.
    pub files: u64,
    /// Of a file.
    pub address: Option<String>,
    /// Whether it may be run, of a file.
    pub executable: bool,
    /// Where it leads, of a symbolic link.
    pub target: Option<String>,
}

/// A part of what is in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TreePage {
    /// The directory's address.
    pub address: String,
    /// In the order of their paths.
    pub entries: Vec<TreeEntry>,
    /// How many entries to skip for the next part; absent when this is the last one.
    pub next: Option<u64>,
}

/// What was asked for as a file is a directory: nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DirectoryReport {
    /// Its address.
    pub address: String,
}

impl TreeFault {
    /// A fault of an entry, told as an error is.
    pub(crate) fn of(path: impl Into<String>, error: &ApiError) -> Self {
        let why = match error.why.is_empty() {
            true => error.what.clone(),
            false => error.why.clone(),
        };
        Self {
            path: path.into(),
            kind: error.kind,
            why,
        }
    }
}

#[cfg(test)]
mod tests;

//! What is to be made of a listing: pure.
//!
//! The listing comes from strangers. Its paths were checked when it was decoded; where its links lead is checked here.

use casnode_cas::{Address, Entry, EntryKind, Listing, Sub};

use super::globs::Globs;

/// What is to be made, with paths from the folder on that it is made in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) files: Vec<PlannedFile>,
    /// Path and target of each link that leads to a place within.
    pub(crate) links: Vec<(String, String)>,
    /// Likewise of those that lead out.
    pub(crate) outward: Vec<(String, String)>,
    pub(crate) empty_folders: Vec<String>,
}

/// A file to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedFile {
    pub(crate) path: String,
    pub(crate) address: Address,
    pub(crate) size_bytes: u64,
    pub(crate) executable: bool,
}

/// What a path inside a directory is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    File(PlannedFile),
    Link(&'a str),
    Folder(Plan),
}

/// Plans a part of a directory; `None` when there is nothing at that path. Globs are for paths from the directory on, also where
/// the part is a folder in it, and links may lead anywhere in the part.
pub(crate) fn plan<'a>(listing: &'a Listing, path: &str, globs: &Globs) -> Option<Part<'a>> {
    match listing.under(path)? {
        Sub::Entry(Entry { path, kind }) => match kind {
            EntryKind::File {
                address,
                bytes,
                executable,
            } => Some(Part::File(PlannedFile {
                path: path.split_name().1.to_owned(),
                address: *address,
                size_bytes: *bytes,
                executable: *executable,
            })),
            EntryKind::Symlink { target } => Some(Part::Link(target)),
            EntryKind::Folder => Some(Part::Folder(Plan::default())),
        },
        Sub::Folder(entries) => {
            let within = match path.is_empty() {
                true => 0,
                false => path.len() + 1,
            };
            let mut plan = Plan::default();
            for entry in entries.iter().filter(|e| globs.take(e.path.as_str())) {
                // An empty folder has no entries, and is no entry of itself.
                let Some(inside) = entry.path.as_str().get(within..) else {
                    continue;
                };
                plan.add(inside, &entry.kind);
            }
            Some(Part::Folder(plan))
        }
    }
}

impl Plan {
    fn add(&mut self, path: &str, kind: &EntryKind) {
        let path = path.to_owned();
        match kind {
            EntryKind::File {
                address,
                bytes,
                executable,
            } => self.files.push(PlannedFile {
                path,
                address: *address,
                size_bytes: *bytes,
                executable: *executable,
            }),
            EntryKind::Symlink { target } => match stays_inside(&path, target) {
                true => self.links.push((path, target.clone())),
                false => self.outward.push((path, target.clone())),
            },
            EntryKind::Folder => self.empty_folders.push(path),
        }
    }

    /// Bytes of all its files.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = self.files.iter().map(|file| file.size_bytes);
        bytes.fold(0, u64::saturating_add)
    }
}

/// Whether a link at `path` leads to a place within the directory, by its text alone: it begins in its own folder, climbs only at
/// its beginning, and not above the directory. A `..` behind a name would climb from wherever a link of that name leads to.
pub(crate) fn stays_inside(path: &str, target: &str) -> bool {
    if target.starts_with('/') {
        return false;
    }
    let mut parts = target.split('/').filter(|part| !matches!(*part, "" | "."));
    let climbs = parts.by_ref().take_while(|part| *part == "..").count();
    climbs <= path.matches('/').count() && parts.all(|part| part != "..")
}

#[cfg(test)]
mod tests;

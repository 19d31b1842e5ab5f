//! What is in a directory, as it is shown: one level with its folders, or everything.

use casnode_cas::{Entry, EntryKind, Listing, Sub};

use crate::api::{MAX_TREE_PAGE, TreeEntry, TreeEntryKind};

/// Bytes of paths and targets in a page, about: as JSON each may take six.
const MAX_PAGE_TEXT_BYTES: usize = 1 << 20;

/// A page of what is at a path, and how many entries to skip for the next; `None` when there is nothing at that path.
pub(crate) fn page(
    listing: &Listing,
    path: &str,
    recursive: bool,
    skip: u64,
) -> Option<(Vec<TreeEntry>, Option<u64>)> {
    let entries = match listing.under(path)? {
        Sub::Entry(entry) => std::slice::from_ref(entry),
        Sub::Folder(entries) => entries,
    };
    let level = match (recursive, path.is_empty()) {
        (true, _) => usize::MAX,
        (false, true) => 0,
        (false, false) => path.len() + 1,
    };
    let mut shown = Shown {
        rest: entries,
        level,
    };
    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
    let (mut page, mut text_bytes) = (Vec::new(), 0);
    for entry in shown.by_ref().skip(skip) {
        if page.len() >= MAX_TREE_PAGE || text_bytes >= MAX_PAGE_TEXT_BYTES {
            let next = skip.saturating_add(page.len()) as u64;
            return Some((page, Some(next)));
        }
        text_bytes += entry.path.len() + entry.target.as_ref().map_or(0, String::len);
        page.push(entry);
    }
    Some((page, None))
}

/// The entries of a level: each folder in it with all that is beneath.
struct Shown<'a> {
    rest: &'a [Entry],
    /// Where the names of this level begin in the paths.
    level: usize,
}

impl Iterator for Shown<'_> {
    type Item = TreeEntry;

    fn next(&mut self) -> Option<TreeEntry> {
        let (first, rest) = self.rest.split_first()?;
        let path = first.path.as_str();
        let end = path.get(self.level..).and_then(|name| name.find('/'));
        let Some(end) = end.map(|at| self.level + at) else {
            self.rest = rest;
            return Some(entry(first));
        };
        let folder = &path[..=end];
        let inside = self
            .rest
            .partition_point(|e| e.path.as_str().starts_with(folder));
        let (inside, rest) = self.rest.split_at(inside.max(1));
        self.rest = rest;
        let mut shown = plain(&path[..end], TreeEntryKind::Folder);
        for entry in inside {
            if let EntryKind::File { bytes, .. } = entry.kind {
                shown.files += 1;
                shown.bytes = shown.bytes.saturating_add(bytes);
            }
        }
        Some(shown)
    }
}

fn plain(path: &str, kind: TreeEntryKind) -> TreeEntry {
    TreeEntry {
        path: path.to_owned(),
        kind,
        bytes: 0,
        files: 0,
        address: None,
        executable: false,
        target: None,
    }
}

fn entry(entry: &Entry) -> TreeEntry {
    let path = entry.path.as_str();
    match &entry.kind {
        EntryKind::File {
            address,
            bytes,
            executable,
        } => TreeEntry {
            bytes: *bytes,
            files: 1,
            address: Some(address.to_string()),
            executable: *executable,
            ..plain(path, TreeEntryKind::File)
        },
        EntryKind::Symlink { target } => TreeEntry {
            target: Some(target.clone()),
            ..plain(path, TreeEntryKind::Symlink)
        },
        EntryKind::Folder => plain(path, TreeEntryKind::Folder),
    }
}

#[cfg(test)]
mod tests;

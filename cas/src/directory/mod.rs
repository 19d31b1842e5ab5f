//! Directories: a listing of paths, stored as a file, whose address is the directory's.
//!
//! A listing has one encoding. So an address is a directory exactly if its bytes decode as a listing;
//! nothing else has to say so. It comes from strangers: [`Listing::decode`] checks its size, then its
//! shape, and each path before anything is made of it.
//!
//! Non-goals: reading and writing folders of a file system; deciding which links are followed.

mod builder;
mod path;
mod wire;

use crate::codec::CodecError;
use crate::id::Address;

pub use self::builder::ListingBuilder;
pub use self::path::{MAX_COMPONENT_BYTES, MAX_PATH_BYTES, PathError, RelPath};
pub(crate) use self::wire::decode_each as each_entry;

/// No encoded listing is larger.
pub const MAX_LISTING_BYTES: usize = 64 * 1024 * 1024;

/// No listing has more entries.
pub const MAX_LISTING_ENTRIES: usize = 1_000_000;

/// No target of a symbolic link is longer, in bytes: what Linux can hold.
pub const MAX_TARGET_BYTES: usize = 4095;

/// What is at a path of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A file.
    File {
        /// The file's address.
        address: Address,
        /// Its size. The listing does not prove it: the file does, when it is here.
        bytes: u64,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link, as it was found: where it leads has not been looked at.
    Symlink {
        /// Its text, 1 to [`MAX_TARGET_BYTES`] bytes without NUL. It may lead anywhere.
        target: String,
    },
    /// A folder with nothing in it. All others follow from what is in them.
    Folder,
}

/// A path of a directory, and what is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Where, from the directory on.
    pub path: RelPath,
    /// What.
    pub kind: EntryKind,
}

/// What a path names within a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sub<'a> {
    /// A file or a symbolic link.
    Entry(&'a Entry),
    /// A folder: everything in it and in its folders, with paths from the directory on, sorted. Empty for
    /// an empty folder.
    Folder(&'a [Entry]),
}

/// Why bytes, or entries, are not a directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListingError {
    /// The bytes do not begin as a listing: it is some other file.
    #[error("not a directory")]
    NotAListing,
    /// The bytes are not an encoded listing.
    #[error("directory listing: {0}")]
    Codec(#[from] CodecError),
    /// It would have more than [`MAX_LISTING_ENTRIES`] entries.
    #[error("directory listing: more than {MAX_LISTING_ENTRIES} entries")]
    TooManyEntries,
    /// It would have more than [`MAX_LISTING_BYTES`] bytes.
    #[error("directory listing: more than {MAX_LISTING_BYTES} bytes")]
    TooLarge,
    /// A path that cannot be one.
    #[error("directory listing: path {path:?}: {source}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        source: PathError,
    },
    /// A symbolic link with an empty target, a longer one than [`MAX_TARGET_BYTES`], or a NUL in it.
    #[error("directory listing: the link {path:?} has an impossible target")]
    Target {
        /// Where the link is.
        path: String,
    },
    /// A path is there twice.
    #[error("directory listing: path {path:?} is there twice")]
    Twice {
        /// The path.
        path: String,
    },
    /// The entries are not in the order of their paths.
    #[error("directory listing: path {path:?} is out of order")]
    Order {
        /// The first that is.
        path: String,
    },
    /// A path leads through an entry that is no folder, or is listed as an empty one.
    #[error("directory listing: {path:?} is inside {parent:?}, which has no inside")]
    Inside {
        /// The path.
        path: String,
        /// The entry it leads through.
        parent: String,
    },
}

/// What is in a directory: sorted by path, each path once, none inside another entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    entries: Vec<Entry>,
}

impl Listing {
    /// Collects the entries of a new listing.
    #[must_use]
    pub fn builder() -> ListingBuilder {
        ListingBuilder::default()
    }

    /// Decodes a listing of at most [`MAX_LISTING_BYTES`]. What it takes in memory is a few times its
    /// encoded size.
    ///
    /// # Errors
    /// [`ListingError::NotAListing`] for any other file; otherwise which check failed. A listing of a later
    /// version is a [`ListingError::Codec`] of [`CodecError::Version`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ListingError> {
        let mut entries: Vec<Entry> = Vec::new();
        wire::decode_each(bytes, &mut |entry| entries.push(entry))?;
        Ok(Self { entries })
    }

    /// The canonical encoding; its BLAKE3 is the directory's address.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(&self.entries)
    }

    /// Whether a file that begins with `first_bytes` claims to be a listing, of whatever version: only
    /// [`Listing::decode`] knows whether it is one. Needs the first 12 bytes.
    #[must_use]
    pub fn is_listing(first_bytes: &[u8]) -> bool {
        first_bytes.starts_with(wire::MAGIC)
    }

    /// The entries, sorted by the bytes of their paths.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is at a path; the empty path is the directory itself. `None` when there is nothing.
    #[must_use]
    pub fn under(&self, path: &str) -> Option<Sub<'_>> {
        if path.is_empty() {
            return Some(Sub::Folder(&self.entries));
        }
        let at = (self.entries).binary_search_by(|entry| entry.path.as_str().cmp(path));
        if let Some(entry) = at.ok().and_then(|at| self.entries.get(at)) {
            return Some(match entry.kind {
                EntryKind::Folder => Sub::Folder(&[]),
                _ => Sub::Entry(entry),
            });
        }
        let folder = format!("{path}/");
        let first = (self.entries).partition_point(|entry| *entry.path.as_str() < *folder);
        let rest = self.entries.get(first..).unwrap_or_default();
        let inside = rest.partition_point(|entry| entry.path.as_str().starts_with(&folder));
        let inside = rest.get(..inside).unwrap_or_default();
        (!inside.is_empty()).then_some(Sub::Folder(inside))
    }

    /// The sizes of all files together, as the listing states them.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        let bytes = self.entries.iter().map(|entry| match entry.kind {
            EntryKind::File { bytes, .. } => bytes,
            EntryKind::Symlink { .. } | EntryKind::Folder => 0,
        });
        bytes.fold(0, u64::saturating_add)
    }

    /// The addresses of its files, each once, ascending.
    #[must_use]
    pub fn members(&self) -> Vec<Address> {
        let files = self.entries.iter().filter_map(|entry| match entry.kind {
            EntryKind::File { address, .. } => Some(address),
            EntryKind::Symlink { .. } | EntryKind::Folder => None,
        });
        let mut members: Vec<Address> = files.collect();
        members.sort_unstable();
        members.dedup();
        members
    }
}

/// Of sorted paths those that the latest begins with, it being the last; each is the beginning of the next.
#[derive(Default)]
struct Beginnings(Vec<RelPath>);

impl Beginnings {
    fn latest(&self) -> Option<&RelPath> {
        self.0.last()
    }

    /// Takes the next path; gives those before it that it leads through, the outermost first. All paths
    /// together take time in proportion to their bytes.
    fn next(&mut self, path: &RelPath) -> impl Iterator<Item = &RelPath> {
        let begins = |last: &RelPath| path.as_str().starts_with(last.as_str());
        while self.0.last().is_some_and(|last| !begins(last)) {
            self.0.pop();
        }
        self.0.push(path.clone());
        let inside = |parent: &&RelPath| {
            let next = path.as_str().as_bytes().get(parent.as_str().len());
            next == Some(&b'/')
        };
        self.0.iter().filter(inside)
    }
}

fn inside_error(parent: &RelPath, path: &RelPath) -> ListingError {
    ListingError::Inside {
        path: path.to_string(),
        parent: parent.to_string(),
    }
}

#[cfg(test)]
mod tests;

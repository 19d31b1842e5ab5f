//! Collecting the entries of a new listing.

use std::collections::HashSet;

use super::wire;
use super::{
    Beginnings, Entry, EntryKind, Listing, ListingError, MAX_LISTING_BYTES, MAX_LISTING_ENTRIES,
    RelPath, inside_error,
};

/// Collects entries in any order. Memory is bounded by [`MAX_LISTING_ENTRIES`] and a few times
/// [`MAX_LISTING_BYTES`].
#[derive(Clone, Debug, Default)]
pub struct ListingBuilder {
    entries: Vec<Entry>,
    encoded_bytes: usize,
}

impl ListingBuilder {
    /// Adds an entry. Folders may be added whether they are empty or not.
    ///
    /// # Errors
    /// [`ListingError::Path`] or [`ListingError::Target`] for an entry that no listing can have,
    /// [`ListingError::TooManyEntries`] or [`ListingError::TooLarge`] when there is no room for it: the
    /// builder is as it was.
    pub fn push(&mut self, path: &str, kind: EntryKind) -> Result<(), ListingError> {
        let entry = Entry {
            path: RelPath::new(path).map_err(|source| ListingError::Path {
                path: path.to_owned(),
                source,
            })?,
            kind,
        };
        wire::check_target(&entry)?;
        if self.entries.len() >= MAX_LISTING_ENTRIES {
            return Err(ListingError::TooManyEntries);
        }
        let encoded_bytes = self.encoded_bytes + wire::entry_bytes(&entry);
        if encoded_bytes > MAX_LISTING_BYTES - wire::HEAD_BYTES {
            return Err(ListingError::TooLarge);
        }
        self.encoded_bytes = encoded_bytes;
        self.entries.push(entry);
        Ok(())
    }

    /// Number of entries so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sorts the entries and leaves out the folders that have something in them.
    ///
    /// # Errors
    /// [`ListingError::Twice`] or [`ListingError::Inside`] when two entries cannot both be.
    pub fn finish(self) -> Result<Listing, ListingError> {
        let mut entries = self.entries;
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        for pair in entries.windows(2) {
            if let [first, second] = pair
                && first.path == second.path
            {
                let path = first.path.to_string();
                return Err(ListingError::Twice { path });
            }
        }
        let mut implied: HashSet<RelPath> = HashSet::new();
        let mut beginnings = Beginnings::default();
        for entry in &entries {
            for parent in beginnings.next(&entry.path) {
                let at = entries.binary_search_by(|other| other.path.cmp(parent));
                let kind = at.ok().and_then(|at| entries.get(at)).map(|at| &at.kind);
                if kind != Some(&EntryKind::Folder) {
                    return Err(inside_error(parent, &entry.path));
                }
                if !implied.contains(parent) {
                    implied.insert(parent.clone());
                }
            }
        }
        entries.retain(|entry| !implied.contains(&entry.path));
        Ok(Listing { entries })
    }
}

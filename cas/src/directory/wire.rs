//! The bytes of a listing: magic, version, and the entries one behind the other up to the end.

use std::cmp::Ordering;

use super::{
    Beginnings, Entry, EntryKind, ListingError, MAX_LISTING_BYTES, MAX_LISTING_ENTRIES,
    MAX_PATH_BYTES, MAX_TARGET_BYTES, RelPath, inside_error,
};
use crate::codec::{self, BorrowDecode, CodecError, Encode};
use crate::id::{Address, HASH_BYTES};

/// What a listing begins with.
pub(super) const MAGIC: &[u8] = b"casnode-dir\0";

/// Version byte, behind the magic.
const VERSION: u8 = 1;

/// Magic and version.
pub(super) const HEAD_BYTES: usize = MAGIC.len() + 1;

/// No entry is larger: the longest path, the longest target, and what is beside them.
const MAX_ENTRY_BYTES: usize = MAX_PATH_BYTES + MAX_TARGET_BYTES + 64;

#[derive(Encode, BorrowDecode)]
struct WireEntry<'a> {
    path: &'a str,
    kind: WireKind<'a>,
}

#[derive(Encode, BorrowDecode)]
enum WireKind<'a> {
    File {
        address: [u8; HASH_BYTES],
        size_bytes: u64,
        executable: bool,
    },
    Symlink {
        target: &'a str,
    },
    Folder,
}

impl<'a> From<&'a Entry> for WireEntry<'a> {
    fn from(entry: &'a Entry) -> Self {
        let kind = match &entry.kind {
            EntryKind::File {
                address,
                bytes,
                executable,
            } => WireKind::File {
                address: *address.as_bytes(),
                size_bytes: *bytes,
                executable: *executable,
            },
            EntryKind::Symlink { target } => WireKind::Symlink { target },
            EntryKind::Folder => WireKind::Folder,
        };
        Self {
            path: entry.path.as_str(),
            kind,
        }
    }
}

impl TryFrom<WireEntry<'_>> for Entry {
    type Error = ListingError;

    fn try_from(wire: WireEntry<'_>) -> Result<Self, ListingError> {
        let path = RelPath::new(wire.path).map_err(|source| ListingError::Path {
            path: wire.path.to_owned(),
            source,
        })?;
        let kind = match wire.kind {
            WireKind::File {
                address,
                size_bytes,
                executable,
            } => EntryKind::File {
                address: Address::from_bytes(address),
                bytes: size_bytes,
                executable,
            },
            WireKind::Symlink { target } => EntryKind::Symlink {
                target: target.to_owned(),
            },
            WireKind::Folder => EntryKind::Folder,
        };
        let entry = Entry { path, kind };
        check_target(&entry)?;
        Ok(entry)
    }
}

pub(super) fn check_target(entry: &Entry) -> Result<(), ListingError> {
    match &entry.kind {
        EntryKind::Symlink { target }
            if target.is_empty() || target.len() > MAX_TARGET_BYTES || target.contains('\0') =>
        {
            Err(ListingError::Target {
                path: entry.path.to_string(),
            })
        }
        _ => Ok(()),
    }
}

/// Bytes of an entry in a listing.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    codec::encoded_len(&WireEntry::from(entry))
}

/// The listing of entries that are sorted and checked.
pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    for entry in entries {
        codec::append(&mut out, &WireEntry::from(entry));
    }
    out
}

/// Decodes and checks the entries one by one: all that makes bytes a listing, with no more memory than a
/// few paths take. What it has called `each` with is of no use when it fails.
pub(crate) fn decode_each(bytes: &[u8], each: &mut dyn FnMut(Entry)) -> Result<(), ListingError> {
    let body = bytes.strip_prefix(MAGIC).ok_or(ListingError::NotAListing)?;
    if bytes.len() > MAX_LISTING_BYTES {
        return Err(ListingError::TooLarge);
    }
    let (&found, mut rest) = body.split_first().ok_or(CodecError::Malformed)?;
    if found != VERSION {
        let known = VERSION;
        return Err(CodecError::Version { found, known }.into());
    }
    let mut beginnings = Beginnings::default();
    for _ in 0..MAX_LISTING_ENTRIES {
        if rest.is_empty() {
            break;
        }
        let (entry, behind) = codec::decode_first::<WireEntry<'_>, MAX_ENTRY_BYTES>(rest)?;
        let entry = Entry::try_from(entry)?;
        check_place(&mut beginnings, &entry.path)?;
        each(entry);
        rest = behind;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(ListingError::TooManyEntries)
    }
}

/// Checks that a path may stand behind those before it.
fn check_place(beginnings: &mut Beginnings, path: &RelPath) -> Result<(), ListingError> {
    let order = beginnings.latest().map(|latest| latest.cmp(path));
    let text = || path.to_string();
    match order {
        Some(Ordering::Equal) => return Err(ListingError::Twice { path: text() }),
        Some(Ordering::Greater) => return Err(ListingError::Order { path: text() }),
        Some(Ordering::Less) | None => {}
    }
    match beginnings.next(path).next() {
        Some(parent) => Err(inside_error(parent, path)),
        None => Ok(()),
    }
}

//! Whether what was asked for as a file is a directory: that is so if its bytes are a listing, and nothing else says so.

use bytes::Bytes;
use casnode_cas::{Listing, MAX_LISTING_BYTES, Manifest};

/// Bytes that say whether a file may be a listing.
const MAGIC_BYTES: usize = 12;

/// Whether a file may be a listing, by its size alone.
pub(super) fn may_be_listing(manifest: &Manifest) -> bool {
    (MAGIC_BYTES as u64..=MAX_LISTING_BYTES as u64).contains(&manifest.size_bytes())
}

/// Whether a file is a listing. Its chunks are read one by one, of another file mostly the first alone. One that cannot be read
/// makes it none.
pub(super) fn is_listing(
    manifest: &Manifest,
    mut read: impl FnMut(usize) -> Option<Bytes>,
) -> bool {
    if !may_be_listing(manifest) {
        return false;
    }
    let mut bytes = Vec::new();
    for index in 0..manifest.chunks().len() {
        let Some(chunk) = read(index) else {
            return false;
        };
        bytes.extend_from_slice(&chunk);
        let may_be = bytes.len() < MAGIC_BYTES || Listing::is_listing(&bytes);
        if !may_be {
            return false;
        }
    }
    Listing::decode(&bytes).is_ok()
}

//! Room under the limit of the store.

use casnode_cas::{Store, StoreError};

/// Removes what is least recently used until so many bytes fit. Nothing is removed in vain: where they cannot fit, all
/// stays as it is.
///
/// # Errors
/// [`StoreError::OverQuota`] when they cannot fit.
pub(crate) fn make(store: &Store, needed_bytes: u64) -> Result<(), StoreError> {
    let Some(max_bytes) = store.max_bytes() else {
        return Ok(());
    };
    // What may go is only counted where something must.
    if needed_bytes > max_bytes.saturating_sub(store.disk_bytes()) {
        check(store, needed_bytes)?;
    }
    store.make_room(needed_bytes)
}

/// Sees whether so many bytes could fit when all that may go has gone; removes nothing.
///
/// # Errors
/// [`StoreError::OverQuota`] when they cannot fit.
pub(crate) fn check(store: &Store, needed_bytes: u64) -> Result<(), StoreError> {
    let Some(max_bytes) = store.max_bytes() else {
        return Ok(());
    };
    let available_bytes = store.room_bytes()?.unwrap_or(u64::MAX);
    if needed_bytes > available_bytes {
        return Err(StoreError::OverQuota {
            needed_bytes,
            available_bytes,
            max_bytes,
        });
    }
    Ok(())
}

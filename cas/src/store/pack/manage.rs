//! Packs as a whole: which is appended to, what they occupy, and removing them.

use std::io;

use super::{Packs, lock};
use crate::error::StoreError;

impl Packs {
    /// Whether the pack may still be appended to.
    pub(crate) fn is_active(&self, id: u32) -> bool {
        lock(&self.active)
            .pack
            .as_ref()
            .is_some_and(|(pack, _)| *pack == id)
    }

    /// The next append begins a new pack.
    pub(crate) fn seal_active(&self) {
        lock(&self.active).pack = None;
    }

    /// No new pack has this number or a lower one: something is known of packs up to here, also of those
    /// that are lost.
    pub(crate) fn reserve_ids_above(&self, id: u32) {
        let mut active = lock(&self.active);
        active.next_id = active.next_id.max(id.saturating_add(1));
    }

    /// Bytes that a pack occupies.
    pub(crate) fn disk_bytes_of(&self, id: u32) -> Result<u64, StoreError> {
        let bytes = self.medium.disk_bytes_of(id);
        bytes.map_err(|error| self.error("measure a pack in", error))
    }

    /// Removes a pack that nothing points at, durably. Those who read it just now go on undisturbed.
    ///
    /// The newest one is followed by an empty one before: after a restart its number would be given
    /// again, and what an index that was not synced says of the old pack would be believed of the new.
    pub(crate) fn remove(&self, id: u32) -> Result<(), StoreError> {
        let mut active = lock(&self.active);
        if active.pack.as_ref().is_some_and(|(pack, _)| *pack == id) {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it is being appended to");
            return Err(self.error("remove a pack in", error));
        }
        if id.saturating_add(1) >= active.next_id {
            self.begin_pack(&mut active)?;
        }
        drop(active);
        let removed = self.medium.remove(id);
        // Readers after this one do not find it.
        lock(&self.open).remove(&id);
        lock(&self.syncs).remove(&id);
        removed.map_err(|error| self.error("remove a pack in", error))
    }
}

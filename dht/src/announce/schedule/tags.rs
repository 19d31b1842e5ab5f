//! Whether a key is in the schedule, without its bucket.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{BUCKETS, bucket_of};
use crate::Key;

/// With the bits that name the bucket, keys that are two of ten million differ but for a chance of one in ten thousand.
const TAG_BYTES: usize = 6;

type Tag = [u8; TAG_BYTES];

/// The first bytes of every key, sorted, by bucket. Has a lock of its own, which nobody holds while the disk works.
pub(crate) struct Tags(Mutex<Vec<Vec<Tag>>>);

impl Default for Tags {
    fn default() -> Self {
        Self(Mutex::new(vec![Vec::new(); BUCKETS]))
    }
}

impl Tags {
    /// Whether the key is in the schedule. When it is not, that is said but for the chance that another has its tag.
    pub(crate) fn may_have(&self, key: &Key) -> bool {
        let all = self.locked();
        all[bucket_of(key)].binary_search(&tag(key)).is_ok()
    }

    pub(super) fn set<'a>(&self, bucket: usize, keys: impl Iterator<Item = &'a Key>) {
        let mut tags: Vec<Tag> = keys.map(tag).collect();
        tags.sort_unstable();
        if let Some(known) = self.locked().get_mut(bucket) {
            *known = tags;
        }
    }

    pub(super) fn insert(&self, bucket: usize, key: &Key) {
        let tag = tag(key);
        let of_bucket = &mut self.locked()[bucket];
        let at = of_bucket.partition_point(|known| *known < tag);
        if of_bucket.len() == of_bucket.capacity() {
            of_bucket.reserve_exact(of_bucket.len() / 8 + 2);
        }
        // Two keys of one tag have two of them: one may go.
        of_bucket.insert(at, tag);
    }

    pub(super) fn remove(&self, bucket: usize, key: &Key) {
        let of_bucket = &mut self.locked()[bucket];
        if let Ok(at) = of_bucket.binary_search(&tag(key)) {
            of_bucket.remove(at);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Vec<Tag>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tag(key: &Key) -> Tag {
    let (tag, _) = key.split_first_chunk().unwrap_or((&[0; TAG_BYTES], &[]));
    *tag
}

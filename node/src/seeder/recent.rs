//! A few things of the last moments that took work to make.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use casnode_cas::ManifestId;

/// Bytes by the manifest they belong to, those used last. What is kept never changes: a manifest's id is its hash.
#[derive(Debug)]
pub(super) struct Recent {
    limits: Limits,
    /// Used last at the back.
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) items: usize,
    pub(super) bytes: usize,
    /// What is older is made anew.
    pub(super) age: Duration,
}

#[derive(Debug)]
struct Kept {
    id: ManifestId,
    bytes: Bytes,
    since: Instant,
}

impl Recent {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            kept: Mutex::default(),
        }
    }

    pub(super) fn get(&self, id: &ManifestId, now: Instant) -> Option<Bytes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.drop_old(&mut kept, now);
        let at = kept.iter().position(|k| k.id == *id)?;
        let found = kept.remove(at)?;
        let bytes = found.bytes.clone();
        kept.push_back(found);
        Some(bytes)
    }

    /// Lets go of what is too old.
    pub(super) fn trim(&self, now: Instant) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.drop_old(&mut kept, now);
    }

    fn drop_old(&self, kept: &mut VecDeque<Kept>, now: Instant) {
        let young = |k: &Kept| now.saturating_duration_since(k.since) < self.limits.age;
        kept.retain(young);
    }

    /// Keeps it, in place of what was used longest ago; one that is larger than the limit alone.
    pub(super) fn keep(&self, id: ManifestId, bytes: Bytes, now: Instant) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|k| k.id != id);
        kept.push_back(Kept {
            id,
            bytes,
            since: now,
        });
        let size = |kept: &VecDeque<Kept>| kept.iter().map(|k| k.bytes.len()).sum::<usize>();
        while kept.len() > self.limits.items || (kept.len() > 1 && size(&kept) > self.limits.bytes)
        {
            kept.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        items: 3,
        bytes: 100,
        age: Duration::from_secs(10),
    };

    fn id(n: u8) -> ManifestId {
        ManifestId::from_bytes([n; 32])
    }

    fn kept(recent: &Recent, now: Instant) -> Vec<u8> {
        (0..10)
            .filter(|n| recent.get(&id(*n), now).is_some())
            .collect()
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let (recent, now) = (Recent::new(LIMITS), Instant::now());
        for n in 0..3 {
            recent.keep(id(n), Bytes::from(vec![n]), now);
        }
        assert_eq!(recent.get(&id(0), now).as_deref(), Some(&[0][..]));
        recent.keep(id(3), Bytes::from(vec![3]), now);
        assert_eq!(kept(&recent, now), [0, 2, 3]);
    }

    #[test]
    fn the_bytes_are_bounded_and_what_is_larger_is_kept_alone() {
        let (recent, now) = (Recent::new(LIMITS), Instant::now());
        recent.keep(id(0), Bytes::from(vec![0; 60]), now);
        recent.keep(id(1), Bytes::from(vec![0; 60]), now);
        assert_eq!(kept(&recent, now), [1]);
        recent.keep(id(2), Bytes::from(vec![0; 101]), now);
        assert_eq!(kept(&recent, now), [2]);
        recent.keep(id(3), Bytes::from(vec![0; 10]), now);
        assert_eq!(kept(&recent, now), [3]);
    }

    #[test]
    fn what_is_old_is_made_anew() {
        let (recent, now) = (Recent::new(LIMITS), Instant::now());
        recent.keep(id(0), Bytes::new(), now);
        assert!(recent.get(&id(0), now + Duration::from_secs(9)).is_some());
        recent.trim(now + Duration::from_secs(9));
        assert_eq!(kept(&recent, now), [0]);
        recent.trim(now + Duration::from_secs(10));
        assert_eq!(kept(&recent, now), [0u8; 0], "its memory is free");
        recent.keep(id(0), Bytes::new(), now);
        assert!(recent.get(&id(0), now + Duration::from_secs(10)).is_none());
    }
}

//! What downloads tell of the peers they fetch from.

use std::sync::{Arc, Mutex, PoisonError};

use casnode_cas::HaveBitmap;

use crate::{choke::Rate, sched::Mono};

/// What a download knows of one of its sources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SourceView {
    /// It sends this node nothing at present.
    pub(crate) chokes_us: bool,
    /// It has something this node wants.
    pub(crate) interests_us: bool,
    /// It was asked, and has sent nothing for a minute.
    pub(crate) snubs_us: bool,
    /// How many chunks it has.
    pub(crate) have_chunks: u32,
}

/// Which chunks a source has, as far as it said. Its download notes what it says, the swarm shows it.
#[derive(Debug, Clone)]
pub(crate) struct SourceHas(Arc<Mutex<HaveBitmap>>);

impl SourceHas {
    pub(crate) fn new(have: HaveBitmap) -> Self {
        Self(Arc::new(Mutex::new(have)))
    }

    /// It has these, too; how many it has then. What is beyond the end is nothing.
    pub(crate) fn add(&self, indices: &[u32]) -> u32 {
        let mut have = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for index in indices {
            have.set(*index as usize);
        }
        u32::try_from(have.count()).unwrap_or(u32::MAX)
    }

    /// What it has at this moment.
    pub(super) fn now(&self) -> HaveBitmap {
        let have = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        have.clone()
    }
}

/// A peer that is fetched from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) view: SourceView,
    pub(super) has: SourceHas,
    pub(super) gives: Rate,
    pub(super) bytes: u64,
}

impl Source {
    pub(super) fn new(view: SourceView, has: SourceHas) -> Self {
        Self {
            view,
            has,
            gives: Rate::default(),
            bytes: 0,
        }
    }

    pub(super) fn gave(&mut self, bytes: u64, now: Mono) {
        self.gives.add(now, bytes);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

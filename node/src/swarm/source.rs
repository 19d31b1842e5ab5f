//! What downloads tell of the peers they fetch from.

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

/// A peer that is fetched from.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) view: SourceView,
    pub(super) gives: Rate,
    pub(super) bytes: u64,
}

impl Source {
    pub(super) fn gave(&mut self, bytes: u64, now: Mono) {
        self.gives.add(now, bytes);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

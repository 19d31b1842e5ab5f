//! A stream's window: what its reader needs soon.

use super::{Mono, Order, Scheduler, peer::Peer};

impl Scheduler {
    /// The first chunk behind the window. It begins with the first chunk that is not here and ends `window_bytes`
    /// behind the reader, in chunks of the usual length, but not before what the reader needs at once; while nobody tells
    /// where the reader is, behind its own beginning.
    pub(super) fn window_end(&self) -> u32 {
        let chunks = self.cfg.window_bytes / u64::from(self.chunk_bytes.max(1));
        let chunks = u32::try_from(chunks).unwrap_or(u32::MAX).max(1);
        let (reader, needs) = self.reader.unwrap_or((self.wants.first_missing(), 0));
        reader.saturating_add(chunks).max(needs)
    }

    /// The lowest wanted chunk within the window that the peer has. What is needed before it could bring it is left to
    /// quicker ones that have it.
    pub(super) fn pick_in_window(&self, peer: &Peer, now: Mono) -> Option<u32> {
        let (first, end) = (self.wants.first_missing(), self.window_end());
        let arrival_s = |p: &Peer| p.arrival_s(p.asked.len(), &self.cfg, now);
        let own_s = arrival_s(peer);
        let quicker = || {
            let others = self.peers.iter().filter(|p| p.is_ready(now));
            others.filter(|p| arrival_s(p) < own_s)
        };
        let quickest_s = quicker().map(arrival_s).fold(own_s, f64::min);
        let chunks_per_s: f64 = quicker().filter_map(Peer::chunks_per_s).sum();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "float casts saturate"
        )]
        let ahead = ((own_s - quickest_s) * chunks_per_s) as u32;
        let in_time = first.saturating_add(ahead);
        let wanted = self.wants.wanted().both(&peer.have, first);
        wanted
            .take_while(|i| *i < end)
            .find(|i| *i >= in_time || !quicker().any(|p| p.have.get(*i)))
    }

    /// Whether it is the chunk that a stream waits for.
    pub(super) fn is_head(&self, index: u32) -> bool {
        self.order == Order::Sequential && index == self.wants.first_missing()
    }

    /// Every wanted chunk that may be asked for by the order alone.
    pub(super) fn wanted_now(&self) -> impl Iterator<Item = u32> + '_ {
        let end = match self.order {
            Order::Sequential => self.window_end(),
            Order::RarestFirst => self.wants.count(),
        };
        self.wants.wanted().iter().take_while(move |i| *i < end)
    }
}

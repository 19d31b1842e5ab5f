//! What readers need soon: the window of a stream, and those of readers of ranges.

use std::ops::Range;

use super::{Action, Mono, Order, Scheduler, peer::Peer};

impl Scheduler {
    /// The first chunk behind the window of a stream. The window begins with the first chunk that is not here and ends
    /// `window_bytes` behind the reader, in chunks of the usual length, but not before what the reader needs at once;
    /// while nobody tells where the reader is, behind its own beginning.
    pub(super) fn window_end(&self) -> u32 {
        let chunks = self.cfg.window_bytes / u64::from(self.chunk_bytes.max(1));
        let chunks = u32::try_from(chunks).unwrap_or(u32::MAX).max(1);
        let (reader, needs) = self.reader.unwrap_or((self.wants.first_missing(), 0));
        reader.saturating_add(chunks).max(needs)
    }

    /// What readers need soon, each from where it is on: that of the stream, and those of ranges.
    pub(super) fn windows(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let is_stream = self.order == Order::Sequential;
        let stream = is_stream.then(|| self.wants.first_missing()..self.window_end());
        stream.into_iter().chain(self.ranges.iter().cloned())
    }

    /// Readers of ranges are there now, and nowhere else. Where nothing is fetched but for them, what none of them needs
    /// any more is taken back.
    pub(super) fn look(&mut self, ranges: Vec<Range<u32>>) {
        self.ranges = ranges;
        if self.order != Order::OnDemand {
            return;
        }
        let is_needed = |index: u32| {
            self.ranges.iter().any(|r| r.contains(&index)) || self.gate.contains(&index)
        };
        let asked = self.peers.iter().flat_map(|p| {
            let needless = p.asked.iter().filter(|a| !is_needed(a.index));
            needless.map(|a| (p.slot, a.index))
        });
        let needless: Vec<_> = asked.collect();
        for (peer, index) in needless {
            if let Some(p) = self.peers.get_mut(peer) {
                p.unask(index);
            }
            self.give_up(index, peer);
            self.actions.push_back(Action::Cancel { peer, index });
        }
    }

    /// Of what readers need soon, and what is wanted and the peer has, the chunk that is nearest to its reader. What is
    /// needed before the peer could bring it is left to quicker ones that have it.
    pub(super) fn pick_in_windows(&self, peer: &Peer, now: Mono) -> Option<u32> {
        let ahead = self.sooner_of_others(peer, now);
        let nearest = |window: Range<u32>| {
            let index = self.pick_in(&window, peer, ahead, now)?;
            Some((index - window.start, index))
        };
        let picked = self.windows().filter_map(nearest).min();
        picked.map(|(_, index)| index)
    }

    /// How many chunks quicker peers bring before this one brings its next.
    fn sooner_of_others(&self, peer: &Peer, now: Mono) -> u32 {
        let own_s = self.arrival_s(peer, now);
        let quickest_s = self.quicker(own_s, now).map(|p| self.arrival_s(p, now));
        let quickest_s = quickest_s.fold(own_s, f64::min);
        let chunks_per_s: f64 = self
            .quicker(own_s, now)
            .filter_map(Peer::chunks_per_s)
            .sum();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "float casts saturate"
        )]
        let ahead = ((own_s - quickest_s) * chunks_per_s) as u32;
        ahead
    }

    /// Seconds until a chunk that the peer is asked for now is here.
    fn arrival_s(&self, peer: &Peer, now: Mono) -> f64 {
        peer.arrival_s(peer.asked.len(), &self.cfg, now)
    }

    fn quicker(&self, than_s: f64, now: Mono) -> impl Iterator<Item = &Peer> {
        let ready = self.peers.iter().filter(move |p| p.is_ready(now));
        ready.filter(move |p| self.arrival_s(p, now) < than_s)
    }

    /// The lowest wanted chunk of a window that the peer has; those before the first `ahead` that are not here only
    /// where no quicker peer has them.
    fn pick_in(&self, window: &Range<u32>, peer: &Peer, ahead: u32, now: Mono) -> Option<u32> {
        let in_time = self.first_missing_in(window)?.saturating_add(ahead);
        let own_s = self.arrival_s(peer, now);
        let can_be_left = |index| self.quicker(own_s, now).any(|p| p.have.get(index));
        self.wants
            .wanted()
            .both(&peer.have, window.start)
            .skip_while(|i| *i < window.start)
            .take_while(|i| *i < window.end)
            .find(|i| *i >= in_time || !can_be_left(*i))
    }

    /// The first chunk of a window that is not here.
    fn first_missing_in(&self, window: &Range<u32>) -> Option<u32> {
        let missing = self.wants.missing();
        let first = missing
            .both(missing, window.start)
            .find(|i| *i >= window.start);
        first.filter(|i| *i < window.end)
    }

    /// Whether it is a chunk that a reader waits for.
    pub(super) fn is_head(&self, index: u32) -> bool {
        self.windows()
            .any(|window| self.first_missing_in(&window) == Some(index))
    }

    /// Whether chunks are fetched in the order of readers alone.
    pub(super) fn is_for_readers(&self) -> bool {
        self.order != Order::RarestFirst || !self.ranges.is_empty()
    }

    /// Whether anything that may be asked for by the order alone is not here.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        match self.order {
            Order::RarestFirst | Order::Sequential => self.missing() > 0,
            Order::OnDemand => {
                let gate = self.gate.iter();
                let mut gate = gate.filter(|i| self.wants.missing().get(**i));
                gate.next().is_some() || self.windows().any(|w| self.first_missing_in(&w).is_some())
            }
        }
    }

    /// Every wanted chunk that may be asked for by the order alone.
    pub(super) fn wanted_now(&self) -> impl Iterator<Item = u32> + '_ {
        let (start, end) = match self.order {
            Order::Sequential => (0, self.window_end()),
            Order::RarestFirst => (0, self.wants.count()),
            Order::OnDemand => {
                let starts = self.ranges.iter().map(|r| r.start);
                let ends = self.ranges.iter().map(|r| r.end);
                (starts.min().unwrap_or(0), ends.max().unwrap_or(0))
            }
        };
        let is_on_demand = self.order == Order::OnDemand;
        let wanted = self.wants.wanted();
        wanted
            .both(wanted, start)
            .take_while(move |i| *i < end)
            .filter(move |i| !is_on_demand || self.ranges.iter().any(|r| r.contains(i)))
    }
}

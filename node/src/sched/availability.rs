//! How many of the present peers have each chunk, and which wanted one fewest have.

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::bits::Bits;

/// Not in any bucket: the chunk is not wanted.
const NOWHERE: u32 = u32::MAX;

/// How many of the present peers have each chunk. The wanted ones are in buckets by that number, in random order within
/// each, so that a change of one chunk costs the same whatever the file's size.
///
/// Peers that have everything are not counted here: they do not change the order.
#[derive(Debug)]
pub(super) struct Availability {
    holders: Vec<u16>,
    /// Wanted chunks, by number of holders.
    buckets: Vec<Vec<u32>>,
    /// Each chunk's place in its bucket, or [`NOWHERE`].
    places: Vec<u32>,
    rng: SmallRng,
}

impl Availability {
    /// Nobody has anything, and nothing is wanted yet.
    pub(super) fn new(chunks: u32, seed: u64) -> Self {
        Self {
            holders: vec![0; chunks as usize],
            buckets: vec![Vec::new()],
            places: vec![NOWHERE; chunks as usize],
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    /// Present peers that have the chunk, but for those that have everything.
    pub(super) fn holders(&self, index: u32) -> u16 {
        self.holders.get(index as usize).copied().unwrap_or(0)
    }

    /// The chunk is wanted from now on.
    pub(super) fn want(&mut self, index: u32) {
        if self.place(index).is_none() {
            self.put(index);
        }
    }

    /// The chunk is not wanted any more.
    pub(super) fn unwant(&mut self, index: u32) {
        self.take_out(index);
    }

    /// One more peer has the chunk.
    pub(super) fn more(&mut self, index: u32) {
        self.change(index, |n| n.saturating_add(1));
    }

    /// One peer less has the chunk.
    pub(super) fn less(&mut self, index: u32) {
        self.change(index, |n| n.saturating_sub(1));
    }

    /// The wanted chunk of `have` with the fewest holders. `wanted` are all wanted ones.
    ///
    /// The buckets are gone through while that is cheaper than going through what is in both sets; either way
    /// finds the same one.
    pub(super) fn rarest(&self, have: &Bits, wanted: &Bits) -> Option<u32> {
        let budget = (wanted.len() / 64 + wanted.count().min(have.count())) as usize;
        let mut looked_at = self.buckets.iter().flatten().take(budget + 1);
        if let Some(index) = looked_at.find(|i| have.get(**i)) {
            return Some(*index);
        }
        wanted
            .both(have, 0)
            .min_by_key(|i| (self.holders(*i), self.places[*i as usize]))
    }

    /// A number below `end`, at random.
    pub(super) fn draw(&mut self, end: u32) -> u32 {
        self.rng.random_range(0..end.max(1))
    }

    fn place(&self, index: u32) -> Option<usize> {
        let place = self.places.get(index as usize)?;
        (*place != NOWHERE).then_some(*place as usize)
    }

    fn change(&mut self, index: u32, to: impl Fn(u16) -> u16) {
        let was_wanted = self.take_out(index);
        if let Some(holders) = self.holders.get_mut(index as usize) {
            *holders = to(*holders);
        }
        if was_wanted {
            self.put(index);
        }
    }

    /// Puts a chunk at a random place of its bucket: whoever watches the same changes does not get the same order.
    fn put(&mut self, index: u32) {
        let Some(holders) = self.holders.get(index as usize) else {
            return;
        };
        let holders = usize::from(*holders);
        if self.buckets.len() <= holders {
            self.buckets.resize_with(holders + 1, Vec::new);
        }
        let bucket = &mut self.buckets[holders];
        bucket.push(index);
        let last = bucket.len() - 1;
        let at = self.rng.random_range(0..=last);
        bucket.swap(at, last);
        for at in [at, last] {
            self.places[bucket[at] as usize] = u32::try_from(at).unwrap_or(NOWHERE);
        }
    }

    fn take_out(&mut self, index: u32) -> bool {
        let Some(at) = self.place(index) else {
            return false;
        };
        let bucket = &mut self.buckets[usize::from(self.holders[index as usize])];
        bucket.swap_remove(at);
        self.places[index as usize] = NOWHERE;
        if let Some(moved) = bucket.get(at) {
            self.places[*moved as usize] = u32::try_from(at).unwrap_or(NOWHERE);
        }
        true
    }
}

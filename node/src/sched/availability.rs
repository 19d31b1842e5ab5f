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

    /// The wanted chunk of `have` with the fewest holders. `wanted` are all wanted ones, and so many are in both sets.
    ///
    /// The buckets are gone through while that is cheaper than going through what is in both sets; either way
    /// finds the same one.
    pub(super) fn rarest(&self, have: &Bits, wanted: &Bits, in_both: u32) -> Option<u32> {
        let budget = wanted.len() / 64 + in_both;
        self.rarest_within(budget, have).or_else(|| {
            wanted
                .both(have, 0)
                .min_by_key(|i| (self.holders(*i), self.places[*i as usize]))
        })
    }

    /// The same, if it is among so many.
    fn rarest_within(&self, budget: u32, have: &Bits) -> Option<u32> {
        // Whoever has everything is not counted, and has what nobody else has. The others have nothing of that.
        let is_whole = have.count() == have.len();
        let buckets = self.buckets.iter().skip(usize::from(!is_whole));
        let mut looked_at = buckets.flatten().take(budget as usize);
        looked_at.find(|i| have.get(**i)).copied()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_costs_a_pick_nothing() {
        let (chunks, had) = (10_000, 64);
        let mut availability = Availability::new(chunks, 7);
        let (mut have, mut wanted) = (Bits::new(chunks), Bits::new(chunks));
        for index in 0..chunks {
            availability.want(index);
            wanted.set(index);
        }
        for index in 0..had {
            have.set(index);
            availability.more(index);
        }
        let rarest = availability.rarest_within(1, &have);
        assert!(rarest.is_some_and(|i| i < had), "{rarest:?}");
        assert_eq!(availability.rarest(&have, &wanted, had), rarest);
        (0..chunks).for_each(|index| {
            have.set(index);
        });
        let whole = availability.rarest_within(1, &have);
        assert!(whole.is_some_and(|i| i >= had), "{whole:?}");
    }
}

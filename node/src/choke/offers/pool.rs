//! The chunks that nobody has and nobody was offered, in a random order.

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::SliceRandom};

/// Neighbours that are offered to one member: among them is a whole group of the proof tree, and nothing is passed on
/// before a group is proven.
pub(super) const RUN: u32 = 4;

/// A set of chunks in a random order. Everything is O(1).
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) order: Vec<u32>,
    /// By chunk: its place in `order`, or [`Pool::OUT`].
    place: Vec<u32>,
    rng: SmallRng,
}

impl Pool {
    const OUT: u32 = u32::MAX;

    pub(super) fn full(chunks: u32, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut order: Vec<u32> = (0..chunks).collect();
        order.shuffle(&mut rng);
        let mut place = vec![Self::OUT; order.len()];
        for (at, index) in (0..).zip(&order) {
            place[*index as usize] = at;
        }
        Self { order, place, rng }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The next of the run that `last` is in, or the first that is left of another, at random.
    pub(super) fn take(&mut self, last: Option<u32>) -> Option<u32> {
        let next = last.map(|last| last + 1).filter(|next| next % RUN != 0);
        let index = match next.filter(|next| self.has(*next)) {
            Some(next) => next,
            None => {
                let random = *self.order.last()?;
                let run = random - random % RUN..random;
                run.into_iter().find(|i| self.has(*i)).unwrap_or(random)
            }
        };
        self.remove(index);
        Some(index)
    }

    pub(super) fn has(&self, index: u32) -> bool {
        let place = self.place.get(index as usize);
        place.is_some_and(|place| *place != Self::OUT)
    }

    pub(super) fn remove(&mut self, index: u32) {
        let at = std::mem::replace(&mut self.place[index as usize], Self::OUT);
        if at != Self::OUT {
            self.order.swap_remove(at as usize);
            if let Some(moved) = self.order.get(at as usize) {
                self.place[*moved as usize] = at;
            }
        }
    }

    /// Puts a chunk back at a random place. Invariant: it is not in the pool.
    pub(super) fn put(&mut self, index: u32) {
        debug_assert_eq!(
            self.place[index as usize],
            Self::OUT,
            "a chunk is in the pool once"
        );
        self.order.push(index);
        let last = self.order.len() - 1;
        let at = self.rng.random_range(0..=last);
        self.order.swap(at, last);
        for moved in [at, last] {
            self.place[self.order[moved] as usize] = u32::try_from(moved).unwrap_or(Self::OUT);
        }
    }
}

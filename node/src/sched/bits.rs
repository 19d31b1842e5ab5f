//! A set of chunk indices that two of which are intersected quickly.

use casnode_cas::HaveBitmap;

const WORD: u32 = u64::BITS;

/// A set of chunk indices below a fixed length. Index 0 is the most significant bit of the first word, as on the wire.
#[derive(Debug, Clone)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: u32,
    count: u32,
}

impl Bits {
    /// An empty set of indices below `len`.
    pub(super) fn new(len: u32) -> Self {
        Self {
            words: vec![0; len.div_ceil(WORD) as usize],
            len,
            count: 0,
        }
    }

    /// The ones of a bitmap below `len`; where it is shorter, the rest is not in the set.
    pub(super) fn of(have: &HaveBitmap, len: u32) -> Self {
        let mut bits = Self::new(len);
        if have.len() != len as usize {
            have.iter_ones()
                .filter_map(|i| u32::try_from(i).ok())
                .for_each(|i| {
                    bits.set(i);
                });
            return bits;
        }
        for (word, bytes) in bits.words.iter_mut().zip(have.to_wire().chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_be_bytes(whole);
        }
        bits.count = bits.words.iter().map(|w| w.count_ones()).sum();
        bits
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// How many are in the set.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn get(&self, index: u32) -> bool {
        let word = self.words.get((index / WORD) as usize);
        word.is_some_and(|w| w & mask(index) != 0)
    }

    /// Puts an index in; whether that is news. One beyond the length changes nothing.
    pub(super) fn set(&mut self, index: u32) -> bool {
        if index >= self.len || self.get(index) {
            return false;
        }
        self.words[(index / WORD) as usize] |= mask(index);
        self.count += 1;
        true
    }

    /// Takes an index out; whether it was in.
    pub(super) fn unset(&mut self, index: u32) -> bool {
        if !self.get(index) {
            return false;
        }
        self.words[(index / WORD) as usize] &= !mask(index);
        self.count -= 1;
        true
    }

    /// All of the set, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.both(self, 0)
    }

    /// What is in both sets, in order, from about index `from` on: from the beginning of its word.
    pub(super) fn both<'a>(&'a self, other: &'a Bits, from: u32) -> impl Iterator<Item = u32> + 'a {
        let first = (from / WORD) as usize;
        let words = self.words.iter().zip(&other.words).enumerate().skip(first);
        words.flat_map(|(at, (a, b))| ones(u32::try_from(at).unwrap_or(u32::MAX) * WORD, a & b))
    }

    /// The `n`-th, from 0, of what is in both sets.
    pub(super) fn nth_of_both(&self, other: &Bits, mut n: u32) -> Option<u32> {
        for (at, (a, b)) in (0u32..).zip(self.words.iter().zip(&other.words)) {
            let ones_here = (a & b).count_ones();
            if n < ones_here {
                return ones(at * WORD, a & b).nth(n as usize);
            }
            n -= ones_here;
        }
        None
    }
}

fn mask(index: u32) -> u64 {
    1 << (WORD - 1 - index % WORD)
}

/// The indices of a word's ones; its first bit is index `base`.
fn ones(base: u32, mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let at = word.leading_zeros();
        (at < WORD).then(|| {
            word &= !mask(at);
            base + at
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_lists_of_booleans(
            a in prop::collection::vec(any::<bool>(), 200),
            b in prop::collection::vec(any::<bool>(), 200),
            len in 0usize..200,
            flips in prop::collection::vec(0u32..220, 0..40),
        ) {
            let bits = |list: &[bool]| {
                let mut have = HaveBitmap::new(len);
                (0..len).filter(|i| list[*i]).for_each(|i| {
                    have.set(i);
                });
                Bits::of(&have, u32::try_from(len).unwrap())
            };
            let (mut a, mut model) = (bits(&a), a[..len].to_vec());
            for index in flips {
                let was = model.get(index as usize).copied();
                prop_assert_eq!(a.get(index), was.unwrap_or(false));
                let news = if a.get(index) { a.unset(index) } else { a.set(index) };
                prop_assert_eq!(news, was.is_some());
                if let Some(bit) = model.get_mut(index as usize) {
                    *bit = !*bit;
                }
            }
            let ones: Vec<u32> = (0u32..).zip(&model).filter(|(_, m)| **m).map(|(i, _)| i).collect();
            prop_assert_eq!(a.iter().collect::<Vec<_>>(), ones.clone());
            prop_assert_eq!(a.count() as usize, ones.len());
            let other = bits(&b);
            let both: Vec<u32> = ones.into_iter().filter(|i| b[*i as usize]).collect();
            prop_assert_eq!(a.both(&other, 0).collect::<Vec<_>>(), both.clone());
            for n in 0..=both.len() {
                let nth = a.nth_of_both(&other, u32::try_from(n).unwrap());
                prop_assert_eq!(nth, both.get(n).copied());
            }
        }
    }

    #[test]
    fn a_bitmap_of_another_length_counts_as_far_as_it_goes() {
        let mut have = HaveBitmap::new(100);
        for index in [3, 70, 99] {
            have.set(index);
        }
        assert_eq!(Bits::of(&have, 80).iter().collect::<Vec<_>>(), [3, 70]);
        assert_eq!(Bits::of(&have, 200).iter().collect::<Vec<_>>(), [3, 70, 99]);
    }
}

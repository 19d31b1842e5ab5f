//! The content-defined chunker's scan for boundaries.
//!
//! Same boundaries as the `fastcdc` crate, whose tables it uses; a test compares them. The crate's scan
//! waits for each byte's hash before it can begin the next. Here several stretches of the input are hashed
//! side by side, which one core does more than twice as fast: a gear hash depends on the last 64 bytes only,
//! so a scan can begin anywhere.

use fastcdc::v2020::{get_gear_with_seed, select_masks};

use super::NORMALIZATION;

/// Bytes that a 64-bit gear hash remembers.
const MEMORY_BYTES: usize = 64;

/// Bytes of each of the stretches that are hashed side by side. The warm-up costs `MEMORY_BYTES` of each; the
/// stretches in which a boundary is found are hashed twice.
const STRETCH_BYTES: usize = 2048;

/// Stretches side by side.
const STRETCHES: usize = 4;

/// Finds boundaries with one set of parameters.
#[derive(Clone, Debug)]
pub(super) struct GearScan {
    gear: [u64; 256],
    /// The same, one bit further left.
    gear_shifted: [u64; 256],
    min_bytes: usize,
    avg_bytes: usize,
    max_bytes: usize,
    /// A boundary before the average needs more zero bits than one behind it.
    mask_before_avg: u64,
    mask_after_avg: u64,
}

impl GearScan {
    /// The sizes are valid for the `fastcdc` crate: even, ascending.
    pub(super) fn new(min_bytes: usize, avg_bytes: usize, max_bytes: usize) -> Self {
        let (mut gear, mut gear_shifted) = ([0; 256], [0; 256]);
        let tables = get_gear_with_seed(0);
        gear.copy_from_slice(&tables.0);
        gear_shifted.copy_from_slice(&tables.1);
        let (mask_before_avg, mask_after_avg) = select_masks(avg_bytes, NORMALIZATION);
        Self {
            gear,
            gear_shifted,
            min_bytes,
            avg_bytes,
            max_bytes,
            mask_before_avg,
            mask_after_avg,
        }
    }

    /// The first boundary in `bytes`, which begin at the last one; `None` when it is not in these.
    pub(super) fn boundary(&self, bytes: &[u8]) -> Option<usize> {
        let max = bytes.len().min(self.max_bytes);
        // The crate looks at pairs of bytes: an odd last one is no candidate.
        let end = max & !1;
        let avg = end.min(self.avg_bytes);
        let mut hash = 0;
        let before = bytes.get(self.min_bytes..avg).unwrap_or_default();
        if let Some(found) = self.first_match(before, &mut hash, self.mask_before_avg) {
            return Some(self.min_bytes + found);
        }
        let after_from = self.min_bytes.max(self.avg_bytes);
        let after = bytes.get(after_from..end).unwrap_or_default();
        if let Some(found) = self.first_match(after, &mut hash, self.mask_after_avg) {
            return Some(after_from + found);
        }
        (bytes.len() >= self.max_bytes).then_some(self.max_bytes)
    }

    /// Where in `bytes` the hash first has only zeros under `mask`; `hash` is carried through all of them.
    fn first_match(&self, bytes: &[u8], hash: &mut u64, mask: u64) -> Option<usize> {
        let mut runs = bytes.chunks_exact(STRETCHES * STRETCH_BYTES);
        for (index, run) in runs.by_ref().enumerate() {
            match self.hash_if_no_match(run, *hash, mask) {
                Some(next) => *hash = next,
                None => {
                    let before = index * STRETCHES * STRETCH_BYTES;
                    return self
                        .first_match_slowly(run, hash, mask)
                        .map(|found| before + found);
                }
            }
        }
        let rest = runs.remainder();
        self.first_match_slowly(rest, hash, mask)
            .map(|found| bytes.len() - rest.len() + found)
    }

    fn first_match_slowly(&self, bytes: &[u8], hash: &mut u64, mask: u64) -> Option<usize> {
        bytes.iter().position(|byte| {
            *hash = self.step(*hash, *byte);
            *hash & mask == 0
        })
    }

    /// The hash after a run of `STRETCHES` stretches, or `None` when a boundary is somewhere in it.
    fn hash_if_no_match(&self, run: &[u8], hash: u64, mask: u64) -> Option<u64> {
        let stretch = |index: usize| &run[index * STRETCH_BYTES..][..STRETCH_BYTES];
        let warm = |index: usize| {
            let before = &run[index * STRETCH_BYTES - MEMORY_BYTES..][..MEMORY_BYTES];
            before.iter().fold(0, |hash, byte| self.step(hash, *byte))
        };
        let mut hashes = [hash, warm(1), warm(2), warm(3)];
        let pairs = |index: usize| stretch(index).as_chunks::<2>().0;
        let rows = pairs(0).iter().zip(pairs(1));
        let rows = rows.zip(pairs(2).iter().zip(pairs(3)));
        for ((of_a, of_b), (of_c, of_d)) in rows {
            for (hash, [first, second]) in hashes.iter_mut().zip([of_a, of_b, of_c, of_d]) {
                // Two steps with one shift: after the first one everything is a bit further left.
                *hash = (*hash << 2).wrapping_add(self.gear_shifted[usize::from(*first)]);
                if *hash & mask << 1 == 0 {
                    return None;
                }
                *hash = hash.wrapping_add(self.gear[usize::from(*second)]);
                if *hash & mask == 0 {
                    return None;
                }
            }
        }
        Some(hashes[STRETCHES - 1])
    }

    #[inline(always)]
    fn step(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.gear[usize::from(byte)])
    }
}

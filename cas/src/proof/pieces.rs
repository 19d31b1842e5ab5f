//! A group that is proven although its bytes come in pieces and in any order.
//!
//! Of each piece the whole subtrees are hashed when it comes, so that no byte is hashed twice and none has to be
//! kept or read again; what is kept are chaining values, and the bytes of the 1,024-byte leaves at the ends of the
//! piece, whose other bytes belong to its neighbours.

use std::collections::BTreeMap;

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root};

use super::ProofTree;

/// Bytes of a leaf of the tree (BLAKE3 paper, section 2.1).
const LEAF_BYTES: usize = 1024;

/// What a map entry takes beside its value; an estimate.
const ENTRY_BYTES: usize = 32;

/// A group of which pieces have come; made by [`ProofTree::group_pieces`].
#[derive(Debug)]
pub struct GroupPieces {
    /// Of the file, where the group begins.
    start: u64,
    len: usize,
    expected: ChainingValue,
    /// Bytes that have not come.
    missing_bytes: usize,
    /// Subtrees whose bytes all came, by their first leaf, with the number of leaves.
    subtrees: BTreeMap<usize, (usize, ChainingValue)>,
    /// Leaves of which some bytes came, by number.
    torn: BTreeMap<usize, Torn>,
}

/// A leaf of which some bytes came.
#[derive(Debug)]
struct Torn {
    bytes: Box<[u8; LEAF_BYTES]>,
    missing_bytes: usize,
}

impl ProofTree {
    /// Checks a group whose bytes come in pieces in any order. `None` for a group that the file does not have, and for
    /// the only one of a file, whose bytes are the whole tree: [`ProofTree::group_hasher`] checks that.
    #[must_use]
    pub fn group_pieces(&self, group: usize) -> Option<GroupPieces> {
        let expected = *self.values.get(group)?;
        let range = self.group_range(group);
        let len = usize::try_from(range.end - range.start).ok()?;
        Some(GroupPieces {
            start: range.start,
            len,
            expected,
            missing_bytes: len,
            subtrees: BTreeMap::new(),
            torn: BTreeMap::new(),
        })
    }
}

impl GroupPieces {
    /// Takes bytes of the group, which begin at `offset` in it. No byte may be given twice; bytes beyond the group's end
    /// are passed over.
    pub fn add(&mut self, offset: usize, bytes: &[u8]) {
        let room = self.len.saturating_sub(offset);
        let bytes = &bytes[..bytes.len().min(room)];
        self.missing_bytes = self.missing_bytes.saturating_sub(bytes.len());
        let (mut at, end) = (offset, offset + bytes.len());
        while at < end {
            let leaf = at / LEAF_BYTES;
            let whole_to = self.whole_to(end);
            at = if at.is_multiple_of(LEAF_BYTES) && at < whole_to {
                let leaves = largest_subtree(leaf, (whole_to - at).div_ceil(LEAF_BYTES));
                let to = (at + leaves * LEAF_BYTES).min(whole_to);
                self.hash(leaf, leaves, &bytes[at - offset..to - offset]);
                to
            } else {
                let to = ((leaf + 1) * LEAF_BYTES).min(end);
                self.tear(leaf, at, &bytes[at - offset..to - offset]);
                to
            };
        }
    }

    /// Whether all bytes came.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing_bytes == 0
    }

    /// Whether the bytes that came are the group's, and all of them.
    #[must_use]
    pub fn finish(self) -> bool {
        let leaves = self.len.div_ceil(LEAF_BYTES);
        self.is_complete() && self.value(0, leaves) == Some(self.expected)
    }

    /// About how much memory this takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let subtree = size_of::<(usize, ChainingValue)>() + ENTRY_BYTES;
        let torn = LEAF_BYTES + size_of::<Torn>() + ENTRY_BYTES;
        size_of::<Self>() + self.subtrees.len() * subtree + self.torn.len() * torn
    }

    /// Where the last leaf ends that is whole when all bytes before `end` are there: a group's last leaf may be short.
    fn whole_to(&self, end: usize) -> usize {
        if end == self.len {
            end
        } else {
            end / LEAF_BYTES * LEAF_BYTES
        }
    }

    fn hash(&mut self, leaf: usize, leaves: usize, bytes: &[u8]) {
        let mut hasher = Hasher::new();
        hasher.set_input_offset(self.start + (leaf * LEAF_BYTES) as u64);
        hasher.update(bytes);
        self.subtrees
            .insert(leaf, (leaves, hasher.finalize_non_root()));
    }

    /// Takes some bytes of a leaf, and hashes it when they are the last ones.
    fn tear(&mut self, leaf: usize, at: usize, bytes: &[u8]) {
        let start = leaf * LEAF_BYTES;
        let leaf_len = LEAF_BYTES.min(self.len - start);
        let torn = self.torn.entry(leaf).or_insert_with(|| Torn {
            bytes: Box::new([0; LEAF_BYTES]),
            missing_bytes: leaf_len,
        });
        torn.bytes[at - start..at - start + bytes.len()].copy_from_slice(bytes);
        torn.missing_bytes = torn.missing_bytes.saturating_sub(bytes.len());
        if torn.missing_bytes == 0
            && let Some(whole) = self.torn.remove(&leaf)
        {
            self.hash(leaf, 1, &whole.bytes[..leaf_len]);
        }
    }

    /// The chaining value of these leaves, a subtree of the group's.
    fn value(&self, leaf: usize, leaves: usize) -> Option<ChainingValue> {
        if let Some((count, value)) = self.subtrees.get(&leaf)
            && *count == leaves
        {
            return Some(*value);
        }
        if leaves < 2 {
            return None;
        }
        // The left side of a subtree is the largest power of two that leaves something for the right one.
        let left = leaves.next_power_of_two() / 2;
        let (left_value, right_value) = (
            self.value(leaf, left)?,
            self.value(leaf + left, leaves - left)?,
        );
        Some(merge_subtrees_non_root(
            &left_value,
            &right_value,
            Mode::Hash,
        ))
    }
}

/// The leaves of the largest subtree that begins at `leaf` and has at most `leaves`.
fn largest_subtree(leaf: usize, leaves: usize) -> usize {
    let fits = 1 << leaves.ilog2();
    match leaf {
        0 => fits,
        _ => fits.min(1 << leaf.trailing_zeros()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proof::{MIN_GROUP_BYTES, ProofBuilder};
    use crate::testing::bytes_from;

    fn content(len: usize) -> Vec<u8> {
        bytes_from(b"", len)
    }

    fn tree(bytes: &[u8]) -> ProofTree {
        let mut builder = ProofBuilder::new();
        builder.update(bytes);
        builder.finish()
    }

    /// The group's bytes cut at `cuts` and shuffled by `seed`, each with its offset.
    fn pieces(bytes: &[u8], cuts: &[usize], seed: usize) -> Vec<(usize, Vec<u8>)> {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut % bytes.len()).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.dedup();
        let mut pieces: Vec<_> = at
            .windows(2)
            .map(|w| (w[0], bytes[w[0]..w[1]].to_vec()))
            .collect();
        for i in (1..pieces.len()).rev() {
            pieces.swap(i, seed.wrapping_mul(i + 31) % (i + 1));
        }
        pieces
    }

    fn check(tree: &ProofTree, group: usize, pieces: &[(usize, Vec<u8>)]) -> bool {
        let mut group = tree.group_pieces(group).unwrap();
        for (offset, bytes) in pieces {
            assert!(!group.is_complete());
            group.add(*offset, bytes);
        }
        assert!(group.is_complete());
        group.finish()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn pieces_in_any_order_prove_a_group_and_a_wrong_bit_does_not(
            tail in 1usize..300_000,
            cuts in prop::collection::vec(any::<usize>(), 0..12),
            near in prop::collection::vec(0usize..5000, 0..6),
            seed in any::<usize>(),
            wrong in any::<usize>(),
        ) {
            let group_bytes = usize::try_from(MIN_GROUP_BYTES).unwrap();
            let bytes = content(group_bytes + tail);
            let tree = tree(&bytes);
            for group in 0..tree.group_count() {
                let range = tree.group_range(group);
                let all = &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
                let mut cuts = cuts.clone();
                cuts.extend(&near);
                let mut cut = pieces(all, &cuts, seed);
                prop_assert!(check(&tree, group, &cut));
                let at = wrong % cut.len();
                let inside = wrong % cut[at].1.len();
                cut[at].1[inside] ^= 1;
                prop_assert!(!check(&tree, group, &cut));
            }
        }
    }

    #[test]
    fn what_is_missing_proves_nothing() {
        let bytes = content(600_000);
        let tree = tree(&bytes);
        let mut group = tree.group_pieces(1).unwrap();
        let start = usize::try_from(MIN_GROUP_BYTES).unwrap();
        group.add(0, &bytes[start..start + 1000]);
        group.add(1001, &bytes[start + 1001..2 * start]);
        assert!(!group.is_complete());
        assert!(!group.finish());
        assert!(tree.group_pieces(3).is_none());
    }

    #[test]
    fn the_only_group_of_a_file_has_no_pieces() {
        assert!(tree(&content(1000)).group_pieces(0).is_none());
    }

    #[test]
    fn memory_is_a_leaf_a_torn_end_and_little_a_subtree() {
        let bytes = content(600_000);
        let tree = tree(&bytes);
        let mut group = tree.group_pieces(0).unwrap();
        group.add(100_001, &bytes[100_001..200_001]);
        assert_eq!(group.torn.len(), 2);
        assert!(group.subtrees.len() <= 16, "{}", group.subtrees.len());
        assert!(group.memory_bytes() < 2 * LEAF_BYTES + 3000);
    }
}

//! The proof tree: a file's own BLAKE3 tree, cut off at a group size.
//!
//! BLAKE3 hashes a file as a binary tree over 1,024-byte leaves. The chaining values of all subtrees of
//! one power-of-two size (the *groups*) are enough to compute the file's hash, so a list of them can be
//! checked against the address before a byte of the file is here, and every group can be checked alone
//! when its bytes arrive.
//!
//! A file of at most one group has no such subtrees: its only node is the root. The tree then holds just
//! the address it was claimed to have, and its one group is checked by hashing the whole file.
//!
//! Units: offsets and sizes are bytes of the file, groups are numbered from 0.

mod pieces;

use std::ops::Range;

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};

pub use self::pieces::GroupPieces;
use crate::id::Address;

/// The smallest group: below this the list would cost more than it proves.
pub const MIN_GROUP_BYTES: u64 = 256 * 1024;

/// Most groups a tree may have; 32 MiB of chaining values.
pub const MAX_GROUPS: usize = 1 << 20;

/// The group size of a file: the smallest allowed one that gives at most `max_groups` groups.
#[must_use]
pub(crate) fn group_bytes_for(size_bytes: u64, max_groups: usize) -> u64 {
    let max_groups = max_groups as u64;
    let mut group_bytes = MIN_GROUP_BYTES;
    while size_bytes.div_ceil(group_bytes) > max_groups && group_bytes < 1 << 62 {
        group_bytes *= 2;
    }
    group_bytes
}

/// Chaining values of a file's BLAKE3 tree at one group size, and the address they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofTree {
    size_bytes: u64,
    group_bytes: u64,
    address: Address,
    /// Empty for a file of at most one group; otherwise one per group.
    values: Vec<ChainingValue>,
}

impl ProofTree {
    /// Takes a list of chaining values that claims to belong to `address`; `None` unless the count is
    /// right and the values merge to the address.
    ///
    /// A file of at most one group has no values to check: its claim is settled by
    /// [`ProofTree::check_group`].
    pub(crate) fn from_values(
        address: Address,
        size_bytes: u64,
        group_bytes: u64,
        values: Vec<ChainingValue>,
    ) -> Option<Self> {
        let groups = size_bytes.div_ceil(group_bytes);
        if groups <= 1 {
            let claim_is_sound = size_bytes > 0 || address == Address::of(b"");
            return (values.is_empty() && claim_is_sound).then_some(Self {
                size_bytes,
                group_bytes,
                address,
                values,
            });
        }
        if u64::try_from(values.len()).ok()? != groups {
            return None;
        }
        let root = merge_to_root(values.clone())?;
        (root == address).then_some(Self {
            size_bytes,
            group_bytes,
            address,
            values,
        })
    }

    /// The hash of the whole file. For a tree with chaining values it follows from them; for a file of at
    /// most one group it is the claim that [`ProofTree::check_group`] settles.
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        *self.address.as_bytes()
    }

    /// Whether the tree carries chaining values, that is, whether the file has more than one group.
    #[must_use]
    pub fn has_values(&self) -> bool {
        !self.values.is_empty()
    }

    /// The file's size.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Bytes in every group but the last; a power of two.
    #[must_use]
    pub fn group_bytes(&self) -> u64 {
        self.group_bytes
    }

    /// Number of groups: 0 for the empty file.
    #[must_use]
    pub fn group_count(&self) -> usize {
        if self.values.is_empty() {
            usize::from(self.size_bytes > 0)
        } else {
            self.values.len()
        }
    }

    /// The bytes of the file that group `group` covers; empty for a group the file does not have.
    #[must_use]
    pub fn group_range(&self, group: usize) -> Range<u64> {
        let start = (group as u64)
            .saturating_mul(self.group_bytes)
            .min(self.size_bytes);
        start..start.saturating_add(self.group_bytes).min(self.size_bytes)
    }

    /// Whether `bytes` are the bytes of group `group`.
    #[must_use]
    pub fn check_group(&self, group: usize, bytes: &[u8]) -> bool {
        let mut hasher = self.group_hasher(group);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Checks a group whose bytes come in pieces.
    #[must_use]
    pub fn group_hasher(&self, group: usize) -> GroupHasher {
        let range = self.group_range(group);
        let mut hasher = Hasher::new();
        let expected = match self.values.get(group) {
            Some(value) => {
                hasher.set_input_offset(range.start);
                Expected::Value(*value)
            }
            None if group == 0 && self.group_count() == 1 => Expected::Root(self.address),
            None => Expected::Nothing,
        };
        GroupHasher {
            hasher,
            expected,
            missing_bytes: range.end - range.start,
            overflowed: false,
        }
    }

    /// The same tree at a larger group size, with at most `max_entries` chaining values (but never fewer
    /// than two, for a tree that has any).
    #[must_use]
    pub fn coarsen(&self, max_entries: usize) -> ProofTree {
        let mut tree = self.clone();
        while tree.values.len() > max_entries.max(2) {
            tree.values = merge_level(&tree.values);
            tree.group_bytes *= 2;
        }
        if tree.values.is_empty() {
            tree.group_bytes = group_bytes_for(tree.size_bytes, max_entries.max(2));
        }
        tree
    }

    /// The chaining values, group by group; none for a file of at most one group.
    #[must_use]
    pub fn values(&self) -> &[[u8; 32]] {
        &self.values
    }
}

fn merge_level(values: &[ChainingValue]) -> Vec<ChainingValue> {
    values
        .chunks(2)
        .map(|pair| match pair {
            [left, right] => merge_subtrees_non_root(left, right, Mode::Hash),
            rest => rest[0],
        })
        .collect()
}

/// The address of a file from the chaining values of its groups, left to right. `None` when there are
/// fewer than two: one subtree is not a tree that has a parent.
pub(crate) fn merge_to_root(mut values: Vec<ChainingValue>) -> Option<Address> {
    while values.len() > 2 {
        values = merge_level(&values);
    }
    match values.as_slice() {
        [left, right] => Some(Address::from_bytes(
            *merge_subtrees_root(left, right, Mode::Hash).as_bytes(),
        )),
        _ => None,
    }
}

#[derive(Clone, Debug)]
enum Expected {
    Root(Address),
    Value(ChainingValue),
    Nothing,
}

/// Hashes one group as its bytes come; made by [`ProofTree::group_hasher`].
#[derive(Clone, Debug)]
pub struct GroupHasher {
    hasher: Hasher,
    expected: Expected,
    missing_bytes: u64,
    overflowed: bool,
}

impl GroupHasher {
    /// Takes the next bytes of the group. Bytes beyond its end make [`GroupHasher::finish`] say no.
    pub fn update(&mut self, bytes: &[u8]) {
        match self.missing_bytes.checked_sub(bytes.len() as u64) {
            Some(missing) => {
                self.missing_bytes = missing;
                self.hasher.update(bytes);
            }
            None => self.overflowed = true,
        }
    }

    /// Whether exactly the group's bytes were given.
    #[must_use]
    pub fn finish(self) -> bool {
        if self.overflowed || self.missing_bytes != 0 {
            return false;
        }
        match self.expected {
            Expected::Root(address) => self.hasher.finalize() == *address.as_bytes(),
            // A group that exists has at least one byte, so there is a subtree to finalise.
            Expected::Value(value) => self.hasher.finalize_non_root() == value,
            Expected::Nothing => false,
        }
    }
}

/// Builds the proof tree of a stream whose length need not be known, in one pass.
#[derive(Debug)]
pub struct ProofBuilder {
    group_bytes: u64,
    max_groups: usize,
    values: Vec<ChainingValue>,
    group: Hasher,
    group_filled_bytes: u64,
    size_bytes: u64,
}

impl Default for ProofBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ProofBuilder {
    /// A builder that has seen no bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_groups(MAX_GROUPS)
    }

    /// `max_groups` must be even: a full level is merged pair by pair.
    fn with_max_groups(max_groups: usize) -> Self {
        Self {
            group_bytes: MIN_GROUP_BYTES,
            max_groups,
            values: Vec::new(),
            group: Hasher::new(),
            group_filled_bytes: 0,
            size_bytes: 0,
        }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.group_filled_bytes == self.group_bytes {
                self.close_group();
            }
            let room = self.group_bytes - self.group_filled_bytes;
            let take = usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()));
            let (now, later) = bytes.split_at(take);
            self.group.update(now);
            self.group_filled_bytes += take as u64;
            self.size_bytes += take as u64;
            bytes = later;
        }
    }

    /// Called only when a byte beyond the full group is at hand: the last group stays open, since a file
    /// of exactly one group is finalised as a root.
    fn close_group(&mut self) {
        self.values.push(self.group.finalize_non_root());
        if self.values.len() == self.max_groups {
            self.values = merge_level(&self.values);
            self.group_bytes *= 2;
        }
        self.group = Hasher::new();
        self.group.set_input_offset(self.size_bytes);
        self.group_filled_bytes = 0;
    }

    /// The address of everything given so far.
    pub(crate) fn address(&self) -> Address {
        if self.values.is_empty() {
            return Address::from_bytes(*self.group.finalize().as_bytes());
        }
        let mut values = self.values.clone();
        values.push(self.group.finalize_non_root());
        merge_to_root(values).expect("a closed group and the one just pushed")
    }

    /// The tree of everything given, and with it the file's address.
    #[must_use]
    pub fn finish(mut self) -> ProofTree {
        let address = self.address();
        if !self.values.is_empty() {
            self.values.push(self.group.finalize_non_root());
        }
        ProofTree {
            size_bytes: self.size_bytes,
            group_bytes: self.group_bytes,
            address,
            values: self.values,
        }
    }
}

#[cfg(test)]
mod tests;

//! How far a file is together.

use casnode_cas::{HaveBitmap, Manifest};

use super::pieces::Pieces;

/// Which chunks are here and which groups are proven.
pub(super) struct Groups {
    here: HaveBitmap,
    /// Chunks each group still lacks.
    left: Vec<u32>,
    proven: Vec<bool>,
    pub(super) proven_count: usize,
    /// Groups proven from the start of the file without a gap.
    pub(super) proven_prefix: usize,
    /// What came of the groups that are not complete.
    pieces: Pieces,
}

/// The chunks, of those that are here, that belong to no group of which something is missing.
pub(super) fn untouched(manifest: &Manifest, here: &HaveBitmap) -> Vec<usize> {
    let is_whole = |group| manifest.chunks_of_group(group).all(|i| here.get(i));
    let of_whole_groups = |i: &usize| manifest.groups_of_chunk(*i).all(is_whole);
    here.iter_ones().filter(of_whole_groups).collect()
}

impl Groups {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let count = manifest.proof().group_count();
        let left = (0..count)
            .map(|g| u32::try_from(manifest.chunks_of_group(g).len()).unwrap_or(u32::MAX))
            .collect();
        Self {
            here: HaveBitmap::new(manifest.chunks().len()),
            left,
            proven: vec![false; count],
            proven_count: 0,
            proven_prefix: 0,
            pieces: Pieces::default(),
        }
    }

    /// The chunks that were taken.
    pub(super) fn here(&self) -> &HaveBitmap {
        &self.here
    }

    pub(super) fn has(&self, index: usize) -> bool {
        self.here.get(index)
    }

    pub(super) fn all_proven(&self) -> bool {
        self.proven_count == self.proven.len()
    }

    /// The chunks that lie in proven groups alone.
    pub(super) fn proven_chunks(&self, manifest: &Manifest) -> HaveBitmap {
        let mut proven = HaveBitmap::new(self.here.len());
        for index in self.here.iter_ones() {
            if manifest.groups_of_chunk(index).all(|g| self.proven[g]) {
                proven.set(index);
            }
        }
        proven
    }

    /// Notes a chunk; returns the groups that are now complete.
    pub(super) fn add(&mut self, manifest: &Manifest, index: usize) -> Vec<usize> {
        self.here.set(index);
        let mut complete = Vec::new();
        for group in manifest.groups_of_chunk(index) {
            self.left[group] -= 1;
            if self.left[group] == 0 {
                complete.push(group);
            }
        }
        complete
    }

    /// Hashes a chunk's part of each group that it shares with others. To be called before it is noted.
    pub(super) fn hash(&mut self, manifest: &Manifest, index: usize, bytes: &[u8]) {
        for group in manifest.groups_of_chunk(index) {
            let of_group = manifest.chunks_of_group(group).len();
            if of_group > 1 {
                let is_first = self.left[group] as usize == of_group;
                self.pieces.add(manifest, group, index, bytes, is_first);
            }
        }
    }

    /// Whether the bytes of a complete group are the file's, as far as that is known from hashing its parts.
    pub(super) fn verdict(&mut self, group: usize) -> Option<bool> {
        self.pieces.finish(group)
    }

    pub(super) fn prove(&mut self, group: usize) {
        self.proven[group] = true;
        self.proven_count += 1;
        while self.proven.get(self.proven_prefix) == Some(&true) {
            self.proven_prefix += 1;
        }
    }
}

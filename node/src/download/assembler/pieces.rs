//! Groups of which some chunks are here and others not: each chunk's part is hashed when it comes, so that a group cut in
//! several is proven without reading the others again.

use std::collections::{HashMap, VecDeque};

use casnode_cas::{GroupPieces, Manifest};

/// Memory for groups that are not complete, of one download: about 2,000 of them. Of those beyond, the bytes are read
/// again when they are complete.
const MAX_BYTES: usize = 8 << 20;

/// The groups that are not complete, as far as they are remembered.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    open: HashMap<usize, GroupPieces>,
    /// In the order in which they were begun, some of them complete by now.
    begun: VecDeque<usize>,
    bytes: usize,
}

impl Pieces {
    /// Takes a chunk's part of a group. One that is not remembered is begun with its first chunk alone.
    pub(super) fn add(
        &mut self,
        manifest: &Manifest,
        group: usize,
        index: usize,
        bytes: &[u8],
        is_first: bool,
    ) {
        if is_first && let Some(pieces) = manifest.proof().group_pieces(group) {
            self.bytes += pieces.memory_bytes();
            self.open.insert(group, pieces);
            self.begun.push_back(group);
        }
        let Some(pieces) = self.open.get_mut(&group) else {
            return;
        };
        let before = pieces.memory_bytes();
        let (offset, part) = part(manifest, group, index, bytes);
        pieces.add(offset, part);
        self.bytes = (self.bytes + pieces.memory_bytes()).saturating_sub(before);
        self.keep_to(MAX_BYTES);
    }

    /// Whether the bytes of a group of which all chunks came are the file's; `None` when it is not remembered.
    pub(super) fn finish(&mut self, group: usize) -> Option<bool> {
        let pieces = self.forget(group)?;
        while let Some(first) = self.begun.front()
            && !self.open.contains_key(first)
        {
            self.begun.pop_front();
        }
        Some(pieces.finish())
    }

    /// Forgets what was begun first until the rest takes no more than this.
    fn keep_to(&mut self, max_bytes: usize) {
        while self.bytes > max_bytes
            && let Some(oldest) = self.begun.pop_front()
        {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, group: usize) -> Option<GroupPieces> {
        let pieces = self.open.remove(&group)?;
        self.bytes = self.bytes.saturating_sub(pieces.memory_bytes());
        Some(pieces)
    }
}

/// The bytes of a chunk that belong to a group, and where in the group they begin.
pub(super) fn part<'a>(
    manifest: &Manifest,
    group: usize,
    index: usize,
    bytes: &'a [u8],
) -> (usize, &'a [u8]) {
    let range = manifest.proof().group_range(group);
    let start = manifest.chunk_offset(index);
    let from = range.start.saturating_sub(start).min(bytes.len() as u64);
    let to = range.end.saturating_sub(start).min(bytes.len() as u64);
    let at = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
    (
        at(start.saturating_sub(range.start)),
        &bytes[at(from)..at(to)],
    )
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use casnode_cas::{Chunking, ImportOptions, Store, import_reader};

    use super::*;

    fn manifest(bytes: &[u8]) -> Manifest {
        let store = Store::in_memory().unwrap();
        let options = ImportOptions {
            chunking: Chunking::FastCdc,
            ..ImportOptions::default()
        };
        let size = Some(bytes.len() as u64);
        let mut go_on = |_, _| ControlFlow::Continue(());
        let imported = import_reader(&store, &mut &bytes[..], size, &options, &mut go_on);
        imported.unwrap().manifest
    }

    fn content() -> Vec<u8> {
        let words =
            (0u64..3 << 17).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).rotate_left(17));
        words.flat_map(u64::to_le_bytes).collect()
    }

    fn chunk<'a>(manifest: &Manifest, index: usize, bytes: &'a [u8]) -> &'a [u8] {
        let start = usize::try_from(manifest.chunk_offset(index)).unwrap();
        &bytes[start..start + manifest.chunks()[index].len_bytes as usize]
    }

    #[test]
    fn parts_of_chunks_prove_every_group_that_is_shared() {
        let bytes = content();
        let manifest = manifest(&bytes);
        let mut shared = 0;
        for group in 0..manifest.proof().group_count() {
            let mut pieces = Pieces::default();
            let chunks: Vec<usize> = manifest.chunks_of_group(group).rev().collect();
            for (nth, index) in chunks.iter().enumerate() {
                let chunk = chunk(&manifest, *index, &bytes);
                pieces.add(&manifest, group, *index, chunk, nth == 0);
            }
            assert_eq!(pieces.finish(group), Some(true));
            assert_eq!((pieces.bytes, pieces.begun.len()), (0, 0));
            shared += usize::from(chunks.len() > 1);
        }
        assert!(shared > 3, "{shared}");
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_is_not_begun_again() {
        let bytes = content();
        let manifest = manifest(&bytes);
        let mut pieces = Pieces::default();
        for group in 0..manifest.proof().group_count() {
            let index = manifest.chunks_of_group(group).start;
            pieces.add(
                &manifest,
                group,
                index,
                chunk(&manifest, index, &bytes),
                true,
            );
        }
        let all = pieces.open.len();
        assert!(all > 4);
        let bound = pieces.bytes / 2;
        pieces.keep_to(bound);
        assert!(pieces.bytes <= bound && !pieces.open.is_empty());
        assert!(!pieces.open.contains_key(&0), "the oldest goes first");
        let index = manifest.chunks_of_group(0).end - 1;
        pieces.add(&manifest, 0, index, chunk(&manifest, index, &bytes), false);
        assert_eq!(pieces.finish(0), None);
        for group in 1..all {
            pieces.finish(group);
        }
        assert_eq!((pieces.bytes, pieces.begun.len()), (0, 0));
    }
}

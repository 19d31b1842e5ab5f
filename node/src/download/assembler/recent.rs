//! The bytes of the chunks that were taken last: a group that is cut in several is proven without reading them again.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes that are remembered, unless a single chunk is larger.
const MAX_BYTES: usize = 4 << 20;

/// Chunks that are remembered, however small.
const MAX_CHUNKS: usize = 256;

/// The chunks that were taken last, by their index in the manifest.
#[derive(Debug, Default)]
pub(super) struct Recent {
    chunks: VecDeque<(usize, Bytes)>,
    bytes: usize,
}

impl Recent {
    pub(super) fn keep(&mut self, index: usize, bytes: Bytes) {
        self.bytes += bytes.len();
        self.chunks.push_back((index, bytes));
        while self.chunks.len() > MAX_CHUNKS || (self.bytes > MAX_BYTES && self.chunks.len() > 1) {
            let oldest = self.chunks.pop_front();
            self.bytes -= oldest.map_or(0, |(_, bytes)| bytes.len());
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Bytes> {
        let found = self.chunks.iter().rev().find(|(i, _)| *i == index);
        found.map(|(_, bytes)| bytes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_and_memory_is_bounded() {
        let mut recent = Recent::default();
        let chunk = Bytes::from(vec![0; MAX_BYTES / 4]);
        for index in 0..6 {
            recent.keep(index, chunk.clone());
        }
        assert!(recent.get(1).is_none());
        assert!((2..6).all(|index| recent.get(index).is_some()));
        recent.keep(6, Bytes::from(vec![0; 2 * MAX_BYTES]));
        assert_eq!(recent.chunks.len(), 1);
        assert!(recent.get(6).is_some(), "however large it is");
    }

    #[test]
    fn small_chunks_are_bounded_too() {
        let mut recent = Recent::default();
        (0..2000).for_each(|index| recent.keep(index, Bytes::from_static(&[0; 64])));
        assert_eq!(
            (recent.chunks.len(), recent.bytes),
            (MAX_CHUNKS, MAX_CHUNKS * 64)
        );
    }
}

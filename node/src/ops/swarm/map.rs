//! A file's chunks in numbers, for people. Pure.

use casnode_cas::HaveBitmap;

use crate::api::ChunkMap;

impl ChunkMap {
    /// A map has no more cells than this.
    pub const MAX_CELLS: usize = 2048;
}

/// How often the rarest chunk is there, and after the point the share of chunks that are there once more.
pub(super) fn copies(held: &[u32]) -> f64 {
    let Some(least) = held.iter().copied().min() else {
        return 0.0;
    };
    let more = held.iter().filter(|held| **held > least).count();
    f64::from(least) + more as f64 / held.len() as f64
}

/// Draws what is here and how often each chunk is there; of a chunk that `held` does not tell of, never.
pub(super) fn draw(here: &HaveBitmap, held: &[u32]) -> ChunkMap {
    let chunks = here.len();
    let per_cell = chunks.div_ceil(ChunkMap::MAX_CELLS).max(1);
    let cells = (0..chunks).step_by(per_cell);
    let cells = cells.map(|from| from..chunks.min(from + per_cell));
    let here_of = |cell: std::ops::Range<usize>| cell.filter(|index| here.get(*index)).count();
    let rarest_of = |cell: std::ops::Range<usize>| {
        let held = cell.map(|index| held.get(index).copied().unwrap_or(0));
        held.min().unwrap_or(0)
    };
    ChunkMap {
        chunks_per_cell: narrow(per_cell),
        here: cells.clone().map(|cell| narrow(here_of(cell))).collect(),
        copies: cells.map(rarest_of).collect(),
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn having(len: usize, ones: impl Iterator<Item = usize>) -> HaveBitmap {
        let mut have = HaveBitmap::new(len);
        ones.for_each(|index| {
            have.set(index);
        });
        have
    }

    #[test]
    fn of_a_short_file_each_chunk_is_a_cell() {
        let map = draw(&having(4, [1, 3].into_iter()), &[0, 2, 1, 9]);
        assert_eq!(map.chunks_per_cell, 1);
        assert_eq!(map.here, [0, 1, 0, 1]);
        assert_eq!(map.copies, [0, 2, 1, 9]);
    }

    #[test]
    fn of_a_file_without_chunks_nothing_is_drawn() {
        let map = draw(&having(0, std::iter::empty()), &[]);
        assert_eq!((map.chunks_per_cell, map.here.len()), (1, 0));
        assert!(map.copies.is_empty());
    }

    #[test]
    fn a_long_file_is_summed_up_and_nothing_of_it_is_left_out() {
        for chunks in [2048, 2049, 4096, 4097, 262_144, 300_001] {
            let mut held = vec![3; chunks];
            held[chunks - 1] = 1;
            let here = having(chunks, (0..chunks).filter(|index| index % 3 == 0));
            let map = draw(&here, &held);
            assert!(map.here.len() <= ChunkMap::MAX_CELLS, "{chunks}");
            assert_eq!(map.here.len(), map.copies.len());
            let per_cell = map.chunks_per_cell as usize;
            assert_eq!(map.here.len(), chunks.div_ceil(per_cell));
            let sum: usize = map.here.iter().map(|here| *here as usize).sum();
            assert_eq!(sum, here.count());
            // The rarest chunk of a cell decides.
            assert_eq!(map.copies.last(), Some(&1));
            assert!(map.copies[..map.copies.len() - 1].iter().all(|c| *c == 3));
        }
    }

    #[test]
    fn copies_are_the_rarest_chunk_and_the_share_of_more() {
        assert_eq!(copies(&[]), 0.0);
        assert_eq!(copies(&[2, 2]), 2.0);
        assert_eq!(copies(&[1, 2, 5, 1]), 1.5);
    }
}

//! Which groups prove a range of a file, and which chunks these are made of.

use std::ops::Range;

use casnode_cas::Manifest;

/// The group that this byte is proven with.
pub(super) fn group_at(manifest: &Manifest, offset: u64) -> usize {
    // Group numbers are below MAX_GROUPS, so they fit a usize.
    usize::try_from(offset / manifest.proof().group_bytes()).unwrap_or(usize::MAX)
}

/// The chunk that has this byte.
pub(super) fn chunk_at(manifest: &Manifest, offset: u64) -> Option<usize> {
    let mut chunks = manifest.chunks_of_group(group_at(manifest, offset));
    chunks.find(|index| manifest.chunk_range(*index).contains(&offset))
}

/// The chunks of all groups that these bytes are proven with.
pub(crate) fn chunks_of(manifest: &Manifest, bytes: &Range<u64>) -> Range<u32> {
    let end = bytes.end.min(manifest.size_bytes());
    if bytes.start >= end {
        return 0..0;
    }
    let first = manifest.chunks_of_group(group_at(manifest, bytes.start));
    let last = manifest.chunks_of_group(group_at(manifest, end - 1));
    // There are at most 2^20 chunks.
    let index = |i: usize| u32::try_from(i).unwrap_or(u32::MAX);
    index(first.start)..index(last.end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tests::cut, *};

    #[test]
    fn a_range_is_covered_by_the_chunks_of_its_groups_and_no_others() {
        let bytes = vec![7; 4 << 20];
        let manifest = cut(&bytes, &[100_000]);
        assert_eq!(chunks_of(&manifest, &(0..0)), 0..0);
        assert_eq!(chunks_of(&manifest, &(0..1)), 0..3);
        assert_eq!(chunks_of(&manifest, &(262_144..262_145)), 2..6);
        assert_eq!(chunks_of(&manifest, &(0..u64::MAX)), 0..42);
        assert_eq!(chunks_of(&manifest, &(4 << 20..u64::MAX)), 0..0);
    }

    proptest! {
        #[test]
        fn every_byte_of_a_range_lies_in_chunks_that_cover_whole_groups(
            size in 1usize..3 << 20,
            lengths in prop::collection::vec(65_536usize..1 << 20, 1..9),
            at in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let manifest = cut(&vec![3; size], &lengths);
            let (a, b) = (at.0.index(size + 1) as u64, at.1.index(size + 1) as u64);
            let range = a.min(b)..a.max(b);
            let chunks = chunks_of(&manifest, &range);
            prop_assert_eq!(chunks.is_empty(), range.is_empty());
            for offset in range.clone().step_by(50_000) {
                let chunk = u32::try_from(chunk_at(&manifest, offset).unwrap()).unwrap();
                prop_assert!(chunks.contains(&chunk));
                let group = manifest.chunks_of_group(group_at(&manifest, offset));
                prop_assert!(group.start >= chunks.start as usize);
                prop_assert!(group.end <= chunks.end as usize);
            }
        }
    }
}

use proptest::prelude::*;

use super::*;
use crate::testing::bytes_from;

const GROUP: usize = 256 * 1024;

/// Bytes that repeat nowhere near, from a position only.
fn sample(len: usize) -> Vec<u8> {
    bytes_from(b"proof", len)
}

fn tree_of(bytes: &[u8]) -> ProofTree {
    let mut builder = ProofBuilder::new();
    builder.update(bytes);
    builder.finish()
}

const EDGES: [usize; 18] = [
    0,
    1,
    63,
    64,
    1023,
    1024,
    1025,
    GROUP - 1,
    GROUP,
    GROUP + 1,
    2 * GROUP - 1,
    2 * GROUP,
    2 * GROUP + 1,
    3 * GROUP,
    3 * GROUP + 5,
    4 * GROUP,
    7 * GROUP + 1023,
    8 * GROUP + 1,
];

#[test]
fn root_is_the_hash_of_the_file_at_every_edge() {
    for len in EDGES {
        let bytes = sample(len);
        let tree = tree_of(&bytes);
        assert_eq!(tree.root(), *blake3::hash(&bytes).as_bytes(), "{len} bytes");
        assert_eq!(tree.size_bytes(), len as u64);
        assert_eq!(tree.group_count(), len.div_ceil(GROUP));
        assert_eq!(tree.has_values(), len > GROUP);
    }
}

#[test]
fn groups_are_checked_alone_and_nothing_else_passes() {
    for len in EDGES {
        let bytes = sample(len);
        let tree = tree_of(&bytes);
        for group in 0..tree.group_count() {
            let range = tree.group_range(group);
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let mut part = bytes[range].to_vec();
            assert!(
                tree.check_group(group, &part),
                "group {group} of {len} bytes"
            );
            assert!(!tree.check_group(group + 1, &part), "wrong place");
            assert!(!tree.check_group(group, &part[1..]), "short");
            part.push(0);
            assert!(!tree.check_group(group, &part), "long");
            part.pop();
            let last = part.len() - 1;
            part[last] ^= 1;
            assert!(!tree.check_group(group, &part), "changed");
        }
        assert!(!tree.check_group(tree.group_count(), b""));
        assert!(tree.group_range(usize::MAX).is_empty());
    }
}

#[test]
fn coarser_trees_merge_to_the_same_root() {
    let bytes = sample(21 * GROUP + 77);
    let tree = tree_of(&bytes);
    for (most, groups) in [
        (100, 22),
        (22, 22),
        (16, 11),
        (11, 11),
        (4, 3),
        (2, 2),
        (1, 2),
        (0, 2),
    ] {
        let coarse = tree.coarsen(most);
        assert_eq!(coarse.group_count(), groups, "at most {most}");
        let again = ProofTree::from_values(
            Address::from_bytes(tree.root()),
            coarse.size_bytes(),
            coarse.group_bytes(),
            coarse.values().to_vec(),
        );
        assert_eq!(again.as_ref(), Some(&coarse));
        assert_eq!(
            coarse.group_bytes(),
            group_bytes_for(coarse.size_bytes(), most.max(2))
        );
        let end = usize::try_from(coarse.group_range(0).end).unwrap();
        assert!(coarse.check_group(0, &bytes[..end]));
    }
}

#[test]
fn a_full_level_is_merged_while_the_stream_goes_on() {
    for len in [
        4 * GROUP,
        4 * GROUP + 1,
        8 * GROUP,
        8 * GROUP + 1,
        13 * GROUP + 9,
    ] {
        let bytes = sample(len);
        let mut builder = ProofBuilder::with_max_groups(4);
        bytes.chunks(100_000).for_each(|part| builder.update(part));
        let tree = builder.finish();
        assert_eq!(tree.root(), *blake3::hash(&bytes).as_bytes());
        assert!(tree.group_count() <= 4);
        assert_eq!(
            tree.group_bytes(),
            group_bytes_for(len as u64, 4),
            "{len} bytes"
        );
    }
}

#[test]
fn values_that_do_not_lead_to_the_address_are_refused() {
    let bytes = sample(3 * GROUP);
    let tree = tree_of(&bytes);
    let address = Address::from_bytes(tree.root());
    let make = |size: u64, values: Vec<[u8; 32]>| {
        ProofTree::from_values(address, size, GROUP as u64, values)
    };
    let size = 3 * GROUP as u64;
    assert!(make(size, tree.values().to_vec()).is_some());
    let mut swapped = tree.values().to_vec();
    swapped.swap(0, 1);
    assert!(make(size, swapped).is_none());
    assert!(make(size, tree.values()[..2].to_vec()).is_none());
    assert!(make(size + 1, tree.values().to_vec()).is_none());
    assert!(make(10, tree.values().to_vec()).is_none());
    assert!(
        make(10, Vec::new()).is_some(),
        "one group: the claim is settled later"
    );
    assert!(
        make(0, Vec::new()).is_none(),
        "the empty file has one address"
    );
    let empty = Address::of(b"");
    assert!(ProofTree::from_values(empty, 0, GROUP as u64, Vec::new()).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn root_does_not_depend_on_how_the_bytes_come(
        len in 0usize..6 * GROUP,
        parts in prop::collection::vec(1usize..400_000, 1..12),
    ) {
        let bytes = sample(len);
        let mut builder = ProofBuilder::new();
        let mut rest = bytes.as_slice();
        for part in parts.iter().cycle() {
            let (now, later) = rest.split_at((*part).min(rest.len()));
            builder.update(now);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let tree = builder.finish();
        prop_assert_eq!(tree.root(), *blake3::hash(&bytes).as_bytes());
        prop_assert_eq!(tree, tree_of(&bytes));
    }
}

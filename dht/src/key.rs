//! Keys and the distance between them.

use std::collections::BTreeMap;

use libp2p::PeerId;
use sha2::{Digest, Sha256};

/// What the DHT stores records under: the address of a file or the hash of a chunk.
pub type Key = [u8; 32];

/// Where a peer is in the keyspace: peers hold the records of keys that are close to it.
pub fn place_of_peer(peer: &PeerId) -> [u8; 32] {
    Point::of_peer(peer).0
}

/// Number of peers that hold a record: libp2p's `K_VALUE`, which all nodes must agree on.
pub(crate) const REPLICATION: usize = libp2p::kad::K_VALUE.get();

/// A point of the Kademlia keyspace: SHA-256 of a key, or of the bytes of a peer id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Point(pub(crate) [u8; 32]);

/// Bits of a point.
pub(crate) const POINT_BITS: u32 = 256;

impl Point {
    pub(crate) fn of_key(key: &Key) -> Self {
        Self(Sha256::digest(key).into())
    }

    pub(crate) fn of_peer(peer: &PeerId) -> Self {
        Self(Sha256::digest(peer.to_bytes()).into())
    }

    /// Length of the common prefix, in bits.
    pub(crate) fn common_bits(&self, other: &Self) -> u32 {
        let mut bits = 0;
        for (a, b) in self.0.iter().zip(&other.0) {
            let differing = a ^ b;
            bits += differing.leading_zeros();
            if differing != 0 {
                break;
            }
        }
        bits
    }

    /// The XOR distance: the smaller as a point, the closer.
    pub(crate) fn distance(&self, other: &Self) -> Self {
        let mut distance = self.0;
        let pairs = distance.iter_mut().zip(&other.0);
        pairs.for_each(|(byte, other)| *byte ^= other);
        Self(distance)
    }

    /// The bit at `index`, counted from the most significant one.
    pub(crate) fn bit(&self, index: u32) -> bool {
        let byte = usize::try_from(index / 8).unwrap_or(usize::MAX);
        self.0
            .get(byte)
            .is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0)
    }

    /// The first point of those that share `bits` bits with this one.
    pub(crate) fn first_of(&self, bits: u32) -> Self {
        let mut first = [0; 32];
        for (at, byte) in first.iter_mut().enumerate() {
            let before = u32::try_from(at * 8).unwrap_or(u32::MAX);
            let kept = bits.saturating_sub(before).min(8);
            *byte = self.0[at] & !0xff_u8.checked_shr(kept).unwrap_or(0);
        }
        Self(first)
    }

    /// Where the point lies in the keyspace, in 65,536ths.
    pub(crate) fn fraction(&self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }
}

/// The most bits for which keys can be found by trying: a quarter of a million tries for each, some tens of milliseconds.
const MAX_TRIED_BITS: u32 = 18;

/// Keys whose points share at least `bits` bits with the key's (18 at most), spread over that region by the bits that
/// follow: lookups of them find peers around the key and not only those closest to it. The same for the same arguments;
/// who is not to be foreseen takes a seed at random. In some 2^bits steps for each.
pub(crate) fn keys_near(key: &Key, bits: u32, count: usize, seed: u64) -> Vec<Key> {
    let bits = bits.min(MAX_TRIED_BITS);
    let target = Point::of_key(key);
    // One for each part of the region; a part that none falls into for long goes without.
    let part_bits = count.next_power_of_two().trailing_zeros();
    let tries = (count as u64).saturating_mul(32) << bits;
    let mut parts: BTreeMap<u32, Key> = BTreeMap::new();
    let mut tried = *key;
    tried[8..16].copy_from_slice(&seed.to_le_bytes());
    for n in 0..tries {
        if parts.len() >= count {
            break;
        }
        tried[..8].copy_from_slice(&n.to_le_bytes());
        let point = Point::of_key(&tried);
        if tried != *key && point.common_bits(&target) >= bits {
            let following = bits..bits + part_bits;
            let part = following.fold(0, |part, bit| part << 1 | u32::from(point.bit(bit)));
            parts.entry(part).or_insert(tried);
        }
    }
    parts.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::kad::KBucketKey;
    use std::collections::BTreeSet;

    #[test]
    fn points_are_those_of_libp2p() {
        let peer = PeerId::random();
        assert_eq!(
            &Point::of_peer(&peer).0[..],
            KBucketKey::from(peer).hashed_bytes()
        );
        let key = [7u8; 32];
        let theirs = KBucketKey::new(libp2p::kad::RecordKey::new(&key));
        assert_eq!(&Point::of_key(&key).0[..], theirs.hashed_bytes());
    }

    #[test]
    fn keys_near_a_key_lie_in_its_region_and_all_over_it() {
        for bits in [0, 1, 7, 11] {
            let key = [u8::try_from(bits).unwrap(); 32];
            let target = Point::of_key(&key);
            let found = keys_near(&key, bits, 4, 1);
            assert_eq!(found.len(), 4);
            assert!(!found.contains(&key));
            let points: Vec<_> = found.iter().map(Point::of_key).collect();
            assert!(
                points
                    .iter()
                    .all(|point| point.common_bits(&target) >= bits)
            );
            let parts: BTreeSet<_> = points
                .iter()
                .map(|point| (point.bit(bits), point.bit(bits + 1)))
                .collect();
            assert_eq!(parts.len(), 4);
            assert_eq!(keys_near(&key, bits, 4, 1), found);
            let other = keys_near(&key, bits, 4, 2);
            assert!(other.iter().all(|key| !found.contains(key)));
        }
        assert_eq!(keys_near(&[1; 32], 3, 0, 1), [[0; 32]; 0]);
        assert_eq!(keys_near(&[1; 32], 3, 3, 1).len(), 3);
    }

    #[test]
    fn the_first_of_a_region() {
        let point = Point([0xff; 32]);
        assert_eq!(point.first_of(0).0, [0; 32]);
        assert_eq!(point.first_of(12).0[..3], [0xff, 0xf0, 0]);
        assert_eq!(point.first_of(16).0[..3], [0xff, 0xff, 0]);
        assert_eq!(point.first_of(256), point);
    }

    #[test]
    fn prefixes_and_bits() {
        let mut a = Point([0; 32]);
        let b = a;
        assert_eq!(a.common_bits(&b), POINT_BITS);
        a.0[1] = 0x10;
        assert_eq!(a.common_bits(&b), 11);
        assert!(a.bit(11) && !a.bit(10) && !a.bit(300));
    }
}

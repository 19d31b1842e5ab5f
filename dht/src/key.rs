//! Keys and the distance between them.

use libp2p::PeerId;
use sha2::{Digest, Sha256};

/// What the DHT stores records under: the address of a file or the hash of a chunk.
pub type Key = [u8; 32];

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

    /// The bit at `index`, counted from the most significant one.
    pub(crate) fn bit(&self, index: u32) -> bool {
        let byte = usize::try_from(index / 8).unwrap_or(usize::MAX);
        self.0
            .get(byte)
            .is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0)
    }

    /// Where the point lies in the keyspace, in 65,536ths.
    pub(crate) fn fraction(&self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::kad::KBucketKey;

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
    fn prefixes_and_bits() {
        let mut a = Point([0; 32]);
        let b = a;
        assert_eq!(a.common_bits(&b), POINT_BITS);
        a.0[1] = 0x10;
        assert_eq!(a.common_bits(&b), 11);
        assert!(a.bit(11) && !a.bit(10) && !a.bit(300));
    }
}

//! The truth about the keyspace, which no node has: all points and who is closest to what.

use casnode_dht::{Key, PeerId};
use sha2::{Digest, Sha256};

/// Number of peers that hold a record.
pub const REPLICATION: usize = 20;

/// SHA-256 of a key or of the bytes of a peer id.
pub type Point = [u8; 32];

pub fn point_of_key(key: &Key) -> Point {
    Sha256::digest(key).into()
}

pub fn point_of_peer(peer: &PeerId) -> Point {
    Sha256::digest(peer.to_bytes()).into()
}

/// Bits two points have in common from the left.
pub fn common_bits(a: &Point, b: &Point) -> u32 {
    let mut bits = 0;
    for (a, b) in a.iter().zip(b) {
        let differing = a ^ b;
        bits += differing.leading_zeros();
        if differing != 0 {
            break;
        }
    }
    bits
}

fn distance(a: &Point, b: &Point) -> Point {
    let mut distance = [0; 32];
    for (byte, (a, b)) in distance.iter_mut().zip(a.iter().zip(b)) {
        *byte = a ^ b;
    }
    distance
}

/// Positions of the `count` points closest to `target`.
pub fn closest(points: &[Point], target: &Point, count: usize) -> Vec<usize> {
    let mut all: Vec<_> = (0..points.len()).collect();
    let by_distance = |at: &usize| distance(&points[*at], target);
    if count < all.len() {
        all.select_nth_unstable_by_key(count, by_distance);
        all.truncate(count);
    }
    all.sort_unstable_by_key(by_distance);
    all
}

/// Keys that nobody else has: the same every time for the same seed.
pub fn keys(count: usize, seed: u64) -> Vec<Key> {
    let key = |n: usize| {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(n.to_le_bytes());
        hash.finalize().into()
    };
    (0..count).map(key).collect()
}

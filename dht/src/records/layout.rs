//! How entries lie in the record log: each a kind, what it is about, and its present state. A later one
//! about the same takes the place of an earlier one.
//!
//! ```text
//! 'a' peer u32 | length u32 | StoredPeer            a peer that announces; length 0: forgotten
//! 'p' key [32] | peer u32 | expires u32             a provider record; expires 0: gone
//! 'v' key [32] | length u32 | source u32, envelope  a value record; length 0: gone
//! 'k' length u32 | list of StoredKnown              the remembered peers, all of them
//! ```

use libp2p::{Multiaddr, PeerId};

use super::known::Remembered;
use super::peers::Peer;
use super::values::StoredValue;
use crate::Key;
use crate::codec::{self, Decode, Encode};
use crate::origin::Origin;

const PEER: u8 = b'a';
const PROVIDER: u8 = b'p';
const VALUE: u8 = b'v';
const KNOWN: u8 = b'k';

/// What a provider record takes, in bytes.
pub(crate) const PROVIDER_BYTES: u64 = 41;

/// An entry for the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DiskOp(Vec<u8>);

impl DiskOp {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// An entry as it is read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Peer {
        index: u32,
        peer: Option<(PeerId, Origin, Vec<Multiaddr>)>,
    },
    Provider {
        key: Key,
        index: u32,
        expires: u32,
    },
    Value {
        key: Key,
        stored: Option<StoredValue>,
    },
    Known(Vec<Remembered>),
}

#[derive(Encode, Decode)]
struct StoredPeer {
    peer: Vec<u8>,
    origin: u64,
    addrs: Vec<Vec<u8>>,
}

#[derive(Encode, Decode)]
struct StoredKnown {
    peer: Vec<u8>,
    last_seen_secs: u64,
    addrs: Vec<Vec<u8>>,
}

pub(super) fn peer_op(index: u32, entry: Option<&Peer>) -> DiskOp {
    let mut bytes = vec![PEER];
    bytes.extend_from_slice(&index.to_le_bytes());
    let stored = entry.and_then(|peer| {
        let stored = StoredPeer {
            peer: peer.id.to_bytes(),
            origin: peer.origin.0,
            addrs: peer.addrs.iter().map(Multiaddr::to_vec).collect(),
        };
        codec::encode(&stored).ok()
    });
    sized(bytes, &stored.unwrap_or_default())
}

pub(super) fn provider_op(key: &Key, index: u32, expires: Option<u32>) -> DiskOp {
    let mut bytes = about(PROVIDER, key, 8);
    bytes.extend_from_slice(&index.to_le_bytes());
    bytes.extend_from_slice(&expires.unwrap_or(0).to_le_bytes());
    DiskOp(bytes)
}

pub(super) fn value_op(key: &Key, stored: Option<&StoredValue>) -> DiskOp {
    let body = stored.map(|stored| [&stored.source.to_le_bytes()[..], &stored.sealed].concat());
    let body = body.unwrap_or_default();
    sized(about(VALUE, key, 4 + body.len()), &body)
}

pub(super) fn known_op(known: &[Remembered]) -> DiskOp {
    let stored: Vec<_> = known
        .iter()
        .map(|known| StoredKnown {
            peer: known.peer.to_bytes(),
            last_seen_secs: known.last_seen_secs,
            addrs: known.addrs.iter().map(Multiaddr::to_vec).collect(),
        })
        .collect();
    sized(vec![KNOWN], &codec::encode(&stored).unwrap_or_default())
}

/// Takes one entry off the front of `bytes`; `None` when there is none that this version knows.
pub(super) fn take(bytes: &mut &[u8]) -> Option<Entry> {
    match take_array::<1>(bytes)? {
        [PEER] => {
            let index = take_u32(bytes)?;
            let peer = match take_sized(bytes)? {
                [] => None,
                body => Some(peer_of(body)?),
            };
            Some(Entry::Peer { index, peer })
        }
        [PROVIDER] => Some(Entry::Provider {
            key: take_array(bytes)?,
            index: take_u32(bytes)?,
            expires: take_u32(bytes)?,
        }),
        [VALUE] => {
            let key = take_array(bytes)?;
            let mut body = take_sized(bytes)?;
            let stored = match body.is_empty() {
                true => None,
                false => {
                    let source = take_u32(&mut body)?;
                    StoredValue::new(source, body.to_vec())
                }
            };
            Some(Entry::Value { key, stored })
        }
        [KNOWN] => {
            let stored: Vec<StoredKnown> = codec::decode(take_sized(bytes)?).ok()?;
            let known = stored.into_iter().filter_map(|known| {
                Some(Remembered {
                    peer: PeerId::from_bytes(&known.peer).ok()?,
                    addrs: addrs_of(known.addrs),
                    last_seen_secs: known.last_seen_secs,
                })
            });
            Some(Entry::Known(known.collect()))
        }
        _ => None,
    }
}

fn peer_of(body: &[u8]) -> Option<(PeerId, Origin, Vec<Multiaddr>)> {
    let stored: StoredPeer = codec::decode(body).ok()?;
    let peer = PeerId::from_bytes(&stored.peer).ok()?;
    Some((peer, Origin(stored.origin), addrs_of(stored.addrs)))
}

fn addrs_of(stored: Vec<Vec<u8>>) -> Vec<Multiaddr> {
    let addrs = stored.into_iter();
    addrs
        .filter_map(|addr| Multiaddr::try_from(addr).ok())
        .collect()
}

fn about(kind: u8, key: &Key, more: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len() + more);
    bytes.push(kind);
    bytes.extend_from_slice(key);
    bytes
}

fn sized(mut bytes: Vec<u8>, body: &[u8]) -> DiskOp {
    // Nothing here comes near 4 GiB.
    let len = u32::try_from(body.len()).unwrap_or(0);
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(body);
    DiskOp(bytes)
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take_array(bytes).map(u32::from_le_bytes)
}

fn take_sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_u32(bytes)?).ok()?;
    let (body, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(body)
}

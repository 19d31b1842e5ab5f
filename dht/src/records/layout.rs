//! How records lie in the database: one tree, one prefix byte per kind of entry.
//!
//! ```text
//! 'F'                          -> u32 LE         version of the layout
//! 'a' peer u32 BE              -> StoredPeer     a peer that announces, and its addresses
//! 'p' key [32] peer u32 BE     -> expiry         a provider record; unix seconds
//! 'v' key [32] part u8         -> bytes          a value record, in parts of 2 KiB
//! 'd' key [32]                 -> StoredDue      a key this node announces
//! ```

use crate::codec::{Decode, Encode};
use libp2p::{Multiaddr, PeerId};

use crate::Key;
use crate::announce::due::{Due, Kind};
use crate::codec;

/// Version of the layout as a whole.
pub(crate) const LAYOUT_VERSION: u32 = 1;
/// Key of the entry that holds the version.
pub(crate) const FORMAT_KEY: &[u8] = b"F";

const PEER: u8 = b'a';
const PROVIDER: u8 = b'p';
const VALUE: u8 = b'v';
const DUE: u8 = b'd';

/// Size of a part of a value. sled 0.34 moves tree nodes above 128 KiB into files that it does not
/// sync, and a node holds dozens of entries; parts keep nodes far below that.
const PART_BYTES: usize = 2048;
/// The most parts of a value: 8 KiB and its header.
const MAX_PARTS: u8 = 5;

/// A change to the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DiskOp {
    Put(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
}

/// An entry as it is read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Peer {
        index: u32,
        peer: PeerId,
        addrs: Vec<Multiaddr>,
    },
    Provider {
        key: Key,
        index: u32,
        expires: u32,
    },
    ValuePart {
        key: Key,
        part: u8,
        bytes: Vec<u8>,
    },
    Due {
        key: Key,
        kind: Kind,
        copies: u8,
        last_ok: u32,
    },
}

#[derive(Encode, Decode)]
struct StoredPeer {
    peer: Vec<u8>,
    addrs: Vec<Vec<u8>>,
}

/// A value record as it is stored, cut into parts.
#[derive(Encode, Decode, Debug, PartialEq, Eq)]
pub(crate) struct StoredValue {
    /// Peer it came from (0 is this node itself).
    pub(crate) source: u32,
    /// Unix seconds.
    pub(crate) expires: u32,
    pub(crate) value: Vec<u8>,
}

#[derive(Encode, Decode)]
struct StoredDue {
    file: bool,
    copies: u8,
    last_ok: u32,
}

pub(crate) fn peer_op(index: u32, entry: Option<(&PeerId, &[Multiaddr])>) -> DiskOp {
    let mut key = vec![PEER];
    key.extend_from_slice(&index.to_be_bytes());
    let stored = entry.map(|(peer, addrs)| StoredPeer {
        peer: peer.to_bytes(),
        addrs: addrs.iter().map(Multiaddr::to_vec).collect(),
    });
    op(key, stored)
}

pub(crate) fn provider_op(key: &Key, index: u32, expires: Option<u32>) -> DiskOp {
    let mut name = prefixed(PROVIDER, key);
    name.extend_from_slice(&index.to_be_bytes());
    op(name, expires)
}

pub(crate) fn value_ops(key: &Key, stored: Option<&StoredValue>) -> Vec<DiskOp> {
    let encoded = stored
        .and_then(|stored| codec::encode(stored).ok())
        .unwrap_or_default();
    let mut parts = encoded.chunks(PART_BYTES);
    (0..MAX_PARTS)
        .map(|part| {
            let mut name = prefixed(VALUE, key);
            name.push(part);
            match parts.next() {
                Some(bytes) => DiskOp::Put(name, bytes.to_vec()),
                None => DiskOp::Remove(name),
            }
        })
        .collect()
}

/// The value whose parts are these, joined.
pub(crate) fn stored_value(joined: &[u8]) -> Option<StoredValue> {
    codec::decode(joined).ok()
}

pub(crate) fn due_op(key: &Key, due: Option<&Due>) -> DiskOp {
    let stored = due.map(|due| StoredDue {
        file: due.kind == Kind::File,
        copies: due.copies,
        last_ok: due.last_ok,
    });
    op(prefixed(DUE, key), stored)
}

/// Reads an entry; `None` when it is not one of this version.
pub(crate) fn read(name: &[u8], bytes: &[u8]) -> Option<Entry> {
    let (&kind, rest) = name.split_first()?;
    match kind {
        PEER => {
            let index = u32::from_be_bytes(rest.try_into().ok()?);
            let stored: StoredPeer = codec::decode(bytes).ok()?;
            let peer = PeerId::from_bytes(&stored.peer).ok()?;
            let addrs = stored.addrs.into_iter();
            let addrs = addrs
                .filter_map(|addr| Multiaddr::try_from(addr).ok())
                .collect();
            Some(Entry::Peer { index, peer, addrs })
        }
        PROVIDER => {
            let (key, index) = rest.split_first_chunk()?;
            let index = u32::from_be_bytes(index.try_into().ok()?);
            let expires = codec::decode(bytes).ok()?;
            Some(Entry::Provider {
                key: *key,
                index,
                expires,
            })
        }
        VALUE => {
            let (key, part) = rest.split_first_chunk()?;
            let [part] = *part else { return None };
            Some(Entry::ValuePart {
                key: *key,
                part,
                bytes: bytes.to_vec(),
            })
        }
        DUE => {
            let key = rest.try_into().ok()?;
            let StoredDue {
                file,
                copies,
                last_ok,
            } = codec::decode(bytes).ok()?;
            let kind = if file { Kind::File } else { Kind::Chunk };
            Some(Entry::Due {
                key,
                kind,
                copies,
                last_ok,
            })
        }
        _ => None,
    }
}

fn prefixed(kind: u8, key: &Key) -> Vec<u8> {
    let mut name = Vec::with_capacity(1 + key.len() + 4);
    name.push(kind);
    name.extend_from_slice(key);
    name
}

fn op<T: Encode>(name: Vec<u8>, value: Option<T>) -> DiskOp {
    match value.and_then(|value| codec::encode(&value).ok()) {
        Some(bytes) => DiskOp::Put(name, bytes),
        None => DiskOp::Remove(name),
    }
}

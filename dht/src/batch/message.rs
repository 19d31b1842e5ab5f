//! What goes over the wire. Every body has one encoding, and whatever is decoded has been checked: sizes
//! first, then that the parts agree. What an address or a key means is for the reader to judge.

use std::collections::HashMap;

use libp2p::{Multiaddr, PeerId};

use crate::Key;
use crate::codec::{self, Decode, Encode};
use crate::exchange::ExchangeError;
use crate::net::addrs;
use crate::records::tables::MAX_ADDRS_PER_PEER;

/// Keys in one announcement: a frame of 32 KiB, some milliseconds of a slow line.
pub(crate) const ANNOUNCE_KEYS: usize = 1024;
/// Keys in one question.
pub(crate) const FIND_KEYS: usize = 256;
/// Providers of one key in an answer.
pub(crate) const PROVIDERS_PER_KEY: usize = 20;
/// The longest address, in bytes.
const MAX_ADDR_BYTES: usize = 256;
/// The longest peer id, in bytes: a multihash of the hashes in use, with room.
const MAX_PEER_ID_BYTES: usize = 64;

/// An announcement with all keys and addresses it may have; the largest request.
pub(super) const MAX_REQUEST_FRAME_BYTES: usize =
    ANNOUNCE_KEYS * 32 + MAX_ADDRS_PER_PEER * (MAX_ADDR_BYTES + 8) + 64;
/// The largest answer. One key with all its providers fits three times.
pub(super) const MAX_REPLY_FRAME_BYTES: usize = 256 << 10;
/// Bytes of an answer beside keys and peers: kind, id, version and the lengths of both lists.
const REPLY_HEAD_BYTES: usize = 5 + 1 + 8 + 8;

pub(super) const KIND_ANNOUNCE: u8 = 0x01;
pub(super) const KIND_FIND: u8 = 0x02;
pub(super) const KIND_TAKEN: u8 = 0x81;
pub(super) const KIND_FOUND: u8 = 0x82;

/// *I provide these keys.*
#[derive(Clone, Encode, Decode, Debug, PartialEq, Eq)]
pub(super) struct Announce {
    pub(super) ttl_secs: u32,
    pub(super) addrs: Vec<Vec<u8>>,
    pub(super) keys: Vec<Key>,
}

/// Which keys of an announcement were taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// One for each key, in their order.
    pub(crate) taken: Vec<bool>,
    /// Whether something was left out because a quota was reached: more keys need not be sent.
    pub(crate) full: bool,
}

#[cfg(test)]
impl Taken {
    /// How many keys were taken.
    pub(super) fn count(&self) -> usize {
        self.taken.iter().filter(|taken| **taken).count()
    }
}

/// [`Taken`] on the wire.
#[derive(Encode, Decode)]
pub(super) struct TakenBits {
    /// One bit a key, the first in the lowest bit of the first byte; bits without a key are 0.
    bits: Vec<u8>,
    full: bool,
}

/// *Who provides these keys?*
#[derive(Clone, Encode, Decode, Debug, PartialEq, Eq)]
pub(super) struct Find {
    pub(super) keys: Vec<Key>,
}

/// The providers of the first keys of a question. Where fewer keys are answered than were asked, the answer
/// was full, and the rest has to be asked for again.
#[derive(Clone, Encode, Decode, Debug, PartialEq, Eq, Default)]
pub(super) struct Found {
    peers: Vec<FoundPeer>,
    /// For every key positions in `peers`.
    keys: Vec<Vec<u16>>,
}

#[derive(Clone, Encode, Decode, Debug, PartialEq, Eq)]
struct FoundPeer {
    id: Vec<u8>,
    addrs: Vec<Vec<u8>>,
}

/// A provider and where it listens.
pub(crate) type Provider = (PeerId, Vec<Multiaddr>);

/// A request, decoded and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Announce(Announce),
    Find(Find),
}

impl Request {
    pub(super) fn encode(&self) -> Result<(u8, Vec<u8>), ExchangeError> {
        Ok(match self {
            Self::Announce(announce) => (KIND_ANNOUNCE, codec::encode(announce)?),
            Self::Find(find) => (KIND_FIND, codec::encode(find)?),
        })
    }

    pub(super) fn decode(kind: u8, body: &[u8]) -> Result<Self, ExchangeError> {
        match kind {
            KIND_ANNOUNCE => {
                let announce: Announce = codec::decode(body)?;
                let fits = announce.keys.len() <= ANNOUNCE_KEYS && addrs_fit(&announce.addrs);
                check(fits, kind).map(|()| Self::Announce(announce))
            }
            KIND_FIND => {
                let find: Find = codec::decode(body)?;
                let fits = (1..=FIND_KEYS).contains(&find.keys.len());
                check(fits, kind).map(|()| Self::Find(find))
            }
            kind => Err(ExchangeError::UnknownKind(kind)),
        }
    }
}

impl Announce {
    /// Of the first [`ANNOUNCE_KEYS`] keys and as many addresses as may be told.
    pub(super) fn new(keys: &[Key], own_addrs: &[Multiaddr], ttl_secs: u32) -> Self {
        Self {
            ttl_secs,
            addrs: to_wire(own_addrs),
            keys: keys.iter().take(ANNOUNCE_KEYS).copied().collect(),
        }
    }

    /// The addresses of the announcing peer that are worth knowing.
    pub(super) fn usable_addrs(&self, from: &PeerId) -> Vec<Multiaddr> {
        from_wire(from, &self.addrs)
    }
}

impl TakenBits {
    pub(super) fn encode(taken: &Taken) -> Result<Vec<u8>, ExchangeError> {
        let mut bits = vec![0; taken.taken.len().div_ceil(8)];
        for (at, _) in taken.taken.iter().enumerate().filter(|(_, taken)| **taken) {
            bits[at / 8] |= 1 << (at % 8);
        }
        let full = taken.full;
        Ok(codec::encode(&Self { bits, full })?)
    }

    pub(super) fn decode(body: &[u8], keys: usize) -> Result<Taken, ExchangeError> {
        let Self { bits, full } = codec::decode(body)?;
        check(bits.len() == keys.div_ceil(8), KIND_TAKEN)?;
        let bit = |at: usize| bits[at / 8] & (1 << (at % 8)) != 0;
        check(!(keys..bits.len() * 8).any(bit), KIND_TAKEN)?;
        let taken = (0..keys).map(bit).collect();
        Ok(Taken { taken, full })
    }
}

impl Found {
    /// The answer in the reader's terms, for a question of `asked` keys: every answered key has its
    /// providers, each once, with the addresses worth knowing.
    pub(super) fn decode(body: &[u8], asked: usize) -> Result<Vec<Vec<Provider>>, ExchangeError> {
        let found: Self = codec::decode(body)?;
        check(found.is_sound(asked), KIND_FOUND)?;
        let mut peers = Vec::with_capacity(found.peers.len());
        for peer in &found.peers {
            let id = PeerId::from_bytes(&peer.id);
            let id = id.map_err(|_| ExchangeError::BadBody { kind: KIND_FOUND })?;
            // One peer has one way to be written, and so has an answer.
            check(id.to_bytes() == peer.id, KIND_FOUND)?;
            peers.push((id, from_wire(&id, &peer.addrs)));
        }
        let named = |at: &u16| peers.get(usize::from(*at)).cloned();
        let providers = |key: &Vec<u16>| key.iter().filter_map(named).collect();
        Ok(found.keys.iter().map(providers).collect())
    }

    fn is_sound(&self, asked: usize) -> bool {
        let peer_fits = |peer: &FoundPeer| {
            (1..=MAX_PEER_ID_BYTES).contains(&peer.id.len()) && addrs_fit(&peer.addrs)
        };
        // Peers stand in the order in which they are first named, so that there is one form only.
        let mut named = 0;
        for key in &self.keys {
            if key.len() > PROVIDERS_PER_KEY {
                return false;
            }
            for (at, peer) in key.iter().enumerate() {
                let peer = usize::from(*peer);
                if peer > named || key[..at].contains(&key[at]) {
                    return false;
                }
                named = named.max(peer + 1);
            }
        }
        (1..=asked).contains(&self.keys.len())
            && named == self.peers.len()
            && self.peers.iter().all(peer_fits)
    }
}

/// Puts an answer together, key by key, until it is full.
#[derive(Default)]
pub(super) struct FoundBuilder {
    found: Found,
    positions: HashMap<PeerId, u16>,
    bytes: usize,
}

impl FoundBuilder {
    /// Adds the next key's providers; false when there is no room for them.
    pub(super) fn add(&mut self, providers: &[Provider]) -> bool {
        let mut bytes = REPLY_HEAD_BYTES.max(self.bytes) + 8;
        let mut key = Vec::with_capacity(providers.len().min(PROVIDERS_PER_KEY));
        let mut new: Vec<(PeerId, FoundPeer)> = Vec::new();
        for (id, addrs) in providers.iter().take(PROVIDERS_PER_KEY) {
            let known = self.positions.get(id).copied();
            let at = match known {
                Some(at) => at,
                None if new.iter().any(|(other, _)| other == id) => continue,
                None => {
                    let Ok(at) = u16::try_from(self.found.peers.len() + new.len()) else {
                        return false;
                    };
                    let (id_bytes, addrs) = (id.to_bytes(), to_wire(addrs));
                    bytes += 16 + id_bytes.len();
                    bytes += addrs.iter().map(|addr| 8 + addr.len()).sum::<usize>();
                    let peer = FoundPeer {
                        id: id_bytes,
                        addrs,
                    };
                    new.push((*id, peer));
                    at
                }
            };
            if !key.contains(&at) {
                bytes += 2;
                key.push(at);
            }
        }
        if bytes > MAX_REPLY_FRAME_BYTES {
            return false;
        }
        for (id, peer) in new {
            let at = u16::try_from(self.found.peers.len()).unwrap_or(u16::MAX);
            self.positions.insert(id, at);
            self.found.peers.push(peer);
        }
        self.found.keys.push(key);
        self.bytes = bytes;
        true
    }

    /// The answer.
    pub(super) fn encode(&self) -> Result<Vec<u8>, ExchangeError> {
        Ok(codec::encode(&self.found)?)
    }
}

fn to_wire(addrs: &[Multiaddr]) -> Vec<Vec<u8>> {
    let short = addrs
        .iter()
        .map(Multiaddr::to_vec)
        .filter(|addr| addr.len() <= MAX_ADDR_BYTES);
    short.take(MAX_ADDRS_PER_PEER).collect()
}

fn from_wire(peer: &PeerId, listed: &[Vec<u8>]) -> Vec<Multiaddr> {
    let listed = listed.iter().cloned();
    addrs::usable(
        peer,
        listed.filter_map(|addr| Multiaddr::try_from(addr).ok()),
    )
}

fn addrs_fit(addrs: &[Vec<u8>]) -> bool {
    addrs.len() <= MAX_ADDRS_PER_PEER && addrs.iter().all(|addr| addr.len() <= MAX_ADDR_BYTES)
}

fn check(holds: bool, kind: u8) -> Result<(), ExchangeError> {
    holds.then_some(()).ok_or(ExchangeError::BadBody { kind })
}

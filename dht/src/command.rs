//! What the handle tells the driver, and the answers callers see.

use std::collections::HashSet;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use crate::batch::Provider;
use crate::config::{Mode, Reach};
use crate::net::{Cipher, OpenError, Ports, Question, Stream};
use crate::origin::Origin;
use crate::{DhtError, Key};

/// How to look for providers.
#[derive(Clone, Copy, Debug)]
pub struct FindOptions {
    /// Stop after this many distinct providers. At least 1.
    pub limit: usize,
    /// Stop after this time in any case.
    pub deadline: Duration,
    /// Connect to the providers at once, while their addresses are fresh.
    pub connect: bool,
    /// Report this node too, if it provides the key.
    pub include_self: bool,
    /// Report what earlier searches have learnt, and be content with it when that was a moment ago.
    pub use_cache: bool,
}

impl Default for FindOptions {
    fn default() -> Self {
        Self {
            limit: 8,
            deadline: Duration::from_secs(30),
            connect: false,
            include_self: false,
            use_cache: true,
        }
    }
}

/// News of a search for providers, in the order they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindEvent {
    /// A provider; each is reported once.
    Provider {
        /// Who.
        peer: PeerId,
        /// Its known addresses, the likeliest first; may be empty when it is connected anyway.
        addrs: Vec<Multiaddr>,
    },
    /// The search is over; always the last event, unless the node was shut down.
    Done {
        /// How many requests were sent to other peers.
        asked_peers: u32,
        /// How many providers were reported.
        found: u32,
        /// Whether the deadline ended the search.
        timed_out: bool,
    },
}

/// News of a search for the providers of many keys, in the order they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FindManyEvent {
    /// A provider of one of the keys; for each key it is reported once.
    Provider {
        /// Of which key.
        key: Key,
        /// Who.
        peer: PeerId,
        /// Its known addresses, the likeliest first; may be empty when it is connected anyway.
        addrs: Vec<Multiaddr>,
    },
    /// The search is over; always the last event, unless the node was shut down.
    Done {
        /// How many regions of the keyspace were looked up.
        lookups: u32,
        /// How many peers were asked which of the keys they know providers of.
        asked_peers: u32,
        /// For how many keys a provider was reported.
        found_keys: usize,
        /// Whether the deadline ended the search.
        timed_out: bool,
    },
}

/// The answer of [`crate::Dht::get_record`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordFound {
    /// The first value that passed the record check, and whose envelope is signed and fresh.
    pub value: Option<Vec<u8>>,
    /// Who signed it.
    pub publisher: Option<PeerId>,
    /// When that was, in Unix seconds.
    pub published_at: Option<u64>,
    /// How many requests were sent to other peers until then.
    pub asked_peers: u32,
}

/// The answer of [`crate::Dht::announce_file`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// How many peers have acknowledged the provider record. 0: the announcement stays due.
    pub peers: u32,
}

/// How far announcing has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnnounceStatus {
    /// Scheduled keys that at least one peer holds a record of.
    pub announced: u64,
    /// Scheduled keys that no peer has acknowledged yet, or not within the expiry.
    pub to_announce: u64,
}

/// A peer this node is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Who.
    pub peer: PeerId,
    /// The addresses the peer says it listens on; until it has said so, the connection's.
    pub addrs: Vec<Multiaddr>,
    /// Name and version of its software, as the peer tells it.
    pub agent: Option<String>,
    /// Whether this node dialled (the first connection).
    pub outbound: bool,
    /// What the connection that bulk data goes over is: `tcp`, `quic`, `memory` or `other`.
    pub transport: &'static str,
    /// What that one is encrypted with; `None` where the transport is of the caller's.
    pub cipher: Option<Cipher>,
    /// Round trip time in milliseconds, once measured.
    pub rtt_ms: Option<u32>,
}

/// A value some node answered with, and how many requests had been sent by then.
pub(crate) type Candidate = (Vec<u8>, u32);

/// The closest peers a lookup found, with their addresses.
#[derive(Debug, Default)]
pub(crate) struct ClosestPeers {
    pub(crate) peers: Vec<(PeerId, Vec<Multiaddr>)>,
    /// Whether the lookup came to its end. What a deadline cut off may lack the closest of all.
    pub(crate) complete: bool,
    /// Requests sent.
    pub(crate) asked_peers: u32,
}

/// An answer to be sent once.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, DhtError>>;

/// What can be looked up, or sent to peers that a lookup found.
pub(crate) enum Lookup {
    Providers(Search),
    /// Values are streamed to the caller, who checks them; a dropped receiver ends the query.
    Record {
        key: Key,
        values: mpsc::Sender<Candidate>,
        asked: oneshot::Sender<u32>,
    },
    Closest {
        /// A key, or the bytes of a peer id.
        point: Vec<u8>,
        answer: oneshot::Sender<ClosestPeers>,
    },
    /// Answers with the number of peers that took the record.
    Put {
        key: Key,
        value: Vec<u8>,
        peers: Vec<PeerId>,
        answer: oneshot::Sender<u32>,
    },
}

/// A search for providers.
pub(crate) struct Search {
    pub(crate) key: Key,
    pub(crate) limit: usize,
    pub(crate) connect: bool,
    pub(crate) include_self: bool,
    pub(crate) events: mpsc::Sender<FindEvent>,
    pub(crate) found: HashSet<PeerId>,
    /// Of these, those to be told all the same when somebody names them: found dead, or known from elsewhere.
    pub(crate) beside: HashSet<PeerId>,
    /// How many new ones an answer brings at once.
    pub(crate) share: usize,
    /// Named beyond the share of an answer.
    pub(crate) rest: Vec<PeerId>,
}

/// What the driver can be asked. Queries carry their permit, which ends with the query.
pub(crate) enum Command {
    Dial {
        addr: Multiaddr,
        answer: Answer<PeerId>,
    },
    /// Be connected to a peer, by the addresses known here and these.
    Connect {
        peer: PeerId,
        addrs: Vec<Multiaddr>,
        answer: Answer<()>,
    },
    /// Open a stream to a connected peer.
    OpenStream {
        peer: PeerId,
        protocol: StreamProtocol,
        answer: oneshot::Sender<Result<Stream, OpenError>>,
    },
    Peers {
        answer: oneshot::Sender<Vec<PeerInfo>>,
    },
    ListenAddrs {
        answer: oneshot::Sender<Vec<Multiaddr>>,
    },
    /// What others have found of whether they can dial this node.
    Reach {
        answer: oneshot::Sender<Reach>,
    },
    /// Where others may reach a connected peer.
    AddressesOf {
        peer: PeerId,
        answer: oneshot::Sender<Vec<Multiaddr>>,
    },
    LookUp {
        lookup: Lookup,
        deadline: Instant,
        permit: OwnedSemaphorePermit,
    },
    /// Of providers that were not found by a lookup of this node's, those that may be reported.
    Providers {
        found: Vec<Provider>,
        /// Dial them.
        connect: bool,
        answer: oneshot::Sender<Vec<Provider>>,
    },
    Ban {
        peer: PeerId,
        until: Instant,
        answer: oneshot::Sender<()>,
    },
    /// The next peer to ask whether it can dial this node.
    WhomToAsk {
        answer: oneshot::Sender<Option<Question>>,
    },
    /// Whether that peer could.
    Tested {
        by: PeerId,
        origin: Origin,
        reached: bool,
    },
    /// Dial a connected peer at the address it comes from. [`DhtError::Dial`] says that this failed, any
    /// other error that nothing was tried.
    DialBack {
        peer: PeerId,
        ports: Ports,
        answer: Answer<PeerId>,
    },
    SetMode {
        mode: Mode,
        answer: oneshot::Sender<()>,
    },
    Shutdown {
        answer: oneshot::Sender<()>,
    },
}

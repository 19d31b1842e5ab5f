//! The network of casnode: a libp2p swarm with Kademlia, records, announcing and the exchange.
//!
//! [`start()`] brings a node up and returns a [`Dht`], the handle everything else goes through, and the
//! exchange streams that other peers open. The crate knows keys and bytes, not files: what a record
//! must look like is decided by a [`RecordCheck`], and what a stream serves by whoever holds it.
//!
//! Not here: storing chunks, choosing what to download from whom, and reaching nodes behind NAT.
//!
//! Rooms: `net` (the swarm and the one task that owns it), `records` (what this node holds for others,
//! in memory and on disk), `announce` (which keys go to which peers, and when), `exchange` (frames and
//! messages of the chunk protocol).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::cast_possible_truncation))]

mod announce;
mod codec;
mod command;
mod config;
mod counters;
mod error;
pub mod exchange;
mod handle;
mod key;
mod net;
mod records;
mod start;

pub use libp2p::identity::Keypair;
pub use libp2p::{Multiaddr, PeerId};

pub use codec::CodecError;
pub use command::{AnnounceStatus, Announced, FindEvent, FindOptions, PeerInfo, RecordFound};
pub use config::{AnnounceTimes, DhtConfig, Limits, Mode, RecordCheck};
pub use counters::DropCounters;
pub use error::DhtError;
pub use exchange::{
    ExchangeError, Reply, ReplyReceiver, ReplySender, Request, RequestReceiver, RequestSender,
};
pub use handle::Dht;
pub use key::Key;
pub use records::{StoreError, announce_status_of};
pub use start::{Incoming, IncomingStreams, start};

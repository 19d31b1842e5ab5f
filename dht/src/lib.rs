//! The network of casnode: a libp2p swarm with Kademlia, records, announcing and the exchange.
//!
//! [`start()`] brings a node up and returns a [`Dht`], the handle everything else goes through, and the
//! exchange streams that other peers open. The crate knows keys and bytes, not files: what a record
//! must look like is decided by a [`RecordCheck`], and what a stream serves by whoever holds it.
//!
//! Not here: storing chunks, choosing what to download from whom, and reaching nodes behind NAT.
//!
//! Modules: `net` (the swarm and the one task that owns it), `records` (what this node holds for others,
//! in memory and on disk), `announce` (which keys go to which peers, and when), `batch` (the records protocol), `find` (who
//! provides a key), `exchange` (frames and messages of the chunk protocol), `bandwidth` (what goes over the line, and how much may).

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::cast_possible_truncation))]

mod announce;
mod bandwidth;
mod batch;
mod codec;
mod command;
mod config;
mod counters;
mod error;
pub mod exchange;
mod find;
mod handle;
mod key;
pub mod lab;
mod meters;
mod neighbourhood;
mod net;
mod network;
mod origin;
mod places;
mod pool;
mod put_test;
mod records;
mod report;
mod start;

pub use libp2p::identity::Keypair;
pub use libp2p::multiaddr::Protocol;
pub use libp2p::{Multiaddr, PeerId};

pub use bandwidth::{Bandwidth, PeerTraffic, Traffic};
pub use codec::CodecError;
pub use command::{
    AnnounceStatus, Announced, FindEvent, FindManyEvent, FindOptions, PeerInfo, RecordFound,
};
pub use config::{
    AnnounceTimes, DhtConfig, Limits, MembershipTimes, Mode, Profile, Reach, RecordCheck,
};
pub use counters::DropCounters;
pub use error::DhtError;
pub use exchange::{
    ExchangeError, Reply, ReplyReceiver, ReplySender, Request, RequestReceiver, RequestSender,
};
pub use find::{MAX_FIND_KEYS, TraceEvent};
pub use handle::Dht;
pub use key::{Key, place_of_peer};
pub use net::addrs::told_addrs;
pub use net::{Cipher, CipherPreference};
pub use network::{BadNetworkName, NetworkName};
pub use records::{SleepingSchedule, StoreError, announce_status_of};
pub use report::{Behind, KeysStatus, LookupReport, Metric, ProvideStatus, PutTest, RunReport};
pub use start::{Incoming, IncomingStreams, start};

//! For simulators and benchmarks: a node over a transport of one's own, and the pure parts of a node.
//!
//! Not for programs: what is here changes with the insides of the crate.

#![doc(hidden)]

mod announcer;
mod holder;

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::io::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::kad::RecordKey;
use libp2p::kad::store::RecordStore;
use libp2p::{PeerId, StreamProtocol};

use crate::announce::schedule::Kind;
use crate::config::CONNECTION_WINDOW_BYTES;
use crate::neighbourhood::Neighbourhood;
use crate::net::{self, CipherPreference, Multiplexed};
use crate::network::Protocols;
use crate::origin::Origin;
use crate::records::envelope;
use crate::records::{self, KadStore, Records, system_clock};
use crate::{AnnounceTimes, Dht, Key, Keypair, Limits, Multiaddr, NetworkName, StoreError};

pub use crate::bandwidth::bucket::{Bucket, Ticket};
pub use crate::start::start_over;
pub use announcer::{Announcer, Step};
pub use holder::Holder;

/// The multiplexer of a node, over any connection whose ends know each other.
pub fn multiplexed<C>(socket: C, dialled: bool) -> StreamMuxerBox
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mode = match dialled {
        true => yamux::Mode::Client,
        false => yamux::Mode::Server,
    };
    StreamMuxerBox::new(Multiplexed::new(
        socket,
        mode,
        None,
        Arc::default(),
        CONNECTION_WINDOW_BYTES,
    ))
}

/// A socket as a node encrypts it, without a multiplexer.
///
/// # Errors
/// The handshake fails.
pub async fn secured<C>(
    socket: C,
    keypair: &Keypair,
    cipher: CipherPreference,
    noise: bool,
    dialled: bool,
) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static + use<C>>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    net::secured(socket, keypair, cipher, noise, dialled).await
}

/// The protocols by which records are asked for and sent: Kademlia's, and the one for many keys at once.
pub fn protocols(network: &NetworkName) -> [StreamProtocol; 2] {
    let protocols = Protocols::of(network);
    [protocols.kad, protocols.records]
}

/// Whom a node would name as providers of a key, itself left out. Asks nobody.
pub fn held_providers(dht: &Dht, key: &Key) -> Vec<PeerId> {
    let held = KadStore(dht.inner.records.clone()).providers(&RecordKey::new(key));
    let me = dht.local_peer_id();
    let others = held.into_iter().filter(|record| record.provider != me);
    others.map(|record| record.provider).collect()
}

/// A value in the envelope of a publisher, signed now; empty when the key is not of Ed25519.
pub fn sealed(publisher: &Keypair, key: &Key, value: &[u8]) -> Vec<u8> {
    envelope::seal(publisher, key, value, system_clock()()).unwrap_or_default()
}

/// A record store without a node.
pub struct StoreAlone(Arc<Records>);

impl StoreAlone {
    /// Opens the store in a folder. Blocking.
    ///
    /// # Errors
    /// As [`crate::start()`].
    pub fn open(dir: &Path, keypair: &Keypair) -> Result<Self, StoreError> {
        let (limits, times) = (Limits::default(), AnnounceTimes::default());
        let records = Records::open(Some(dir), keypair, limits, &times, system_clock())?;
        Ok(Self(records))
    }

    /// Takes keys that a peer announces, as from the network; returns how many were taken.
    pub async fn take(&self, peer: PeerId, remote: &Multiaddr, keys: &[Key]) -> usize {
        self.0.room().await;
        let from = records::Announcer {
            peer,
            origin: Origin::of(remote),
            addrs: std::slice::from_ref(remote),
        };
        let near = Neighbourhood::new(self.0.me(), []);
        let ttl = AnnounceTimes::default().expiry;
        self.0.add_provided(&from, keys, ttl, &near).count()
    }

    /// Enters keys in the schedule, durably, as announced just now.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn schedule(&self, keys: &[Key]) -> Result<(), StoreError> {
        self.0.schedule(keys, Kind::Chunk).await?;
        let now = self.0.now();
        self.0
            .due()
            .acknowledged(keys.iter().map(|key| (*key, 20)), now);
        self.0.sync().await
    }

    /// How many providers of a key it would name.
    pub fn providers(&self, key: &Key) -> usize {
        let now = self.0.now();
        self.0.tables().providers(key, now, 0).len()
    }

    /// How many keys the schedule has.
    pub fn scheduled(&self) -> usize {
        self.0.due().len()
    }

    /// Writes what is left and closes.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.0.close().await
    }
}

/// The peers in the routing table of a node, at most a second old.
pub fn routing_table(dht: &Dht) -> Vec<PeerId> {
    let table = dht.inner.neighbourhood.borrow();
    table.peers().iter().map(|(_, peer)| *peer).collect()
}

/// The peers a node would look for after a restart.
pub fn remembered(dht: &Dht) -> Vec<PeerId> {
    let known = dht.inner.records.remembered();
    known.into_iter().map(|known| known.peer).collect()
}

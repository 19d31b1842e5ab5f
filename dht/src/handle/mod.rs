//! The handle: everything the node asks of the network.
//!
//! Here is the node itself: its peers, its line, its mode. [`announcing`] has what it provides, [`searching`] what it looks for,
//! [`streams`] how chunks are asked for; all of them are commands to the driver, by [`inner`].

mod announcing;
mod inner;
mod searching;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, timeout};
use tokio_util::sync::DropGuard;

pub(crate) use self::inner::Inner;
use self::inner::within;
use crate::bandwidth::{Bandwidth, PeerTraffic, Traffic};
use crate::command::{Command, PeerInfo};
use crate::config::{Mode, Reach};
use crate::counters::DropCounters;
use crate::error::DhtError;
use crate::meters;
use crate::net::addrs;
use crate::report::Metric;

/// How long leaving may take.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(3);
/// A running node of the network. Clones share it; when the last one goes, the node stops.
#[derive(Clone)]
pub struct Dht {
    pub(crate) inner: Arc<Inner>,
    pub(crate) _stop_on_drop: Arc<DropGuard>,
}

impl std::fmt::Debug for Dht {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dht")
            .field("peer", &self.local_peer_id())
            .finish_non_exhaustive()
    }
}

impl Dht {
    /// The identity of this node.
    pub fn local_peer_id(&self) -> PeerId {
        self.inner.peer
    }

    /// Where this node listens, each address with its `/p2p/<peer>`.
    pub async fn listen_addrs(&self) -> Vec<Multiaddr> {
        self.inner
            .ask(|answer| Command::ListenAddrs { answer })
            .await
            .unwrap_or_default()
    }

    /// What others have found of whether they can dial this node.
    pub async fn reach(&self) -> Reach {
        let reach = self.inner.ask(|answer| Command::Reach { answer }).await;
        reach.unwrap_or_default()
    }

    /// How many peers are in the routing table, connected or not.
    pub fn routing_peers(&self) -> usize {
        self.inner.neighbourhood.borrow().peers().len()
    }

    /// The peers this node is connected to.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        let peers = self.inner.ask(|answer| Command::Peers { answer }).await;
        let mut peers = peers.unwrap_or_default();
        for info in &mut peers {
            if let Some(seen) = self.traffic_of(&info.peer) {
                info.transport = seen.transport;
                info.cipher = seen.cipher;
            }
        }
        peers
    }

    /// Connects to an address, with or without `/p2p/<peer>`; returns who answered.
    /// Succeeds at once when that peer is connected already.
    ///
    /// # Errors
    /// [`DhtError::Dial`], [`DhtError::TimedOut`], [`DhtError::ShutDown`].
    pub async fn dial(&self, addr: Multiaddr, deadline: Duration) -> Result<PeerId, DhtError> {
        within(
            deadline,
            self.inner.ask(|answer| Command::Dial { addr, answer }),
        )
        .await??
    }

    /// Waits until a connected peer is in the routing table, or the time is up; returns how many are.
    pub async fn connected_within(&self, deadline: Duration) -> usize {
        let mut routed = self.inner.routed.clone();
        let _ = timeout(deadline, routed.wait_for(|count| *count > 0)).await;
        *self.inner.routed.borrow()
    }

    /// The limits of what this node sends and takes.
    pub fn bandwidth(&self) -> Bandwidth {
        self.inner.line.bandwidth()
    }

    /// Changes these limits, from now on, for all streams that are open, too.
    pub fn set_bandwidth(&self, bandwidth: Bandwidth) {
        self.change_bandwidth(|_| bandwidth);
    }

    /// Changes them by what they are, one change after the other; returns what they are then.
    pub fn change_bandwidth(&self, change: impl FnOnce(Bandwidth) -> Bandwidth) -> Bandwidth {
        self.inner.line.change(change)
    }

    /// What this node has sent and taken since its start.
    pub fn traffic(&self) -> Traffic {
        self.inner.line.traffic()
    }

    /// What goes between this node and a peer that is connected.
    pub fn traffic_of(&self, peer: &PeerId) -> Option<PeerTraffic> {
        self.inner.line.traffic_of(peer)
    }

    /// Where others may reach a peer that is connected: at most four addresses that it has told or this node has dialled. Not
    /// all of them are for everybody: see [`Dht::tellable_to`].
    pub async fn addresses_of(&self, peer: PeerId) -> Vec<Multiaddr> {
        self.inner
            .ask(|answer| Command::AddressesOf { peer, answer })
            .await
            .unwrap_or_default()
    }

    /// Of the addresses of somebody else, those that a connected peer may be told: loopback only on this machine, private
    /// networks only within one. None when it is not connected.
    pub fn tellable_to(&self, to: &PeerId, addrs: Vec<Multiaddr>) -> Vec<Multiaddr> {
        let remote = self.traffic_of(to).map(|seen| seen.addr);
        remote.map_or_else(Vec::new, |remote| addrs::tellable_at(&remote, addrs))
    }

    /// Numbers for a monitoring system.
    pub fn metrics(&self) -> Vec<Metric> {
        meters::metrics(&self.inner)
    }

    /// Disconnects from a peer and refuses it for a while. At most 1,024 peers are banned at once;
    /// the ban that ends first gives way.
    pub async fn ban(&self, peer: PeerId, time: Duration) {
        let until = Instant::now() + time;
        let _ = self
            .inner
            .ask(|answer| Command::Ban {
                peer,
                until,
                answer,
            })
            .await;
    }

    /// Whether this node serves the DHT now: [`Mode::Server`] or [`Mode::Client`].
    pub fn mode(&self) -> Mode {
        *self.inner.mode.borrow()
    }

    /// Makes this node a server or a client, or leaves it to be found out. Peers are told at once.
    pub async fn set_mode(&self, mode: Mode) {
        let _ = self
            .inner
            .ask(|answer| Command::SetMode { mode, answer })
            .await;
    }

    /// What was refused since the start.
    pub fn dropped(&self) -> DropCounters {
        self.inner.counters.snapshot()
    }

    /// Leaves the network and writes the record store out, in at most three seconds. Later calls on
    /// any clone fail with [`DhtError::ShutDown`] or do nothing.
    pub async fn shutdown(&self) {
        let leave = async {
            let _ = self.inner.ask(|answer| Command::Shutdown { answer }).await;
            self.inner.stop.cancel();
            self.inner.tasks.close();
            let _ = timeout(SHUTDOWN_DEADLINE / 3, self.inner.tasks.wait()).await;
            if let Err(error) = self.inner.records.close().await
                && !matches!(error, crate::StoreError::Closed)
            {
                tracing::error!(%error, "the record store could not be written out");
            }
        };
        if timeout(SHUTDOWN_DEADLINE, leave).await.is_err() {
            tracing::warn!("leaving the network took too long");
        }
    }
}

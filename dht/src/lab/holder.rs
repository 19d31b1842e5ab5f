//! What one node holds for others, without the node.

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;

use crate::neighbourhood::Neighbourhood;
use crate::origin::Origin;
use crate::records::{Announcer, Records};
use crate::{AnnounceTimes, Key, Keypair, Limits, Multiaddr, StoreError};

/// A node's record tables, in memory, and its idea of what is near.
pub struct Holder {
    records: Arc<Records>,
    near: Neighbourhood,
}

impl Holder {
    /// Empty tables of a node with this identity.
    ///
    /// # Errors
    /// None so far.
    pub fn new(
        keypair: &Keypair,
        limits: Limits,
        clock: Arc<dyn Fn() -> u32 + Send + Sync>,
    ) -> Result<Self, StoreError> {
        let records = Records::open(None, keypair, limits, &AnnounceTimes::default(), clock)?;
        let near = Neighbourhood::new(records.me(), []);
        Ok(Self { records, near })
    }

    /// Tells who is in the routing table.
    pub fn look_around(&mut self, table: &[PeerId]) {
        self.near = Neighbourhood::new(self.records.me(), table.iter().copied());
    }

    /// Takes keys that a peer announces; says of each whether it was taken.
    pub fn take(&self, peer: PeerId, from: &Multiaddr, keys: &[Key], ttl: Duration) -> Vec<bool> {
        let from = Announcer {
            peer,
            origin: Origin::of(from),
            addrs: std::slice::from_ref(from),
        };
        self.records
            .add_provided(&from, keys, ttl, &self.near)
            .taken
    }

    /// Whether a record of the key by this peer is held.
    pub fn holds(&self, key: &Key, provider: &PeerId) -> bool {
        let now = self.records.now();
        let held = self.records.tables().providers(key, now, 0);
        held.iter().any(|held| held.peer == *provider)
    }
}

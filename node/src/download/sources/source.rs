//! One session, as the download sees it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use casnode_cas::ManifestId;
use casnode_dht::PeerId;
use tokio::sync::mpsc;

use super::super::session::Command;
use crate::swarm::{SourceHas, SourceView, Swarms};

/// A session may make room for another peer when it has been of no use for this long.
pub(super) const USEFUL_WITHIN: Duration = Duration::from_secs(30);

/// The same for one that has chunks which are wanted here: it may choke this node for a few rounds.
pub(super) const WANTED_WITHIN: Duration = Duration::from_secs(120);

/// For a peer that the DHT or a person named, one that was only told of makes room sooner, by this factor.
pub(super) const HASTE: u32 = 4;

/// A session that runs.
#[derive(Debug)]
pub(in crate::download) struct Source {
    pub(in crate::download) peer: PeerId,
    pub(in crate::download) commands: mpsc::Sender<Command>,
    /// How often it has choked this node.
    pub(in crate::download) chokes: u32,
    /// What it has, once that is known and it is asked for chunks.
    pub(super) has: Option<SourceHas>,
    /// It has an entry of the file, and tells by itself which chunks it has.
    pub(in crate::download) knows_file: bool,
    pub(super) origin: Origin,
    /// When it began, or was last of use.
    pub(super) useful_at: Instant,
    /// How often it did not have what it claims to have.
    pub(super) lies: u32,
    /// What is known of it, and what of that the swarm was told.
    pub(super) view: SourceView,
    pub(super) told: Option<SourceView>,
    /// Its entry in the swarm.
    pub(super) entered: Option<Entered>,
    /// Bytes that came from it, and that the swarm was not told of.
    pub(super) fresh_bytes: u64,
}

impl Source {
    pub(super) fn new(
        peer: PeerId,
        origin: Origin,
        now: Instant,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        let view = SourceView {
            chokes_us: true,
            ..SourceView::default()
        };
        Self {
            peer,
            commands,
            chokes: 0,
            has: None,
            knows_file: false,
            origin,
            useful_at: now,
            lies: 0,
            view,
            told: None,
            entered: None,
            fresh_bytes: 0,
        }
    }

    /// It is asked for chunks.
    pub(super) fn is_joined(&self) -> bool {
        self.has.is_some()
    }

    /// Tells the swarm what changed since the last time.
    pub(super) fn report(&mut self, swarms: &Arc<Swarms>, manifest: ManifestId) {
        if let Some(has) = &self.has
            && self.told != Some(self.view)
        {
            self.told = Some(self.view);
            let entered = || Entered::new(swarms, manifest, self.peer);
            self.entered.get_or_insert_with(entered);
            swarms.source(manifest, self.peer, self.view, has);
        }
        let bytes = std::mem::take(&mut self.fresh_bytes);
        if bytes > 0 {
            swarms.fetched(manifest, self.peer, bytes);
        }
    }

    /// How long it may be of no use before it makes room.
    pub(super) fn grace(&self, newcomer: Origin) -> Duration {
        let grace = match self.is_joined() && self.view.interests_us {
            true => WANTED_WITHIN,
            false => USEFUL_WITHIN,
        };
        match (self.origin, newcomer) {
            (Origin::Told { .. }, Origin::Found) => grace / HASTE,
            _ => grace,
        }
    }
}

/// By whose word a peer is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::download) enum Origin {
    /// The DHT's or a person's, or it is connected already.
    Found,
    /// That of a peer of the swarm, or its own, by joining this node.
    Told { by: PeerId },
}

/// A source's entry in the swarm of what is fetched. It ends with the session, however that does.
#[derive(Debug)]
pub(super) struct Entered {
    swarms: Arc<Swarms>,
    manifest: ManifestId,
    peer: PeerId,
}

impl Entered {
    pub(super) fn new(swarms: &Arc<Swarms>, manifest: ManifestId, peer: PeerId) -> Self {
        let swarms = swarms.clone();
        Self {
            swarms,
            manifest,
            peer,
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.swarms.source_gone(self.manifest, self.peer);
    }
}

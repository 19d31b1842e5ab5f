//! One `get` from its request to its report.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use casnode_cas::{Address, FileRecord, HaveBitmap, Manifest, ManifestId};
use casnode_dht::{Multiaddr, PeerId};
use tokio::{io::AsyncWrite, sync::Mutex};
use tokio_util::sync::CancellationToken;

use super::{
    assembler::{AssembleError, Turn},
    attempt::{Attempt, End},
    emitter::StreamOut,
    output::Inspection,
    place::Place,
    session::SessionEnd,
    settle::{Fetched, kept, settle},
    sources::Sources,
    there::{already_there, unchanged},
};
pub(crate) use super::{output::Target, settle::Stay};
use crate::{
    api::{ApiError, ErrorKind, GetReport, Keep, events::EventSink},
    clock, errors,
    node::Node,
    read::Readers,
    sched::{Fault, PeerSlot},
    tasks::blocking,
};

/// Manifests tried for one address. Each forged one costs its peers a ban; this bounds what they cost us together.
const MAX_ATTEMPTS: u32 = 16;

/// Where a person set no limit: longer than any download.
const NO_LIMIT: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What sessions, discovery, the assembler and the emitter tell the engine.
#[derive(Debug)]
pub(crate) enum EngineEvent {
    /// How many peers the node is connected to, after waiting for the network.
    Network { peers: u32 },
    /// A peer that may have the file, or only the chunk it was found for.
    Candidate { peer: PeerId, claim: Option<u32> },
    /// The dial to a peer named by hand ended.
    Dialled {
        addr: Multiaddr,
        outcome: Result<PeerId, String>,
    },
    /// A search for providers of single chunks ended.
    OrphansDone,
    /// A lookup of providers ended.
    LookupDone { asked_peers: u32, found: u32 },
    /// The lookup of the metadata record ended.
    Record(Option<Box<FileRecord>>),
    /// A part of a manifest came: whoever sends it is not silent.
    ManifestPart,
    /// A peer's manifest; it merges to the address.
    ManifestOffered {
        peer: PeerSlot,
        manifest: Arc<Manifest>,
    },
    /// A peer has an entry of the file, be it of a part.
    KnowsFile { peer: PeerSlot },
    /// A session is ready for requests.
    Joined { peer: PeerSlot, have: HaveBitmap },
    /// A peer has these chunks, too.
    Got { peer: PeerSlot, indices: Vec<u32> },
    /// A peer sends no chunks from now on.
    Choked { peer: PeerSlot },
    /// A peer sends chunks from now on.
    Unchoked { peer: PeerSlot },
    /// A peer tells of others of the swarm, and where they are.
    Told {
        peer: PeerSlot,
        others: Vec<(PeerId, Vec<Multiaddr>)>,
    },
    /// A chunk came; it is being checked.
    Arrived { peer: PeerSlot, index: u32 },
    /// Parts of a chunk came.
    Receiving { peer: PeerSlot },
    /// This side has no memory for the chunk that a peer has begun to send.
    HeldUp { peer: PeerSlot },
    /// A chunk did not come.
    Failed {
        peer: PeerSlot,
        index: u32,
        fault: Fault,
    },
    /// Bytes came that were here already.
    Duplicate { bytes: u32 },
    /// A session ended.
    Gone { peer: PeerSlot, end: SessionEnd },
    /// A chunk is right and kept.
    Stored { peer: PeerSlot, index: u32 },
    /// A chunk's bytes do not have its hash.
    Rejected { peer: PeerSlot, index: u32 },
    /// A chunk that was here is in the output.
    Local { index: u32 },
    /// A chunk that was here is not usable.
    Lost { index: u32 },
    /// It is a directory, of which no output is made.
    Directory,
    /// Every group is proven and the output is in place.
    Assembled,
    /// A first group is proven: this manifest tells the truth at least there.
    FirstProof,
    /// An equal chunk came; this one is here too.
    Twin { index: u32 },
    /// The manifest lies about the file's bytes; these chunks are right all the same.
    Forged { proven: HaveBitmap },
    /// The store or the output failed.
    AssembleFailed(AssembleError),
    /// The stream has taken all chunks before this one, and needs those before `end` next, together.
    Position { index: u32, end: u32 },
    /// The stream has taken everything, or has failed.
    Emitted(std::io::Result<()>),
}

/// What is asked for.
pub(crate) struct GetOptions {
    pub(crate) address: Address,
    pub(crate) target: Target,
    pub(crate) timeout: Option<Duration>,
    pub(crate) hints: Vec<Multiaddr>,
    /// What whoever told of the file calls it; goes before the name it is published with.
    pub(crate) name: Option<String>,
    /// Its length, as whoever told of it says: another one is refused.
    pub(crate) size_bytes: Option<u64>,
    /// The stream of [`Target::Stream`].
    pub(crate) output: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Permission bits of the output; `None`: by this process's umask.
    pub(crate) mode: Option<u32>,
    /// What stays here; neither [`Keep::InPlace`] nor [`Keep::No`] where no file is made.
    pub(crate) stay: Stay,
    pub(crate) terms: Terms,
}

/// What is not so with every download.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    /// Peers that probably have it: asked before anybody is looked for.
    pub(crate) peers: Vec<PeerId>,
    /// A larger file is refused as soon as its size is known.
    pub(crate) max_bytes: Option<u64>,
    /// Somebody else announces it, together with others.
    pub(crate) is_announced_apart: bool,
    /// A directory is not written: its listing is put into the store, and the report has no path. To a stream it is refused.
    pub(crate) is_directory_told: bool,
}

/// What lives through all attempts of one `get`.
pub(super) struct Job {
    pub(super) node: Arc<Node>,
    pub(super) address: Address,
    pub(super) target: Target,
    pub(super) hints: Vec<Multiaddr>,
    pub(super) told_name: Option<String>,
    pub(super) told_size_bytes: Option<u64>,
    pub(super) terms: Terms,
    pub(super) mode: Option<u32>,
    pub(super) stay: Stay,
    /// Where it is kept, decided with each manifest that is chosen.
    pub(super) place: Place,
    pub(super) stream: Option<Arc<Mutex<StreamOut>>>,
    pub(super) events: EventSink,
    pub(super) cancel: CancellationToken,
    pub(super) started: std::time::Instant,
    pub(super) deadline: Option<std::time::Instant>,
    /// Downloads of one address take turns.
    pub(super) turn: Arc<Turn>,
    /// Who reads ranges of the address: what they need goes before the rest.
    pub(super) readers: Arc<Readers>,
    pub(super) sources: Sources,
    pub(super) bad_manifests: HashMap<ManifestId, Bad>,
    pub(super) record: Option<FileRecord>,
    pub(super) tally: Tally,
}

/// Why a manifest is not used again in this `get`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// Its chunks are not the file's. Whoever offers it lies.
    Forged,
    /// Nobody serves it any more, and somebody serves another.
    Deserted,
}

/// What the report counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) local_chunks: u32,
    pub(super) local_bytes: u64,
    pub(super) fetched_chunks: u32,
    pub(super) fetched_bytes: u64,
    pub(super) duplicate_bytes: u64,
    pub(super) rejected_chunks: u32,
}

/// Fetches a file.
pub(crate) async fn get(
    node: &Arc<Node>,
    options: GetOptions,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<GetReport, ApiError> {
    options.target.check_folder()?;
    let started = clock::now();
    let GetOptions {
        address,
        target,
        timeout,
        hints,
        name: told_name,
        size_bytes: told_size_bytes,
        output,
        mode,
        stay,
        terms,
    } = options;
    let deadline = timeout.map(|t| started + t);
    let inspection = Inspection {
        address,
        // What a link says of the length may be wrong: of the very file that has to be found out.
        size_bytes: None,
        deadline,
        events: &events,
        cancel: &cancel,
    };
    if let Some(path) = already_there(node, &target, told_name.as_deref(), inspection).await? {
        return Ok(unchanged(node, stay, address, path, &events).await);
    }
    let turn = node.downloads.turn(&address);
    let readers = node.downloads.readers(&address);
    let turn = match turn.clone().try_lock_owned() {
        Ok(turn) => turn,
        Err(_) => {
            // What is fetched for readers alone makes way.
            let _waits = (!matches!(target, Target::Readers)).then(|| readers.wait());
            events
                .warn("another get of this address is running; waiting for it")
                .await;
            let late = tokio::time::sleep_until(deadline.unwrap_or(started + NO_LIMIT).into());
            tokio::select! {
                turn = turn.lock_owned() => turn,
                () = late => return Err(other_get_runs(&address)),
                () = cancel.cancelled() => return Err(interrupted()),
            }
        }
    };
    let mut job = Job {
        node: node.clone(),
        address,
        target,
        hints,
        told_name,
        told_size_bytes,
        terms,
        mode,
        stay,
        place: Place::Store,
        stream: output.map(StreamOut::new),
        events,
        cancel,
        started,
        deadline,
        turn: Arc::new(turn),
        readers,
        sources: Sources::default(),
        bad_manifests: HashMap::new(),
        record: None,
        tally: Tally::default(),
    };
    let _in_use = node.store.in_use(&address);
    for _ in 0..MAX_ATTEMPTS {
        match Attempt::new(&mut job).run().await? {
            End::Complete {
                manifest,
                path,
                lent,
            } => {
                let is_stores = lent.as_ref().is_some_and(|lent| lent.is_stores());
                job.settle(&manifest, path.clone(), is_stores).await?;
                tracing::debug!("the download is settled");
                drop(lent); // not before the store knows where the chunks are
                return Ok(job.report(&manifest, path).await);
            }
            End::AnotherManifest => job.sources.release_all(),
            End::Unchanged { path } => {
                return Ok(unchanged(node, stay, address, path, &job.events).await);
            }
        }
    }
    Err(ApiError::new(
        ErrorKind::Integrity,
        format!("{} could not be fetched", job.address),
        format!("{MAX_ATTEMPTS} manifests were tried and none describes the file"),
        "name a provider that you trust with --peer",
    ))
}

fn other_get_runs(address: &Address) -> ApiError {
    ApiError::new(
        ErrorKind::TimedOut,
        format!("{address} was not fetched"),
        "another get of it is still running",
        "wait for that one, or try again with a longer --timeout",
    )
}

pub(super) fn interrupted() -> ApiError {
    ApiError::new(
        ErrorKind::Interrupted,
        "the download was stopped",
        "it was interrupted",
        "the same get goes on with what was kept",
    )
}

impl Job {
    /// The bytes are in place. An output is worth having even when the store does not take the file.
    async fn settle(
        &self,
        manifest: &Manifest,
        path: Option<PathBuf>,
        is_stores: bool,
    ) -> Result<(), ApiError> {
        let known = self.node.known_name(&self.address).await;
        let name = self.record.as_ref().and_then(|r| r.name());
        let told = self.told_name.clone();
        let name = name.map(str::to_owned).or(known).or(told);
        let place = match self.place {
            // Of a directory there is no output that could be kept.
            Place::Output if path.is_none() && self.keeps_listing() => Place::Store,
            Place::Output if path.is_none() => Place::No,
            place => place,
        };
        let fetched = Fetched {
            manifest: manifest.clone(),
            place,
            path,
            is_stores,
            name,
            is_announced_apart: self.terms.is_announced_apart,
        };
        let Err(why) = settle(&self.node, self.stay.claim, fetched).await else {
            return Ok(());
        };
        if matches!(self.target, Target::Keep) {
            return Err(ApiError::new(
                ErrorKind::Partial,
                format!("{} is not complete", self.address),
                why,
                "run the same command again",
            ));
        }
        let told = format!("the file was written, and was not entered in the store: {why}");
        self.events.warn(told).await;
        Ok(())
    }

    /// Whether the listing of a directory goes into the store although an output was to be kept in place: by default.
    pub(super) fn keeps_listing(&self) -> bool {
        (self.stay.keep, self.place) == (Keep::Auto, Place::Output)
    }

    /// The manifest that the store already has for this address.
    pub(super) async fn known_manifest(&self) -> Result<Option<Manifest>, ApiError> {
        let (store, address) = (self.node.store.clone(), self.address);
        let found = blocking(move || store.manifest(&address))
            .await
            .map_err(errors::panicked)?;
        let found = match found {
            Err(error) if error.is_corruption() => {
                tracing::warn!(%error, "the stored manifest is damaged and will be fetched again");
                None
            }
            found => found.map_err(|e| errors::store("the store could not be read", &e))?,
        };
        Ok(found.filter(|m| !self.bad_manifests.contains_key(&m.id())))
    }

    /// How a place is looked at for this file.
    pub(super) fn inspection(&self, size_bytes: Option<u64>) -> Inspection<'_> {
        Inspection {
            address: self.address,
            size_bytes,
            deadline: self.deadline,
            events: &self.events,
            cancel: &self.cancel,
        }
    }

    /// Whether a file of this length can be the one that the link speaks of.
    pub(super) fn has_told_size(&self, size_bytes: u64) -> bool {
        self.told_size_bytes.is_none_or(|told| told == size_bytes)
    }

    /// Refuses a file of another length than its link has: it says that of another file, or somebody lies.
    pub(super) fn check_size(&self, size_bytes: u64) -> Result<(), ApiError> {
        match self.told_size_bytes {
            Some(told_bytes) if !self.has_told_size(size_bytes) => {
                Err(errors::wrong_size(&self.address, told_bytes, size_bytes))
            }
            _ => Ok(()),
        }
    }

    async fn report(&self, manifest: &Manifest, path: Option<PathBuf>) -> GetReport {
        let (kept, in_place) = kept(&self.node, self.address).await;
        GetReport {
            address: self.address.to_string(),
            path: path.map(|p| p.display().to_string()),
            bytes: manifest.size_bytes(),
            seconds: self.started.elapsed().as_secs_f64(),
            chunks: u32::try_from(manifest.chunks().len()).unwrap_or(u32::MAX),
            local_chunks: self.tally.local_chunks,
            local_bytes: self.tally.local_bytes,
            fetched_chunks: self.tally.fetched_chunks,
            fetched_bytes: self.tally.fetched_bytes,
            duplicate_bytes: self.tally.duplicate_bytes,
            rejected_chunks: self.tally.rejected_chunks,
            unchanged: false,
            kept,
            in_place,
            seed: None,
            providers: self.sources.uses(),
        }
    }
}

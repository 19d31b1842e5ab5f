//! What exists once a manifest is chosen: output, assembler, scheduler.

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Instant};

use casnode_cas::{Assembly, ChunkHash, FileState, HaveBitmap, Manifest};
use tokio::sync::mpsc;

use super::{
    super::{
        LiveHave, Registered,
        assembler::{Assembler, JOB_QUEUE},
        emitter,
        engine::{Bad, EngineEvent},
        output::{Found, inspect},
        session::Goal,
    },
    Attempt, End,
};
use crate::{
    api::{ApiError, ErrorKind},
    clock, errors,
    sched::{Event, Fault, Order, PeerSlot, Scheduler, SchedulerConfig},
    tasks::blocking,
};

/// What exists once a manifest is chosen.
pub(super) struct Running {
    pub(super) manifest: Arc<Manifest>,
    pub(super) sched: Scheduler,
    pub(super) path: Option<PathBuf>,
    pub(super) assembled: bool,
    pub(super) emitted: bool,
    pub(super) done_bytes: u64,
    pub(super) here_chunks: u32,
    pub(super) last_progress: Instant,
    stored: Vec<ChunkHash>,
    announced: bool,
    _registered: Registered,
}

impl Attempt<'_> {
    /// Settles on a manifest: output, assembler, scheduler.
    pub(super) async fn choose(
        &mut self,
        manifest: Arc<Manifest>,
    ) -> Result<Option<End>, ApiError> {
        let known_name = self.job.node.known_name(&self.job.address).await;
        let name = self
            .job
            .record
            .as_ref()
            .and_then(|r| r.name().map(str::to_owned))
            .or(known_name);
        let place = self.job.target.resolve(name.as_deref(), &self.job.address);
        let mut output = None;
        if let Some((path, force)) = &place {
            if inspect(path, *force, self.job.address).await? == Found::Same {
                return Ok(Some(End::Unchanged { path: path.clone() }));
            }
            let (path, force) = (path.clone(), *force);
            let (address, size) = (self.job.address, manifest.size_bytes());
            let made = blocking(move || Assembly::create(&path, &address, size, force)).await;
            output = Some(
                made.map_err(errors::panicked)?
                    .map_err(|e| errors::output(&e))?,
            );
        }
        let (store, m) = (self.job.node.store.clone(), manifest.clone());
        let begun = blocking(move || -> Result<_, casnode_cas::StoreError> {
            let entry = store.file(&m.address())?;
            if !entry.is_some_and(|e| e.state == FileState::Complete && e.manifest == m.id()) {
                store.begin_partial(&m, name.as_deref())?;
            }
            store.have(&m)
        })
        .await;
        let have = begun
            .map_err(errors::panicked)?
            .map_err(|e| errors::store("the download could not begin", &e))?;
        self.start(manifest, &have, output, place.map(|(path, _)| path));
        Ok(None)
    }

    fn start(
        &mut self,
        manifest: Arc<Manifest>,
        have: &HaveBitmap,
        output: Option<Assembly>,
        path: Option<PathBuf>,
    ) {
        let live = Arc::new(LiveHave::new(manifest.clone()));
        let registered = self.job.node.downloads.enter(live.clone());
        let to_stream = self.job.stream.clone().filter(|_| path.is_none());
        let emitted = to_stream.is_none();
        if let Some(out) = to_stream {
            let (store, live, events) = (
                self.job.node.store.clone(),
                live.clone(),
                self.events.clone(),
            );
            self.tasks.spawn("emitter", async move {
                let outcome = emitter::emit(store, live, out).await;
                let _ = events.send(EngineEvent::Emitted(outcome)).await;
                Ok::<(), Infallible>(())
            });
        }
        let (jobs, job_queue) = mpsc::channel(JOB_QUEUE);
        let assembler = Assembler {
            store: self.job.node.store.clone(),
            manifest: manifest.clone(),
            output,
            live,
            events: self.events.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        let here = have.clone();
        self.tasks
            .spawn_blocking("assembler", move || assembler.run(&here, job_queue));
        let order = if emitted {
            Order::Random
        } else {
            Order::Sequential
        };
        let seed = rand::random();
        let first = first_group(&manifest, have, seed);
        let chunk_bytes = typical_chunk(&manifest);
        let sched = Scheduler::new(
            SchedulerConfig::default(),
            have,
            chunk_bytes,
            order,
            &first,
            seed,
        );
        self.running = Some(Running {
            manifest: manifest.clone(),
            sched,
            path,
            assembled: false,
            emitted,
            done_bytes: 0,
            here_chunks: 0,
            last_progress: clock::now(),
            stored: Vec::new(),
            announced: false,
            _registered: registered,
        });
        self.goal.send_replace(Some(Goal { manifest, jobs }));
    }

    pub(super) fn stored(&mut self, slot: PeerSlot, index: u32) {
        let now = clock::now();
        let Some(r) = &mut self.running else { return };
        let Some(chunk) = r.manifest.chunks().get(index as usize).cloned() else {
            return;
        };
        r.done_bytes += u64::from(chunk.len_bytes);
        r.here_chunks += 1;
        r.last_progress = now;
        r.stored.push(chunk.hash);
        self.job.tally.fetched_chunks += 1;
        if let Some(peer) = self.job.sources.peer(slot) {
            let tally = self.job.sources.tally(peer);
            tally.bytes += u64::from(chunk.len_bytes);
            tally.chunks += 1;
        }
        if !r.announced {
            r.announced = true;
            self.job
                .node
                .announce_in_background(&r.manifest, self.job.record.as_ref());
        }
        self.schedule(Event::Verified { peer: slot, index });
    }

    pub(super) fn local(&mut self, index: u32) {
        let Some(r) = &mut self.running else { return };
        let Some(chunk) = r.manifest.chunks().get(index as usize) else {
            return;
        };
        r.done_bytes += u64::from(chunk.len_bytes);
        r.here_chunks += 1;
        self.job.tally.local_chunks += 1;
    }

    pub(super) fn failed(&mut self, slot: PeerSlot, index: u32, fault: Fault) {
        if fault == Fault::WrongBytes {
            self.job.tally.rejected_chunks += 1;
            if let Some(peer) = self.job.sources.peer(slot) {
                self.job.sources.tally(peer).rejected += 1;
                self.search.next_lookup = clock::now();
                self.ban(peer, "it sent wrong bytes");
                tracing::warn!(%peer, chunk = index, "a peer sent bytes that do not have the chunk's hash; it is banned");
            }
        }
        self.schedule(Event::Failed {
            peer: slot,
            index,
            fault,
        });
    }

    pub(super) fn emitted(&mut self, outcome: std::io::Result<()>) -> Result<(), ApiError> {
        match outcome {
            Ok(()) => {
                if let Some(r) = &mut self.running {
                    r.emitted = true;
                }
                Ok(())
            }
            Err(error) => Err(ApiError::new(
                ErrorKind::Failure,
                "the output stream was not written to its end",
                error.to_string(),
                "run the command again; what was fetched is kept",
            )),
        }
    }

    /// The manifest turned out forged: its peers are banned, what it brought is thrown away.
    pub(super) async fn discard_forged(&mut self) {
        let Some(r) = self.running.take() else { return };
        let id = r.manifest.id();
        tracing::warn!(manifest = %id, "a manifest is forged; the peers that served it are banned");
        self.job.bad_manifests.insert(id, Bad::Forged);
        for peer in self.offered_by.remove(&id).unwrap_or_default() {
            self.ban(peer, "it served a forged manifest");
        }
        let (store, address) = (self.job.node.store.clone(), self.job.address);
        let dropped = blocking(move || -> Result<(), casnode_cas::StoreError> {
            store.remove_file(&address)?;
            store.drop_unreferenced(&r.stored)?;
            Ok(())
        })
        .await;
        if let Ok(Err(error)) = dropped {
            tracing::warn!(%error, "chunks of a forged manifest could not be dropped");
        }
    }
}

/// The chunks of one group, chosen at random among those that are not here: a forged manifest dies with it.
fn first_group(manifest: &Manifest, have: &HaveBitmap, seed: u64) -> Vec<u32> {
    let groups = manifest.proof().group_count();
    let missing = |g: &usize| manifest.chunks_of_group(*g).any(|i| !have.get(i));
    let start = usize::try_from(seed % u64::try_from(groups.max(1)).unwrap_or(1)).unwrap_or(0);
    let group = (start..groups).chain(0..start).find(missing);
    group
        .map(|g| {
            manifest
                .chunks_of_group(g)
                .filter_map(|i| u32::try_from(i).ok())
                .collect()
        })
        .unwrap_or_default()
}

fn typical_chunk(manifest: &Manifest) -> u32 {
    let count = manifest.chunks().len().max(1) as u64;
    u32::try_from(manifest.size_bytes().div_ceil(count))
        .unwrap_or(u32::MAX)
        .max(1)
}

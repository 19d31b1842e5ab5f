//! What exists once a manifest is chosen: output, assembler, scheduler.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::Arc,
};

use casnode_cas::{Assembly, HaveBitmap, Manifest, OutputOptions};
use casnode_dht::PeerId;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{
    super::{
        LiveHave, Registered, Target,
        assembler::{Assembler, JOB_QUEUE, behind, twins},
        begin::{Begun, Output, begin},
        emitter::{self, StreamOut},
        engine::{Bad, EngineEvent},
        incoming::IncomingRoom,
        lent::{self, Lent},
        output::make_way,
        session::{Goal, SessionEnd},
    },
    Attempt, End,
    pace::Pace,
};
use crate::{
    api::ApiError,
    clock, errors,
    sched::{Event, Fault, Order, PeerSlot, Scheduler, SchedulerConfig},
    swarm::Counters,
    tasks::blocking,
};

/// What exists once a manifest is chosen.
pub(super) struct Running {
    pub(super) manifest: Arc<Manifest>,
    pub(super) sched: Scheduler,
    pub(super) path: Option<PathBuf>,
    /// Tells the assembler where the output goes, once its name is known.
    pub(super) tell_name: Option<oneshot::Sender<PathBuf>>,
    /// The chunks that are in the output alone.
    pub(super) lent: Option<Arc<Lent>>,
    pub(super) assembled: bool,
    pub(super) emitted: bool,
    pub(super) done_bytes: u64,
    pub(super) here_chunks: u32,
    pub(super) pace: Pace,
    /// Peers that join the swarm at this node.
    pub(super) newcomers: mpsc::Receiver<PeerId>,
    /// At least one group is the file's.
    pub(super) is_proven: bool,
    /// A reader has said what it needs.
    pub(super) has_begun_to_read: bool,
    /// Bytes that came since room was made for them.
    pub(super) unmade_bytes: u64,
    announced: bool,
    _registered: Registered,
}

impl Attempt<'_> {
    /// Settles on a manifest: output, assembler, scheduler. The output gets its name now, or `late`.
    pub(super) async fn choose(
        &mut self,
        manifest: Arc<Manifest>,
        late: bool,
    ) -> Result<Option<End>, ApiError> {
        self.job.check_size(manifest.size_bytes())?;
        if self
            .job
            .terms
            .max_bytes
            .is_some_and(|max| manifest.size_bytes() > max)
        {
            return Err(errors::no_directory(
                &self.job.address,
                "it is larger than any listing",
            ));
        }
        let name = self.name().await;
        let target = self.job.target.resolve(name.as_deref(), &self.job.address);
        let path = target.as_ref().map(|(path, _)| path.as_path());
        self.job.place = self.choose_place(&manifest, path).await?;
        let is_in_store = self.job.place.is_in_store();
        let late = late && name.is_none();
        let mut output = None;
        if let Some((path, force)) = &target {
            if !late
                && self
                    .is_there(path, *force, Some(manifest.size_bytes()))
                    .await?
            {
                return Ok(Some(End::Unchanged { path: path.clone() }));
            }
            make_way(path, self.job.mode).await?;
            let (path, force) = (path.clone(), *force);
            let (address, size) = (self.job.address, manifest.size_bytes());
            let mut options = OutputOptions::new(force, self.job.mode);
            options.shares = is_in_store && self.shares_what_is_there(&path).await?;
            let made = blocking(move || {
                // What a download that kept it in its output left is gone on with in any case.
                options.resume = !is_in_store || Assembly::has_leftover(&path, &address);
                Assembly::create(&path, &address, size, &options)
            });
            let made = made.await;
            output = Some(
                made.map_err(errors::panicked)?
                    .map_err(|e| errors::output(&e))?,
            );
        }
        let (store, m) = (self.job.node.store.clone(), manifest.clone());
        let is_on_demand = matches!(self.job.target, Target::Readers);
        let stay = (self.job.place, self.job.stay.claim);
        let begun =
            blocking(move || begin(&store, &m, name.as_deref(), stay, is_on_demand, output)).await;
        let begun = begun
            .map_err(errors::panicked)?
            .map_err(|e| errors::keep("the download could not begin", &e, self.makes()))?;
        self.start(manifest, begun, target.map(|(path, _)| path), late);
        Ok(None)
    }

    /// Whether an output at `path` takes its blocks from what an earlier download left in the store: what is there
    /// needs no space a second time.
    async fn shares_what_is_there(&self, path: &Path) -> Result<bool, ApiError> {
        let (store, address) = (self.job.node.store.clone(), self.job.address);
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let shares = move || store.has_unfinished(&address) && store.shares_blocks_with(&folder);
        blocking(shares).await.map_err(errors::panicked)
    }

    fn start(&mut self, manifest: Arc<Manifest>, begun: Begun, path: Option<PathBuf>, late: bool) {
        let Begun {
            here,
            output,
            was_whole,
            copies,
        } = begun;
        let is_on_demand = matches!(self.job.target, Target::Readers);
        let file = output.as_ref().map(|o| o.written().file().clone());
        let stays = match output.as_ref().is_some_and(Output::is_stores) {
            true => Some(lent::Stay::WithTheStore),
            false => (!self.job.place.is_in_store()).then_some(lent::Stay::No),
        };
        let lent = file.clone().zip(stays);
        let lent = lent.map(|(file, stay)| Lent::new(&self.job.node, &manifest, file, stay));
        let live = Arc::new(LiveHave::new(manifest.clone()));
        let shown = live.clone();
        let registered = self.job.node.downloads.enter(live.clone());
        let to_stream = self.job.stream.clone().filter(|_| path.is_none());
        let emitted = to_stream.is_none();
        if let Some(out) = to_stream {
            self.spawn_emitter(live.clone(), out);
        }
        let (tell_name, named) = late.then(oneshot::channel).unzip();
        let (behind, sync) = file.map(behind).unzip();
        if let Some(sync) = sync {
            self.tasks.spawn_blocking("output syncer", sync);
        }
        let (jobs, job_queue) = mpsc::channel(JOB_QUEUE);
        let assembler = Assembler {
            store: self.job.node.store.clone(),
            manifest: manifest.clone(),
            output,
            named,
            behind,
            lent: lent.clone(),
            // What was fetched before is checked again on its way to an output.
            is_proven: was_whole
                && !copies
                && matches!(self.job.target, Target::Keep | Target::Readers),
            copies,
            needs: self.needs.subscribe(),
            is_on_demand,
            is_directory_told: self.job.terms.is_directory_told,
            keeps_listing: self.job.keeps_listing(),
            live,
            events: self.events.clone(),
            runtime: tokio::runtime::Handle::current(),
            twins: twins(&manifest),
            _turn: self.job.turn.clone(),
        };
        let order = match emitted {
            true if is_on_demand => Order::OnDemand,
            true => Order::RarestFirst,
            false => Order::Sequential,
        };
        let sched = scheduler(&manifest, &here, order);
        self.tasks
            .spawn_blocking("assembler", move || assembler.run(&here, job_queue));
        tracing::debug!(manifest = %manifest.id(), chunks = manifest.chunk_count(), "a manifest is chosen");
        self.running = Some(Running {
            manifest: manifest.clone(),
            sched,
            path,
            tell_name,
            lent,
            assembled: false,
            emitted,
            done_bytes: 0,
            here_chunks: 0,
            pace: Pace::new(clock::now()),
            newcomers: self.job.node.swarms.subscribe(&manifest),
            is_proven: false,
            has_begun_to_read: false,
            unmade_bytes: 0,
            announced: false,
            _registered: registered,
        });
        self.look_at_readers();
        self.goal.send_replace(Some(Goal {
            incoming: IncomingRoom::new(self.job.node.incoming.clone(), &manifest),
            manifest,
            live: shown,
            jobs,
        }));
    }

    /// The task that gives a stream what is proven.
    fn spawn_emitter(&mut self, live: Arc<LiveHave>, out: Arc<Mutex<StreamOut>>) {
        let (store, events) = (self.job.node.store.clone(), self.events.clone());
        let refuses = self.job.terms.is_directory_told;
        self.tasks.spawn("emitter", async move {
            let outcome = emitter::emit(store, live, out, refuses, events.clone()).await;
            let _ = events.send(EngineEvent::Emitted(outcome)).await;
            Ok::<(), Infallible>(())
        });
    }

    pub(super) fn stored(&mut self, slot: PeerSlot, index: u32) {
        let now = clock::now();
        let Some(bytes) = self.count_in(index) else {
            return;
        };
        if self.job.tally.fetched_chunks == 0 {
            tracing::debug!("a first chunk came");
        }
        self.job.tally.fetched_chunks += 1;
        self.job.tally.fetched_bytes += bytes;
        self.job.node.swarms.counters().came(bytes);
        self.job.sources.delivered(slot, bytes, now);
        if let Some(peer) = self.job.sources.peer(slot) {
            let tally = self.job.sources.tally(peer);
            tally.bytes += bytes;
            tally.chunks += 1;
        }
        if let Some(r) = &mut self.running {
            r.pace.came(bytes, now);
        }
        self.came_for_readers(bytes);
        self.schedule(Event::Verified { peer: slot, index });
        self.announce();
    }

    /// A chunk came from the store.
    pub(super) fn local(&mut self, index: u32) {
        if let Some(bytes) = self.count_in(index) {
            self.job.tally.local_chunks += 1;
            self.job.tally.local_bytes += bytes;
        }
    }

    /// An equal chunk came, and serves for this one.
    pub(super) fn twin(&mut self, index: u32) {
        if self.count_in(index).is_some() {
            self.job.tally.local_chunks += 1;
        }
        self.schedule(Event::Here { index });
    }

    fn count_in(&mut self, index: u32) -> Option<u64> {
        let r = self.running.as_mut()?;
        let bytes = u64::from(r.manifest.chunks().get(index as usize)?.len_bytes);
        r.done_bytes += bytes;
        r.here_chunks += 1;
        Some(bytes)
    }

    /// A first group is proven.
    pub(super) fn first_proof(&mut self) {
        self.schedule(Event::Proven);
        if let Some(r) = &mut self.running {
            r.is_proven = true;
        }
        self.announce();
    }

    /// Something is proven and something came: from here on this node is a source, and says so.
    fn announce(&mut self) {
        let is_apart = self.job.terms.is_announced_apart;
        let Some(r) = self.running.as_mut().filter(|_| !is_apart) else {
            return;
        };
        if r.is_proven && self.job.tally.fetched_chunks > 0 && !r.announced {
            r.announced = true;
            self.job
                .node
                .announce_in_background(&r.manifest, self.job.record.as_ref());
        }
    }

    /// Notes whether this node waits for a turn.
    pub(super) fn see_turns(&mut self) {
        let (turns, now) = (self.job.sources.turns(), clock::now());
        let Some(r) = &mut self.running else { return };
        if turns.choking > 0 {
            r.pace.is_choked(now);
        }
        if turns.are_waited_for() {
            r.pace.waits_for_a_turn(now);
        }
    }

    /// True when somebody has the file under another manifest, and this one has brought next to nothing for a while or
    /// only had providers that lied.
    pub(super) fn is_deserted(&mut self) -> bool {
        let only_liars = self.job.sources.banned() > 0 && self.job.sources.joined_count() == 0;
        let Some(r) = &mut self.running else {
            return false;
        };
        let is_too_slow = r.pace.is_too_slow(clock::now());
        self.others && (only_liars || is_too_slow)
    }

    pub(super) fn came_twice(&mut self, bytes: u64) {
        self.job.tally.duplicate_bytes += bytes;
        let counters = self.job.node.swarms.counters();
        Counters::add(&counters.duplicate_bytes, bytes);
    }

    pub(super) fn failed(&mut self, slot: PeerSlot, index: u32, fault: Fault) {
        if fault == Fault::WrongBytes {
            self.job.tally.rejected_chunks += 1;
            let counters = self.job.node.swarms.counters();
            Counters::add(&counters.wrong_chunks, 1);
            if let Some(peer) = self.job.sources.peer(slot) {
                self.job.sources.tally(peer).rejected += 1;
                self.search.next_lookup = clock::now();
                self.ban_in_network(peer, "it sent wrong bytes");
                tracing::warn!(%peer, chunk = index, "a peer sent bytes that do not have the chunk's hash; it is banned");
            }
        }
        if fault == Fault::NotFound {
            if self.claims.take_one(slot, index) {
                if let Some(peer) = self.job.sources.peer(slot) {
                    tracing::debug!(%peer, chunk = index, "a peer does not have a chunk that it was found for");
                    self.claims.refute(peer, index, clock::now());
                }
                self.forget_claim(slot, index);
            } else if self.job.sources.lied(slot) {
                self.gone(slot, &SessionEnd::Lied);
                return;
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
            Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => {
                Err(errors::no_stream(&self.job.address))
            }
            Err(error) => Err(errors::stream(&error)),
        }
    }

    /// The manifest turned out forged: its peers are banned, and what it brought is thrown away, but for what is proven.
    pub(super) async fn discard_forged(&mut self, proven: &HaveBitmap) {
        let Some(mut r) = self.running.take() else {
            return;
        };
        r.lent = None; // nothing of it is in the store, and its output is read again under the next manifest
        let id = r.manifest.id();
        tracing::warn!(manifest = %id, "a manifest is forged; the peers that served it are banned");
        self.job.bad_manifests.insert(id, Bad::Forged);
        for peer in self.offered_by.remove(&id).unwrap_or_default() {
            self.ban(peer, "it served a forged manifest");
        }
        if r.announced
            && let Some(dht) = &self.job.node.dht
            && let Err(error) = dht.unschedule(vec![*self.job.address.as_bytes()]).await
        {
            tracing::warn!(%error, "a file that is not here after all stays scheduled until the next start");
        }
        let (store, proven) = (self.job.node.store.clone(), proven.clone());
        let dropped = blocking(move || store.forget_forged(&r.manifest, &proven)).await;
        if let Ok(Err(error)) = dropped {
            tracing::warn!(%error, "chunks of a forged manifest could not be dropped");
        }
    }
}

/// What says which chunk is asked for next, and of whom.
fn scheduler(manifest: &Manifest, here: &HaveBitmap, order: Order) -> Scheduler {
    let seed = rand::random();
    // At random: a forger cannot know which group must be true. A stream begins where it begins, and a reader will
    // say where it is.
    let first = match order {
        Order::OnDemand => Vec::new(),
        Order::RarestFirst => first_group(manifest, here, seed),
        Order::Sequential => first_group(manifest, here, 0),
    };
    let chunk_bytes = typical_chunk(manifest);
    let config = SchedulerConfig::default();
    Scheduler::new(config, here, chunk_bytes, order, &first, seed)
}

/// The chunks of one group that is not here, the first one from `start` on, around the end.
fn first_group(manifest: &Manifest, have: &HaveBitmap, start: u64) -> Vec<u32> {
    let groups = manifest.proof().group_count();
    let missing = |g: &usize| manifest.chunks_of_group(*g).any(|i| !have.get(i));
    let start = usize::try_from(start % (groups.max(1) as u64)).unwrap_or(0);
    let group = (start..groups).chain(0..start).find(missing);
    let chunks = group
        .map(|g| manifest.chunks_of_group(g))
        .unwrap_or_default();
    chunks.filter_map(|i| u32::try_from(i).ok()).collect()
}

fn typical_chunk(manifest: &Manifest) -> u32 {
    let count = manifest.chunks().len().max(1) as u64;
    u32::try_from(manifest.size_bytes().div_ceil(count))
        .unwrap_or(u32::MAX)
        .max(1)
}

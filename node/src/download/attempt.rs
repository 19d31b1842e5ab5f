//! One attempt to fetch a file under one manifest: the loop that owns the scheduler.

use std::{
    collections::HashMap,
    convert::Infallible,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use casnode_cas::{Assembly, ChunkHash, FileState, HaveBitmap, Manifest};
use casnode_dht::PeerId;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::DropGuard;

use super::{
    LiveHave, Registered,
    assembler::{Assembler, JOB_QUEUE},
    discovery::Discovery,
    emitter,
    engine::{Bad, EngineEvent, Job, interrupted},
    output::{Found, inspect},
    session::{COMMAND_QUEUE, Command, Goal, Session, SessionEnd},
    verdict::{Facts, verdict},
};
use crate::{
    api::{ApiError, ErrorKind, Phase, Progress},
    clock, errors,
    sched::{Action, DropReason, Event, Fault, Mono, Order, PeerSlot, Scheduler, SchedulerConfig},
    tasks::{Tasks, blocking},
};

/// Events that may wait for the engine. Senders wait when it is full; the engine never waits for them.
const EVENT_QUEUE: usize = 512;

/// How often progress is told and the verdict is asked.
const TICK: Duration = Duration::from_millis(150);

/// How long a fetched manifest waits for the metadata record, which has the name of the output.
const NAME_PATIENCE: Duration = Duration::from_secs(3);

/// Between two lookups while there is nobody to ask, at first and after some.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);
const LATER_LOOKUP_PAUSE: Duration = Duration::from_secs(5);

/// Between two lookups while chunks come: new providers join a download in progress.
const REFRESH_PAUSE: Duration = Duration::from_secs(15);

/// Between two searches for chunks that no known provider has, and how many are searched for at a time.
const ORPHAN_PAUSE: Duration = Duration::from_secs(5);
const ORPHANS_AT_A_TIME: usize = 16;

/// Manifests fetched at a time.
const MANIFEST_TURNS: usize = 2;

/// How long a peer that lied is refused by this node.
const BAN: Duration = Duration::from_secs(600);

/// How an attempt ended.
pub(super) enum End {
    /// The file is there.
    Complete {
        manifest: Arc<Manifest>,
        path: Option<PathBuf>,
    },
    /// This manifest is of no use; try another.
    AnotherManifest,
    /// The output already was the file.
    Unchanged { path: PathBuf },
}

/// What exists once a manifest is chosen.
struct Running {
    manifest: Arc<Manifest>,
    sched: Scheduler,
    path: Option<PathBuf>,
    assembled: bool,
    emitted: bool,
    done_bytes: u64,
    here_chunks: u32,
    last_progress: Instant,
    stored: Vec<ChunkHash>,
    announced: bool,
    _registered: Registered,
}

/// One attempt.
pub(super) struct Attempt<'a> {
    job: &'a mut Job,
    tasks: Tasks,
    /// Ends the tasks when the attempt is dropped in the middle.
    _guard: DropGuard,
    events: mpsc::Sender<EngineEvent>,
    queue: mpsc::Receiver<EngineEvent>,
    goal: watch::Sender<Option<Goal>>,
    manifest_turns: Arc<Semaphore>,
    running: Option<Running>,
    /// A manifest that waits for the name of the output.
    waiting: Option<(Arc<Manifest>, Instant)>,
    /// Somebody has the file under another manifest: a second chance if this one's providers vanish.
    others: bool,
    /// Who offered which manifest.
    offered_by: HashMap<casnode_cas::ManifestId, Vec<PeerId>>,
    /// The chosen manifest lies.
    forged: bool,
    discovering: bool,
    record_asked: bool,
    record_done: bool,
    lookup_runs: bool,
    lookups: u32,
    lookups_since_ban: u32,
    next_lookup: Instant,
    next_orphans: Instant,
    dialling: usize,
    dial_failures: Vec<String>,
    /// When something last came of the search for a manifest.
    last_sign: Instant,
    network_peers: Option<u32>,
    asked_peers: u32,
    known_providers: u32,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(job: &'a mut Job) -> Self {
        let (events, queue) = mpsc::channel(EVENT_QUEUE);
        let now = clock::now();
        let tasks = job.node.tasks.child();
        Self {
            _guard: tasks.token().clone().drop_guard(),
            tasks,
            job,
            events,
            queue,
            goal: watch::Sender::new(None),
            manifest_turns: Arc::new(Semaphore::new(MANIFEST_TURNS)),
            running: None,
            waiting: None,
            others: false,
            offered_by: HashMap::new(),
            forged: false,
            discovering: false,
            record_asked: false,
            record_done: false,
            lookup_runs: false,
            lookups: 0,
            lookups_since_ban: 0,
            next_lookup: now,
            next_orphans: now,
            dialling: 0,
            dial_failures: Vec::new(),
            last_sign: now,
            network_peers: None,
            asked_peers: 0,
            known_providers: 0,
        }
    }

    /// Runs to its end; whatever it started is gone afterwards.
    pub(super) async fn run(mut self) -> Result<End, ApiError> {
        let end = self.work().await;
        let tasks = self.tasks.clone();
        if self.forged {
            self.discard_forged().await;
        }
        drop(self); // closes every channel: sessions and the assembler end
        tasks.finish().await;
        end
    }

    async fn work(&mut self) -> Result<End, ApiError> {
        if let Some(manifest) = self.job.known_manifest().await?
            && let Some(end) = self.choose(Arc::new(manifest)).await?
        {
            return Ok(end);
        }
        let mut tick = tokio::time::interval(TICK);
        loop {
            if let Some(end) = self.finished() {
                return Ok(end);
            }
            self.discover().await;
            self.carry_out();
            let wake = self.scheduler_deadline();
            tokio::select! {
                event = self.queue.recv() => if let Some(event) = event
                    && let Some(end) = self.handle(event).await?
                {
                    return Ok(end);
                },
                () = tokio::time::sleep_until(wake.into()) => {}
                _ = tick.tick() => if let Some(end) = self.tick().await? {
                    return Ok(end);
                },
                () = self.job.cancel.cancelled() => return Err(interrupted()),
            }
        }
    }

    fn finished(&self) -> Option<End> {
        let r = self.running.as_ref()?;
        (r.assembled && r.emitted).then(|| End::Complete {
            manifest: r.manifest.clone(),
            path: r.path.clone(),
        })
    }

    fn mono(&self) -> Mono {
        Mono(clock::now().saturating_duration_since(self.job.started))
    }

    fn scheduler_deadline(&self) -> Instant {
        let now = self.mono();
        let wake = self
            .running
            .as_ref()
            .and_then(|r| r.sched.next_deadline(now));
        wake.map_or_else(
            || clock::now() + Duration::from_secs(3600),
            |w| self.job.started + w.0,
        )
    }

    /// True when something must come from the network.
    fn needs_network(&self) -> bool {
        self.running.as_ref().is_none_or(|r| !r.sched.is_complete())
    }

    /// Starts what looks for peers, and lookups when they are due.
    async fn discover(&mut self) {
        if !self.needs_network() {
            return;
        }
        let Some(dht) = self.job.node.dht.clone() else {
            return;
        };
        let discovery = Discovery {
            dht,
            address: self.job.address,
            events: self.events.clone(),
        };
        if !self.discovering {
            self.discovering = true;
            self.dialling = self.job.hints.len();
            for hint in self.job.hints.clone() {
                self.tasks.spawn("dial hint", discovery.clone().hint(hint));
            }
            let neighbours = discovery.clone();
            let patience = self.job.node.network_patience();
            self.tasks.spawn("neighbours", async move {
                neighbours.neighbours(patience).await;
                Ok::<(), Infallible>(())
            });
        }
        if self.network_peers.is_none() {
            return;
        }
        if !self.record_asked && self.running.is_none() {
            self.record_asked = true;
            self.tasks.spawn("record", discovery.clone().record());
        }
        let now = clock::now();
        if !self.lookup_runs && now >= self.next_lookup {
            self.lookup_runs = true;
            self.tasks.spawn("lookup", discovery.clone().lookup());
        }
        self.look_for_orphans(discovery, now);
    }

    fn look_for_orphans(&mut self, discovery: Discovery, now: Instant) {
        let Some(r) = &self.running else { return };
        if now < self.next_orphans || self.lookups == 0 || !r.sched.is_starved() {
            return;
        }
        self.next_orphans = now + ORPHAN_PAUSE;
        let orphans: Vec<(u32, [u8; 32])> = r
            .sched
            .orphans(ORPHANS_AT_A_TIME)
            .into_iter()
            .filter_map(|i| {
                r.manifest
                    .chunks()
                    .get(i as usize)
                    .map(|c| (i, *c.hash.as_bytes()))
            })
            .collect();
        self.tasks.spawn("chunk lookups", discovery.chunks(orphans));
    }

    /// Carries out what the scheduler wants.
    fn carry_out(&mut self) {
        let now = self.mono();
        let Some(r) = &mut self.running else { return };
        if self
            .goal
            .borrow()
            .as_ref()
            .is_some_and(|g| g.jobs.capacity() == 0)
        {
            r.sched.handle(Event::OwnStall, now);
        }
        while let Some(action) = r.sched.poll(now) {
            let (slot, command) = match action {
                Action::Request { peer, index } => (peer, Command::Request { index }),
                Action::Cancel { peer, index } => (peer, Command::Cancel { index }),
                Action::Drop { peer, reason } => {
                    if reason == DropReason::Stalled {
                        self.job
                            .sources
                            .gone(peer, &SessionEnd::Silent, clock::now());
                    }
                    continue;
                }
            };
            let sent = self
                .job
                .sources
                .get(slot)
                .is_some_and(|s| s.commands.try_send(command).is_ok());
            if !sent {
                // A session that does not take its commands is as good as gone.
                r.sched.handle(Event::PeerLeft { peer: slot }, now);
                self.job
                    .sources
                    .gone(slot, &SessionEnd::Closed, clock::now());
            }
        }
    }

    async fn handle(&mut self, event: EngineEvent) -> Result<Option<End>, ApiError> {
        match event {
            EngineEvent::Network { peers } => self.network_peers = Some(peers),
            EngineEvent::Candidate { peer, claim } => self.candidate(peer, claim),
            EngineEvent::Dialled { addr, outcome } => {
                self.dialling = self.dialling.saturating_sub(1);
                match outcome {
                    Ok(peer) => self.candidate(peer, None),
                    Err(why) => self.dial_failures.push(format!("{addr}: {why}")),
                }
            }
            EngineEvent::LookupDone { asked_peers, found } => self.lookup_done(asked_peers, found),
            EngineEvent::ManifestPart => self.last_sign = clock::now(),
            EngineEvent::Record(record) => return self.record(record.map(|r| *r)).await,
            EngineEvent::ManifestOffered { peer, manifest } => {
                return self.offered(peer, manifest).await;
            }
            EngineEvent::Joined { peer, have } => {
                self.job.sources.joined(peer);
                self.schedule(Event::PeerJoined { peer, have });
            }
            EngineEvent::Has { peer, have } => self.schedule(Event::PeerHas { peer, have }),
            EngineEvent::Arrived { peer, index } => self.schedule(Event::Arrived { peer, index }),
            EngineEvent::Failed { peer, index, fault } => self.failed(peer, index, fault),
            EngineEvent::Duplicate { bytes } => self.job.tally.duplicate_bytes += u64::from(bytes),
            EngineEvent::Gone { peer, end } => self.gone(peer, &end),
            EngineEvent::Stored { peer, index } => self.stored(peer, index),
            EngineEvent::Rejected { peer, index } => self.failed(peer, index, Fault::WrongBytes),
            EngineEvent::Local { index } => self.local(index),
            EngineEvent::Lost { index } => self.schedule(Event::Lost { index }),
            EngineEvent::Assembled => {
                if let Some(r) = &mut self.running {
                    r.assembled = true;
                }
            }
            EngineEvent::Forged => {
                self.forged = true;
                return Ok(Some(End::AnotherManifest));
            }
            EngineEvent::AssembleFailed(error) => {
                return Err(errors::assemble(&error, &self.job.address));
            }
            EngineEvent::Emitted(outcome) => self.emitted(outcome)?,
        }
        Ok(None)
    }

    fn schedule(&mut self, event: Event) {
        let now = self.mono();
        if let Some(r) = &mut self.running {
            r.sched.handle(event, now);
        }
    }

    fn candidate(&mut self, peer: PeerId, claim: Option<u32>) {
        let Some(dht) = self.job.node.dht.clone() else {
            return;
        };
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let Some(slot) = self.job.sources.admit(peer, clock::now(), commands) else {
            return;
        };
        let session = Session {
            dht,
            peer,
            slot,
            address: self.job.address,
            goal: self.goal.subscribe(),
            events: self.events.clone(),
            manifest_turns: self.manifest_turns.clone(),
            claim,
        };
        self.tasks.spawn("session", async move {
            session.run(queue).await;
            Ok::<(), Infallible>(())
        });
    }

    fn lookup_done(&mut self, asked_peers: u32, found: u32) {
        self.lookup_runs = false;
        self.lookups += 1;
        self.lookups_since_ban += 1;
        self.asked_peers = self.asked_peers.max(asked_peers);
        self.known_providers = self.known_providers.max(found);
        let pause = match self.job.sources.active() {
            0 if self.lookups < 5 => LOOKUP_PAUSE,
            0 => LATER_LOOKUP_PAUSE,
            _ => REFRESH_PAUSE,
        };
        self.next_lookup = clock::now() + pause;
    }

    async fn record(
        &mut self,
        record: Option<casnode_cas::FileRecord>,
    ) -> Result<Option<End>, ApiError> {
        self.record_done = true;
        if let Some(record) = record {
            let inline = record.manifest().cloned();
            self.job.record = Some(record);
            if let Some(manifest) = inline
                && self.waiting.is_none()
                && self.is_usable(&manifest)
            {
                return self.choose(Arc::new(manifest)).await;
            }
        }
        match self.waiting.take() {
            Some((manifest, _)) => self.choose(manifest).await,
            None => Ok(None),
        }
    }

    fn is_usable(&self, manifest: &Manifest) -> bool {
        self.running.is_none() && !self.job.bad_manifests.contains_key(&manifest.id())
    }

    async fn offered(
        &mut self,
        slot: PeerSlot,
        manifest: Arc<Manifest>,
    ) -> Result<Option<End>, ApiError> {
        if let Some(peer) = self.job.sources.peer(slot) {
            self.offered_by.entry(manifest.id()).or_default().push(peer);
        }
        match (
            self.job.bad_manifests.get(&manifest.id()),
            self.job.sources.peer(slot),
        ) {
            (Some(Bad::Forged), Some(peer)) => {
                self.ban(peer, "it offers a forged manifest");
                return Ok(None);
            }
            (Some(_), _) => return Ok(None),
            (None, _) => {}
        }
        if self.running.is_some() || self.waiting.is_some() {
            self.others = true;
            return Ok(None);
        }
        let named = self.job.record.is_some() || self.record_done;
        if matches!(self.job.target, super::Target::Folder { .. }) && !named {
            self.waiting = Some((manifest, clock::now()));
            return Ok(None);
        }
        self.choose(manifest).await
    }

    fn failed(&mut self, slot: PeerSlot, index: u32, fault: Fault) {
        if fault == Fault::WrongBytes {
            self.job.tally.rejected_chunks += 1;
            if let Some(peer) = self.job.sources.peer(slot) {
                self.job.sources.tally(peer).rejected += 1;
                self.next_lookup = clock::now();
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

    fn ban(&mut self, peer: PeerId, why: &'static str) {
        self.lookups_since_ban = 0;
        self.job.sources.ban(peer, why);
        let Some(dht) = self.job.node.dht.clone() else {
            return;
        };
        self.job.node.tasks.spawn("ban", async move {
            dht.ban(peer, BAN).await;
            Ok::<(), Infallible>(())
        });
    }

    fn gone(&mut self, slot: PeerSlot, end: &SessionEnd) {
        let was_active = self.job.sources.get(slot).is_some();
        if was_active {
            tracing::debug!(slot = slot.0, %end, "a session ended");
        }
        self.job.sources.gone(slot, end, clock::now());
        self.schedule(Event::PeerLeft { peer: slot });
        if self.job.sources.active() == 0 {
            self.next_lookup = self.next_lookup.min(clock::now() + LOOKUP_PAUSE);
        }
    }

    fn stored(&mut self, slot: PeerSlot, index: u32) {
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

    fn local(&mut self, index: u32) {
        let Some(r) = &mut self.running else { return };
        let Some(chunk) = r.manifest.chunks().get(index as usize) else {
            return;
        };
        r.done_bytes += u64::from(chunk.len_bytes);
        r.here_chunks += 1;
        self.job.tally.local_chunks += 1;
    }

    fn emitted(&mut self, outcome: std::io::Result<()>) -> Result<(), ApiError> {
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

    /// Settles on a manifest: output, assembler, scheduler.
    async fn choose(&mut self, manifest: Arc<Manifest>) -> Result<Option<End>, ApiError> {
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

    async fn tick(&mut self) -> Result<Option<End>, ApiError> {
        if let Some((manifest, since)) = self.waiting.take() {
            if since.elapsed() >= NAME_PATIENCE {
                if let Some(end) = self.choose(manifest).await? {
                    return Ok(Some(end));
                }
            } else {
                self.waiting = Some((manifest, since));
            }
        }
        self.tell_progress();
        if !self.needs_network() {
            return Ok(None);
        }
        if self.job.node.dht.is_none() {
            return Err(errors::no_network(&self.job.address));
        }
        if self.network_peers.is_none() && !self.out_of_time() {
            return Ok(None);
        }
        if let Some(r) = &self.running
            && self.others
            && self.job.sources.active() == 0
        {
            tracing::info!(manifest = %r.manifest.id(), "nobody serves this manifest any more; trying another one");
            self.job
                .bad_manifests
                .insert(r.manifest.id(), Bad::Deserted);
            return Ok(Some(End::AnotherManifest));
        }
        match verdict(&self.facts()) {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    fn out_of_time(&self) -> bool {
        self.job.deadline.is_some_and(|d| clock::now() >= d)
    }

    fn facts(&self) -> Facts {
        let r = self.running.as_ref();
        Facts {
            address: self.job.address.to_string(),
            elapsed: self.job.started.elapsed(),
            out_of_time: self.out_of_time(),
            has_manifest: r.is_some() || self.waiting.is_some(),
            kept_chunks: r.map_or(0, |r| r.here_chunks),
            all_chunks: r.map_or(0, |r| {
                u32::try_from(r.manifest.chunks().len()).unwrap_or(u32::MAX)
            }),
            active: self.job.sources.active(),
            dialling: self.dialling,
            idle: r.map_or(self.last_sign, |r| r.last_progress).elapsed(),
            lookups: self.lookups,
            lookups_since_ban: self.lookups_since_ban,
            banned: self.job.sources.banned(),
            network_peers: self.network_peers,
            asked_peers: self.asked_peers,
            known_providers: self.known_providers,
            story: self.job.sources.story(),
            dial_failures: self.dial_failures.join("; "),
        }
    }

    fn tell_progress(&self) {
        let sources = self.job.sources.joined_count();
        let (phase, done, total, detail) = match &self.running {
            None if self.network_peers.is_none() => (
                Phase::Connecting,
                0,
                None,
                "waiting for a first peer".to_owned(),
            ),
            None => (
                Phase::Finding,
                0,
                None,
                format!(
                    "{} peers asked, {} providers known",
                    self.asked_peers, self.known_providers
                ),
            ),
            Some(r) => {
                let idle = r.last_progress.elapsed();
                let detail = if r.sched.is_complete() || idle < Duration::from_secs(3) {
                    String::new()
                } else if sources == 0 {
                    let left = super::verdict::GIVE_UP_AFTER.saturating_sub(idle).as_secs();
                    format!("no provider is connected; looking again, giving up in {left} s")
                } else {
                    format!("nothing came for {} s", idle.as_secs())
                };
                let phase = if r.sched.is_complete() {
                    Phase::Verifying
                } else {
                    Phase::Fetching
                };
                (phase, r.done_bytes, Some(r.manifest.size_bytes()), detail)
            }
        };
        self.job.events.progress(Progress {
            phase,
            done_bytes: done,
            total_bytes: total,
            sources,
            detail,
        });
    }

    /// The manifest turned out forged: its peers are banned, what it brought is thrown away.
    async fn discard_forged(&mut self) {
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

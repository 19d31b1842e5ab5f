//! One attempt to fetch a file under one manifest: the loop that owns the scheduler.

mod claims;
mod naming;
mod pace;
mod readers;
mod report;
mod running;
mod search;
mod swarm;

use std::{
    collections::HashMap,
    ops::Range,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU32},
    time::{Duration, Instant},
};

use casnode_cas::{HaveBitmap, Manifest, ManifestId};
use casnode_dht::{PeerId, exchange::MAX_EARLY_BYTES};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::DropGuard;

use self::{claims::Claims, naming::NAME_PATIENCE, running::Running, search::Search};
use super::{
    engine::{Bad, EngineEvent, Job, interrupted},
    lent::Lent,
    session::{Command, Goal, ManifestTurns, SessionEnd},
    sources::Origin,
    verdict::{Verdict, verdict},
};
use crate::{
    api::ApiError,
    clock, errors,
    read::Table,
    sched::{Action, DropReason, Event, Fault, Mono},
    tasks::Tasks,
};

/// Events that may wait for the engine. Senders wait when it is full; the engine never waits for them.
const EVENT_QUEUE: usize = 512;

/// How often progress is told and the verdict is asked.
const TICK: Duration = Duration::from_millis(150);

/// A manifest that was given up once is taken again when no other one is offered within this time.
const LAST_RESORT_AFTER: Duration = Duration::from_secs(3);

/// How an attempt ended.
pub(super) enum End {
    /// The file is there.
    Complete {
        manifest: Arc<Manifest>,
        path: Option<PathBuf>,
        /// Held until the store knows where the chunks are.
        lent: Option<Arc<Lent>>,
    },
    /// This manifest is of no use; try another.
    AnotherManifest,
    /// The output already was the file.
    Unchanged { path: PathBuf },
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
    /// Who reads ranges of the file, and the chunks that they need.
    readers: watch::Receiver<Table>,
    needs: watch::Sender<Vec<Range<u32>>>,
    manifest_turns: ManifestTurns,
    early_bytes: Arc<AtomicU32>,
    running: Option<Running>,
    /// A manifest that waits for the name of the output.
    waiting: Option<(Arc<Manifest>, Instant)>,
    /// Somebody has the file under another manifest: a second chance if this one's providers vanish.
    others: bool,
    /// A manifest that an earlier attempt gave up, and that somebody offers again.
    last_resort: Option<Arc<Manifest>>,
    /// Who offered which manifest.
    offered_by: HashMap<ManifestId, Vec<PeerId>>,
    /// The chosen manifest lies; these of its chunks are proven all the same.
    forged: Option<HaveBitmap>,
    search: Search,
    claims: Claims,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(job: &'a mut Job) -> Self {
        let (events, queue) = mpsc::channel(EVENT_QUEUE);
        let tasks = job.node.tasks.child();
        let search = Search::new(job.hints.clone(), clock::now());
        // A stream begins where the file does. Of a file the first chunks are others: see `Order`.
        let early_bytes = match job.stream {
            Some(_) => MAX_EARLY_BYTES,
            None => 0,
        };
        Self {
            _guard: tasks.token().clone().drop_guard(),
            tasks,
            readers: job.readers.watch(),
            needs: watch::Sender::default(),
            job,
            events,
            queue,
            goal: watch::Sender::new(None),
            manifest_turns: ManifestTurns::new(),
            early_bytes: Arc::new(AtomicU32::new(early_bytes)),
            running: None,
            waiting: None,
            others: false,
            last_resort: None,
            offered_by: HashMap::new(),
            forged: None,
            search,
            claims: Claims::default(),
        }
    }

    /// Runs to its end; whatever it started is gone afterwards.
    pub(super) async fn run(mut self) -> Result<End, ApiError> {
        let end = self.work().await;
        self.leave_swarm();
        let tasks = self.tasks.clone();
        if let Some(proven) = self.forged.take() {
            self.discard_forged(&proven).await;
        }
        drop(self); // closes every channel: sessions and the assembler end
        tasks.finish().await;
        end
    }

    async fn work(&mut self) -> Result<End, ApiError> {
        if let Some(manifest) = self.job.known_manifest().await?
            && let Some(end) = self.choose(Arc::new(manifest), false).await?
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
                Ok(()) = self.readers.changed() => self.look_at_readers(),
                Some(peer) = newcomer(&mut self.running) => self.newcomer(peer),
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
            lent: r.lent.clone(),
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
        self.running.as_ref().is_none_or(|r| r.sched.is_needed())
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
            let sources = &mut self.job.sources;
            let (slot, command) = match action {
                Action::Request { peer, index } => {
                    let chokes = sources.get(peer).map_or(0, |s| s.chokes);
                    (peer, Command::Request { index, chokes })
                }
                Action::Cancel { peer, index } => (peer, Command::Cancel { index }),
                Action::Interest { peer, wants } => {
                    sources.see(peer, |view| view.interests_us = wants);
                    (peer, Command::Interest(wants))
                }
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
            EngineEvent::Network { peers } => self.search.network_peers = Some(peers),
            EngineEvent::Candidate { peer, claim } => self.candidate(peer, claim, Origin::Found),
            EngineEvent::Dialled { addr, outcome } => self.dialled(&addr, outcome),
            EngineEvent::LookupDone { asked_peers, found } => self.lookup_done(asked_peers, found),
            EngineEvent::ManifestPart => self.search.last_sign = clock::now(),
            EngineEvent::Record(record) => return self.record(record.map(|r| *r)).await,
            EngineEvent::ManifestOffered { peer, manifest } => {
                return self.offered(peer, manifest).await;
            }
            EngineEvent::KnowsFile { peer } => self.job.sources.knows_file(peer),
            EngineEvent::Joined { peer, have } => self.joined(peer, have),
            EngineEvent::Got { peer, indices } => self.got(peer, indices),
            EngineEvent::Choked { peer } => self.choked(peer),
            EngineEvent::Unchoked { peer } => self.unchoked(peer),
            EngineEvent::Told { peer, others } => self.told(peer, others),
            EngineEvent::Arrived { peer, index } => self.schedule(Event::Arrived { peer, index }),
            EngineEvent::Receiving { peer } => self.schedule(Event::Receiving { peer }),
            EngineEvent::HeldUp { peer } => self.schedule(Event::HeldUp { peer }),
            EngineEvent::Failed { peer, index, fault } => self.failed(peer, index, fault),
            EngineEvent::Duplicate { bytes } => self.came_twice(bytes.into()),
            EngineEvent::Gone { peer, end } => self.gone(peer, &end),
            EngineEvent::Stored { peer, index } => self.stored(peer, index),
            EngineEvent::Rejected { peer, index } => self.failed(peer, index, Fault::WrongBytes),
            EngineEvent::Local { index } => self.local(index),
            EngineEvent::Lost { index } => self.schedule(Event::Lost { index }),
            EngineEvent::Directory => {
                if let Some(r) = &mut self.running {
                    (r.path, r.tell_name) = (None, None);
                }
            }
            EngineEvent::Assembled => {
                if let Some(r) = &mut self.running {
                    r.assembled = true;
                }
            }
            EngineEvent::FirstProof => self.first_proof(),
            EngineEvent::Twin { index } => self.twin(index),
            EngineEvent::OrphansDone => self.search.orphans_run = false,
            EngineEvent::Forged { proven } => {
                self.forged = Some(proven);
                return Ok(Some(End::AnotherManifest));
            }
            EngineEvent::AssembleFailed(error) => {
                return Err(self.not_assembled(&error));
            }
            EngineEvent::Position { index, end } => {
                self.schedule(Event::Position { index, end });
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

    async fn tick(&mut self) -> Result<Option<End>, ApiError> {
        if let Some(end) = self.name_in_the_end().await? {
            return Ok(Some(end));
        }
        if let Some((manifest, since)) = self.waiting.take() {
            if since.elapsed() >= NAME_PATIENCE {
                if let Some(end) = self.choose(manifest, false).await? {
                    return Ok(Some(end));
                }
            } else {
                self.waiting = Some((manifest, since));
            }
        }
        if self.running.is_none()
            && self.waiting.is_none()
            && self.search.began.elapsed() >= LAST_RESORT_AFTER
            && let Some(manifest) = self.last_resort.take()
        {
            self.job.bad_manifests.remove(&manifest.id());
            if let Some(end) = self.choose(manifest, false).await? {
                return Ok(Some(end));
            }
        }
        self.see_turns();
        self.tell_progress();
        self.report_to_swarm();
        self.retry_told(clock::now());
        if !self.needs_network() {
            self.rest();
            return if self.out_of_time() {
                Err(self.output_too_slow())
            } else {
                Ok(None)
            };
        }
        if self.job.node.dht.is_none() {
            return Err(errors::no_network(&self.job.address, &self.job.node));
        }
        if self.search.network_peers.is_none() && !self.out_of_time() {
            return Ok(None);
        }
        if self.is_deserted()
            && let Some(r) = &self.running
        {
            tracing::info!(manifest = %r.manifest.id(), "this manifest brings next to nothing any more; trying another one");
            self.job
                .bad_manifests
                .insert(r.manifest.id(), Bad::Deserted);
            return Ok(Some(End::AnotherManifest));
        }
        match verdict(&self.facts()) {
            Verdict::GoOn => Ok(None),
            Verdict::Error(error) => Err(error),
            Verdict::Lonely(kind) => Err(self.lonely(kind)),
        }
    }
}

/// The next peer that joins the swarm of what is being downloaded.
async fn newcomer(running: &mut Option<Running>) -> Option<PeerId> {
    running.as_mut()?.newcomers.recv().await
}

//! Puts a file together: checks what arrives, keeps it, proves the groups, writes the output.
//!
//! It runs on a blocking thread of its own, so that neither hashing nor the disk ever waits on the network or the
//! other way round. One download has one assembler.

mod behind;
mod groups;
mod here;
mod local;
mod pieces;
mod unsynced;

use std::{
    collections::HashMap,
    ops::Range,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use casnode_cas::{ChunkHash, ExportError, HaveBitmap, Manifest, Put, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};

pub(super) use self::behind::{Behind, behind};
use self::{groups::Groups, local::Local, unsynced::Unsynced};
use super::{LiveHave, begin::Output, engine::EngineEvent, lent::Lent};
use crate::{budget::Held, clock, sched::PeerSlot};

/// Chunks that may wait to be checked, if there is memory for them: see [`crate::budget::Shares`].
pub(super) const JOB_QUEUE: usize = 32;

/// How often what is kept in the output alone is written, whether a block of it is whole or not.
const HAND_OVER: Duration = Duration::from_millis(100);

/// A chunk that a peer sent; its length is already checked.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) peer: PeerSlot,
    pub(super) index: u32,
    pub(super) bytes: Bytes,
    /// Its memory, of that for all downloads; free again when the chunk is kept.
    pub(super) _held: Option<Held>,
}

/// Why a file could not be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssembleError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Output(#[from] ExportError),
    #[error("chunk {0} is no longer in the store")]
    Vanished(ChunkHash),
}

/// How it ended, when it did not fail.
#[derive(Debug)]
enum Ended {
    /// Every group is proven and the output is in place.
    Complete,
    /// A group's bytes are not the file's although every chunk is the manifest's.
    Forged {
        /// The chunks that lie in proven groups alone: the file's own bytes whatever the manifest says.
        proven: HaveBitmap,
    },
    /// The engine went away.
    Abandoned,
}

/// Puts one file together.
pub(super) struct Assembler {
    pub(super) store: Store,
    pub(super) manifest: Arc<Manifest>,
    /// `None` when the bytes go to a stream, which reads proven groups from the store by itself.
    pub(super) output: Option<Output>,
    /// The path that the output gets in the end, as soon as it is known.
    pub(super) named: Option<oneshot::Receiver<PathBuf>>,
    /// Syncs the output along the way.
    pub(super) behind: Option<Behind>,
    /// Where what arrives is kept: in what is written alone, each byte once; `None`: in packs of the store, too.
    pub(super) lent: Option<Arc<Lent>>,
    /// The manifest is known to be the file's: of groups that are all here nothing is read.
    pub(super) is_proven: bool,
    /// Chunks that are kept in files of the user's are copied into packs.
    pub(super) copies: bool,
    /// No output is made of a directory.
    pub(super) is_directory_told: bool,
    /// Of a directory that is in the output alone the listing is kept.
    pub(super) keeps_listing: bool,
    /// What others see of this download.
    pub(super) live: Arc<LiveHave>,
    pub(super) events: mpsc::Sender<EngineEvent>,
    /// Only for the wait with a time limit; the thread is a blocking one.
    pub(super) runtime: tokio::runtime::Handle,
    /// The chunks that readers need soon.
    pub(super) needs: watch::Receiver<Vec<Range<u32>>>,
    /// Of what is here nothing is looked at but what readers need.
    pub(super) is_on_demand: bool,
    /// Chunks that occur more than once.
    pub(super) twins: HashMap<ChunkHash, Vec<u32>>,
    /// Held until the output is let go, so that the next get of this address finds it free.
    pub(super) _turn: Arc<Turn>,
}

/// The right to download an address; see [`super::Downloads::turn`].
pub(super) type Turn = tokio::sync::OwnedMutexGuard<()>;

/// The chunks that occur more than once in a file, by their hash.
pub(super) fn twins(manifest: &Manifest) -> HashMap<ChunkHash, Vec<u32>> {
    let mut places: HashMap<ChunkHash, Vec<u32>> = HashMap::new();
    for (index, chunk) in (0u32..).zip(manifest.chunks()) {
        places.entry(chunk.hash).or_default().push(index);
    }
    places.retain(|_, places| places.len() > 1);
    places
}

impl Assembler {
    /// Runs until the file is whole, found forged, or `jobs` closes. `here` are chunks the store already has.
    pub(super) fn run(mut self, here: &HaveBitmap, jobs: mpsc::Receiver<Job>) {
        let events = self.events.clone();
        let mut unsynced = Unsynced::new(self.runtime.clone());
        let ended = self.work(here, jobs, &mut unsynced);
        if let Err(error) = unsynced.settle() {
            tracing::warn!(%error, "what was fetched last is not acknowledged");
        }
        let let_go = self.catch_up();
        let ended = ended.and_then(|ended| let_go.map(|()| ended));
        drop(self); // the engine may begin another attempt at the same output
        let last = match ended {
            Ok(Ended::Complete) => EngineEvent::Assembled,
            Ok(Ended::Forged { proven }) => EngineEvent::Forged { proven },
            Ok(Ended::Abandoned) => return,
            Err(error) => EngineEvent::AssembleFailed(error),
        };
        // An engine that is gone has nothing to learn.
        let _ = events.blocking_send(last);
    }

    fn work(
        &mut self,
        here: &HaveBitmap,
        mut jobs: mpsc::Receiver<Job>,
        unsynced: &mut Unsynced,
    ) -> Result<Ended, AssembleError> {
        let mut groups = Groups::new(&self.manifest);
        if self.is_proven {
            self.trust(here, &mut groups);
        }
        let mut local = Local::new(here, groups.here(), self.is_on_demand);
        let mut handed_over = clock::now();
        let mut ended = None;
        while !groups.all_proven() {
            let step = match self.next(&mut jobs, &mut local) {
                Next::Arrived(job) => self.arrived(&job, &mut groups, unsynced)?,
                Next::Local(index) => self.take_local(index, &mut groups, unsynced)?,
                Next::Quiet => Step::Go,
                Next::Closed => Step::Stop(Ended::Abandoned),
            };
            if let Step::Stop(how) = step {
                ended = Some(how);
                break;
            }
            unsynced.commit_if_due(&self.store)?;
            self.hand_over_if_due(&mut handed_over);
        }
        tracing::debug!("nothing is missing any more");
        drop(jobs); // what still waits there has memory that others can use
        unsynced.commit(&self.store)?;
        if let Some(how) = ended {
            return Ok(how);
        }
        tracing::debug!("what came is on the disk");
        self.catch_up()?;
        if self.is_directory_told && self.output.is_some() && self.is_directory() {
            if self.keeps_listing {
                self.put_all()?;
            }
            self.output = self.output.take().and_then(Output::for_store);
            self.named = None;
            self.tell(EngineEvent::Directory);
        }
        if let Some(mut output) = self.output.take() {
            if let Some(named) = self.named.take() {
                let Ok(target) = named.blocking_recv() else {
                    return Ok(Ended::Abandoned);
                };
                if let Some(output) = output.target_mut() {
                    output.rename(&target)?;
                }
            }
            output.finish()?;
            tracing::debug!("the output is in place");
        }
        Ok(Ended::Complete)
    }

    /// What to do next: first what arrived, then what is here; waits when there is neither.
    fn next(&mut self, jobs: &mut mpsc::Receiver<Job>, local: &mut Local) -> Next {
        match jobs.try_recv() {
            Ok(job) => return Next::Arrived(job),
            Err(mpsc::error::TryRecvError::Disconnected) => return Next::Closed,
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
        let needed = local.needed(&self.needs.borrow_and_update());
        if let Some(index) = needed.or_else(|| local.next(&self.store, &self.manifest)) {
            return Next::Local(index);
        }
        let needs = &mut self.needs;
        self.runtime.block_on(async {
            tokio::select! {
                job = jobs.recv() => job.map_or(Next::Closed, Next::Arrived),
                Ok(()) = needs.changed() => Next::Quiet,
                () = tokio::time::sleep(unsynced::SPAN) => Next::Quiet,
            }
        })
    }

    /// A chunk from a peer: hash, store, output, groups.
    fn arrived(
        &mut self,
        job: &Job,
        groups: &mut Groups,
        unsynced: &mut Unsynced,
    ) -> Result<Step, AssembleError> {
        let index = job.index as usize;
        let Some(chunk) = self.manifest.chunks().get(index) else {
            return Ok(Step::Go);
        };
        if groups.has(index) {
            self.tell(EngineEvent::Duplicate {
                bytes: chunk.len_bytes,
            });
            return Ok(Step::Go);
        }
        if ChunkHash::of(&job.bytes) != chunk.hash {
            self.tell(EngineEvent::Rejected {
                peer: job.peer,
                index: job.index,
            });
            return Ok(Step::Go);
        }
        self.write_out(index, &job.bytes)?;
        self.keep(index, &job.bytes, unsynced)?;
        self.tell(EngineEvent::Stored {
            peer: job.peer,
            index: job.index,
        });
        if let Step::Stop(end) = self.take(index, &job.bytes, groups)? {
            return Ok(Step::Stop(end));
        }
        self.take_twins(index, &job.bytes, groups)
    }

    /// Keeps a right chunk, which is in the output already.
    fn keep(
        &self,
        index: usize,
        bytes: &Bytes,
        unsynced: &mut Unsynced,
    ) -> Result<(), AssembleError> {
        let chunk = &self.manifest.chunks()[index];
        match &self.lent {
            Some(lent) => lent.lend(chunk, self.manifest.chunk_offset(index)),
            None => {
                if self.store.put(&chunk.hash, bytes)? == Put::New {
                    unsynced.add(u64::from(chunk.len_bytes));
                }
            }
        }
        Ok(())
    }

    /// Equal chunks elsewhere in the file are here now too.
    fn take_twins(
        &mut self,
        index: usize,
        bytes: &Bytes,
        groups: &mut Groups,
    ) -> Result<Step, AssembleError> {
        let twins = self.twins.remove(&self.manifest.chunks()[index].hash);
        for twin in twins.unwrap_or_default() {
            let at = twin as usize;
            if groups.has(at) {
                continue;
            }
            self.write_out(at, bytes)?;
            self.tell(EngineEvent::Twin { index: twin });
            if let Step::Stop(end) = self.take(at, bytes, groups)? {
                return Ok(Step::Stop(end));
            }
        }
        Ok(Step::Go)
    }

    fn write_out(&mut self, index: usize, bytes: &[u8]) -> Result<(), AssembleError> {
        if let Some(output) = &self.output {
            output
                .written()
                .write_at(self.manifest.chunk_offset(index), bytes)?;
        }
        // Around the page cache there is little to bring to the disk: where the bytes are, which a power cut must not
        // take from a file of the store.
        if let Some(behind) = &mut self.behind
            && let Some(output) = &self.output
            && (output.is_stores() || !output.written().is_direct())
        {
            behind.wrote(bytes.len());
        }
        Ok(())
    }

    /// What is kept in the output alone is not left in memory for long: whoever is killed goes on from there.
    fn hand_over_if_due(&self, last: &mut Instant) {
        if let (Some(_), Some(output)) = (&self.lent, &self.output)
            && last.elapsed() >= HAND_OVER
        {
            output.written().hand_over();
            *last = clock::now();
        }
    }

    /// Waits until the disk has what it was told to take of the output.
    fn catch_up(&mut self) -> Result<(), AssembleError> {
        let Some(behind) = self.behind.take() else {
            return Ok(());
        };
        let Err(source) = behind.finish() else {
            return Ok(());
        };
        let output = self.output.as_mut().map(Output::written_mut);
        let path = output.map(|output| {
            output.distrust();
            output.target().to_owned()
        });
        Err(AssembleError::Output(ExportError::Io {
            action: "sync",
            path: path.unwrap_or_default(),
            source,
        }))
    }

    /// Counts a chunk as here and proves the groups it completes.
    fn take(
        &mut self,
        index: usize,
        bytes: &Bytes,
        groups: &mut Groups,
    ) -> Result<Step, AssembleError> {
        self.live.set(index);
        groups.hash(&self.manifest, index, bytes);
        for group in groups.add(&self.manifest, index) {
            let verdict = groups.verdict(group);
            if !verdict.map_or_else(|| self.prove(group, index, bytes), Ok)? {
                return Ok(Step::Stop(Ended::Forged {
                    proven: groups.proven_chunks(&self.manifest),
                }));
            }
            groups.prove(group);
            if groups.proven_count == 1 {
                self.believe();
            }
            self.live.proven([group], groups.proven_prefix);
        }
        Ok(Step::Go)
    }

    /// Compares a group's bytes with the proof tree. `index` is the chunk at hand; others come from the store.
    fn prove(&self, group: usize, index: usize, bytes: &Bytes) -> Result<bool, AssembleError> {
        let mut hasher = self.manifest.proof().group_hasher(group);
        for i in self.manifest.chunks_of_group(group) {
            let chunk = &self.manifest.chunks()[i];
            let piece = if i == index {
                bytes.clone()
            } else {
                let found = self.store.get(&chunk.hash)?;
                found.ok_or(AssembleError::Vanished(chunk.hash))?
            };
            hasher.update(pieces::part(&self.manifest, group, i, &piece).1);
        }
        Ok(hasher.finish())
    }

    /// Something is proven.
    fn believe(&self) {
        self.live.believe();
        self.tell(EngineEvent::FirstProof);
    }

    fn tell(&self, event: EngineEvent) {
        let _ = self.events.blocking_send(event);
    }
}

enum Next {
    Arrived(Job),
    /// A chunk that may be here, by its index.
    Local(usize),
    /// Nothing came for a while, or readers need something else.
    Quiet,
    /// Nothing comes any more.
    Closed,
}

enum Step {
    Go,
    Stop(Ended),
}

#[cfg(test)]
mod tests;

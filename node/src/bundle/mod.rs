//! Fetching many files: connections set up once, providers found once, and many files in a message.
//!
//! [`plan`] is pure and says who is asked for what, [`session`] speaks with one peer, [`find`] looks for peers, [`folder`]
//! writes files and lets none out of its folder, [`keep`] enters them in the store. What is too large for this, or is not to be had
//! of anybody in time, is fetched as a single file is ([`single`]). [`list`] is about lists that somebody wrote.

mod engine;
mod find;
mod folder;
mod keep;
pub(crate) mod list;
pub(crate) mod moves;
mod path;
mod plan;
mod session;
mod single;
mod under_way;

use std::{
    collections::HashMap,
    io,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use casnode_cas::{Address, ChunkHash, FileState, MAX_SMALL_FILE_BYTES, Store, StoreError};
use casnode_dht::{Multiaddr, PeerId};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{folder::Folder, keep::Entered};
use self::{
    folder::{There, Wanted},
    under_way::Sum,
};
use crate::{
    api::{
        ApiError, ErrorKind, FetchedState, Keep, Phase, Progress, ProviderUse, events::EventSink,
    },
    clock,
    download::{self, Stay},
    errors,
    node::Node,
    tasks::blocking,
};

/// Blocking tasks that write files, or read and write what is here.
const WRITERS: usize = 3;

/// Files that one of them looks at in a row.
const LOOK_AT_ONCE: usize = 256;

/// How often it is told how far the files are.
const TELL_EVERY: Duration = Duration::from_millis(150);

/// What is asked for.
pub(crate) struct Options {
    pub(crate) lines: Vec<Line>,
    pub(crate) folder: Arc<Folder>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) seeking: Seeking,
    /// Permission bits of the files; `None`: by this process's umask.
    pub(crate) mode: Option<u32>,
    /// What stays here; not [`Keep::InPlace`].
    pub(crate) stay: Stay,
    pub(crate) tally: Tally,
}

/// Where providers are looked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seeking {
    /// Peers named by hand.
    pub(crate) hints: Vec<Multiaddr>,
    /// Peers that probably have all of it.
    pub(crate) known: Vec<PeerId>,
    /// Whoever has this probably has all of it.
    pub(crate) whole: Option<Address>,
}

/// How far a call is, of which these files may be a part.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) total_files: u64,
    /// Where known.
    pub(crate) total_bytes: Option<u64>,
    pub(crate) done_files: u64,
    pub(crate) done_bytes: u64,
}

impl Tally {
    /// Tells how far it is, with what is under way.
    fn tell(&self, events: &EventSink, under_way: &Sum) {
        let waits = match under_way.detail.as_str() {
            "" => String::new(),
            detail => format!("; {detail}"),
        };
        events.progress(Progress {
            phase: Phase::Fetching,
            done_bytes: self.done_bytes + under_way.done_bytes,
            total_bytes: self.total_bytes,
            sources: u32::try_from(under_way.sources).unwrap_or(u32::MAX),
            detail: format!("{} of {} files{waits}", self.done_files, self.total_files),
        });
    }
}

/// A file that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) address: Address,
    /// From the folder on: no part of it is empty, `.` or `..`.
    pub(crate) path: String,
    /// Its length, where somebody said it.
    pub(crate) size_bytes: Option<u64>,
    /// Whether it may be run, where somebody said so.
    pub(crate) executable: Option<bool>,
}

impl Line {
    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            path: &self.path,
            address: self.address,
            size_bytes: self.size_bytes,
            executable: self.executable,
        }
    }

    /// Whether it is known to be more than one message holds.
    fn is_large(&self) -> bool {
        self.size_bytes
            .is_some_and(|bytes| bytes > MAX_SMALL_FILE_BYTES)
    }

    /// Refuses bytes that are the address's, and not as many as was said.
    fn check_size(&self, bytes: u64) -> Result<(), ApiError> {
        match self.size_bytes {
            Some(said) if said != bytes => Err(ApiError::new(
                ErrorKind::Integrity,
                "it was not written",
                format!("it has {bytes} bytes, and the directory says {said}"),
                "ask whoever made the directory for a right one",
            )),
            _ => Ok(()),
        }
    }
}

/// What is known of it.
#[derive(Debug)]
enum State {
    /// To be fetched with others.
    Wanted,
    /// To be fetched by itself, or to be written out of the store.
    Single,
    /// In its place; the store may have to be told so.
    There,
    Done {
        state: FetchedState,
        bytes: u64,
    },
    Failed(ApiError),
}

/// A call under way.
struct Job {
    node: Arc<Node>,
    folder: Arc<Folder>,
    lines: Vec<Line>,
    states: Vec<State>,
    seeking: Seeking,
    mode: Option<u32>,
    stay: Stay,
    deadline: Option<Instant>,
    events: EventSink,
    cancel: CancellationToken,
    tally: Tally,
    providers: HashMap<String, ProviderUse>,
    /// What is in the store now and was not.
    entered: Vec<Entered>,
    /// Large files of these that are kept where they are.
    in_place: u64,
}

/// What came of a call.
pub(crate) struct Fetched {
    /// Every file, in order.
    pub(crate) lines: Vec<Done>,
    /// Files that are in the store now and were not.
    pub(crate) entered: Vec<Entered>,
    /// Large files of these that are kept where they are.
    pub(crate) in_place: u64,
    /// Who sent what, by peer id.
    pub(crate) providers: HashMap<String, ProviderUse>,
    pub(crate) tally: Tally,
}

/// What became of a file.
pub(crate) struct Done {
    pub(crate) address: Address,
    pub(crate) path: String,
    /// How it came to be there, and its length.
    pub(crate) outcome: Result<(FetchedState, u64), ApiError>,
}

/// Fetches files into a folder. A file that cannot be had is no error of the call. What was written survives a power cut
/// after a [`list::sync`].
pub(crate) async fn fetch(
    node: &Arc<Node>,
    options: Options,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<Fetched, ApiError> {
    let states = options.lines.iter().map(|line| match line.is_large() {
        true => State::Single,
        false => State::Wanted,
    });
    let mut job = Job {
        node: node.clone(),
        folder: options.folder,
        states: states.collect(),
        lines: options.lines,
        seeking: options.seeking,
        mode: options.mode,
        stay: options.stay,
        deadline: options.deadline,
        events,
        cancel,
        tally: options.tally,
        providers: HashMap::new(),
        entered: Vec::new(),
        in_place: 0,
    };
    job.look().await?;
    job.fetch_together().await?;
    job.fetch_singly().await?;
    Ok(job.end())
}

impl Job {
    /// Sees what is in place already, and writes what is in the store.
    async fn look(&mut self) -> Result<(), ApiError> {
        let lines = self.lines.iter().cloned();
        let mut wanted: Vec<(usize, Line)> = lines.enumerate().collect();
        // Whoever still reads ends with this call.
        let cancel = self.cancel.child_token();
        let _stops = cancel.clone().drop_guard();
        let looker = Looker {
            folder: self.folder.clone(),
            store: self.node.store.clone(),
            keep: self.stay.keep,
            read_bytes: Arc::default(),
            cancel,
        };
        let mut running = FuturesUnordered::new();
        loop {
            if self.cancel.is_cancelled() {
                return Err(interrupted());
            }
            if self.deadline.is_some_and(|at| clock::now() >= at) {
                return Ok(()); // what was not looked at fails by itself, for it has no time left
            }
            while running.len() < WRITERS && !wanted.is_empty() {
                let part = wanted.split_off(wanted.len().saturating_sub(LOOK_AT_ONCE));
                let looker = looker.clone();
                running.push(blocking(move || looker.look_at(part)));
            }
            tokio::select! {
                part = running.next() => match part {
                    None => return Ok(()),
                    Some(part) => for (at, state) in part.map_err(errors::panicked)? {
                        self.settle(at, state);
                    },
                },
                () = tokio::time::sleep(TELL_EVERY) => self.tell_reading(&looker),
                () = self.cancel.cancelled() => {}
            }
        }
    }

    /// Tells how much was read of files that may be those that are wanted.
    fn tell_reading(&self, looker: &Looker) {
        self.events.progress(Progress {
            phase: Phase::Verifying,
            done_bytes: looker.read_bytes.load(Ordering::Relaxed),
            total_bytes: None,
            sources: 0,
            detail: format!("what is there, for {} files", self.tally.total_files),
        });
    }

    /// Notes what became of a file.
    fn settle(&mut self, at: usize, state: State) {
        if matches!(state, State::Done { .. } | State::Failed(_)) {
            self.tally.done_files += 1;
        }
        if let State::Done { bytes, .. } = &state {
            self.tally.done_bytes += bytes;
        }
        self.states[at] = state;
    }

    fn end(self) -> Fetched {
        let lines = self.lines.into_iter().zip(self.states);
        let done = |(line, state): (Line, State)| Done {
            address: line.address,
            path: line.path,
            outcome: match state {
                State::Done { state, bytes } => Ok((state, bytes)),
                State::Failed(error) => Err(error),
                State::Wanted | State::Single | State::There => Err(interrupted()),
            },
        };
        Fetched {
            lines: lines.map(done).collect(),
            entered: self.entered,
            in_place: self.in_place,
            providers: self.providers,
            tally: self.tally,
        }
    }
}

/// Sees what can be done for files without asking anybody.
#[derive(Clone)]
struct Looker {
    folder: Arc<Folder>,
    store: Store,
    keep: Keep,
    /// Of files that are there, by all that look.
    read_bytes: Arc<AtomicU64>,
    cancel: CancellationToken,
}

impl Looker {
    fn look_at(&self, part: Vec<(usize, Line)>) -> Vec<(usize, State)> {
        let look = |(at, line): (usize, Line)| (at, self.look(&line));
        part.into_iter().map(look).collect()
    }

    /// What is left to do for a file after everything local was tried.
    fn look(&self, line: &Line) -> State {
        match self.there(line) {
            Ok(There::Same(bytes)) => {
                let address = &line.address;
                return match download::is_to_be_seen_to(&self.store, self.keep, address, bytes) {
                    Ok(false) => State::Done {
                        state: FetchedState::Here,
                        bytes,
                    },
                    Ok(true) => State::There,
                    Err(error) => {
                        State::Failed(errors::store("the store could not be read", &error))
                    }
                };
            }
            Ok(There::Nothing) => {}
            Err(error) => return State::Failed(not_written(&error)),
        }
        if line.is_large() {
            return State::Single;
        }
        match stored(&self.store, line.address) {
            Ok(Stored::Whole(bytes)) => write(&self.folder, line, &bytes, FetchedState::Here),
            Ok(Stored::Larger) => State::Single,
            Ok(Stored::No) => State::Wanted,
            Err(error) => {
                tracing::warn!(file = %line.address, %error, "a stored file could not be read, and is fetched");
                State::Wanted
            }
        }
    }

    fn there(&self, line: &Line) -> io::Result<There> {
        let mut before = 0;
        let mut progress = |done_bytes: u64, _| {
            let more = done_bytes.saturating_sub(before);
            before = done_bytes;
            self.read_bytes.fetch_add(more, Ordering::Relaxed);
            match self.cancel.is_cancelled() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        self.folder.look(&line.wanted(), &mut progress)
    }
}

/// Writes the bytes of a file, which have its address.
fn write(folder: &Folder, line: &Line, bytes: &[u8], state: FetchedState) -> State {
    let len = bytes.len() as u64;
    let written = line.check_size(len).and_then(|()| {
        let written = folder.write(&line.wanted(), bytes);
        written.map_err(|error| not_written(&error))
    });
    match written {
        Ok(()) => State::Done { state, bytes: len },
        Err(error) => State::Failed(error),
    }
}

/// What the store has of a file.
enum Stored {
    Whole(Bytes),
    /// Something of a file that is more than one message holds.
    Larger,
    No,
}

fn stored(store: &Store, address: Address) -> Result<Stored, StoreError> {
    let Some(entry) = store.file(&address)? else {
        return Ok(Stored::No);
    };
    if entry.size_bytes > MAX_SMALL_FILE_BYTES || entry.chunk_count > 1 {
        return Ok(Stored::Larger);
    }
    if entry.size_bytes == 0 && entry.state == FileState::Complete {
        return Ok(Stored::Whole(Bytes::new()));
    }
    let found = store.get(&ChunkHash::from_bytes(*address.as_bytes()))?;
    Ok(found.map_or(Stored::No, Stored::Whole))
}

pub(crate) fn not_written(error: &io::Error) -> ApiError {
    let kind = ErrorKind::of_io(error);
    let next = match kind {
        ErrorKind::NoSpace => {
            "free some space there and run the same get again: it goes on with what was kept"
        }
        _ => "name another folder with -o, or replace files with --force",
    };
    ApiError::new(kind, "it was not written", error.to_string(), next)
}

fn interrupted() -> ApiError {
    ApiError::new(
        ErrorKind::Interrupted,
        "the download was stopped",
        "it was interrupted",
        "the same get goes on with what was kept",
    )
}

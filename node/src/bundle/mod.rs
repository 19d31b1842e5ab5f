//! Fetching many files of a list: connections set up once, providers found once, and many files in a message.
//!
//! [`plan`] is pure and says who is asked for what, [`session`] speaks with one peer, [`find`] looks for peers, [`folder`]
//! writes files and lets none out of its folder, [`keep`] enters them in the store. What is too large for this, or is not to be had
//! of anybody in time, is fetched as a single file is.

mod engine;
mod find;
mod folder;
mod keep;
mod path;
mod plan;
mod session;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use casnode_cas::{Address, ChunkHash, FileState, MAX_SMALL_FILE_BYTES, Store, StoreError};
use casnode_dht::Multiaddr;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;

use self::folder::{Folder, There};
pub(crate) use self::keep::Entered;
use crate::{
    api::{
        ApiError, ErrorKind, FetchedFile, FetchedState, ListReport, ListedFile, MAX_LISTED_FILES,
        ProviderUse, events::EventSink,
    },
    clock,
    download::{self, GetOptions, Stay, Target},
    errors,
    node::Node,
    tasks::blocking,
};

/// Blocking tasks that write files, or read and write what is here.
const WRITERS: usize = 3;

/// Files that one of them looks at in a row.
const LOOK_AT_ONCE: usize = 256;

/// Files that are fetched one by one at a time.
const SINGLES: usize = 4;

/// What is asked for.
pub(crate) struct ManyOptions {
    pub(crate) files: Vec<ListedFile>,
    pub(crate) folder: PathBuf,
    pub(crate) force: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) hints: Vec<Multiaddr>,
    /// Permission bits of the files; `None`: by this process's umask.
    pub(crate) mode: Option<u32>,
    /// What stays here; not [`Keep::InPlace`](crate::api::Keep::InPlace).
    pub(crate) stay: Stay,
}

/// A file of the list.
#[derive(Debug)]
struct Line {
    address: Address,
    path: String,
    state: State,
}

/// What is known of it.
#[derive(Debug)]
enum State {
    /// To be fetched with others.
    Wanted,
    /// To be fetched by itself, or to be written out of the store.
    Single,
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
    hints: Vec<Multiaddr>,
    mode: Option<u32>,
    force: bool,
    stay: Stay,
    deadline: Option<Instant>,
    events: EventSink,
    cancel: CancellationToken,
    providers: HashMap<casnode_dht::PeerId, ProviderUse>,
    /// What is in the store now and was not.
    entered: Vec<keep::Entered>,
}

/// What came of a call.
pub(crate) struct Many {
    pub(crate) report: ListReport,
    /// Files that are in the store now and were not.
    pub(crate) entered: Vec<keep::Entered>,
}

/// Fetches the files of a list. A file that cannot be had is no error of the call.
pub(crate) async fn get_many(
    node: &Arc<Node>,
    options: ManyOptions,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<Many, ApiError> {
    let started = clock::now();
    let lines = lines(&options.files)?;
    let (path, force, mode) = (options.folder.clone(), options.force, options.mode);
    let folder = blocking(move || Folder::open(&path, force, mode)).await;
    let folder = folder.map_err(errors::panicked)?.map_err(|error| {
        ApiError::new(
            ErrorKind::Failure,
            format!(
                "the files cannot be written to {}",
                options.folder.display()
            ),
            error.to_string(),
            "name another folder with -o",
        )
    })?;
    let mut job = Job {
        node: node.clone(),
        folder: Arc::new(folder),
        lines,
        hints: options.hints,
        mode,
        force,
        stay: options.stay,
        deadline: options.timeout.map(|timeout| started + timeout),
        events,
        cancel,
        providers: HashMap::new(),
        entered: Vec::new(),
    };
    job.look().await?;
    job.fetch().await?;
    job.singles().await?;
    let folder = job.folder.clone();
    let synced = blocking(move || folder.sync()).await;
    synced.map_err(errors::panicked)?.map_err(|error| {
        ApiError::new(
            ErrorKind::Failure,
            "the files were written, and are not known to be on the disk",
            error.to_string(),
            "look at the disk of the folder, and run the command again",
        )
    })?;
    Ok(job.report(started))
}

/// The lines, their paths clean and each named once.
fn lines(files: &[ListedFile]) -> Result<Vec<Line>, ApiError> {
    let refused = |what: String, why: &str| {
        ApiError::new(
            ErrorKind::Usage,
            what,
            why,
            "mend the list: its lines are those of `b3sum` or `casnode store --sums`, with paths relative to the folder",
        )
    };
    if files.len() > MAX_LISTED_FILES {
        let what = format!("a call for {} files is too large", files.len());
        return Err(refused(what, "one call may be for 16,384"));
    }
    let mut seen = HashSet::new();
    let mut lines = Vec::with_capacity(files.len());
    for file in files {
        let address = file.address.parse::<Address>();
        let address = address.map_err(|error| {
            refused(
                format!("{} is not an address", file.address),
                &error.to_string(),
            )
        })?;
        let path = path::clean(&file.path)
            .map_err(|why| refused(format!("{:?} was not written", file.path), why))?;
        if !seen.insert(path.clone()) {
            let what = format!("{path:?} is in the list twice");
            return Err(refused(what, "each file needs a place of its own"));
        }
        lines.push(Line {
            address,
            path,
            state: State::Wanted,
        });
    }
    Ok(lines)
}

impl Job {
    /// Sees what is in place already, and writes what is in the store.
    async fn look(&mut self) -> Result<(), ApiError> {
        let wanted = self.lines.iter().enumerate();
        let mut wanted: Vec<_> = wanted
            .map(|(at, line)| (at, line.address, line.path.clone()))
            .collect();
        let (mut running, mut parts) = (FuturesUnordered::new(), Vec::new());
        while !wanted.is_empty() {
            let part = wanted.split_off(wanted.len().saturating_sub(LOOK_AT_ONCE));
            let (folder, store) = (self.folder.clone(), self.node.store.clone());
            running.push(blocking(move || look_at(&folder, &store, part)));
            if running.len() >= WRITERS {
                parts.extend(running.next().await);
            }
        }
        while let Some(part) = running.next().await {
            parts.push(part);
        }
        for part in parts {
            for (at, state) in part.map_err(errors::panicked)? {
                self.lines[at].state = state;
            }
        }
        Ok(())
    }

    /// Fetches one by one what was not to be had together: those of one address in a row, so that it comes once.
    async fn singles(&mut self) -> Result<(), ApiError> {
        let mut groups: HashMap<Address, Vec<usize>> = HashMap::new();
        for (at, line) in self.lines.iter().enumerate() {
            if matches!(line.state, State::Wanted | State::Single) {
                groups.entry(line.address).or_default().push(at);
            }
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| group[0]);
        let (mut running, mut fetched) = (FuturesUnordered::new(), Vec::new());
        for group in groups {
            running.push(self.group(group));
            if running.len() >= SINGLES {
                fetched.extend(running.next().await);
            }
        }
        while let Some(group) = running.next().await {
            fetched.push(group);
        }
        drop(running);
        for (at, state) in fetched.into_iter().flatten() {
            self.lines[at].state = state;
        }
        match self.cancel.is_cancelled() {
            true => Err(engine::interrupted()),
            false => Ok(()),
        }
    }

    /// Fetches the lines of one address, one after the other.
    async fn group(&self, group: Vec<usize>) -> Vec<(usize, State)> {
        let mut states = Vec::with_capacity(group.len());
        for at in group {
            states.push((at, self.single(&self.lines[at]).await));
        }
        states
    }

    async fn single(&self, line: &Line) -> State {
        let (folder, path) = (self.folder.clone(), line.path.clone());
        let prepared = blocking(move || folder.prepare(&path)).await;
        match prepared.map_err(errors::panicked) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return State::Failed(not_written(&error)),
            Err(error) => return State::Failed(error),
        }
        let options = GetOptions {
            address: line.address,
            target: Target::File {
                path: self.folder.path_of(&line.path),
                force: self.force,
            },
            timeout: self
                .deadline
                .map(|at| at.saturating_duration_since(clock::now())),
            hints: self.hints.clone(),
            name: None,
            size_bytes: None,
            output: None,
            mode: self.mode,
            stay: self.stay,
        };
        // Its progress would hide that of the list.
        let (quiet, _) = EventSink::new();
        match download::get(&self.node, options, quiet, self.cancel.clone()).await {
            Ok(report) => State::Done {
                state: match report.fetched_bytes {
                    0 => FetchedState::Here,
                    _ => FetchedState::Fetched,
                },
                bytes: report.bytes,
            },
            Err(error) => State::Failed(error),
        }
    }

    fn report(self, started: Instant) -> Many {
        let mut report = ListReport {
            files: Vec::with_capacity(self.lines.len()),
            fetched: 0,
            here: 0,
            failed: 0,
            bytes: 0,
            seconds: clock::now()
                .saturating_duration_since(started)
                .as_secs_f64(),
            providers: self.providers.into_values().collect(),
        };
        report.providers.sort_by_key(|p| std::cmp::Reverse(p.bytes));
        for line in self.lines {
            let (state, bytes, error) = match line.state {
                State::Done { state, bytes } => (state, bytes, None),
                State::Failed(error) => (FetchedState::Failed, 0, Some(error)),
                State::Wanted | State::Single => (FetchedState::Failed, 0, None),
            };
            let count = match state {
                FetchedState::Fetched => &mut report.fetched,
                FetchedState::Here => &mut report.here,
                FetchedState::Failed => &mut report.failed,
            };
            *count += 1;
            report.bytes += bytes;
            report.files.push(FetchedFile {
                address: line.address.to_string(),
                path: line.path,
                bytes,
                state,
                error,
            });
        }
        Many {
            report,
            entered: self.entered,
        }
    }
}

fn look_at(
    folder: &Folder,
    store: &Store,
    part: Vec<(usize, Address, String)>,
) -> Vec<(usize, State)> {
    let look =
        |(at, address, path): (usize, Address, String)| (at, look(folder, store, address, &path));
    part.into_iter().map(look).collect()
}

/// What is to be done for a file, once that is done for which nobody has to be asked.
fn look(folder: &Folder, store: &Store, address: Address, path: &str) -> State {
    let done = |bytes| State::Done {
        state: FetchedState::Here,
        bytes,
    };
    match folder.look(path, address) {
        Ok(There::Same) => {
            let there = std::fs::metadata(folder.path_of(path));
            return done(there.map_or(0, |meta| meta.len()));
        }
        Ok(There::Nothing) => {}
        Err(error) => return State::Failed(not_written(&error)),
    }
    match stored(store, address) {
        Ok(Stored::Whole(bytes)) => match folder.write(path, address, &bytes) {
            Ok(()) => done(bytes.len() as u64),
            Err(error) => State::Failed(not_written(&error)),
        },
        Ok(Stored::Larger) => State::Single,
        Ok(Stored::No) => State::Wanted,
        Err(error) => {
            tracing::warn!(file = %address, %error, "a stored file could not be read, and is fetched");
            State::Wanted
        }
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

fn not_written(error: &std::io::Error) -> ApiError {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        _ => ErrorKind::Failure,
    };
    ApiError::new(
        kind,
        "it was not written",
        error.to_string(),
        "name another folder with -o, or replace files with --force",
    )
}

#[cfg(test)]
mod tests;

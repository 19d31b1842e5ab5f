//! Files that are seen to one by one: what is too large to come with others, or nobody sent with others.

use std::{collections::HashMap, sync::Arc, time::Instant};

use casnode_cas::{Address, StoreError};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;

use super::{
    Folder, Job, Line, Seeking, State, TELL_EVERY, interrupted, list, not_written,
    under_way::UnderWay,
};
use crate::{
    api::{ApiError, ErrorKind, FetchedState, Keep, Kept, ProviderUse, events::EventSink},
    clock,
    download::{self, GetOptions, Stay, Target, Terms},
    errors,
    node::Node,
    tasks::blocking,
};

/// Files that are fetched one by one at a time.
const SINGLES: usize = 4;

/// So many small files in a row that nobody has: the rest, of which many were looked for as well, is given up.
const GIVEN_UP_AFTER: usize = 64;

/// What fetching one file takes, the same for all of them.
struct Context {
    node: Arc<Node>,
    folder: Arc<Folder>,
    seeking: Seeking,
    deadline: Option<Instant>,
    mode: Option<u32>,
    stay: Stay,
    events: EventSink,
    under_way: UnderWay,
    cancel: CancellationToken,
}

/// A file of the call, and whether it is in its place already.
struct Single {
    at: usize,
    line: Line,
    is_there: bool,
}

/// What became of the files of one address, and who sent it.
struct Came {
    states: Vec<(usize, State)>,
    providers: Vec<ProviderUse>,
    /// All of them were there.
    is_there: bool,
    /// Large files that are kept where they are.
    in_place: u64,
}

impl Job {
    /// Fetches one by one what was not to be had together: those of one address in a row, so that it comes once.
    pub(super) async fn fetch_singly(&mut self) -> Result<(), ApiError> {
        let mut groups: HashMap<Address, Vec<usize>> = HashMap::new();
        for (at, state) in self.states.iter().enumerate() {
            if matches!(state, State::Wanted | State::Single | State::There) {
                groups.entry(self.lines[at].address).or_default().push(at);
            }
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| group[0]);
        let context = Context {
            node: self.node.clone(),
            folder: self.folder.clone(),
            seeking: self.seeking.clone(),
            deadline: self.deadline,
            mode: self.mode,
            stay: self.stay,
            events: self.events.clone(),
            under_way: UnderWay::default(),
            cancel: self.cancel.clone(),
        };
        let (mut groups, mut fruitless) = (groups.into_iter(), 0);
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < SINGLES
                && !self.cancel.is_cancelled()
                && let Some(group) = groups.next()
            {
                let are_wanted = |group: &[usize]| {
                    let is_wanted = |at: &usize| matches!(self.states[*at], State::Wanted);
                    group.iter().all(is_wanted)
                };
                if fruitless >= GIVEN_UP_AFTER && are_wanted(&group) {
                    for at in group {
                        self.settle(at, State::Failed(nobody_has_it()));
                    }
                    continue;
                }
                let single = |at| Single {
                    at,
                    line: self.lines[at].clone(),
                    is_there: matches!(self.states[at], State::There),
                };
                running.push(context.group(group.into_iter().map(single).collect()));
            }
            let came = tokio::select! {
                came = running.next() => came,
                () = tokio::time::sleep(TELL_EVERY) => {
                    self.tally.tell(&self.events, &context.under_way.sum());
                    continue;
                }
            };
            let Some(came) = came else {
                break;
            };
            let is_missing = |(_, state): &(usize, State)| matches!(state, State::Failed(e) if e.kind == ErrorKind::NotFound);
            fruitless = match came.states.iter().all(is_missing) {
                true => fruitless + 1,
                false if came.is_there => fruitless,
                false => 0,
            };
            for (at, state) in came.states {
                if let State::Done {
                    state: FetchedState::Fetched,
                    bytes,
                } = state
                    && self.stay.keep != Keep::No
                {
                    let line = &self.lines[at];
                    self.entered.push((line.address, bytes, None));
                }
                context.under_way.forget(at);
                self.settle(at, state);
            }
            self.in_place += came.in_place;
            for used in came.providers {
                list::count(&mut self.providers, used);
            }
            self.tally.tell(&self.events, &context.under_way.sum());
        }
        match self.cancel.is_cancelled() {
            true => Err(interrupted()),
            false => Ok(()),
        }
    }
}

impl Context {
    /// Sees to the files of one address, one after the other.
    async fn group(&self, files: Vec<Single>) -> Came {
        let mut came = Came {
            states: Vec::with_capacity(files.len()),
            providers: Vec::new(),
            is_there: files.iter().all(|file| file.is_there),
            in_place: 0,
        };
        for Single { at, line, is_there } in files {
            let done = match is_there {
                true => Ok(self.there(&line, &mut came).await),
                false => self.single(at, &line, &mut came).await,
            };
            let state = match done {
                Ok((state, bytes)) => State::Done { state, bytes },
                Err(error) => State::Failed(error),
            };
            came.states.push((at, state));
        }
        came
    }

    /// A file that is in its place: what an earlier call did not come to, or did otherwise than is wanted now, is done.
    async fn there(&self, line: &Line, came: &mut Came) -> (FetchedState, u64) {
        let place = self.folder.place(&line.path);
        let events = &self.events;
        let report = download::unchanged(&self.node, self.stay, line.address, place, events).await;
        // The store refers to one of equal files.
        came.in_place += u64::from(report.in_place == report.path);
        (FetchedState::Here, report.bytes)
    }

    /// The file is put together at the top of the folder, and then given its place.
    async fn single(
        &self,
        at: usize,
        line: &Line,
        came: &mut Came,
    ) -> Result<(FetchedState, u64), ApiError> {
        self.in_folder(line, |folder, line| folder.prepare(&line.path))
            .await?;
        let options = GetOptions {
            address: line.address,
            target: Target::File {
                path: self.folder.staging(&line.address),
                force: false,
            },
            timeout: self
                .deadline
                .map(|at| at.saturating_duration_since(clock::now())),
            hints: self.seeking.hints.clone(),
            name: None,
            size_bytes: line.size_bytes,
            output: None,
            mode: self.mode,
            stay: self.stay,
            terms: Terms {
                peers: self.seeking.known.clone(),
                is_announced_apart: true,
                ..Terms::default()
            },
        };
        let get = |sink| download::get(&self.node, options, sink, self.cancel.clone());
        let follow = self.under_way.follow(at, &line.path, &self.events, get);
        let report = follow.await?;
        came.providers.extend(report.providers);
        line.check_size(report.bytes)?; // what an earlier call left
        self.in_folder(line, |folder, line| folder.adopt(&line.wanted()))
            .await
            .map_err(|error| self.left_behind(line, error))?;
        if report.kept == Kept::InPlace && self.follow(line).await {
            came.in_place += 1;
        }
        let state = match report.fetched_bytes {
            0 => FetchedState::Here,
            _ => FetchedState::Fetched,
        };
        Ok((state, report.bytes))
    }

    /// A file that is kept in place has got its place: the store is to look for it there. Whether it does.
    async fn follow(&self, line: &Line) -> bool {
        let (store, claim) = (self.node.store.clone(), self.stay.claim);
        let (address, from) = (line.address, self.folder.staging(&line.address));
        let to = self.folder.place(&line.path);
        let followed = move || -> Result<bool, StoreError> {
            let source = store.file(&address)?.and_then(|file| file.source);
            let (Some(source), Some(manifest)) = (source, store.manifest(&address)?) else {
                return Ok(false);
            };
            // On another file system it is not kept: that may not be there when the store is.
            let is_beside = to.parent().is_some_and(|folder| store.is_beside(folder));
            let is_moved = source.path == from && is_beside;
            if is_moved {
                store.adopt_in_place(&manifest, &to, None, claim)?;
            } else {
                store.check_source(&address)?;
            }
            Ok(is_moved)
        };
        match blocking(followed).await {
            Ok(Ok(is_moved)) => is_moved,
            Ok(Err(error)) => {
                tracing::warn!(file = %line.address, %error, "a file was written, and is not kept");
                false
            }
            Err(error) => {
                tracing::warn!(file = %line.address, %error, "a file was written, and is not kept");
                false
            }
        }
    }

    /// A file that is whole and could not be given its place is not lost, wherever it is.
    fn left_behind(&self, line: &Line, error: ApiError) -> ApiError {
        let staged = self.folder.staging(&line.address);
        let why = format!("{}; the whole file is {}", error.why, staged.display());
        ApiError { why, ..error }
    }

    async fn in_folder(
        &self,
        line: &Line,
        work: fn(&Folder, &Line) -> std::io::Result<()>,
    ) -> Result<(), ApiError> {
        let (folder, line) = (self.folder.clone(), line.clone());
        let done = blocking(move || work(&folder, &line)).await;
        let done = done.map_err(errors::panicked)?;
        done.map_err(|error| not_written(&error))
    }
}

fn nobody_has_it() -> ApiError {
    ApiError::new(
        ErrorKind::NotFound,
        "it could not be fetched",
        "nobody has it, as far as is known: many others like it were looked for in vain",
        "run the same get again when somebody is there who has it",
    )
}

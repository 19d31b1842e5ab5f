//! The calls that run, by name: anybody who may ask can follow one, list them, or end one.
//!
//! A call is a task of the daemon's. Whoever made it holds its [`Call`], and when that is dropped the call is cancelled:
//! a caller who leaves wants nothing any more. What is known of a call is in a [`watch`] channel, so that any number of
//! followers hear of it, late ones too, and a slow one holds up nobody.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use utoipa::ToSchema;

use super::json;
use crate::{
    api::{ApiError, Caller, ErrorKind, Event, Outcome, Progress, Request, events::EventSink},
    client::Streams,
    clock,
    node::Node,
    tasks::Tasks,
};

/// Longest name of a call.
pub(crate) const MAX_NAME_BYTES: usize = 64;

/// Warnings of a call that are remembered for its followers.
const MAX_WARNINGS: usize = 1024;

/// For how long, and of how many calls, the end is remembered; longer results are not.
const KEPT: Duration = Duration::from_secs(60);
const MAX_KEPT: usize = 64;
const MAX_KEPT_BYTES: usize = 1 << 20;

/// The name of a call: 1 to 64 of `A-Za-z0-9_-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CallName(String);

impl FromStr for CallName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(is_fine) {
            Ok(Self(text.to_owned()))
        } else {
            Err("the name of a call is 1 to 64 letters, digits, '_' and '-'")
        }
    }
}

impl fmt::Display for CallName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of a call.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The newest one.
    pub(super) progress: Option<Progress>,
    /// The latest [`MAX_WARNINGS`].
    pub(super) warnings: VecDeque<String>,
    /// Warnings before those.
    pub(super) forgotten_warnings: usize,
    /// How it ended.
    pub(super) outcome: Option<Arc<Outcome>>,
}

impl State {
    fn note(&mut self, event: Event) {
        match event {
            Event::Progress(progress) => self.progress = Some(progress),
            Event::Warning { message } => {
                if self.warnings.len() == MAX_WARNINGS {
                    self.warnings.pop_front();
                    self.forgotten_warnings += 1;
                }
                self.warnings.push_back(message);
            }
        }
    }
}

/// What a call is to do.
pub(super) struct Work {
    /// The operation's name.
    pub(super) op: String,
    pub(super) request: Request,
    pub(super) streams: Streams,
}

/// A call of whoever holds this; dropped, it is cancelled.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) state: watch::Receiver<State>,
    _cancel: DropGuard,
}

impl Call {
    /// Waits for its end. Cancel-safe.
    pub(super) async fn outcome(&mut self) -> Arc<Outcome> {
        outcome_of(&mut self.state).await
    }
}

/// Waits for the end of a call.
pub(super) async fn outcome_of(state: &mut watch::Receiver<State>) -> Arc<Outcome> {
    let ended = state.wait_for(|state| state.outcome.is_some()).await;
    match ended.map(|state| state.outcome.clone()) {
        Ok(Some(outcome)) => outcome,
        // Its task is gone without a word: the daemon leaves, or there is a bug, which is in the log.
        _ => Arc::new(Err(ApiError::new(
            ErrorKind::Interrupted,
            "the call was broken off",
            "the daemon is leaving",
            "start it again and repeat the call",
        ))),
    }
}

/// A call, as a list of them shows it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct CallInfo {
    /// What the caller named it, else a name that was made up for it.
    name: String,
    /// What it does.
    op: String,
    /// When it began, milliseconds since 1970.
    began_unix_ms: u64,
    /// Whether it has ended; the end is remembered for a minute.
    ended: bool,
}

/// The calls of a daemon.
#[derive(Debug)]
pub(crate) struct Calls {
    node: Arc<Node>,
    tasks: Tasks,
    table: Mutex<Table>,
    /// Something was entered in the table.
    begun: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<CallName, Entry>,
    /// Calls that have ended and are remembered, the oldest first.
    kept: VecDeque<(CallName, u64, Instant)>,
    next_id: u64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    op: String,
    began_unix_ms: u64,
    state: watch::Receiver<State>,
    cancel: CancellationToken,
}

impl Table {
    /// Forgets what has been remembered for long enough.
    fn forget(&mut self, now: Instant) {
        while let Some((name, id, ended)) = self.kept.front()
            && (self.kept.len() > MAX_KEPT || now.duration_since(*ended) >= KEPT)
        {
            if self.entries.get(name).is_some_and(|entry| entry.id == *id) {
                self.entries.remove(name);
            }
            self.kept.pop_front();
        }
    }
}

impl Calls {
    /// The calls are tasks of `tasks`.
    pub(crate) fn new(node: Arc<Node>, tasks: Tasks) -> Arc<Self> {
        Arc::new(Self {
            node,
            tasks,
            table: Mutex::default(),
            begun: watch::Sender::new(()),
        })
    }

    pub(super) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.forget(clock::now());
        table
    }

    /// Begins a call; `None` when one of this name runs.
    pub(super) fn begin(
        self: &Arc<Self>,
        name: Option<CallName>,
        work: Work,
        caller: Caller,
    ) -> Option<Call> {
        let (sender, state) = watch::channel(State::default());
        let cancel = self.tasks.token().child_token();
        let is_named = name.is_some();
        let (name, id) = {
            let mut table = self.table();
            let id = table.next_id;
            let name = name.unwrap_or_else(|| CallName(format!("unnamed-{id}")));
            let runs = |entry: &Entry| entry.state.borrow().outcome.is_none();
            if table.entries.get(&name).is_some_and(runs) {
                return None;
            }
            let entry = Entry {
                id,
                op: work.op.clone(),
                began_unix_ms: clock::unix_ms(),
                state: state.clone(),
                cancel: cancel.clone(),
            };
            table.next_id += 1;
            table.entries.insert(name.clone(), entry);
            (name, id)
        };
        self.begun.send_replace(());
        let running = Running {
            calls: self.clone(),
            name,
            id,
            is_named,
            state: sender,
        };
        let call = running.run(work, caller, cancel.clone());
        self.tasks.spawn("call", call);
        Some(Call {
            state,
            _cancel: cancel.drop_guard(),
        })
    }

    /// What is known of a call; waits for so long until there is one of this name.
    pub(super) async fn follow(
        &self,
        name: &CallName,
        patience: Duration,
    ) -> Option<watch::Receiver<State>> {
        let mut begun = self.begun.subscribe();
        let appears = async {
            loop {
                let state = self.table().entries.get(name).map(|e| e.state.clone());
                if state.is_some() || begun.changed().await.is_err() {
                    return state;
                }
            }
        };
        tokio::time::timeout(patience, appears).await.ok().flatten()
    }

    /// Every call, the oldest first.
    pub(super) fn list(&self) -> Vec<CallInfo> {
        let table = self.table();
        let mut entries: Vec<_> = table.entries.iter().collect();
        entries.sort_by_key(|(_, entry)| entry.id);
        let info = |(name, entry): (&CallName, &Entry)| CallInfo {
            name: name.to_string(),
            op: entry.op.clone(),
            began_unix_ms: entry.began_unix_ms,
            ended: entry.state.borrow().outcome.is_some(),
        };
        entries.into_iter().map(info).collect()
    }

    /// Ends a call; false when none of this name runs.
    pub(super) fn cancel(&self, name: &CallName) -> bool {
        let table = self.table();
        let Some(entry) = table.entries.get(name) else {
            return false;
        };
        entry.cancel.cancel();
        entry.state.borrow().outcome.is_none()
    }
}

/// What the task of a call owns. Dropped, its entry goes.
struct Running {
    calls: Arc<Calls>,
    name: CallName,
    id: u64,
    is_named: bool,
    state: watch::Sender<State>,
}

impl Running {
    async fn run(
        self,
        work: Work,
        caller: Caller,
        cancel: CancellationToken,
    ) -> Result<(), Infallible> {
        let (sink, mut events) = EventSink::new();
        let node = self.calls.node.clone();
        // A token of its own: an operation cancels what it was given when it ends.
        let told = cancel.child_token();
        let work = node.execute(work.request, caller, work.streams, sink, told);
        let listen = async {
            while let Some(event) = events.recv().await {
                self.state.send_modify(|state| state.note(event));
            }
        };
        let outcome = tokio::select! {
            (outcome, ()) = async { tokio::join!(work, listen) } => outcome,
            () = cancel.cancelled() => Err(cancelled()),
        };
        let outcome = Arc::new(outcome);
        // Before anybody hears of the end: who then looks at the list sees what is left of it.
        self.remember(&outcome);
        self.state
            .send_modify(|state| state.outcome = Some(outcome));
        Ok(())
    }

    /// Keeps the end for those who come late, where it is short and somebody can ask for it.
    fn remember(&self, outcome: &Outcome) {
        let is_short = match outcome {
            Ok(response) => json::length_within(response, MAX_KEPT_BYTES).is_some(),
            Err(_) => true,
        };
        if self.is_named && is_short {
            let mut table = self.calls.table();
            let end = (self.name.clone(), self.id, clock::now());
            table.kept.push_back(end);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut table = self.calls.table();
        let is_kept = table.kept.iter().any(|(_, id, _)| *id == self.id);
        let is_own = |entry: &Entry| entry.id == self.id;
        if !is_kept && table.entries.get(&self.name).is_some_and(is_own) {
            table.entries.remove(&self.name);
        }
    }
}

fn cancelled() -> ApiError {
    ApiError::new(
        ErrorKind::Interrupted,
        "the call was cancelled",
        "its caller left, or somebody ended it",
        "",
    )
}

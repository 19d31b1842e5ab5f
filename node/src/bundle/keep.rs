//! What came is entered in the store, many files at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use casnode_cas::{Address, Claim, MAX_SMALL_FILES, SmallFile, Store, StoreError};
use tokio::task::JoinHandle;

use crate::{api::events::EventSink, clock, errors, node::Node, room, tasks::blocking};

/// Bytes that are entered together, about: what comes meanwhile may be as much.
const MAX_BYTES: usize = 8 << 20;

/// No file waits longer.
const MAX_AGE: Duration = Duration::from_millis(500);

/// Enters files in the store.
pub(super) struct Keeper {
    node: Arc<Node>,
    claim: Claim,
    waiting: Vec<SmallFile>,
    waiting_bytes: usize,
    since: Instant,
    /// What is being entered: one batch at a time.
    running: Option<JoinHandle<Result<Vec<Entered>, StoreError>>>,
    entered: Vec<Entered>,
    failed: Option<String>,
}

/// A file that is in the store: its address, size and name.
pub(crate) type Entered = (Address, u64, Option<String>);

impl Keeper {
    pub(super) fn new(node: &Arc<Node>, claim: Claim) -> Self {
        Self {
            node: node.clone(),
            claim,
            waiting: Vec::new(),
            waiting_bytes: 0,
            since: clock::now(),
            running: None,
            entered: Vec::new(),
            failed: None,
        }
    }

    /// Keeps a file. Waits while much is on its way into the store.
    pub(super) async fn keep(&mut self, file: SmallFile) {
        if self.waiting.is_empty() {
            self.since = clock::now();
        }
        self.waiting_bytes += file.bytes.len();
        self.waiting.push(file);
        if self.waiting.len() >= MAX_SMALL_FILES || self.waiting_bytes >= MAX_BYTES {
            self.enter().await;
        }
    }

    /// Enters what has waited long enough.
    pub(super) async fn look(&mut self) {
        let is_old = clock::now().saturating_duration_since(self.since) >= MAX_AGE;
        let is_free = self.running.as_ref().is_none_or(JoinHandle::is_finished);
        if !self.waiting.is_empty() && is_old && is_free {
            self.enter().await;
        }
    }

    /// Enters the rest, and says so when something could not be; what is in the store now.
    pub(super) async fn finish(mut self, events: &EventSink) -> Vec<Entered> {
        self.enter().await;
        self.wait().await;
        if let Some(why) = &self.failed {
            let told = format!("files were written, and not all were entered in the store: {why}");
            events.warn(told).await;
        }
        self.entered
    }

    async fn enter(&mut self) {
        self.wait().await;
        let files = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        if files.is_empty() {
            return;
        }
        let (store, claim) = (self.node.store.clone(), self.claim);
        self.running = Some(blocking(move || enter(&store, files, claim)));
    }

    async fn wait(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        match running.await {
            Ok(Ok(entered)) => self.entered.extend(entered),
            Ok(Err(error)) => self.failed = Some(errors::chain(&error)),
            Err(error) => self.failed = Some(errors::chain(&error)),
        }
    }
}

/// Durable when it returns.
fn enter(store: &Store, files: Vec<SmallFile>, claim: Claim) -> Result<Vec<Entered>, StoreError> {
    let bytes: usize = files.iter().map(|file| file.bytes.len()).sum();
    room::make(store, bytes as u64)?;
    let entered = |file: &SmallFile| (file.address, file.bytes.len() as u64, file.name.clone());
    let all = files.iter().map(entered).collect();
    store.add_small_files(&files, claim)?;
    Ok(all)
}

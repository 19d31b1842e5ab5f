//! The fetching of many files at a time: peers come and go, files are written and kept as they come.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use casnode_cas::{Address, ManifestId, SmallFile};
use casnode_dht::{Dht, PeerId};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinError, JoinSet},
    time::{Instant, sleep},
};

use super::{
    Job, Line, State, WRITERS,
    find::Finder,
    interrupted,
    keep::Keeper,
    list,
    plan::{Plan, Sought},
    session::{self, Came, Shared},
    under_way::Sum,
    write,
};
use crate::{
    api::{ApiError, FetchedState, Keep, ProviderUse},
    clock, errors,
};

/// Replies that wait to be written, of about a MiB each: whoever fetches faster than the disk takes waits.
const CAME_QUEUE: usize = 4;

/// Peers that were found and wait to be asked.
const FOUND_QUEUE: usize = 64;

/// How often it is looked what is to be done.
const LOOK: Duration = Duration::from_millis(100);

/// Without a file for this long, what is left is fetched one by one.
const NO_PROGRESS: Duration = Duration::from_secs(300);

/// Files that were written: their lines, and what became of each.
type Written = Vec<(usize, State)>;

/// What is at work on the files of a list.
struct Engine<'a> {
    job: &'a mut Job,
    dht: Dht,
    shared: Arc<Shared>,
    list: [u8; 32],
    /// Of each distinct address, the lines that want it.
    lines_of: Vec<Vec<usize>>,
    finder: Finder,
    tried: HashSet<PeerId>,
    /// Peers that are asked when others have left.
    waiting: VecDeque<PeerId>,
    sessions: JoinSet<()>,
    /// The sessions of those who are asked, or were.
    asked: HashMap<PeerId, AbortHandle>,
    to_us: mpsc::Sender<(PeerId, Vec<Came>)>,
    writes: JoinSet<Written>,
    keeper: Option<Keeper>,
    last_came: Instant,
}

impl Job {
    /// Fetches together what can be; what could not is left as it is.
    pub(super) async fn fetch_together(&mut self) -> Result<(), ApiError> {
        let mut places: HashMap<Address, usize> = HashMap::new();
        let (mut addresses, mut lines_of) = (Vec::new(), Vec::<Vec<usize>>::new());
        for (at, line) in self.lines.iter().enumerate() {
            if matches!(self.states[at], State::Wanted) {
                let place = *places.entry(line.address).or_insert_with(|| {
                    addresses.push(line.address);
                    lines_of.push(Vec::new());
                    addresses.len() - 1
                });
                lines_of[place].push(at);
            }
        }
        let Some(dht) = self.node.dht.clone().filter(|_| !addresses.is_empty()) else {
            return Ok(());
        };
        let bytes: Vec<u8> = addresses.iter().flat_map(|a| *a.as_bytes()).collect();
        // Of a file of known size it is known here that it is small: else it is fetched by itself.
        let is_small = |lines: &Vec<usize>| {
            let size = |at: &usize| self.lines[*at].size_bytes;
            lines.iter().any(|at| size(at).is_some())
        };
        let sought = addresses.into_iter().zip(&lines_of);
        let sought = sought.map(|(address, lines)| Sought {
            address,
            is_small: is_small(lines),
        });
        let plan = Plan::new(sought);
        let (found_sender, found) = mpsc::channel(FOUND_QUEUE);
        let (to_us, came) = mpsc::channel(CAME_QUEUE);
        let keeps = self.stay.keep != Keep::No;
        let engine = Engine {
            list: *ManifestId::of(&bytes).as_bytes(),
            shared: Arc::new(Shared::new(plan)),
            finder: Finder::new(&self.node, &dht, &self.seeking, found_sender),
            keeper: keeps.then(|| Keeper::new(&self.node, self.stay.claim)),
            job: self,
            dht,
            lines_of,
            tried: HashSet::new(),
            waiting: VecDeque::new(),
            sessions: JoinSet::new(),
            asked: HashMap::new(),
            to_us,
            writes: JoinSet::new(),
            last_came: Instant::now(),
        };
        engine.run(found, came).await
    }
}

impl Engine<'_> {
    async fn run(
        mut self,
        mut found: mpsc::Receiver<PeerId>,
        mut came: mpsc::Receiver<(PeerId, Vec<Came>)>,
    ) -> Result<(), ApiError> {
        let cancel = self.job.cancel.clone();
        let mut changed = self.shared.watch();
        let mut is_interrupted = false;
        loop {
            self.admit();
            if self.is_over(&found, &came) {
                break;
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    is_interrupted = true;
                    break;
                }
                Some((peer, files)) = came.recv() => self.came(peer, files).await?,
                Some(written) = self.writes.join_next() => self.written(written)?,
                Some(peer) = found.recv() => {
                    if self.tried.insert(peer) {
                        self.waiting.push_back(peer);
                    }
                }
                _ = changed.changed() => {}
                () = sleep(LOOK) => {}
            }
            while self.sessions.try_join_next().is_some() {}
            if let Some(keeper) = &mut self.keeper {
                keeper.look().await;
            }
        }
        self.sessions.shutdown().await;
        came.close();
        while let Some((peer, files)) = came.recv().await {
            self.came(peer, files).await?;
        }
        while let Some(written) = self.writes.join_next().await {
            self.written(written)?;
        }
        if let Some(keeper) = self.keeper.take() {
            self.job.entered = keeper.finish(&self.job.events).await;
        }
        match is_interrupted {
            true => Err(interrupted()),
            false => Ok(()),
        }
    }

    /// Asks those who were found, as many as are asked at a time.
    fn admit(&mut self) {
        let now = self.shared.now();
        while let Some(peer) = self.waiting.pop_front() {
            if !self.shared.plan().join(peer, now) {
                self.waiting.push_front(peer);
                break;
            }
            let (dht, shared, came) = (self.dht.clone(), self.shared.clone(), self.to_us.clone());
            let asks = session::ask(dht, peer, self.list, shared, came);
            let session = self.sessions.spawn(asks);
            self.asked.insert(peer, session);
        }
        if self.waiting.is_empty() {
            return;
        }
        let vain = self.shared.plan().who_makes_room(now);
        if let Some(peer) = vain
            && let Some(session) = self.asked.remove(&peer)
        {
            tracing::debug!(%peer, "a peer that gave nothing makes room for another");
            session.abort(); // it leaves the plan as it ends
            self.waiting.push_back(peer);
        }
    }

    /// Whether nothing more comes. Where nobody has what is wanted, others are looked for.
    fn is_over(
        &mut self,
        found: &mpsc::Receiver<PeerId>,
        came: &mpsc::Receiver<(PeerId, Vec<Came>)>,
    ) -> bool {
        // In this order: what was handed on is in the queue.
        let is_over = self.shared.is_over() && came.is_empty();
        let plan = self.shared.plan();
        let (is_stuck, open) = (plan.is_stuck(), plan.open());
        let sample = self.finder.next_search().map(|count| plan.sample(count));
        drop(plan);
        let is_late = self.job.deadline.is_some_and(|at| clock::now() >= at)
            || self.last_came.elapsed() >= NO_PROGRESS;
        if is_over || is_late {
            return true;
        }
        let is_idle = self.finder.is_idle() && found.is_empty() && came.is_empty();
        if !is_stuck || !is_idle || !self.waiting.is_empty() {
            return false;
        }
        match sample {
            Some(addresses) => {
                self.finder.search(addresses, open);
                false
            }
            None => true,
        }
    }

    /// Files came: they are written, and kept. Waits while much is being written.
    async fn came(&mut self, peer: PeerId, files: Vec<Came>) -> Result<(), ApiError> {
        self.last_came = Instant::now();
        let mut used = ProviderUse {
            peer: peer.to_string(),
            bytes: 0,
            chunks: 0,
            rejected: 0,
        };
        let mut writes = Vec::with_capacity(files.len());
        for file in files {
            used.chunks += 1;
            used.bytes += file.bytes.len() as u64;
            let counters = self.job.node.swarms.counters();
            counters.came(file.bytes.len() as u64);
            for at in &self.lines_of[file.place] {
                writes.push((*at, self.job.lines[*at].clone(), file.bytes.clone()));
            }
            if let (Some(keeper), Some(first)) =
                (&mut self.keeper, self.lines_of[file.place].first())
            {
                let line = &self.job.lines[*first];
                let name = line.path.rsplit('/').next().map(str::to_owned);
                let small = SmallFile {
                    address: line.address,
                    bytes: file.bytes,
                    name,
                };
                keeper.keep(small).await;
            }
        }
        list::count(&mut self.job.providers, used);
        while self.writes.len() >= WRITERS
            && let Some(written) = self.writes.join_next().await
        {
            self.written(written)?;
        }
        let folder = self.job.folder.clone();
        self.writes.spawn_blocking(move || {
            let write = |(at, line, bytes): (usize, Line, Bytes)| {
                (at, write(&folder, &line, &bytes, FetchedState::Fetched))
            };
            writes.into_iter().map(write).collect()
        });
        Ok(())
    }

    fn written(&mut self, written: Result<Written, JoinError>) -> Result<(), ApiError> {
        for (at, state) in written.map_err(errors::panicked)? {
            self.job.settle(at, state);
        }
        let asked = Sum {
            sources: self.shared.plan().peers(),
            ..Sum::default()
        };
        self.job.tally.tell(&self.job.events, &asked);
        Ok(())
    }
}

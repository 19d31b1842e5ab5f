//! One peer's part in a list: one stream, requests for many files going out, replies checked as they come.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use casnode_cas::Address;
use casnode_dht::{
    Dht, DhtError, Key, PeerId,
    exchange::{ExchangeError, FileReply, Reply, ReplyReceiver, Request, RequestSender},
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, sleep_until},
};

use super::plan::{Plan, Said};
use crate::clock;

/// Opening the stream, the dial included.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// A reply that is due comes within this.
const REPLY_DEADLINE: Duration = Duration::from_secs(30);

/// How long a turn is waited for. What is left then is fetched file by file, where waiting goes on.
const TURN_DEADLINE: Duration = Duration::from_secs(300);

/// How often to look for requests that another peer has not answered.
const LOOK: Duration = Duration::from_secs(1);

/// Requests that may be answered *choked* although the peer said that it sends.
const MAX_CONTRADICTIONS: u32 = 64;

/// The join's id; requests for files count from 1.
const JOIN_ID: u32 = 0xc000_0000;

/// What is told and asks for no answer.
const TOLD_ID: u32 = 0;

/// A file that came; its bytes have its address.
#[derive(Debug, Clone)]
pub(super) struct Came {
    pub(super) place: usize,
    pub(super) bytes: Bytes,
}

/// The plan that all sessions work on.
#[derive(Debug)]
pub(super) struct Shared {
    plan: Mutex<Plan>,
    changed: watch::Sender<()>,
    /// Replies whose files count as here and are still to be handed on.
    handing_on: AtomicUsize,
    began: Instant,
}

impl Shared {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan: Mutex::new(plan),
            changed: watch::Sender::new(()),
            handing_on: AtomicUsize::new(0),
            began: clock::now(),
        }
    }

    pub(super) fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes when somebody was answered, came or left.
    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn tell(&self) {
        self.changed.send_modify(|()| {});
    }

    /// Whether the plan has all files, and all of them were handed on.
    pub(super) fn is_over(&self) -> bool {
        self.plan().is_over() && self.handing_on.load(Ordering::Acquire) == 0
    }

    pub(super) fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.began)
    }
}

/// Why a peer is not asked any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("{0}")]
    Unreachable(#[from] DhtError),
    #[error("the stream broke: {0}")]
    Stream(#[from] ExchangeError),
    #[error("it closed the stream")]
    Closed,
    #[error("it did not answer in time")]
    Silent,
    #[error("it broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("it sent other bytes than the file's")]
    Lied,
}

impl End {
    fn is_peer_fault(&self) -> bool {
        match self {
            Self::Lied | Self::Protocol(_) => true,
            Self::Stream(error) => error.is_peer_fault(),
            _ => false,
        }
    }
}

/// Asks a peer until nothing is wanted of it any more. It has joined the plan, and has left it in the end.
pub(super) async fn ask(
    dht: Dht,
    peer: PeerId,
    list: Key,
    shared: Arc<Shared>,
    came: mpsc::Sender<(PeerId, Vec<Came>)>,
) {
    let leave = Leave {
        shared: &shared,
        peer,
    };
    let asked = async {
        let (sender, receiver) = dht.open_exchange(peer, &[], OPEN_DEADLINE).await?;
        over(sender, receiver, peer, list, &shared, &came).await
    };
    let end = asked.await;
    if let Err(end) = &end {
        tracing::debug!(%peer, %end, "a peer is asked for no more files of a list");
        shared.plan().leave(&peer, end.is_peer_fault());
    }
    drop(leave);
}

/// Takes a peer out of the plan, however its session ends.
struct Leave<'a> {
    shared: &'a Shared,
    peer: PeerId,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.shared.plan().leave(&self.peer, false);
        self.shared.tell();
    }
}

/// Files are on their way to whoever writes them.
struct HandingOn<'a>(&'a Shared);

impl<'a> HandingOn<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.handing_on.fetch_add(1, Ordering::AcqRel);
        Self(shared)
    }
}

impl Drop for HandingOn<'_> {
    fn drop(&mut self) {
        self.0.handing_on.fetch_sub(1, Ordering::AcqRel);
        self.0.tell();
    }
}

/// The conversation over a stream.
pub(super) async fn over(
    mut sender: RequestSender,
    mut receiver: ReplyReceiver,
    peer: PeerId,
    list: Key,
    shared: &Shared,
    came: &mpsc::Sender<(PeerId, Vec<Came>)>,
) -> Result<(), End> {
    let mut changed = shared.watch();
    // The first request goes with the join: where a place is free, its answer comes with the join's.
    let join = Request::Join {
        manifest: list,
        chunks: 0,
        bits: Bytes::new(),
    };
    sender.send(JOIN_ID, &join).await?;
    // Whoever has no turn at first is otherwise taken for somebody who wants nothing, after a while.
    sender.send(TOLD_ID, &Request::Interest(true)).await?;
    let mut turn = Turn::default();
    let mut out = 0_usize;
    let mut heard = tokio::time::Instant::now();
    loop {
        while turn.is_ours() {
            let Some(batch) = shared.plan().take(&peer, shared.now()) else {
                break;
            };
            if out == 0 {
                heard = tokio::time::Instant::now();
            }
            out += 1;
            let addresses = batch.addresses.iter().map(|a| *a.as_bytes()).collect();
            sender.send(batch.id, &Request::Files { addresses }).await?;
        }
        {
            let plan = shared.plan();
            if plan.is_over() || plan.is_useless(&peer) {
                return Ok(());
            }
        }
        let patience = match turn.is_ours() {
            true => REPLY_DEADLINE,
            false => TURN_DEADLINE,
        };
        let is_waiting = out > 0 || !turn.is_ours();
        let (id, reply) = tokio::select! {
            biased;
            next = receiver.next() => next?.ok_or(End::Closed)?,
            () = sleep_until(heard + patience), if is_waiting => return Err(End::Silent),
            _ = changed.changed() => continue,
            () = sleep(LOOK) => continue,
        };
        match reply {
            Reply::Files(files) => {
                let Some(addresses) = shared.plan().asked(&peer, id) else {
                    return Err(End::Protocol("files that were not asked for"));
                };
                let said = check(&addresses, &files)?;
                let _handing_on = HandingOn::new(shared);
                let new = shared.plan().answered(&peer, id, &said);
                out -= 1;
                heard = tokio::time::Instant::now();
                shared.tell();
                let new = new.into_iter().filter_map(|(place, at)| match &files[at] {
                    FileReply::Whole(bytes) => Some(Came {
                        place,
                        bytes: bytes.clone(),
                    }),
                    _ => None,
                });
                let new: Vec<Came> = new.collect();
                if !new.is_empty() && came.send((peer, new)).await.is_err() {
                    return Ok(()); // nobody wants them any more
                }
            }
            Reply::Choked if id != TOLD_ID => {
                if !shared.plan().refused(&peer, id) {
                    return Err(End::Protocol("it refuses what was not asked for"));
                }
                shared.tell();
                out -= 1;
                turn.refused()?;
            }
            Reply::Choke => turn.told(false),
            Reply::Unchoke => {
                turn.told(true);
                heard = tokio::time::Instant::now();
            }
            Reply::NotFound | Reply::Have { .. } if id == JOIN_ID => {}
            Reply::Got { .. } | Reply::Peers(_) => {}
            _ => return Err(End::Protocol("another reply than was asked for")),
        }
    }
}

/// Whether the peer sends files now.
#[derive(Debug, Default)]
struct Turn {
    /// What it said last.
    told: Option<bool>,
    was_refused: bool,
    contradictions: u32,
}

impl Turn {
    /// Before it has said anything it is tried.
    fn is_ours(&self) -> bool {
        self.told.unwrap_or(!self.was_refused)
    }

    fn told(&mut self, is_ours: bool) {
        self.told = Some(is_ours);
    }

    /// A request was refused, perhaps before what was said last.
    fn refused(&mut self) -> Result<(), End> {
        self.was_refused = true;
        self.contradictions += u32::from(self.told == Some(true));
        match self.contradictions > MAX_CONTRADICTIONS {
            true => Err(End::Protocol("it refuses what it said it would send")),
            false => Ok(()),
        }
    }
}

/// What was said of each file. Bytes that are not the file's are a lie.
fn check(addresses: &[Address], files: &[FileReply]) -> Result<Vec<Said>, End> {
    if files.len() > addresses.len() {
        return Err(End::Protocol("more files than were asked for"));
    }
    let said = addresses
        .iter()
        .zip(files)
        .map(|(address, file)| match file {
            FileReply::NotHere => Ok(Said::NotHere),
            FileReply::Larger => Ok(Said::Larger),
            FileReply::Whole(bytes) if Address::of(bytes) == *address => Ok(Said::Whole),
            _ => Err(End::Lied),
        });
    said.collect()
}

#[cfg(test)]
mod tests;

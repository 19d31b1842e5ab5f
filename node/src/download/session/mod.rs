//! One peer's part in a download: one long-lived stream, requests going out, replies coming in.

mod early;
mod link;
mod manners;
mod news;
mod opening;
mod pending;
mod probe;
mod turns;

use std::{
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use bytes::BytesMut;
use casnode_cas::{Address, HaveBitmap, MAX_MANIFEST_BYTES, Manifest};
use casnode_dht::{
    Dht, DhtError, Multiaddr, PeerId,
    exchange::{ExchangeError, Reply, ReplyReceiver, Request, RequestSender, SwarmPeer},
    told_addrs,
};
use tokio::sync::{mpsc, watch};

pub(crate) use self::probe::{Probe, Sample};
pub(super) use self::turns::ManifestTurns;
use self::{early::Early, news::News};
use super::{LiveHave, assembler::Job, engine::EngineEvent, incoming::IncomingRoom};
use crate::sched::PeerSlot;

/// Commands that may wait for a session: more than the scheduler ever has out at one peer, with their cancels.
pub(super) const COMMAND_QUEUE: usize = 256;

/// Opening the stream, the dial included.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// A reply to a question of the handshake.
const REPLY_DEADLINE: Duration = Duration::from_secs(10);

/// A whole manifest, the largest of 68 MiB included.
const MANIFEST_DEADLINE: Duration = Duration::from_secs(600);

/// A part of a manifest is at least this long, or the rest: a manifest cannot be dripped to hold a download up.
const MIN_MANIFEST_PART_BYTES: u64 = 64 << 10;

/// What the engine tells a session.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    Request {
        index: u32,
        /// How often the peer had choked this node, as far as the engine knew.
        chokes: u32,
    },
    Cancel {
        index: u32,
    },
    /// Whether the peer has anything that is wanted.
    Interest(bool),
}

/// What is being downloaded, once a manifest is chosen.
#[derive(Debug, Clone)]
pub(super) struct Goal {
    pub(super) manifest: Arc<Manifest>,
    /// What this node has of it.
    pub(super) live: Arc<LiveHave>,
    pub(super) jobs: mpsc::Sender<Job>,
    /// Memory for what arrives.
    pub(super) incoming: IncomingRoom,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionEnd {
    #[error("{0}")]
    Unreachable(#[from] DhtError),
    #[error("the stream broke: {0}")]
    Stream(#[from] ExchangeError),
    #[error("it did not answer within {} s", REPLY_DEADLINE.as_secs())]
    Silent,
    #[error("it does not have the file")]
    NotHere,
    #[error("it closed the stream")]
    Closed,
    #[error("it sent a manifest that is not this file's: {0}")]
    BadManifest(casnode_cas::ManifestError),
    #[error("it broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("it is no longer needed")]
    Released,
    #[error("it was of no use for a while, and made room for another")]
    MadeRoom,
    #[error("it does not have what it claims to have")]
    Lied,
}

impl SessionEnd {
    /// True when the peer sent what no honest peer sends.
    pub(super) fn is_peer_fault(&self) -> bool {
        match self {
            Self::BadManifest(_) | Self::Protocol(_) => true,
            Self::Stream(error) => error.is_peer_fault(),
            _ => false,
        }
    }
}

/// One peer's part in a download.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) dht: Dht,
    pub(super) peer: PeerId,
    /// Where others say it is.
    pub(super) addrs: Vec<Multiaddr>,
    pub(super) slot: PeerSlot,
    pub(super) address: Address,
    pub(super) goal: watch::Receiver<Option<Goal>>,
    pub(super) events: mpsc::Sender<EngineEvent>,
    /// Few manifests are fetched at a time: one is enough.
    pub(super) manifest_turns: ManifestTurns,
    /// What the first session to begin asks for with its manifest: see [`Request::Begin`].
    pub(super) early_bytes: Arc<AtomicU32>,
    /// A chunk that this peer is known to have although it may not know the file.
    pub(super) claim: Option<u32>,
}

impl Session {
    /// Runs to its end, which it reports.
    pub(super) async fn run(mut self, commands: mpsc::Receiver<Command>) {
        let (events, slot) = (self.events.clone(), self.slot);
        let end = match self.work(commands).await {
            Ok(()) => SessionEnd::Released,
            Err(end) => end,
        };
        let _ = events.send(EngineEvent::Gone { peer: slot, end }).await;
    }

    async fn work(&mut self, commands: mpsc::Receiver<Command>) -> Result<(), SessionEnd> {
        let slot = self.slot;
        let events = self.events.clone();
        let opened = match self.open(true).await? {
            Some(opened) => opened,
            None => self.open(false).await?.ok_or(SessionEnd::Closed)?,
        };
        let have = opened.have;
        let _ = events.send(EngineEvent::Joined { peer: slot, have }).await;
        let news = News::new(opened.link.goal.live.clone(), opened.told);
        let (sender, receiver) = (opened.sender, opened.receiver);
        let link = opened.link;
        link.exchange(sender, receiver, commands, news, opened.heard)
            .await
    }

    /// Waits for the engine's manifest or offers this peer's.
    async fn agree_on_manifest(
        &mut self,
        sender: &mut RequestSender,
        receiver: &mut ReplyReceiver,
    ) -> Result<Goal, SessionEnd> {
        let turns = self.manifest_turns.clone();
        let turn = tokio::select! {
            turn = turns.take() => turn.ok_or(SessionEnd::Released)?,
            goal = chosen(&mut self.goal) => return goal.ok_or(SessionEnd::Released),
        };
        let chosen_meanwhile = self.goal.borrow().clone();
        if let Some(goal) = chosen_meanwhile {
            return Ok(goal);
        }
        let fetch = self.fetch_manifest(sender, receiver, None);
        let fetched = turn.during(fetch).await;
        self.offer(fetched).await?;
        chosen(&mut self.goal).await.ok_or(SessionEnd::Released)
    }

    /// The peer's manifest; `first` is what was answered already.
    async fn fetch_manifest(
        &self,
        sender: &mut RequestSender,
        receiver: &mut ReplyReceiver,
        first: Option<Reply>,
    ) -> Result<Arc<Manifest>, SessionEnd> {
        let fetch = self.fetch_parts(sender, receiver, first);
        let bytes = tokio::time::timeout(MANIFEST_DEADLINE, fetch)
            .await
            .unwrap_or(Err(SessionEnd::Silent))?;
        let address = self.address;
        let decoded = crate::tasks::blocking(move || Manifest::decode_for(&address, &bytes)).await;
        match decoded {
            Ok(Ok(manifest)) => Ok(Arc::new(manifest)),
            Ok(Err(error)) => Err(SessionEnd::BadManifest(error)),
            Err(_) => Err(SessionEnd::Protocol("a manifest that could not be read")),
        }
    }

    /// The encoded manifest, part by part.
    async fn fetch_parts(
        &self,
        sender: &mut RequestSender,
        receiver: &mut ReplyReceiver,
        mut first: Option<Reply>,
    ) -> Result<BytesMut, SessionEnd> {
        let mut bytes = BytesMut::new();
        let mut expected = None;
        let mut id = MANIFEST_IDS;
        loop {
            let offset = bytes.len() as u64;
            let request = Request::Manifest {
                address: *self.address.as_bytes(),
                offset,
            };
            let reply = match first.take() {
                Some(first) => first,
                None => ask(sender, receiver, id, request).await?,
            };
            let (total, part) = match reply {
                Reply::Manifest { total_bytes, bytes } => (total_bytes, bytes),
                Reply::NotFound => return Err(SessionEnd::NotHere),
                Reply::Busy { .. } => return Err(SessionEnd::Silent),
                _ => return Err(SessionEnd::Protocol("another reply than was asked for")),
            };
            let rest = total.saturating_sub(offset);
            if total > MAX_MANIFEST_BYTES as u64
                || *expected.get_or_insert(total) != total
                || part.len() as u64 > rest
                || (part.len() as u64) < rest.min(MIN_MANIFEST_PART_BYTES)
            {
                return Err(SessionEnd::Protocol(
                    "a manifest part of an impossible size",
                ));
            }
            bytes.extend_from_slice(&part);
            self.tell(EngineEvent::ManifestPart).await;
            if bytes.len() as u64 == total {
                return Ok(bytes);
            }
            id += 1;
        }
    }

    /// What the peer has of the chosen manifest, by its answer to the join.
    async fn first_have(
        &self,
        goal: &Goal,
        answered: u32,
        early: &mut Early,
        sender: &mut RequestSender,
        receiver: &mut ReplyReceiver,
    ) -> Result<HaveBitmap, SessionEnd> {
        match hear(receiver, answered, early).await? {
            Reply::Have { chunks, bits } => {
                self.tell(EngineEvent::KnowsFile { peer: self.slot }).await;
                parse_have(goal, chunks, &bits)
            }
            Reply::NotFound => match self.claim {
                Some(index) => {
                    let mut have = HaveBitmap::new(goal.manifest.chunks().len());
                    have.set(index as usize);
                    Ok(have)
                }
                None => {
                    while early.is_open() {
                        hear_early(receiver, early).await?;
                    }
                    self.offer_other(goal, sender, receiver).await
                }
            },
            _ => Err(SessionEnd::Protocol("another reply than was asked for")),
        }
    }

    /// The peer may have the file cut differently: the engine remembers it for the case that this manifest fails.
    async fn offer_other(
        &self,
        goal: &Goal,
        sender: &mut RequestSender,
        receiver: &mut ReplyReceiver,
    ) -> Result<HaveBitmap, SessionEnd> {
        let turns = self.manifest_turns.clone();
        let turn = turns.take().await.ok_or(SessionEnd::Released)?;
        let fetch = self.fetch_manifest(sender, receiver, None);
        let manifest = turn.during(fetch).await?;
        if manifest.id() != goal.manifest.id() {
            self.tell(EngineEvent::ManifestOffered {
                peer: self.slot,
                manifest,
            })
            .await;
        }
        Err(SessionEnd::NotHere)
    }

    /// Of the peers it tells of, those that can be asked, with the addresses worth dialling.
    fn others(&self, listed: Vec<SwarmPeer>) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let from = self.dht.traffic_of(&self.peer).map(|traffic| traffic.addr);
        let parsed = |told: SwarmPeer| {
            let peer = PeerId::from_bytes(&told.peer).ok()?;
            let addrs = told.addrs.into_iter();
            let addrs = addrs.filter_map(|addr| Multiaddr::try_from(addr).ok());
            Some((peer, told_addrs(&peer, addrs, from.as_ref())))
        };
        let others = listed.into_iter().filter_map(parsed);
        let me = self.dht.local_peer_id();
        others.filter(|(peer, _)| *peer != me).collect()
    }

    async fn tell(&self, event: EngineEvent) {
        let _ = self.events.send(event).await;
    }
}

/// Request ids of the handshake; chunk requests count from 1.
const MANIFEST_IDS: u32 = 0x8000_0000;
const JOIN_ID: u32 = 0xc000_0000;
/// What the other side tells unasked.
const TOLD: u32 = 0;

async fn chosen(goal: &mut watch::Receiver<Option<Goal>>) -> Option<Goal> {
    goal.wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|g| g.clone())
}

async fn ask(
    sender: &mut RequestSender,
    receiver: &mut ReplyReceiver,
    id: u32,
    request: Request,
) -> Result<Reply, SessionEnd> {
    send(sender, &[(id, request)]).await?;
    hear(receiver, id, &mut Early::default()).await
}

async fn send(sender: &mut RequestSender, requests: &[(u32, Request)]) -> Result<(), SessionEnd> {
    let send = async {
        for (id, request) in requests {
            sender.send(*id, request).await?;
        }
        Ok::<(), SessionEnd>(())
    };
    tokio::time::timeout(REPLY_DEADLINE, send)
        .await
        .unwrap_or(Err(SessionEnd::Silent))
}

/// Waits for the reply to a request.
async fn hear(
    receiver: &mut ReplyReceiver,
    id: u32,
    early: &mut Early,
) -> Result<Reply, SessionEnd> {
    within_deadline(async {
        loop {
            match receiver.next().await?.ok_or(SessionEnd::Closed)? {
                (answered, reply) if answered == id => return Ok(reply),
                (answered, reply) => heard_beside(answered, reply, early)?,
            }
        }
    })
    .await
}

/// Waits for a reply to one of the early requests, which keep it.
async fn hear_early(receiver: &mut ReplyReceiver, early: &mut Early) -> Result<(), SessionEnd> {
    within_deadline(async {
        let (answered, reply) = receiver.next().await?.ok_or(SessionEnd::Closed)?;
        heard_beside(answered, reply, early)
    })
    .await
}

async fn within_deadline<T>(
    hearing: impl Future<Output = Result<T, SessionEnd>>,
) -> Result<T, SessionEnd> {
    tokio::time::timeout(REPLY_DEADLINE, hearing)
        .await
        .unwrap_or(Err(SessionEnd::Silent))
}

fn heard_beside(id: u32, reply: Reply, early: &mut Early) -> Result<(), SessionEnd> {
    // Whoever was asked for a manifest once more may have been joined already.
    match id == TOLD || early.hears(id, reply) {
        true => Ok(()),
        false => Err(SessionEnd::Protocol("a reply to what was not asked")),
    }
}

fn parse_have(goal: &Goal, chunks: u32, bits: &[u8]) -> Result<HaveBitmap, SessionEnd> {
    let expected = goal.manifest.chunks().len();
    if chunks as usize != expected {
        return Err(SessionEnd::Protocol(
            "a have-bitmap of another length than the manifest",
        ));
    }
    HaveBitmap::from_wire(bits, expected)
        .map_err(|_| SessionEnd::Protocol("a malformed have-bitmap"))
}

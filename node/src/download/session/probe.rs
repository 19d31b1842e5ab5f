//! One peer asked as a download would ask it, of which nothing is kept: for those who want to know why one fails.

use std::{
    ops::Range,
    sync::{Arc, atomic::AtomicU32},
    time::Instant,
};

use bytes::BytesMut;
use casnode_cas::{Address, ChunkHash, HaveBitmap, Manifest};
use casnode_dht::{
    Dht, Multiaddr, PeerId,
    exchange::{Reply, ReplyReceiver, Request, RequestSender},
};
use tokio::sync::{mpsc, watch};

use super::{
    JOIN_ID, ManifestTurns, OPEN_DEADLINE, Session, SessionEnd, TOLD, early::Early, hear, send,
};
use crate::sched::PeerSlot;

/// No more chunks than this are fetched to prove one group.
const MAX_PROOF_CHUNKS: usize = 64;

/// What a peer sent for a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sample {
    /// The file's bytes, proven against its address.
    Proven,
    /// Bytes of the chunk's hash; the group they are part of was too much to fetch.
    Right,
    /// Other bytes than the manifest says.
    WrongBytes,
    /// The bytes that its manifest says, and they are not the file's.
    Forged,
    /// It does not have the chunk that it claims to have.
    NotThere,
    /// It serves others now.
    Choked,
}

/// A peer that is connected and speaks the exchange.
pub(crate) struct Probe {
    session: Session,
    sender: RequestSender,
    receiver: ReplyReceiver,
    unchoked: bool,
}

impl Probe {
    /// Connects to the peer and opens a stream.
    pub(crate) async fn open(
        dht: &Dht,
        peer: PeerId,
        addrs: Vec<Multiaddr>,
        address: Address,
    ) -> Result<Self, SessionEnd> {
        let stream = dht.open_exchange(peer, &addrs, OPEN_DEADLINE).await;
        let (sender, receiver) = stream?;
        let session = Session {
            dht: dht.clone(),
            peer,
            addrs,
            slot: PeerSlot(0),
            address,
            // There is no engine: nobody chooses a manifest, and nobody hears of it.
            goal: watch::channel(None).1,
            events: mpsc::channel(1).0,
            manifest_turns: ManifestTurns::new(),
            early_bytes: Arc::new(AtomicU32::new(0)),
            claim: None,
        };
        Ok(Self {
            session,
            sender,
            receiver,
            unchoked: false,
        })
    }

    /// Its manifest of the file, which merges to the address.
    pub(crate) async fn manifest(&mut self) -> Result<Arc<Manifest>, SessionEnd> {
        let Self {
            session,
            sender,
            receiver,
            ..
        } = self;
        session.fetch_manifest(sender, receiver, None).await
    }

    /// Which chunks it says it has.
    pub(crate) async fn have(&mut self, manifest: &Manifest) -> Result<HaveBitmap, SessionEnd> {
        let chunks = manifest.chunk_count();
        let join = Request::Join {
            manifest: *manifest.id().as_bytes(),
            chunks,
            bits: HaveBitmap::new(manifest.chunks().len()).to_wire().into(),
        };
        send(&mut self.sender, &[(JOIN_ID, join)]).await?;
        match hear(&mut self.receiver, JOIN_ID, &mut Early::default()).await? {
            Reply::Have { chunks: told, bits } if told == chunks => {
                HaveBitmap::from_wire(&bits, manifest.chunks().len())
                    .map_err(|_| SessionEnd::Protocol("a malformed have-bitmap"))
            }
            Reply::Have { .. } => Err(SessionEnd::Protocol(
                "a have-bitmap of another length than the manifest",
            )),
            Reply::NotFound => Err(SessionEnd::NotHere),
            _ => Err(SessionEnd::Protocol("another reply than was asked for")),
        }
    }

    /// Fetches the group of the file that a chunk lies in, as far as the peer says it has it, and checks each chunk and
    /// the group. A peer that serves others is waited for until then.
    pub(crate) async fn sample(
        &mut self,
        manifest: &Manifest,
        have: &HaveBitmap,
        index: usize,
        until: Instant,
    ) -> Result<Sample, SessionEnd> {
        let group = manifest.groups_of_chunk(index).next();
        let whole = group.map(|group| (group, manifest.chunks_of_group(group)));
        let whole = whole.filter(|(_, chunks)| {
            chunks.len() <= MAX_PROOF_CHUNKS && chunks.clone().all(|i| have.get(i))
        });
        let wanted = match &whole {
            Some((_, chunks)) => chunks.clone(),
            None => index..index + 1,
        };
        let mut bytes = BytesMut::new();
        let first_byte = manifest.chunk_offset(wanted.start);
        for index in wanted {
            match self.chunk(manifest, index, until).await? {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(failed) => return Ok(failed),
            }
        }
        let Some((group, _)) = whole else {
            return Ok(Sample::Right);
        };
        let of_group = within(manifest.proof().group_range(group), first_byte);
        match bytes.get(of_group) {
            Some(bytes) if manifest.proof().check_group(group, bytes) => Ok(Sample::Proven),
            _ => Ok(Sample::Forged),
        }
    }

    /// A chunk's bytes, if they have its hash.
    async fn chunk(
        &mut self,
        manifest: &Manifest,
        index: usize,
        until: Instant,
    ) -> Result<Result<bytes::Bytes, Sample>, SessionEnd> {
        let Some(chunk) = manifest.chunks().get(index) else {
            return Ok(Err(Sample::NotThere));
        };
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let id = number.saturating_add(1);
        loop {
            if !self.unchoked && !self.wait_for_turn(until).await? {
                return Ok(Err(Sample::Choked));
            }
            let request = Request::Chunk {
                index: number,
                hash: *chunk.hash.as_bytes(),
            };
            send(&mut self.sender, &[(id, request)]).await?;
            return Ok(match self.reply(id, until).await? {
                Some(Reply::Chunk(bytes)) => {
                    let is_right = bytes.len() == chunk.len_bytes as usize
                        && ChunkHash::of(&bytes) == chunk.hash;
                    is_right.then_some(bytes).ok_or(Sample::WrongBytes)
                }
                Some(Reply::NotFound) => Err(Sample::NotThere),
                Some(Reply::Busy { .. }) => Err(Sample::Choked),
                Some(Reply::Choked) => {
                    self.unchoked = false;
                    continue;
                }
                Some(_) => return Err(SessionEnd::Protocol("another reply than was asked for")),
                None => return Err(SessionEnd::Silent),
            });
        }
    }

    /// Waits until the peer says that it sends chunks; false when it does not in time.
    async fn wait_for_turn(&mut self, until: Instant) -> Result<bool, SessionEnd> {
        while !self.unchoked {
            let next = tokio::time::timeout_at(until.into(), self.receiver.next());
            match next.await {
                Err(_) => return Ok(false),
                Ok(heard) => {
                    let (id, reply) = heard?.ok_or(SessionEnd::Closed)?;
                    self.note(id, &reply);
                }
            }
        }
        Ok(true)
    }

    /// The reply to a request; `None` when it does not come in time.
    async fn reply(&mut self, id: u32, until: Instant) -> Result<Option<Reply>, SessionEnd> {
        loop {
            let next = tokio::time::timeout_at(until.into(), self.receiver.next());
            let Ok(heard) = next.await else {
                return Ok(None);
            };
            match heard?.ok_or(SessionEnd::Closed)? {
                (answered, reply) if answered == id => return Ok(Some(reply)),
                (other, reply) => self.note(other, &reply),
            }
        }
    }

    fn note(&mut self, id: u32, reply: &Reply) {
        match reply {
            Reply::Unchoke if id == TOLD => self.unchoked = true,
            Reply::Choke if id == TOLD => self.unchoked = false,
            _ => {}
        }
    }
}

/// A range of the file as one of what was fetched from `first_byte` on.
fn within(range: Range<u64>, first_byte: u64) -> Range<usize> {
    let at = |byte: u64| usize::try_from(byte.saturating_sub(first_byte)).unwrap_or(usize::MAX);
    at(range.start)..at(range.end)
}

//! What the peer of a stream says.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use casnode_cas::{Address, ChunkHash, HaveBitmap, Manifest, ManifestId};
use casnode_dht::exchange::{Reply, Request, RequestReceiver};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    super::{
        Seeder,
        answers::Known,
        desk::{Asked, What},
    },
    End, IDLE_DEADLINE, JOINED_IDLE_DEADLINE, Saying, Stream,
    budget::Budget,
    news::Tells,
    untold::Untold,
};
use crate::{
    swarm::{Counters, Joining},
    tasks::blocking,
};

/// Chunks that a peer may ask for in a row while it is choked: twice what it may have out, for it has to hear of the choke
/// first.
const MAX_CHOKED_REQUESTS: u32 = 256;

/// Takes what the peer says, in its order.
pub(super) struct Reader<'a> {
    seeder: &'a Arc<Seeder>,
    stream: &'a Stream,
    say: mpsc::Sender<Saying>,
    /// Tells of what comes later, from the join on.
    joined: Option<oneshot::Sender<Tells>>,
    choked_requests: u32,
    budget: Budget,
    /// Chunks of the file it joined.
    chunk_count: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        seeder: &'a Arc<Seeder>,
        stream: &'a Stream,
        say: mpsc::Sender<Saying>,
        joined: oneshot::Sender<Tells>,
    ) -> Self {
        Self {
            seeder,
            stream,
            say,
            joined: Some(joined),
            choked_requests: 0,
            budget: Budget::default(),
            chunk_count: 0,
        }
    }

    /// Until the peer closes the stream, breaks the rules, or asks for nothing.
    pub(super) async fn read(mut self, mut requests: RequestReceiver) -> Result<(), End> {
        loop {
            let patience = self.patience();
            let next = timeout(patience, requests.next()).await;
            let Some((id, request)) = next.map_err(|_| End::Idle(patience))?? else {
                return Ok(());
            };
            self.hear(id, request).await?;
        }
    }

    fn patience(&self) -> Duration {
        match self.stream.member.get() {
            None => IDLE_DEADLINE,
            Some(_) => JOINED_IDLE_DEADLINE,
        }
    }

    async fn hear(&mut self, id: u32, request: Request) -> Result<(), End> {
        match request {
            Request::Chunk { index, hash } => {
                let hash = ChunkHash::from_bytes(hash);
                let what = What::Chunk { index, hash };
                self.asks(Asked { id, what }).await?;
            }
            Request::Files { addresses } => {
                if !self.stream.desk.has_room_for_files() {
                    return Err(End::Breach("it asks for more files than may wait"));
                }
                let addresses = addresses.into_iter().map(Address::from_bytes);
                let what = What::Files(addresses.collect());
                self.asks(Asked { id, what }).await?;
            }
            Request::Cancel { target } => self.stream.desk.cancel(target),
            Request::Manifest { address, offset } => {
                self.manifest(id, Address::from_bytes(address), offset)
                    .await?;
            }
            Request::Begin {
                address,
                early_bytes,
            } => {
                self.begin(id, Address::from_bytes(address), early_bytes)
                    .await?;
            }
            Request::Join {
                manifest,
                chunks,
                bits,
            } => {
                let manifest = ManifestId::from_bytes(manifest);
                self.join(id, manifest, chunks, bits).await?;
            }
            Request::Interest(wants) => {
                if let Some(member) = self.stream.member.get() {
                    member.interest(wants);
                }
            }
            Request::Got { indices } => {
                if !self.budget.says_got(indices.len(), self.chunk_count) {
                    return Err(End::Breach("it got more than there is"));
                }
                let member = self.stream.member.get();
                if member.is_some_and(|member| !member.got(&indices)) {
                    return Err(End::Breach("it got a chunk that there is not"));
                }
            }
            // Kinds that are not known here never come this far.
            _ => {}
        }
        Ok(())
    }

    /// It asks for chunks or files, which are sent to those who are not choked.
    async fn asks(&mut self, asked: Asked) -> Result<(), End> {
        if self.stream.line.is_over() {
            self.say(Saying::answer(asked.id, Reply::NotFound)).await;
            return Ok(());
        }
        // Whoever asks is interested, also while it is choked.
        self.stream.line.asked();
        if self.stream.line.is_unchoked() {
            self.choked_requests = 0;
            self.stream.desk.put(asked).await;
            return Ok(());
        }
        self.choked_requests += 1;
        Counters::add(&self.seeder.swarms.counters().choked_requests, 1);
        if self.choked_requests > MAX_CHOKED_REQUESTS {
            return Err(End::Breach("it goes on asking although it is choked"));
        }
        self.say(Saying::answer(asked.id, Reply::Choked)).await;
        Ok(())
    }

    /// Answers with a part of a manifest; the manifest, if that is all of it.
    async fn manifest(
        &mut self,
        id: u32,
        address: Address,
        offset: u64,
    ) -> Result<Option<Bytes>, End> {
        let reply = self.seeder.answers.manifest(address, offset).await;
        let mut whole = None;
        if let Reply::Manifest { total_bytes, bytes } = &reply {
            if !self.budget.pulls(bytes.len(), *total_bytes) {
                return Err(End::Breach("it takes manifests without end"));
            }
            let is_whole = bytes.len() as u64 == *total_bytes;
            whole = is_whole.then(|| bytes.clone());
        }
        self.say(Saying::answer(id, reply)).await;
        Ok(whole)
    }

    /// It asks for everything a download begins with.
    async fn begin(&mut self, id: u32, address: Address, early_bytes: u32) -> Result<(), End> {
        // Each id has its answer, so none may stand for two requests.
        if id > u32::MAX - 2 - early_bytes {
            return Err(End::Breach("it has no ids for what it asks"));
        }
        let Some(bytes) = self.manifest(id, address, 0).await? else {
            return Ok(());
        };
        let decoded = blocking(move || Manifest::decode_for(&address, &bytes)).await;
        let Ok(Ok(manifest)) = decoded else {
            return Ok(()); // it was checked when it came, so this is never so
        };
        let count = manifest.chunk_count();
        let nothing = HaveBitmap::new(manifest.chunks().len()).to_wire();
        self.join(id + 1, manifest.id(), count, nothing.into())
            .await?;
        let begins_early =
            |index: &u32| manifest.chunk_offset(*index as usize) < u64::from(early_bytes);
        let chunks = (0..count).take_while(begins_early).zip(manifest.chunks());
        for ((index, chunk), id) in chunks.zip(id + 2..) {
            let hash = chunk.hash;
            let what = What::Chunk { index, hash };
            self.asks(Asked { id, what }).await?;
        }
        Ok(())
    }

    async fn join(
        &mut self,
        id: u32,
        manifest: ManifestId,
        chunks: u32,
        bits: Bytes,
    ) -> Result<(), End> {
        let Some(joined) = self.joined.take() else {
            return Err(End::Breach("it joined twice"));
        };
        let has = HaveBitmap::from_wire(&bits, chunks as usize)
            .map_err(|_| End::Breach("it joined with a malformed bitmap"))?;
        self.chunk_count = has.len();
        let here = match self.seeder.answers.here(manifest).await {
            Known::Here(here) => Some(here),
            Known::Unknown => None,
            Known::Over => {
                self.stream.line.set_over(true);
                None
            }
        };
        if here
            .as_ref()
            .is_some_and(|here| here.have.len() != has.len())
        {
            return Err(End::Breach("it joined with a bitmap of another length"));
        }
        if let Some(here) = &here {
            self.seeder.answers.note_use(here.address).await;
        }
        let live = here.as_ref().and_then(|here| here.live.clone());
        let (member, told) = self.seeder.swarms.join(Joining {
            peer: self.stream.peer,
            manifest,
            line: self.stream.line.clone(),
            has,
            here,
        });
        let _ = self.stream.member.set(member);
        let reply = told.as_ref().map_or(Reply::NotFound, |told| Reply::Have {
            chunks,
            bits: told.have.to_wire().into(),
        });
        let answer = Saying {
            id,
            reply,
            opens: true,
        };
        self.say(answer).await;
        if let Some(told) = told {
            let _ = joined.send(match told.by_offers {
                true => Tells::Offers,
                false => Tells::All(manifest, Untold::new(told.have, live)),
            });
        }
        Ok(())
    }

    /// Waits until the writer takes it. When there is no writer any more, the stream has ended.
    async fn say(&self, saying: Saying) {
        let _ = self.say.send(saying).await;
    }
}

//! A session past its handshake: requests out, chunks and bitmaps in.

use std::{
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use casnode_dht::exchange::{
    ExchangeError, MAX_TOLD_BYTES, Reply, ReplyReceiver, Request, RequestSender,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    super::{assembler::Job, engine::EngineEvent},
    Command, Goal, Session, SessionEnd, TOLD,
    manners::Manners,
    news::News,
    pending::{Answered, Pending},
};
use crate::{budget::Held, clock, sched::Fault};

/// How often it is told that a chunk is on its way: more often than anything makes a peer late.
const SIGN_SPAN: Duration = Duration::from_secs(2);

/// A session past its handshake. Sending and receiving go on side by side.
pub(super) struct Link<'a> {
    pub(super) session: &'a Session,
    pub(super) goal: Goal,
    pub(super) pending: Mutex<Pending>,
}

impl Link<'_> {
    /// Runs until the engine lets the peer go, the stream ends, or the peer breaks the protocol. `heard` is what came in the
    /// handshake already.
    pub(super) async fn exchange(
        &self,
        sender: RequestSender,
        receiver: ReplyReceiver,
        commands: mpsc::Receiver<Command>,
        news: News,
        heard: Vec<(u32, Reply)>,
    ) -> Result<(), SessionEnd> {
        for (id, reply) in heard {
            self.answered(id, reply, None).await?;
        }
        tokio::select! {
            end = self.send_all(sender, commands, news) => end,
            end = self.receive_all(receiver) => end,
        }
    }

    async fn send_all(
        &self,
        mut sender: RequestSender,
        mut commands: mpsc::Receiver<Command>,
        mut news: News,
    ) -> Result<(), SessionEnd> {
        loop {
            let (id, request) = tokio::select! {
                command = commands.recv() => match command {
                    None => return Ok(()),
                    Some(command) => match self.request(command) {
                        None => continue,
                        Some(request) => request,
                    },
                },
                indices = news.next() => (TOLD, Request::Got { indices }),
            };
            sender.send(id, &request).await?;
        }
    }

    /// What a command makes this session send, with its id; nothing when it has no meaning any more.
    fn request(&self, command: Command) -> Option<(u32, Request)> {
        match command {
            Command::Request { index, chokes } => {
                let chunk = self.goal.manifest.chunks().get(index as usize)?;
                let id = self.lock().ask(index, chokes)?;
                let hash = *chunk.hash.as_bytes();
                Some((id, Request::Chunk { index, hash }))
            }
            Command::Cancel { index } => {
                let target = self.lock().cancel(index)?;
                Some((TOLD, Request::Cancel { target }))
            }
            Command::Interest(wants) => Some((TOLD, Request::Interest(wants))),
        }
    }

    async fn receive_all(&self, mut receiver: ReplyReceiver) -> Result<(), SessionEnd> {
        let mut manners = Manners::new(self.goal.manifest.chunk_count(), clock::now());
        loop {
            let Some(body_bytes) = receiver.begins().await? else {
                return Err(SessionEnd::Closed);
            };
            let held = self.room_for(body_bytes).await?;
            let Some((id, reply)) = self.whole(&mut receiver).await? else {
                return Err(SessionEnd::Closed);
            };
            if id == TOLD {
                self.told(reply, &mut manners).await?;
                continue;
            }
            self.answered(id, reply, held).await?;
        }
    }

    /// Waits for memory for what has begun to come; what is not read stays with the peer. News and small chunks wait for none.
    /// What is longer than anything that was asked for gets none: to begin it and send no more would keep it from others.
    async fn room_for(&self, body_bytes: usize) -> Result<Option<Held>, SessionEnd> {
        if body_bytes <= MAX_TOLD_BYTES {
            return Ok(None);
        }
        if body_bytes > self.lock().longest(|index| self.chunk_bytes(index)) {
            return Err(SessionEnd::Protocol("more bytes than were asked for"));
        }
        let mut held = pin!(self.goal.incoming.hold(body_bytes));
        loop {
            tokio::select! {
                held = &mut held => return Ok(held),
                () = sleep(SIGN_SPAN) => {
                    let peer = self.session.slot;
                    self.session.tell(EngineEvent::HeldUp { peer }).await;
                }
            }
        }
    }

    /// The reply that has begun to come. Of a slow one it is told that it goes on.
    async fn whole(
        &self,
        receiver: &mut ReplyReceiver,
    ) -> Result<Option<(u32, Reply)>, ExchangeError> {
        let mut before_bytes = 0;
        loop {
            if let Ok(reply) = timeout(SIGN_SPAN, receiver.next()).await {
                return reply;
            }
            let bytes = receiver.begun_bytes();
            if std::mem::replace(&mut before_bytes, bytes) < bytes {
                let peer = self.session.slot;
                self.session.tell(EngineEvent::Receiving { peer }).await;
            }
        }
    }

    fn chunk_bytes(&self, index: u32) -> usize {
        let chunk = self.goal.manifest.chunks().get(index as usize);
        chunk.map_or(0, |chunk| chunk.len_bytes as usize)
    }

    /// A reply to a request.
    async fn answered(&self, id: u32, reply: Reply, held: Option<Held>) -> Result<(), SessionEnd> {
        let answered = self.lock().answer(id);
        match answered {
            Answered::Wanted(index) => self.chunk_reply(index, reply, held).await,
            Answered::Cancelled(index) if matches!(reply, Reply::Chunk(_)) => {
                self.chunk_reply(index, reply, held).await
            }
            Answered::Cancelled(_) => Ok(()),
            Answered::Unknown => Err(SessionEnd::Protocol("a reply to what was not asked")),
        }
    }

    /// What the peer tells unasked.
    async fn told(&self, reply: Reply, manners: &mut Manners) -> Result<(), SessionEnd> {
        let peer = self.session.slot;
        let flood = Err(SessionEnd::Protocol("more unasked news than is of use"));
        let event = match reply {
            Reply::Got { indices } => {
                let count = self.goal.manifest.chunk_count();
                if indices.iter().any(|index| *index >= count) {
                    return Err(SessionEnd::Protocol("news of a chunk that there is not"));
                }
                if !manners.tells_chunks(indices.len()) {
                    return flood;
                }
                EngineEvent::Got { peer, indices }
            }
            Reply::Choke | Reply::Unchoke if !manners.changes_its_mind(clock::now()) => {
                return flood;
            }
            Reply::Choke if self.lock().choke() => EngineEvent::Choked { peer },
            Reply::Unchoke if self.lock().unchoke() => EngineEvent::Unchoked { peer },
            Reply::Choke | Reply::Unchoke => return Ok(()),
            Reply::Peers(_) if !manners.tells_peers(clock::now()) => return flood,
            Reply::Peers(listed) => EngineEvent::Told {
                peer,
                others: self.session.others(listed),
            },
            _ => return Err(SessionEnd::Protocol("a reply to what was not asked")),
        };
        self.session.tell(event).await;
        Ok(())
    }

    async fn chunk_reply(
        &self,
        index: u32,
        reply: Reply,
        held: Option<Held>,
    ) -> Result<(), SessionEnd> {
        let peer = self.session.slot;
        let expected = self.chunk_bytes(index);
        let failed = |fault| EngineEvent::Failed { peer, index, fault };
        match reply {
            Reply::Chunk(bytes) if bytes.len() == expected => {
                self.session
                    .tell(EngineEvent::Arrived { peer, index })
                    .await;
                let job = Job {
                    peer,
                    index,
                    bytes,
                    _held: held,
                };
                self.goal
                    .jobs
                    .send(job)
                    .await
                    .map_err(|_| SessionEnd::Released)?;
            }
            Reply::Chunk(_) => self.session.tell(failed(Fault::WrongBytes)).await,
            Reply::NotFound => self.session.tell(failed(Fault::NotFound)).await,
            Reply::Busy { .. } => self.session.tell(failed(Fault::Busy)).await,
            Reply::Choked => self.session.tell(failed(Fault::Choked)).await,
            _ => return Err(SessionEnd::Protocol("another reply than was asked for")),
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! A session past its handshake: requests out, chunks and bitmaps in.

use std::sync::{Mutex, PoisonError};

use casnode_dht::exchange::{Reply, ReplyReceiver, Request, RequestSender};
use tokio::sync::mpsc;

use super::{
    super::{assembler::Job, engine::EngineEvent},
    Command, Goal, Session, SessionEnd, TOLD,
    pending::{Answered, Pending},
};
use crate::sched::Fault;

/// A session past its handshake. Sending and receiving go on side by side.
pub(super) struct Link<'a> {
    pub(super) session: &'a Session,
    pub(super) goal: Goal,
    pub(super) pending: Mutex<Pending>,
}

impl Link<'_> {
    /// Runs until the engine lets the peer go, the stream ends, or the peer breaks the protocol.
    pub(super) async fn exchange(
        &self,
        sender: RequestSender,
        receiver: ReplyReceiver,
        commands: mpsc::Receiver<Command>,
    ) -> Result<(), SessionEnd> {
        tokio::select! {
            end = self.send_all(sender, commands) => end,
            end = self.receive_all(receiver) => end,
        }
    }

    async fn send_all(
        &self,
        mut sender: RequestSender,
        mut commands: mpsc::Receiver<Command>,
    ) -> Result<(), SessionEnd> {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Request { index } => {
                    let Some(chunk) = self.goal.manifest.chunks().get(index as usize) else {
                        continue;
                    };
                    let id = self.lock().ask(index);
                    let hash = *chunk.hash.as_bytes();
                    sender.send(id, &Request::Chunk { index, hash }).await?;
                }
                Command::Cancel { index } => {
                    let target = self.lock().cancel(index);
                    if let Some(target) = target {
                        sender.send(TOLD, &Request::Cancel { target }).await?;
                    }
                }
                Command::Interest(wants) => {
                    sender.send(TOLD, &Request::Interest(wants)).await?;
                }
            }
        }
        Ok(())
    }

    async fn receive_all(&self, mut receiver: ReplyReceiver) -> Result<(), SessionEnd> {
        loop {
            let Some((id, reply)) = receiver.next().await? else {
                return Err(SessionEnd::Closed);
            };
            if id == TOLD {
                self.told(reply).await?;
                continue;
            }
            let answered = self.lock().answer(id);
            match answered {
                Answered::Wanted(index) => self.chunk_reply(index, reply).await?,
                Answered::Cancelled(index) => {
                    if matches!(reply, Reply::Chunk(_)) {
                        self.chunk_reply(index, reply).await?;
                    }
                }
                Answered::Unknown => {
                    return Err(SessionEnd::Protocol("a reply to what was not asked"));
                }
            }
        }
    }

    /// What the peer tells unasked.
    async fn told(&self, reply: Reply) -> Result<(), SessionEnd> {
        let peer = self.session.slot;
        let event = match reply {
            Reply::Got { indices } => {
                let count = self.goal.manifest.chunk_count();
                if indices.iter().any(|index| *index >= count) {
                    return Err(SessionEnd::Protocol("news of a chunk that there is not"));
                }
                EngineEvent::Got { peer, indices }
            }
            Reply::Choke => EngineEvent::Choked { peer },
            Reply::Unchoke => EngineEvent::Unchoked { peer },
            Reply::Peers(_) => return Ok(()),
            _ => return Err(SessionEnd::Protocol("a reply to what was not asked")),
        };
        self.session.tell(event).await;
        Ok(())
    }

    async fn chunk_reply(&self, index: u32, reply: Reply) -> Result<(), SessionEnd> {
        let peer = self.session.slot;
        let expected = self
            .goal
            .manifest
            .chunks()
            .get(index as usize)
            .map_or(0, |c| c.len_bytes as usize);
        let failed = |fault| EngineEvent::Failed { peer, index, fault };
        match reply {
            Reply::Chunk(bytes) if bytes.len() == expected => {
                self.session
                    .tell(EngineEvent::Arrived { peer, index })
                    .await;
                let job = Job { peer, index, bytes };
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

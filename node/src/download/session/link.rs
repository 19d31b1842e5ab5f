//! A session past its handshake: requests out, chunks and bitmaps in.

use std::sync::{Mutex, PoisonError};

use casnode_cas::HaveBitmap;
use casnode_dht::exchange::{Reply, ReplyReceiver, Request, RequestSender};
use tokio::sync::mpsc;

use super::{
    super::{assembler::Job, engine::EngineEvent},
    Command, Goal, HAVE_ID, Session, SessionEnd, have_request, parse_have,
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
        have: HaveBitmap,
    ) -> Result<(), SessionEnd> {
        // At most one have request is out at a time.
        let (have_tx, have_rx) = mpsc::channel(1);
        if !have.is_complete() && self.session.claim.is_none() {
            let _ = have_tx.try_send(have.count());
        }
        tokio::select! {
            end = self.send_all(sender, commands, have_rx) => end,
            end = self.receive_all(receiver, have_tx) => end,
        }
    }

    async fn send_all(
        &self,
        mut sender: RequestSender,
        mut commands: mpsc::Receiver<Command>,
        mut have_rx: mpsc::Receiver<usize>,
    ) -> Result<(), SessionEnd> {
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    None => return Ok(()),
                    Some(Command::Request { index }) => {
                        let Some(chunk) = self.goal.manifest.chunks().get(index as usize) else { continue };
                        let id = self.lock().ask(index);
                        sender.send(id, &Request::Chunk { hash: *chunk.hash.as_bytes() }).await?;
                    }
                    Some(Command::Cancel { index }) => {
                        let target = self.lock().cancel(index);
                        if let Some(target) = target {
                            sender.send(0, &Request::Cancel { target }).await?;
                        }
                    }
                },
                Some(seen) = have_rx.recv() => {
                    sender.send(HAVE_ID, &have_request(&self.goal.manifest.id(), seen)).await?;
                }
            }
        }
    }

    async fn receive_all(
        &self,
        mut receiver: ReplyReceiver,
        have_tx: mpsc::Sender<usize>,
    ) -> Result<(), SessionEnd> {
        loop {
            let Some((id, reply)) = receiver.next().await? else {
                return Err(SessionEnd::Closed);
            };
            if id == HAVE_ID {
                self.have_reply(reply, &have_tx).await?;
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

    async fn have_reply(
        &self,
        reply: Reply,
        have_tx: &mpsc::Sender<usize>,
    ) -> Result<(), SessionEnd> {
        let Reply::Have { chunks, bits } = reply else {
            // The peer no longer has the file; chunks that are under way may still come.
            return Ok(());
        };
        let have = parse_have(&self.goal, chunks, &bits)?;
        if !have.is_complete() {
            let _ = have_tx.try_send(have.count());
        }
        self.session
            .tell(EngineEvent::Has {
                peer: self.session.slot,
                have,
            })
            .await;
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
            _ => return Err(SessionEnd::Protocol("another reply than was asked for")),
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

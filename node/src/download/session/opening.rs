//! How a session begins: its stream is opened, a manifest is agreed on, and the peer's swarm of it is joined.
//!
//! All that can be asked goes with the opening of the stream, for each question by itself would cost a round trip: a join where
//! there is a manifest, else a `Begin`, to which the peer answers with the manifest, what it has, and the first chunks.

use std::sync::{Arc, Mutex, atomic::Ordering};

use casnode_cas::{HaveBitmap, Manifest};
use casnode_dht::exchange::{ExchangeError, Reply, ReplyReceiver, Request, RequestSender};

use super::{
    Goal, JOIN_ID, OPEN_DEADLINE, Session, SessionEnd, chosen, early::Early, hear, link::Link,
    pending::Pending, send, turns::Turn,
};
use crate::download::engine::EngineEvent;

/// The id of a `Begin`; those of the join and of the chunks that it stands for follow.
pub(super) const BEGIN_ID: u32 = 0xa000_0000;

/// A stream whose peer has been joined.
pub(super) struct Opened<'a> {
    pub(super) sender: RequestSender,
    pub(super) receiver: ReplyReceiver,
    pub(super) link: Link<'a>,
    /// What the peer has.
    pub(super) have: HaveBitmap,
    /// How many chunks it has been told of.
    pub(super) told: usize,
    /// What came already of the chunks that went with the join.
    pub(super) heard: Vec<(u32, Reply)>,
}

/// What goes with the opening of a stream.
enum With {
    Nothing,
    Begin {
        /// Few manifests are fetched at a time.
        turn: Turn,
        early_bytes: u32,
    },
    Join(Box<Join>),
}

/// What a join says, and what goes with it.
struct Join {
    goal: Goal,
    mine: HaveBitmap,
    told: usize,
    pending: Pending,
    early: Early,
}

impl Join {
    fn new(goal: Goal) -> Self {
        let (mine, told) = goal.live.claim();
        let mut pending = Pending::default();
        let early = Early::of(&goal, &mine, &mut pending);
        Self {
            goal,
            mine,
            told,
            pending,
            early,
        }
    }

    /// What a `Begin` has said, once its manifest is known: nothing is here.
    fn begun(goal: Goal, early_bytes: u32) -> Self {
        let mut pending = Pending::default();
        let early = Early::begun(&goal, early_bytes, &mut pending);
        Self {
            mine: HaveBitmap::new(goal.manifest.chunks().len()),
            goal,
            told: 0,
            pending,
            early,
        }
    }

    fn requests(&self) -> Vec<(u32, Request)> {
        let join = Request::Join {
            manifest: *self.goal.manifest.id().as_bytes(),
            chunks: self.goal.manifest.chunk_count(),
            bits: self.mine.to_wire().into(),
        };
        let early = self.early.requests.iter().cloned();
        [(JOIN_ID, join)].into_iter().chain(early).collect()
    }
}

impl Session {
    /// Opens a stream and joins. `None`: nothing came of a `Begin`, and another stream is to be opened without one.
    pub(super) async fn open(&mut self, may_begin: bool) -> Result<Option<Opened<'_>>, SessionEnd> {
        let mut with = With::Nothing;
        let stream = self
            .dht
            .open_exchange_with(self.peer, &self.addrs, OPEN_DEADLINE, || {
                self.choose(&mut with, may_begin);
                self.requests(&with)
            });
        let (mut sender, mut receiver) = stream.await?;
        let (mut join, answered) = match with {
            With::Join(join) => (*join, JOIN_ID),
            With::Begin { turn, early_bytes } => {
                match self
                    .begun(turn, early_bytes, &mut sender, &mut receiver)
                    .await?
                {
                    None => return Ok(None),
                    Some(found) => found,
                }
            }
            With::Nothing => {
                let goal = self.agree_on_manifest(&mut sender, &mut receiver).await?;
                self.join(goal, &mut sender).await?
            }
        };
        let have = self
            .first_have(
                &join.goal,
                answered,
                &mut join.early,
                &mut sender,
                &mut receiver,
            )
            .await?;
        let link = Link {
            session: self,
            goal: join.goal,
            pending: Mutex::new(join.pending),
        };
        Ok(Some(Opened {
            sender,
            receiver,
            link,
            have,
            told: join.told,
            heard: join.early.heard,
        }))
    }

    /// Settles what goes with the opening, when the peer is connected: nobody who is dialled keeps others from their turn.
    fn choose(&self, with: &mut With, may_begin: bool) {
        let goal = self.goal.borrow().clone();
        match (goal, &with) {
            (Some(goal), _) => *with = With::Join(Box::new(Join::new(goal))),
            (None, With::Nothing) if may_begin => {
                if let Some(turn) = self.manifest_turns.try_take() {
                    let early_bytes = self.early_bytes.swap(0, Ordering::Relaxed);
                    *with = With::Begin { turn, early_bytes };
                }
            }
            _ => {}
        }
    }

    fn requests(&self, with: &With) -> Vec<(u32, Request)> {
        match with {
            With::Nothing => Vec::new(),
            With::Begin { early_bytes, .. } => {
                let begin = Request::Begin {
                    address: *self.address.as_bytes(),
                    early_bytes: *early_bytes,
                };
                vec![(BEGIN_ID, begin)]
            }
            With::Join(join) => join.requests(),
        }
    }

    /// Hears the first answer to a `Begin`; how the peer is joined, and the id of the answer to that.
    async fn begun(
        &mut self,
        turn: Turn,
        early_bytes: u32,
        sender: &mut RequestSender,
        receiver: &mut ReplyReceiver,
    ) -> Result<Option<(Join, u32)>, SessionEnd> {
        let fetch = async {
            let first = match hear(receiver, BEGIN_ID, &mut Early::default()).await {
                // Whoever does not know what a `Begin` is ends the stream.
                Err(SessionEnd::Closed | SessionEnd::Stream(ExchangeError::Io(_))) => {
                    return Ok(None);
                }
                first => first?,
            };
            let is_whole = matches!(&first, Reply::Manifest { total_bytes, bytes } if bytes.len() as u64 == *total_bytes);
            let fetched = self.fetch_manifest(sender, receiver, Some(first)).await;
            let offered = self.offer(fetched).await?;
            Ok::<_, SessionEnd>(Some((is_whole, offered)))
        };
        let Some((is_whole, offered)) = turn.during(fetch).await? else {
            return Ok(None);
        };
        let goal = chosen(&mut self.goal).await.ok_or(SessionEnd::Released)?;
        if !is_whole {
            return Ok(Some(self.join(goal, sender).await?));
        }
        // The peer takes this node for a member of its own manifest's swarm.
        let is_chosen = offered.is_some_and(|offered| offered.id() == goal.manifest.id());
        Ok(is_chosen.then(|| (Join::begun(goal, early_bytes), BEGIN_ID + 1)))
    }

    /// Tells the engine of a peer's manifest.
    pub(super) async fn offer(
        &self,
        fetched: Result<Arc<Manifest>, SessionEnd>,
    ) -> Result<Option<Arc<Manifest>>, SessionEnd> {
        match fetched {
            Ok(manifest) => {
                let offered = EngineEvent::ManifestOffered {
                    peer: self.slot,
                    manifest: manifest.clone(),
                };
                self.tell(offered).await;
                Ok(Some(manifest))
            }
            // It may still have the one chunk it was found for, once there is a manifest from someone else.
            Err(SessionEnd::NotHere) if self.claim.is_some() => Ok(None),
            Err(end) => Err(end),
        }
    }

    /// Joins on a stream that is open; the id of the answer, too.
    async fn join(
        &self,
        goal: Goal,
        sender: &mut RequestSender,
    ) -> Result<(Join, u32), SessionEnd> {
        let join = Join::new(goal);
        send(sender, &join.requests()).await?;
        Ok((join, JOIN_ID))
    }
}

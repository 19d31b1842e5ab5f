//! One peer's stream: a [`reader`] that takes requests, a [`writer`] that reads chunks ahead of the wire and sends
//! them, and beside them the [`news`]. They meet at the [`Desk`], where requests wait.

mod budget;
mod news;
mod reader;
mod untold;
mod writer;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use casnode_dht::{
    PeerId,
    exchange::{ExchangeError, Reply, ReplySender, RequestReceiver},
};
use tokio::sync::{mpsc, oneshot};

use self::{reader::Reader, writer::Writer};
use super::{Seeder, desk::Desk, places::Place};
use crate::swarm::{Line, Membership};

/// What is said besides chunks and waits for the wire: the reader of a peer that asks without taking waits with it.
const MAX_SAYINGS: usize = 4;

/// A reply may take this long, and a second more for each [`SLOWEST_BYTES_PER_S`] of it: whoever is slower is let go.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);

/// See [`WRITE_DEADLINE`]. A thin line that serves several peers is hardly faster.
const SLOWEST_BYTES_PER_S: u64 = 1024;

/// A stream that nobody has joined is closed when nothing is asked on it for this long.
const IDLE_DEADLINE: Duration = Duration::from_secs(120);

/// The same for one that has joined: whoever waits for its turn has nothing to ask, and waits for up to 30 minutes.
const JOINED_IDLE_DEADLINE: Duration = Duration::from_secs(2100);

/// Why a stream ended, if not because its peer closed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the stream broke: {0}")]
    Stream(#[from] ExchangeError),
    #[error("its peer broke the rules: {0}")]
    Breach(&'static str),
    #[error("nothing was asked for {} s", .0.as_secs())]
    Idle(Duration),
    #[error("its peer takes nothing")]
    Stuck,
}

/// Something to be said besides chunks.
#[derive(Debug)]
struct Saying {
    id: u32,
    reply: Reply,
    /// It answers the join: from then on the peer is told what it did not ask.
    opens: bool,
}

impl Saying {
    fn answer(id: u32, reply: Reply) -> Self {
        Self {
            id,
            reply,
            opens: false,
        }
    }

    /// What nobody asked.
    fn unasked(reply: Reply) -> Self {
        Self::answer(0, reply)
    }
}

/// What the parts of a stream share.
struct Stream {
    peer: PeerId,
    line: Arc<Line>,
    desk: Desk,
    /// Set by the join.
    member: OnceLock<Membership>,
}

/// Serves a stream to its end.
pub(super) async fn serve(
    seeder: &Arc<Seeder>,
    peer: PeerId,
    requests: RequestReceiver,
    replies: ReplySender,
    place: &Place,
) -> Result<(), End> {
    let stream = Stream {
        peer,
        line: place.line().clone(),
        desk: Desk::default(),
        member: OnceLock::new(),
    };
    let (say, sayings) = mpsc::channel(MAX_SAYINGS);
    let (joined, joins) = oneshot::channel();
    let reader = Reader::new(seeder, &stream, say.clone(), joined);
    let writer = Writer::new(seeder, &stream, replies, sayings, place);
    tokio::select! {
        end = reader.read(requests) => end,
        end = writer.write() => end,
        () = news::tell(seeder, &stream, joins, say) => Ok(()),
    }
}

//! What goes out on a stream: everything that is said, and chunks, a few of which are read ahead of the wire.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use casnode_cas::{Address, MAX_CHUNK_BYTES};
use casnode_dht::exchange::{FileReply, Reply, ReplySender};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    super::{Seeder, desk::What, places::Place},
    End, SLOWEST_BYTES_PER_S, Saying, Stream, WRITE_DEADLINE,
};
use crate::{budget::Held, clock, swarm::Counters};

/// Replies with many small files, of a stream, that are read ahead of the wire: one while another is sent.
const FILES_AHEAD: usize = 2;

/// Chunks that are read by one thread in one go: to wake it takes about as long as to read one that is in memory.
const READ_TOGETHER: usize = 4;

/// Requests that may be taken back after they were read for, besides two for each that was answered.
const MAX_READ_IN_VAIN: u64 = 128;

/// Sends what is said, and the chunks that were asked for.
pub(super) struct Writer<'a> {
    seeder: &'a Arc<Seeder>,
    stream: &'a Stream,
    replies: ReplySender,
    sayings: mpsc::Receiver<Saying>,
    place: &'a Place,
    /// Chunks being read, in the order of the requests.
    ahead: VecDeque<Ahead>,
    /// The largest reply with chunks or files that was sent; 0 before.
    largest_bytes: usize,
    /// Requests that were answered, and those that were read for and taken back.
    answered: u64,
    read_in_vain: u64,
    /// Whether the join has been answered.
    is_open: bool,
    /// Something was to be sent when this was last looked at.
    was_ready: bool,
    /// What the peer was told last.
    told_unchoked: bool,
}

/// A chunk, or a list of files, that is being read.
struct Ahead {
    id: u32,
    of: Of,
    read: oneshot::Receiver<Reply>,
    /// Memory for it until it is sent; the one that is sent next needs no leave.
    _held: Option<Held>,
}

/// What is being read.
enum Of {
    Chunk(u32),
    Files(Vec<Address>),
}

/// What comes next.
enum Next {
    Say(Saying),
    Chunk(Reply),
    /// Something changed: look again.
    Look,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        seeder: &'a Arc<Seeder>,
        stream: &'a Stream,
        replies: ReplySender,
        sayings: mpsc::Receiver<Saying>,
        place: &'a Place,
    ) -> Self {
        Self {
            seeder,
            stream,
            replies,
            sayings,
            place,
            ahead: VecDeque::new(),
            largest_bytes: 0,
            answered: 0,
            read_in_vain: 0,
            is_open: false,
            was_ready: false,
            told_unchoked: false,
        }
    }

    /// Until the other side takes nothing any more.
    pub(super) async fn write(mut self) -> Result<(), End> {
        loop {
            let unchoked = self.stream.line.is_unchoked();
            if self.is_open && unchoked != self.told_unchoked {
                self.told_unchoked = unchoked;
                let turn = if unchoked {
                    self.place.is_useful(clock::now());
                    Reply::Unchoke
                } else {
                    Reply::Choke
                };
                self.send(0, &turn).await?;
            }
            if unchoked {
                self.read_ahead();
            } else {
                self.give_back().await?;
            }
            match self.next().await {
                Next::Say(saying) => {
                    self.send(saying.id, &saying.reply).await?;
                    self.is_open |= saying.opens;
                }
                Next::Chunk(reply) => self.chunk(reply).await?,
                Next::Look => {}
            }
        }
    }

    /// Has the next chunks read, several in one go, once half of those ahead are sent. More are in memory when few peers are
    /// served: then one of them is to be fast.
    fn read_ahead(&mut self) {
        let depth = self.seeder.read_ahead();
        let most = match self.ahead.len() <= depth / 2 {
            true => depth,
            false => 0,
        };
        let mut together = Vec::new();
        while self.ahead.len() < most && !self.stream.desk.is_empty() {
            let held = match self.ahead.is_empty() {
                true => None,
                false => match self.seeder.ahead.try_hold(self.likely_bytes()) {
                    None => break,
                    held => held,
                },
            };
            let Some(asked) = self.stream.desk.take(self.files_ahead() < FILES_AHEAD) else {
                break;
            };
            let answers = &self.seeder.answers;
            let (tell, read) = oneshot::channel();
            let of = match asked.what {
                What::Chunk { index, hash } => {
                    together.push((hash, tell));
                    Of::Chunk(index)
                }
                What::Files(addresses) => {
                    answers.files(addresses.clone(), tell);
                    Of::Files(addresses)
                }
            };
            if together.len() == READ_TOGETHER {
                answers.chunks(std::mem::take(&mut together));
            }
            self.ahead.push_back(Ahead {
                id: asked.id,
                of,
                read,
                _held: held,
            });
        }
        if !together.is_empty() {
            self.seeder.answers.chunks(together);
        }
        let is_ready = !self.ahead.is_empty();
        if std::mem::replace(&mut self.was_ready, is_ready) != is_ready {
            let now = self.seeder.swarms.now();
            self.stream.line.is_ready(is_ready, now);
        }
    }

    fn files_ahead(&self) -> usize {
        let files = |ahead: &&Ahead| matches!(ahead.of, Of::Files(_));
        self.ahead.iter().filter(files).count()
    }

    /// How long a reply of this stream may be.
    fn likely_bytes(&self) -> usize {
        match self.largest_bytes {
            0 => MAX_CHUNK_BYTES as usize,
            known => known,
        }
    }

    /// The peer is choked: it hears so of everything that waits.
    async fn give_back(&mut self) -> Result<(), End> {
        self.ahead.clear();
        if std::mem::take(&mut self.was_ready) {
            self.stream.line.is_ready(false, self.seeder.swarms.now());
        }
        for id in self.stream.desk.clear() {
            self.send(id, &Reply::Choked).await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Next {
        let stream = self.stream;
        tokio::select! {
            biased;
            Some(saying) = self.sayings.recv() => Next::Say(saying),
            () = stream.line.turned.notified() => Next::Look,
            reply = first(&mut self.ahead) => Next::Chunk(reply),
            () = stream.desk.changed.notified() => Next::Look,
        }
    }

    /// The first of those ahead was read.
    async fn chunk(&mut self, reply: Reply) -> Result<(), End> {
        let Some(ahead) = self.ahead.pop_front() else {
            return Ok(());
        };
        if !self.stream.desk.begin(ahead.id) {
            return self.read_in_vain();
        }
        self.answered += 1;
        let (count, len_bytes) = match &reply {
            Reply::Chunk(bytes) => (1, bytes.len() as u64),
            Reply::Files(files) => whole(files),
            _ => return self.send(ahead.id, &reply).await,
        };
        let (swarms, line) = (&self.seeder.swarms, &self.stream.line);
        self.largest_bytes = self
            .largest_bytes
            .max(usize::try_from(len_bytes).unwrap_or(usize::MAX));
        line.begins(swarms.now());
        let patience = Duration::from_secs(len_bytes / SLOWEST_BYTES_PER_S);
        self.send_within(WRITE_DEADLINE + patience, ahead.id, &reply)
            .await?;
        line.sent(len_bytes, swarms.now());
        self.place.is_useful(clock::now());
        Counters::add(&swarms.counters().sent_chunks, count);
        Counters::add(&swarms.counters().sent_bytes, len_bytes);
        match (&ahead.of, &reply) {
            (Of::Files(addresses), Reply::Files(files)) => {
                self.seeder.answers.sent_files(addresses, files);
            }
            (Of::Chunk(index), _) => {
                if let Some(member) = self.stream.member.get() {
                    member.sent(*index);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What was read was taken back meanwhile. That is so now and then, and costs its peer next to nothing.
    fn read_in_vain(&mut self) -> Result<(), End> {
        self.read_in_vain += 1;
        match self.read_in_vain > MAX_READ_IN_VAIN + 2 * self.answered {
            true => Err(End::Breach("it takes back what was read for it")),
            false => Ok(()),
        }
    }

    async fn send(&mut self, id: u32, reply: &Reply) -> Result<(), End> {
        self.send_within(WRITE_DEADLINE, id, reply).await
    }

    async fn send_within(&mut self, patience: Duration, id: u32, reply: &Reply) -> Result<(), End> {
        match timeout(patience, self.replies.send(id, reply)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(End::Stuck),
        }
    }
}

/// Files that are sent, and their bytes.
fn whole(files: &[FileReply]) -> (u64, u64) {
    let sizes = files.iter().filter_map(|file| match file {
        FileReply::Whole(bytes) => Some(bytes.len() as u64),
        _ => None,
    });
    sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size))
}

/// The chunk that is to be sent first, once it was read. Without one, never.
async fn first(ahead: &mut VecDeque<Ahead>) -> Reply {
    match ahead.front_mut() {
        // A read that failed as a whole was no answer.
        Some(first) => (&mut first.read).await.unwrap_or(Reply::NotFound),
        None => std::future::pending().await,
    }
}

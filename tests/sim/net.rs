//! Lines and what travels on them.
//!
//! An uplink is a server: it sends slices of at most [`SLICE_BYTES`], round robin over the streams that have something
//! to send. A downlink is a queue. Between the two lies the latency of both ends, and now and then a lost segment that
//! holds its stream up. A stream has a window, as in TCP: what is full at the far end backs up to the sender, who
//! serves others meanwhile. Each slice costs a few steps, whatever the number of streams.

use std::collections::VecDeque;
use std::time::Duration;

use casnode_dht::lab::Bucket;
use casnode_node::lab::Mono;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::clock::Queue;
use super::world::{Event, NodeId, StreamId, Word};

/// What one stream sends before the next one has its turn.
const SLICE_BYTES: u32 = 256 << 10;

/// The least a stream may have on its way; more when the line is long and fast.
const MIN_WINDOW_BYTES: f64 = 1048576.0;
const MAX_WINDOW_BYTES: f64 = 16.0 * MIN_WINDOW_BYTES;

/// How long a lost segment holds its stream up: a retransmission by the timer.
const STALL: Duration = Duration::from_millis(250);

/// A node's line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub up_bytes_per_s: f64,
    /// Infinite: nothing ever waits.
    pub down_bytes_per_s: f64,
    /// From the node to the middle of the network.
    pub latency: Duration,
    /// Of the slices sent, the part that is held up by [`STALL`].
    pub loss: f64,
}

impl Line {
    /// A line of equal rates both ways.
    pub fn even(bytes_per_s: f64) -> Self {
        Self {
            up_bytes_per_s: bytes_per_s,
            down_bytes_per_s: bytes_per_s,
            latency: Duration::from_millis(10),
            loss: 0.0,
        }
    }
}

/// What is under way to the asker of a stream.
#[derive(Debug)]
pub enum Parcel {
    Piece { index: u32, bytes: u32, last: bool },
    Word(Word),
}

/// The sending half of a stream that carries chunks.
#[derive(Debug, Default)]
struct Flow {
    from: NodeId,
    to: NodeId,
    /// Chunks asked for, in order.
    queue: VecDeque<u32>,
    /// The chunk that is being written, and what of it is left.
    writing: Option<(u32, u32)>,
    on_way_bytes: u32,
    /// The next chunk may begin.
    open: bool,
    /// It is in its uplink's list.
    listed: bool,
    /// Slices of one stream stay in order.
    last_arrival: Mono,
}

/// The sending half of a line.
struct Up {
    ready: VecDeque<StreamId>,
    busy: bool,
    /// How long it has been sending, in all.
    busy_span: Duration,
    sent_bytes: u64,
    limit: Option<Bucket>,
}

/// A chunk has left its sender.
pub struct Written {
    pub stream: StreamId,
    pub index: u32,
}

/// All lines.
pub struct Net {
    lines: Vec<Line>,
    ups: Vec<Up>,
    down_free: Vec<Mono>,
    flows: Vec<Flow>,
    chunk_bytes: u32,
    rng: SmallRng,
}

impl Net {
    pub fn new(chunk_bytes: u32, seed: u64) -> Self {
        Self {
            lines: Vec::new(),
            ups: Vec::new(),
            down_free: Vec::new(),
            flows: Vec::new(),
            chunk_bytes,
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    /// Connects a node; nodes are numbered in the order of this.
    pub fn connect(&mut self, line: Line, limit: Option<Bucket>) {
        self.lines.push(line);
        self.down_free.push(Mono::default());
        self.ups.push(Up {
            ready: VecDeque::new(),
            busy: false,
            busy_span: Duration::ZERO,
            sent_bytes: 0,
            limit,
        });
    }

    /// Opens a stream; they are numbered in the order of this.
    pub fn open(&mut self, from: NodeId, to: NodeId) -> StreamId {
        self.flows.push(Flow {
            from,
            to,
            ..Flow::default()
        });
        self.flows.len() as StreamId - 1
    }

    pub fn latency(&self, a: NodeId, b: NodeId) -> Duration {
        self.lines[a as usize].latency + self.lines[b as usize].latency
    }

    pub fn line(&self, node: NodeId) -> &Line {
        &self.lines[node as usize]
    }

    pub fn sent_bytes(&self, node: NodeId) -> u64 {
        self.ups[node as usize].sent_bytes
    }

    pub fn busy_span(&self, node: NodeId) -> Duration {
        self.ups[node as usize].busy_span
    }

    pub fn is_writing(&self, stream: StreamId) -> bool {
        self.flows[stream as usize].writing.is_some()
    }

    pub fn ask(&mut self, queue: &mut Queue<Event>, stream: StreamId, index: u32) {
        self.flows[stream as usize].queue.push_back(index);
        self.list(stream);
        self.kick(queue, self.flows[stream as usize].from);
    }

    /// Takes a request back, unless it has begun.
    pub fn cancel(&mut self, stream: StreamId, index: u32) {
        self.flows[stream as usize].queue.retain(|i| *i != index);
    }

    /// Lets chunks of this stream begin.
    pub fn allow(&mut self, queue: &mut Queue<Event>, stream: StreamId) {
        self.flows[stream as usize].open = true;
        self.list(stream);
        self.kick(queue, self.flows[stream as usize].from);
    }

    /// Lets no further chunk begin, and returns what was waiting.
    pub fn forbid(&mut self, stream: StreamId) -> VecDeque<u32> {
        let flow = &mut self.flows[stream as usize];
        flow.open = false;
        std::mem::take(&mut flow.queue)
    }

    /// Ends a stream: what is being written is cut off.
    pub fn close(&mut self, stream: StreamId) {
        self.forbid(stream);
        self.flows[stream as usize].writing = None;
    }

    /// Sends a message that takes no room. It does not overtake what its stream has sent.
    pub fn tell(&mut self, queue: &mut Queue<Event>, stream: StreamId, word: Word) {
        self.send(queue, stream, Parcel::Word(word), Duration::ZERO);
    }

    /// A slice has left an uplink. Returns the chunk, if it was the last of one.
    pub fn slice_sent(
        &mut self,
        queue: &mut Queue<Event>,
        stream: StreamId,
        bytes: u32,
    ) -> Option<Written> {
        let flow = &mut self.flows[stream as usize];
        let node = flow.from;
        self.ups[node as usize].busy = false;
        let mut written = None;
        // A stream that was closed meanwhile sends nothing.
        if let Some((index, left_bytes)) = flow.writing {
            let last = left_bytes == bytes;
            flow.writing = (!last).then_some((index, left_bytes - bytes));
            flow.on_way_bytes += bytes;
            self.ups[node as usize].sent_bytes += u64::from(bytes);
            let lost = self.rng.random_bool(self.lines[node as usize].loss);
            let stall = if lost { STALL } else { Duration::ZERO };
            let piece = Parcel::Piece { index, bytes, last };
            self.send(queue, stream, piece, stall);
            written = last.then_some(Written { stream, index });
        }
        written
    }

    /// A parcel has reached the downlink; it waits there for its turn.
    pub fn arrived(&mut self, queue: &mut Queue<Event>, stream: StreamId, parcel: Parcel) {
        let to = self.flows[stream as usize].to as usize;
        let bytes = match &parcel {
            Parcel::Piece { bytes, .. } => f64::from(*bytes),
            Parcel::Word(_) => 0.0,
        };
        let span = Duration::from_secs_f64(bytes / self.lines[to].down_bytes_per_s);
        let done = self.down_free[to].max(queue.now()).plus(span);
        self.down_free[to] = done;
        queue.at(done, Event::Delivered { stream, parcel });
    }

    /// A slice was taken: its stream may send as much again.
    pub fn delivered(&mut self, queue: &mut Queue<Event>, stream: StreamId, bytes: u32) {
        let flow = &mut self.flows[stream as usize];
        flow.on_way_bytes = flow.on_way_bytes.saturating_sub(bytes);
        self.list(stream);
        self.kick(queue, self.flows[stream as usize].from);
    }

    /// Gives the uplink something to do, if it has nothing.
    pub fn kick(&mut self, queue: &mut Queue<Event>, node: NodeId) {
        while !self.ups[node as usize].busy {
            let Some(stream) = self.ups[node as usize].ready.pop_front() else {
                return;
            };
            self.flows[stream as usize].listed = false;
            if self.can_send(stream) {
                self.start(queue, node, stream);
                self.list(stream);
            }
        }
    }

    fn start(&mut self, queue: &mut Queue<Event>, node: NodeId, stream: StreamId) {
        let flow = &mut self.flows[stream as usize];
        if flow.writing.is_none() {
            let index = flow.queue.pop_front();
            flow.writing = index.map(|index| (index, self.chunk_bytes));
        }
        let Some((_, left_bytes)) = flow.writing else {
            return;
        };
        let bytes = left_bytes.min(SLICE_BYTES);
        let up = &mut self.ups[node as usize];
        let rate = self.lines[node as usize].up_bytes_per_s;
        let span = Duration::from_secs_f64(f64::from(bytes) / rate);
        let line_free = queue.now().plus(span);
        let allowed = up
            .limit
            .as_mut()
            .map(|bucket| bucket.reserve(queue.now().0, bytes.into()));
        let done = allowed.map_or(line_free, |at| line_free.max(Mono(at)));
        up.busy = true;
        up.busy_span += done.since(queue.now());
        queue.at(done, Event::SliceSent { stream, bytes });
    }

    fn can_send(&self, stream: StreamId) -> bool {
        let flow = &self.flows[stream as usize];
        let work = flow.writing.is_some() || (flow.open && !flow.queue.is_empty());
        work && flow.on_way_bytes < self.window_bytes(flow)
    }

    fn window_bytes(&self, flow: &Flow) -> u32 {
        let round_trip = 2.0 * self.latency(flow.from, flow.to).as_secs_f64();
        let rate = self.lines[flow.from as usize].up_bytes_per_s;
        (2.0 * rate * round_trip).clamp(MIN_WINDOW_BYTES, MAX_WINDOW_BYTES) as u32
    }

    fn list(&mut self, stream: StreamId) {
        let flow = &self.flows[stream as usize];
        if !flow.listed && self.can_send(stream) {
            let from = flow.from;
            self.flows[stream as usize].listed = true;
            self.ups[from as usize].ready.push_back(stream);
        }
    }

    fn send(
        &mut self,
        queue: &mut Queue<Event>,
        stream: StreamId,
        parcel: Parcel,
        stall: Duration,
    ) {
        let flow = &self.flows[stream as usize];
        let span = self.latency(flow.from, flow.to) + stall;
        let at = queue.now().plus(span).max(flow.last_arrival);
        self.flows[stream as usize].last_arrival = at;
        queue.at(at, Event::Arrived { stream, parcel });
    }
}

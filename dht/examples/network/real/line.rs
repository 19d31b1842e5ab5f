//! A line between two nodes: bytes arrive in order, after the latency of the line.
//!
//! The writer stamps what it sends with the time of its arrival, and the reader holds it until then. A
//! lost segment is sent again after a while and delays everything behind it, as TCP does it.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::io::{AsyncRead, AsyncWrite};
use rand::Rng;
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes under way in one direction: what TCP's window allows.
const WINDOW_BYTES: usize = 4 << 20;
/// A segment on an Ethernet.
const SEGMENT_BYTES: usize = 1_460;
/// Headers of IP and TCP and of a TLS record, which every segment has beside its bytes.
const SEGMENT_OVERHEAD: u64 = 40 + 22;

/// What lines are like.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// Round trip time.
    pub rtt: Duration,
    /// Share of segments that are lost and sent again.
    pub loss: f64,
    /// How long until a lost segment is sent again.
    pub retransmission: Duration,
    /// Round trips until a connection can be used by who opened it.
    pub handshake_rtts: u32,
}

/// What one node has sent and received.
#[derive(Debug, Default)]
pub struct Traffic {
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    segments: AtomicU64,
    dials: AtomicU64,
    open: AtomicU64,
}

/// Totals of [`Traffic`] at some moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub segments: u64,
    pub dials: u64,
    pub open: u64,
}

impl Traffic {
    pub fn sums(&self) -> Sums {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Sums {
            sent_bytes: get(&self.sent_bytes),
            received_bytes: get(&self.received_bytes),
            segments: get(&self.segments),
            dials: get(&self.dials),
            open: get(&self.open),
        }
    }

    pub fn dialled(&self) {
        self.dials.fetch_add(1, Ordering::Relaxed);
    }
}

impl Sums {
    pub fn add(&mut self, other: Self) {
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.segments += other.segments;
        self.dials += other.dials;
        self.open += other.open;
    }

    /// What was added since `before`; `open` is what is open now.
    pub fn since(self, before: Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes.saturating_sub(before.sent_bytes),
            received_bytes: self.received_bytes.saturating_sub(before.received_bytes),
            segments: self.segments.saturating_sub(before.segments),
            dials: self.dials.saturating_sub(before.dials),
            open: self.open,
        }
    }

    /// Bytes sent with the headers they would have on a wire.
    pub fn wire_bytes(&self) -> u64 {
        self.sent_bytes + self.segments * SEGMENT_OVERHEAD
    }
}

#[derive(Default)]
struct Pipe {
    segments: VecDeque<(Instant, Vec<u8>)>,
    /// How much of the first segment has been read.
    read: usize,
    bytes: usize,
    last: Option<Instant>,
    closed: Option<Instant>,
    abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

type Shared = Arc<Mutex<Pipe>>;

fn lock(pipe: &Shared) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One end of a line.
pub struct End {
    quality: Quality,
    traffic: Arc<Traffic>,
    incoming: Shared,
    outgoing: Shared,
    wait: Option<Pin<Box<Sleep>>>,
}

/// Both ends of a new line.
pub fn line(quality: Quality, dialler: Arc<Traffic>, listener: Arc<Traffic>) -> (End, End) {
    let (there, back) = (Shared::default(), Shared::default());
    let end = |traffic: Arc<Traffic>, incoming: &Shared, outgoing: &Shared| {
        traffic.open.fetch_add(1, Ordering::Relaxed);
        End {
            quality,
            traffic,
            incoming: incoming.clone(),
            outgoing: outgoing.clone(),
            wait: None,
        }
    };
    (end(dialler, &back, &there), end(listener, &there, &back))
}

impl End {
    fn wait_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let wait = self.wait.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if wait.deadline() != at {
            wait.as_mut().reset(at);
        }
        wait.as_mut().poll(cx)
    }

    fn arrival(&self, after: Option<Instant>) -> Instant {
        let lost = self.quality.loss > 0.0 && rand::rng().random_bool(self.quality.loss);
        let mut at = Instant::now() + self.quality.rtt / 2;
        if lost {
            at += self.quality.retransmission;
        }
        after.map_or(at, |after| after.max(at))
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let incoming = self.incoming.clone();
        loop {
            let at = {
                let mut pipe = lock(&incoming);
                match (pipe.segments.front().map(|(at, _)| *at), pipe.closed) {
                    (Some(at), _) | (None, Some(at)) => at,
                    (None, None) => {
                        pipe.reader = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                }
            };
            // Without latency nothing waits for the timer's next millisecond.
            if at > Instant::now() && self.wait_until(at, cx).is_pending() {
                return Poll::Pending;
            }
            let mut pipe = lock(&incoming);
            let mut copied = 0;
            let now = Instant::now();
            while copied < buffer.len()
                && let Some((at, segment)) = pipe.segments.front()
                && *at <= now
            {
                let rest = &segment[pipe.read..];
                let count = rest.len().min(buffer.len() - copied);
                buffer[copied..copied + count].copy_from_slice(&rest[..count]);
                copied += count;
                if count == rest.len() {
                    pipe.segments.pop_front();
                    pipe.read = 0;
                } else {
                    pipe.read += count;
                }
            }
            if copied == 0 && !pipe.segments.is_empty() {
                continue;
            }
            pipe.bytes -= copied;
            if let Some(writer) = pipe.writer.take() {
                writer.wake();
            }
            self.traffic
                .received_bytes
                .fetch_add(copied as u64, Ordering::Relaxed);
            return Poll::Ready(Ok(copied));
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = lock(&self.outgoing);
        if pipe.abandoned || pipe.closed.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WINDOW_BYTES.saturating_sub(pipe.bytes);
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = bytes.len().min(room);
        let at = self.arrival(pipe.last);
        pipe.last = Some(at);
        pipe.bytes += count;
        pipe.segments.push_back((at, bytes[..count].to_vec()));
        let traffic = &self.traffic;
        traffic
            .sent_bytes
            .fetch_add(count as u64, Ordering::Relaxed);
        let segments = count.div_ceil(SEGMENT_BYTES) as u64;
        traffic.segments.fetch_add(segments, Ordering::Relaxed);
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        close(&self.outgoing, self.quality.rtt / 2);
        Poll::Ready(Ok(()))
    }
}

fn close(pipe: &Shared, latency: Duration) {
    let mut pipe = lock(pipe);
    if pipe.closed.is_none() {
        let at = Instant::now() + latency;
        pipe.closed = Some(pipe.last.map_or(at, |last| last.max(at)));
    }
    if let Some(reader) = pipe.reader.take() {
        reader.wake();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.traffic.open.fetch_sub(1, Ordering::Relaxed);
        close(&self.outgoing, self.quality.rtt / 2);
        let mut incoming = lock(&self.incoming);
        incoming.abandoned = true;
        if let Some(writer) = incoming.writer.take() {
            writer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::io::{AsyncReadExt, AsyncWriteExt};

    fn quality(loss: f64) -> Quality {
        Quality {
            rtt: Duration::from_millis(40),
            loss,
            retransmission: Duration::from_millis(200),
            handshake_rtts: 2,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_arrive_in_order_after_the_latency_and_are_counted() {
        let (one, other) = (Arc::<Traffic>::default(), Arc::<Traffic>::default());
        let (mut here, mut there) = line(quality(0.0), one.clone(), other.clone());
        let began = Instant::now();
        let sent: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
        here.write_all(&sent[..3000]).await.unwrap();
        here.write_all(&sent[3000..]).await.unwrap();
        let mut got = vec![0; 5000];
        there.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent);
        assert_eq!(began.elapsed().as_millis(), 20);
        let (one, other) = (one.sums(), other.sums());
        assert_eq!((one.sent_bytes, one.segments, one.open), (5000, 5, 1));
        assert_eq!(other.received_bytes, 5000);
        assert_eq!(one.wire_bytes(), 5000 + 5 * 62);
        drop(here);
        assert_eq!(
            there.read(&mut got).await.unwrap(),
            0,
            "the end, in its turn"
        );
        assert_eq!(began.elapsed().as_millis(), 40);
        assert!(there.write(&sent).await.is_err(), "nobody is there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_segment_delays_what_is_behind_it() {
        let (mut here, mut there) = line(quality(1.0), Arc::default(), Arc::default());
        let began = Instant::now();
        here.write_all(&[1]).await.unwrap();
        here.quality.loss = 0.0;
        here.write_all(&[2]).await.unwrap();
        let mut got = [0; 2];
        there.read_exact(&mut got).await.unwrap();
        assert_eq!((got, began.elapsed().as_millis()), ([1, 2], 220));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_window_holds_the_writer_until_the_reader_has_read() {
        let (mut here, mut there) = line(quality(0.0), Arc::default(), Arc::default());
        let bytes = vec![7; WINDOW_BYTES + 1];
        let writing = async { here.write_all(&bytes).await.unwrap() };
        let reading = async {
            let mut got = vec![0; WINDOW_BYTES + 1];
            there.read_exact(&mut got).await.unwrap();
        };
        let began = Instant::now();
        tokio::join!(writing, reading);
        assert_eq!(began.elapsed().as_millis(), 40, "two times one way");
    }
}

//! Streams at their limits, in virtual time.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, FutureExt, io};
use tokio::time::{Instant, sleep, timeout};

use super::stream::Substream;
use super::{Bandwidth, Counts, Line, Link};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn limits(up: u64, down: u64) -> Bandwidth {
    Bandwidth {
        up_bytes_per_s: NonZeroU64::new(up),
        down_bytes_per_s: NonZeroU64::new(down),
        exempt_local: false,
    }
}

fn set(line: &Line, bandwidth: Bandwidth) {
    line.change(|_| bandwidth);
}

fn stream_at<S>(line: &Arc<Line>, inner: S, is_local: bool) -> Substream<S> {
    let link = Link {
        line: line.clone(),
        counts: Arc::new(Counts::default()),
        is_local,
    };
    Substream::new(inner, Arc::new(link), None)
}

fn stream<S>(line: &Arc<Line>, inner: S) -> Substream<S> {
    stream_at(line, inner, false)
}

/// Sends without end.
fn shout(line: &Arc<Line>) -> tokio::task::JoinHandle<()> {
    let mut stream = stream(line, io::sink());
    tokio::spawn(async move {
        loop {
            stream.write_all(&[7; 64 << 10]).await.unwrap();
        }
    })
}

/// Within 1 %, and never more than the burst above.
fn assert_rate(bytes: u64, per_s: u64, secs: u64) {
    let due = per_s * secs;
    assert!(bytes <= due + per_s / 4, "{bytes} of {due}");
    assert!(
        bytes >= due - due / 100 - 5 * (per_s / 50).max(4096),
        "{bytes} of {due}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_all_goes_at_once_and_is_counted() {
    let line = Line::new(limits(0, 0));
    let (began, mut stream) = (Instant::now(), stream(&line, io::sink()));
    stream.write_all(&vec![0; 10 << 20]).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(line.traffic().up_bytes, 10 << 20);
    assert_eq!(line.traffic().down_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn streams_share_the_limit_and_a_change_acts_at_once() {
    let line = Line::new(limits(MIB, 0));
    for _ in 0..5 {
        shout(&line);
    }
    let mut before = 0;
    for per_s in [MIB, 10 * MIB, 300 * KIB, 50 * KIB, MIB] {
        set(&line, limits(per_s, 0));
        sleep(Duration::from_secs(30)).await;
        let sent = line.traffic().up_bytes;
        assert_rate(sent - before, per_s, 30);
        before = sent;
    }
}

#[tokio::test(start_paused = true)]
async fn no_stream_gets_more_than_another() {
    let line = Line::new(limits(MIB, 0));
    let mut counts = Vec::new();
    for piece_bytes in [2_100, 5_000, 64 << 10] {
        let mut stream = stream(&line, io::sink());
        let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        counts.push(sent.clone());
        tokio::spawn(async move {
            loop {
                let wrote = stream.write(&vec![0; piece_bytes]).await.unwrap();
                sent.fetch_add(wrote, std::sync::atomic::Ordering::Relaxed);
                // Whoever comes for more has to wait behind the others.
                tokio::task::yield_now().await;
            }
        });
    }
    sleep(Duration::from_secs(60)).await;
    let sent = counts
        .iter()
        .map(|sent| sent.load(std::sync::atomic::Ordering::Relaxed));
    let sent: Vec<_> = sent.collect();
    // A turn is of at most 20 ms of the rate: small pieces get as many turns as large ones.
    assert!(
        sent[2] / sent[0] <= 10 && sent[2] / sent[1] <= 5,
        "{sent:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_of_the_limit_wakes_all_who_wait() {
    let line = Line::new(limits(100 * KIB, 100 * KIB));
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut out = stream(&line, io::sink());
        waiting.push(tokio::spawn(async move {
            out.write_all(&[0; 1 << 20]).await.unwrap();
        }));
        let mut inward = stream(&line, io::repeat(1));
        waiting.push(tokio::spawn(async move {
            inward.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
        }));
    }
    sleep(Duration::from_secs(1)).await;
    assert!(waiting.iter().all(|task| !task.is_finished()));
    let raised = Instant::now();
    set(&line, limits(0, 0));
    for task in waiting {
        task.await.unwrap();
    }
    assert_eq!(raised.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_cut_does_not_let_those_who_wait_send_what_they_had_reserved() {
    let line = Line::new(limits(100 * MIB, 0));
    for _ in 0..20 {
        shout(&line);
    }
    sleep(Duration::from_secs(5)).await;
    let before = line.traffic().up_bytes;
    set(&line, limits(100 * KIB, 0));
    sleep(Duration::from_secs(10)).await;
    let sent = line.traffic().up_bytes - before;
    // One piece each may have had its turn already.
    assert!(sent <= 1_000 * KIB + 25 * KIB + 20 * 64 * KIB, "{sent}");
    let before = line.traffic().up_bytes;
    sleep(Duration::from_secs(10)).await;
    assert_rate(line.traffic().up_bytes - before, 100 * KIB, 10);
}

#[tokio::test(start_paused = true)]
async fn few_bytes_never_wait_but_count() {
    let line = Line::new(limits(64 * KIB, 64 * KIB));
    for _ in 0..8 {
        shout(&line);
    }
    sleep(Duration::from_secs(1)).await;
    let (began, before) = (Instant::now(), line.traffic().up_bytes);
    let mut questions = 0;
    while began.elapsed() < Duration::from_secs(10) {
        let mut question = stream(&line, io::repeat(1));
        let asked = Instant::now();
        question.read_exact(&mut [0; 2 << 10]).await.unwrap();
        let mut question = stream(&line, io::sink());
        question.write_all(&[0; 1500]).await.unwrap();
        question.write_all(&[0; 500]).await.unwrap();
        assert_eq!(asked.elapsed(), Duration::ZERO);
        questions += 1;
        sleep(Duration::from_millis(100)).await;
    }
    assert!(questions >= 99);
    assert_rate(line.traffic().up_bytes - before, 64 * KIB, 10);
}

#[tokio::test(start_paused = true)]
async fn many_small_pieces_of_one_stream_keep_to_the_limit() {
    let line = Line::new(limits(100 * KIB, 100 * KIB));
    let mut out = stream(&line, io::sink());
    let sending = async move {
        loop {
            out.write_all(&[0; 100]).await.unwrap();
        }
    };
    let mut inward = stream(&line, io::repeat(1));
    let taking = async move {
        loop {
            // As QUIC brings them when the reader is quicker than the line.
            inward.read_exact(&mut [0; 1200]).await.unwrap();
        }
    };
    let both = async { tokio::join!(sending, taking) };
    assert!(timeout(Duration::from_secs(20), both).await.is_err());
    let traffic = line.traffic();
    assert_rate(traffic.up_bytes, 100 * KIB, 20);
    assert_rate(traffic.down_bytes, 100 * KIB, 20);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_goes_while_it_waits_leaves_its_turn_to_others() {
    let line = Line::new(limits(100 * KIB, 0));
    let piece = [0; 4096];
    let mut all: Vec<_> = (0..100).map(|_| stream(&line, io::sink())).collect();
    for waiting in &mut all {
        assert!(
            waiting.write(&piece).now_or_never().is_none(),
            "no turn yet"
        );
    }
    drop(all);
    let (began, mut last) = (Instant::now(), stream(&line, io::sink()));
    last.write_all(&piece).await.unwrap();
    // Of its own 40 ms; a hundred others would have taken four seconds.
    assert!(
        began.elapsed() <= Duration::from_millis(42),
        "{:?}",
        began.elapsed()
    );
}

/// Takes nothing until it is told to.
struct Shut(Arc<std::sync::atomic::AtomicBool>);

impl AsyncWrite for Shut {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.0.load(std::sync::atomic::Ordering::Relaxed) {
            true => Poll::Ready(Ok(bytes.len())),
            false => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_the_other_side_does_not_take_is_kept() {
    let open = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let line = Line::new(limits(100 * KIB, 0));
    let mut slow = stream(&line, Shut(open.clone()));
    assert!(slow.write(&[0; 4096]).now_or_never().is_none());
    sleep(Duration::from_secs(1)).await;
    assert!(
        slow.write(&[0; 4096]).now_or_never().is_none(),
        "it is shut"
    );
    // Others have taken the line meanwhile.
    shout(&line);
    sleep(Duration::from_secs(1)).await;
    open.store(true, std::sync::atomic::Ordering::Relaxed);
    let wrote = slow.write(&[0; 100 << 10]).now_or_never();
    assert_eq!(wrote.unwrap().unwrap(), 4096, "that much has waited");
    assert!(slow.write(&[0; 4096]).now_or_never().is_none());
}

/// Takes few bytes at a time.
struct Narrow(usize);

impl AsyncWrite for Narrow {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len().min(self.0)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_in_parts_is_paid_for_once() {
    let line = Line::new(limits(100 * KIB, 0));
    let mut out = stream(&line, Narrow(700));
    let sending = async {
        loop {
            out.write_all(&[0; 64 << 10]).await.unwrap();
        }
    };
    assert!(timeout(Duration::from_secs(20), sending).await.is_err());
    assert_rate(line.traffic().up_bytes, 100 * KIB, 20);
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_for_a_flush_or_an_end() {
    let line = Line::new(limits(KIB, 0));
    let mut stream = stream(&line, io::sink());
    assert!(stream.write(&[0; 8192]).now_or_never().is_none());
    stream.flush().now_or_never().unwrap().unwrap();
    stream.close().now_or_never().unwrap().unwrap();
    assert_eq!(line.traffic().up_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn pieces_written_together_are_limited_too() {
    let line = Line::new(limits(100 * KIB, 0));
    let mut out = stream(&line, io::sink());
    let sending = async {
        loop {
            let parts = [&[][..], &[0; 3000], &[0; 9000]].map(io::IoSlice::new);
            assert!(out.write_vectored(&parts).await.unwrap() > 0);
        }
    };
    assert!(timeout(Duration::from_secs(20), sending).await.is_err());
    assert_rate(line.traffic().up_bytes, 100 * KIB, 20);
    set(&line, limits(0, 0));
    let parts = [&[0; 3000][..], &[0; 9000]].map(io::IoSlice::new);
    assert_eq!(out.write_vectored(&parts).await.unwrap(), 12_000);
}

#[tokio::test(start_paused = true)]
async fn the_local_network_is_held_back_only_if_it_is_not_exempt() {
    let line = Line::new(limits(10 * KIB, 10 * KIB));
    let mut near = stream_at(&line, io::sink(), true);
    let began = Instant::now();
    let waiting = tokio::spawn(async move {
        near.write_all(&[0; 1 << 20]).await.unwrap();
        near
    });
    sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    line.change(|before| Bandwidth {
        exempt_local: true,
        ..before
    });
    let mut near = waiting.await.unwrap();
    assert_eq!(
        began.elapsed(),
        Duration::from_secs(1),
        "it is woken at once"
    );
    near.write_all(&[0; 1 << 20]).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    assert_eq!(line.traffic().up_bytes, 2 << 20, "counted all the same");
    let mut far = stream(&line, io::repeat(1));
    far.read_exact(&mut [0; 40 << 10]).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(4));
}

/// Counts how often it is asked.
struct Asked<'a>(&'a mut usize);

impl AsyncRead for Asked<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        *self.0 += 1;
        Poll::Ready(Ok(bytes.len()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_takes_nothing_and_does_not_spin() {
    let mut asked = 0;
    let line = Line::new(limits(0, 100 * KIB));
    let mut inward = stream(&line, Asked(&mut asked));
    inward.read_exact(&mut vec![0; 100 << 10]).await.unwrap();
    drop(inward);
    // 2 KiB that do not wait, and pieces of 4 KiB.
    assert_eq!(asked, 26);
}

/// Has this much for its reader, again and again, and nothing in between.
struct Drips(usize);

impl AsyncRead for Drips {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = std::mem::take(&mut self.0).min(bytes.len());
        if read > 0 {
            return Poll::Ready(Ok(read));
        }
        self.0 = 100;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_for_which_nothing_came_is_there_for_others() {
    let line = Line::new(limits(0, 100 * KIB));
    let mut all: Vec<_> = (0..50).map(|_| stream(&line, Drips(0))).collect();
    let reading = async {
        loop {
            for inward in &mut all {
                inward.read_exact(&mut [0; 100]).await.unwrap();
            }
        }
    };
    assert!(timeout(Duration::from_secs(20), reading).await.is_err());
    assert_rate(line.traffic().down_bytes, 100 * KIB, 20);
}

#[tokio::test(start_paused = true)]
async fn small_streams_of_a_stranger_do_not_stop_everything_for_long() {
    // A peer asks small questions on new streams at ten times the limit for 30 s, and goes.
    let line = Line::new(limits(100 * KIB, 0));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        let mut answer = stream(&line, io::sink());
        answer.write_all(&[0; 2048]).await.unwrap();
        sleep(Duration::from_millis(2)).await;
    }
    assert!(line.traffic().up_bytes <= 31 * 100 * KIB);
    let (began, mut bulk) = (Instant::now(), stream(&line, io::sink()));
    bulk.write_all(&[0; 4096]).await.unwrap();
    // What is owed, and its own turn.
    assert!(
        began.elapsed() <= Duration::from_millis(1_050),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn limits_that_are_said_again_do_not_stop_the_line() {
    let line = Line::new(limits(100 * KIB, 0));
    for _ in 0..20 {
        shout(&line);
    }
    sleep(Duration::from_secs(5)).await;
    let before = line.traffic().up_bytes;
    for secs in 1..=30 {
        // The same limit; the down limit alone changes.
        set(&line, limits(100 * KIB, secs * MIB));
        sleep(Duration::from_secs(1)).await;
    }
    assert_rate(line.traffic().up_bytes - before, 100 * KIB, 30);
}

#[tokio::test(start_paused = true)]
async fn limits_that_change_again_and_again_do_not_stop_the_line() {
    let line = Line::new(limits(100 * KIB, 0));
    for _ in 0..20 {
        shout(&line);
    }
    sleep(Duration::from_secs(5)).await;
    let before = line.traffic().up_bytes;
    for round in 0..60 {
        set(&line, limits(100 * KIB + round % 2, 0));
        sleep(Duration::from_millis(500)).await;
    }
    assert_rate(line.traffic().up_bytes - before, 100 * KIB, 30);
}

#[tokio::test(start_paused = true)]
async fn many_readers_are_never_more_than_a_second_ahead() {
    for (per_s, streams) in [(64 * KIB, 32), (10 * MIB, 96)] {
        let line = Line::new(limits(0, per_s));
        for _ in 0..streams {
            let mut inward = stream(&line, io::repeat(1));
            tokio::spawn(async move {
                let mut bytes = vec![0; 256 << 10];
                loop {
                    inward.read_exact(&mut bytes).await.unwrap();
                }
            });
        }
        let began = Instant::now();
        for _ in 0..300 {
            sleep(Duration::from_millis(100)).await;
            let took = line.traffic().down_bytes as f64;
            let due = per_s as f64 * began.elapsed().as_secs_f64();
            assert!(took <= due + per_s as f64, "{took} where {due} may come");
        }
        let took = line.traffic().down_bytes;
        assert!(took >= 29 * per_s, "{took}");
    }
}

#[test]
fn of_two_changes_at_once_none_is_lost() {
    let line = Line::new(limits(MIB, MIB));
    let more = |rate: Option<NonZeroU64>| rate.and_then(|rate| rate.checked_add(1));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..1000 {
                line.change(|before| Bandwidth {
                    up_bytes_per_s: more(before.up_bytes_per_s),
                    ..before
                });
            }
        });
        for _ in 0..1000 {
            line.change(|before| Bandwidth {
                down_bytes_per_s: more(before.down_bytes_per_s),
                ..before
            });
        }
    });
    assert_eq!(line.bandwidth(), limits(MIB + 1000, MIB + 1000));
}

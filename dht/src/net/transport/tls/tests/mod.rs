//! Records against whoever changes them on their way, and what a connection holds.

mod shaking;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use proptest::prelude::*;
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::{ConnectionTrafficSecrets, Error};

use super::record::{MAX_CONTENT_BYTES, Sealed};
use super::*;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 % 251) as u8).collect()
}

/// Of either side, a chain of keys that both know.
struct Chain(u8);

impl Chain {
    fn key(&self) -> (u64, ConnectionTrafficSecrets) {
        let key = AeadKey::from([self.0; 32]);
        let iv = Iv::from([self.0; 12]);
        (0, ConnectionTrafficSecrets::Aes256Gcm { key, iv })
    }
}

impl Renew for Chain {
    fn sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.0 += 1;
        Ok(self.key())
    }

    fn receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.sending()
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is there to be read, `at_once` bytes at a time, and what was written.
#[derive(Default)]
struct Noted {
    there: Vec<u8>,
    at_once: usize,
    reads: usize,
    writes: Vec<Vec<u8>>,
    /// The other side is there and sends no more.
    waits: bool,
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.reads += 1;
        let read = bytes.len().min(self.there.len()).min(self.at_once);
        if read == 0 && self.waits {
            return Poll::Pending;
        }
        bytes[..read].copy_from_slice(&self.there[..read]);
        self.there.drain(..read);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = bytes.len().min(self.at_once);
        self.writes.push(bytes[..written].to_vec());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A side whose peer sends `there`, and takes and sends `at_once` bytes at a time.
fn side(there: Vec<u8>, at_once: usize) -> Tls<Noted> {
    let socket = Noted {
        there,
        at_once,
        ..Noted::default()
    };
    Tls {
        socket,
        receiving: Receiving::new(Key::new(Chain(1).key()).unwrap(), &[]),
        sending: Sending::new(Key::new(Chain(1).key()).unwrap()),
        renew: Box::new(Chain(1)),
        came_bytes: 0,
        cork: Arc::default(),
    }
}

/// What leaves when these are written, each with a flush if its length is even, and then all is closed.
fn sealed(writes: &[Vec<u8>], at_once: usize) -> Vec<u8> {
    futures::executor::block_on(async {
        let mut side = side(Vec::new(), at_once);
        for write in writes {
            side.write_all(write).await.unwrap();
            if write.len() % 2 == 0 {
                side.flush().await.unwrap();
            }
        }
        side.close().await.unwrap();
        assert!(side.sending.is_at_rest());
        side.socket.writes.concat()
    })
}

/// What is read of that, `read_bytes` at a time, and how it ends.
fn opened(there: Vec<u8>, at_once: usize, read_bytes: usize) -> (Vec<u8>, io::Result<()>) {
    futures::executor::block_on(async {
        let mut side = side(there, at_once);
        let (mut all, mut some) = (Vec::new(), vec![0; read_bytes]);
        loop {
            match side.read(&mut some).await {
                Ok(0) => return (all, Ok(())),
                Ok(read) => all.extend_from_slice(&some[..read]),
                Err(error) => return (all, Err(error)),
            }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        lens in proptest::collection::vec(prop_oneof![0..40usize, 1000..1050usize, 0..70_000usize], 0..8),
        (sends, gets) in (1..200_000usize, 1..200_000usize),
        reads in prop_oneof![1..40usize, 16_000..17_000usize, 1..300_000usize],
    ) {
        let writes: Vec<_> = lens.iter().map(|len| bytes(*len)).collect();
        let (all, end) = opened(sealed(&writes, sends.max(100)), gets.max(100), reads);
        prop_assert!(all == writes.concat());
        prop_assert!(end.is_ok());
    }

    #[test]
    fn what_is_changed_or_cut_off_on_its_way_is_never_read(
        at in 0..60_000usize, bit in 0..8, cut in any::<bool>(), reads in prop_oneof![Just(100), Just(50_000)],
    ) {
        let data = bytes(40_000);
        let mut wire = sealed(&[bytes(500), data.clone(), bytes(12)], usize::MAX);
        let at = at % wire.len();
        match cut {
            true => wire.truncate(at),
            false => wire[at] ^= 1u8 << bit,
        }
        let (all, end) = opened(wire, 30_000, reads);
        prop_assert!(end.is_err(), "somebody cut it off");
        let right = [bytes(500), data, bytes(12)].concat();
        prop_assert!(right.starts_with(&all));
    }

    #[test]
    fn any_bytes_at_all_are_refused_without_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..200), kind in 20..25u8) {
        let wire = [&[kind, 3, 3][..], &noise].concat();
        let (all, end) = opened(wire, 1000, 1000);
        prop_assert!(all.is_empty() && end.is_err());
    }
}

#[test]
fn a_length_that_no_record_has_is_refused_at_its_header() {
    for (len, refused) in [
        (0u16, true),
        (16, true),
        (17, false),
        (16_640, false),
        (16_641, true),
    ] {
        let [high, low] = len.to_be_bytes();
        let first = [23, 3, 3, high, low];
        assert_eq!(Sealed::first_of(&first).is_err(), refused, "{len}");
    }
    assert!(matches!(Sealed::first_of(&[23, 3, 3, 1]), Ok(None)));
    assert!(Sealed::first_of(&[22, 3, 3, 1, 0]).is_err());
    assert!(Sealed::first_of(&[23, 2, 3, 1, 0]).is_err());
}

/// A record of this kind, of the first key.
fn record(key: &mut Key, kind: record::Kind, content: &[u8]) -> Vec<u8> {
    let mut room = vec![0; content.len() + 100];
    let len = key.seal(kind, content, &mut room).unwrap();
    room.truncate(len);
    room
}

#[test]
fn what_is_no_data_has_its_rules() {
    type Record = (record::Kind, Vec<u8>);
    let data = |content: &str| -> Record { (record::Kind::Data, content.into()) };
    let alert = |content: &[u8]| -> Record { (record::Kind::Alert, content.to_vec()) };
    let own = |content: &[u8]| -> Record { (record::Kind::Handshake, content.to_vec()) };
    let wire = |records: &[Record]| {
        let mut key = Key::new(Chain(1).key()).unwrap();
        let sealed = records
            .iter()
            .map(|(kind, content)| record(&mut key, *kind, content));
        sealed.collect::<Vec<_>>().concat()
    };
    let ticket = [&[4, 0, 1, 0][..], &[9; 256]].concat();
    let end = alert(&[1, 0]);
    let right = [
        (1, vec![data("one"), end.clone()]),
        (9, vec![data(""), data("one"), data(""), end.clone()]),
        (9, vec![data("one"), own(&ticket), end.clone()]),
        (9, vec![data("one"), alert(&[1, 90]), end.clone()]),
        (
            2,
            vec![
                own(&ticket[..9]),
                own(&ticket[9..]),
                data("one"),
                end.clone(),
            ],
        ),
    ];
    for (reads, records) in right {
        let (all, ended) = opened(wire(&records), 100_000, reads);
        assert!(ended.is_ok() && all == b"one", "{records:?}: {ended:?}");
    }
    for records in [
        vec![own(&ticket[..9]), data("one"), end.clone()],
        vec![data("one"), own(&ticket[..9]), end],
        vec![data("one"), own(&[])],
        vec![alert(&[1, 90]); 33],
        vec![data("one"), alert(&[2, 40])],
        vec![data("one"), alert(&[1])],
        vec![data("one"), own(&[24, 0, 0, 1, 2])],
        vec![data("one"), own(&[24, 0, 0, 1, 1, 0])],
        vec![data("one"), own(&[2, 0, 0, 0])],
        vec![data("one"), own(&[4, 1, 0, 0])],
        vec![own(&ticket); 33],
    ] {
        let (all, ended) = opened(wire(&records), 100_000, 9);
        let kind = ended.map_err(|error| error.kind());
        assert_eq!(kind, Err(io::ErrorKind::InvalidData), "{records:?}");
        assert!(all.is_empty() || all == b"one");
    }
    // With a new key what follows is of that one, and an answer that is asked for is given once.
    let mut wire = wire(&[own(&[24, 0, 0, 1, 1])]);
    let mut next = Key::new(Chain(2).key()).unwrap();
    wire.extend(record(&mut next, record::Kind::Data, b"one"));
    let mut side = side(wire, 1000);
    futures::executor::block_on(async {
        let mut three = [0; 3];
        side.read_exact(&mut three).await.unwrap();
        assert_eq!(&three, b"one");
        assert!(side.sending.owes_new_key);
        side.renew = Box::new(Chain(1));
        side.write_all(&bytes(3000)).await.unwrap();
        side.flush().await.unwrap();
        assert!(!side.sending.owes_new_key);
    });
    let (all, _) = opened(side.socket.writes.concat(), 9999, 9999);
    assert_eq!(all, bytes(3000));
}

#[test]
fn padding_counts_for_the_length_of_a_record() {
    for (padding, is_right) in [
        (record::MAX_CONTENT_BYTES - 3, true),
        (record::MAX_CONTENT_BYTES - 2, false),
    ] {
        let inner = [b"one\x17", &vec![0; padding][..]].concat();
        assert_eq!(record::inner(&inner).is_ok(), is_right, "{padding}");
    }
}

#[test]
fn a_key_that_is_used_up_is_replaced() {
    let mut side = side(Vec::new(), usize::MAX);
    side.sending.use_up_after(12);
    futures::executor::block_on(async {
        for _ in 0..10 {
            side.write_all(&bytes(2000)).await.unwrap();
        }
        side.close().await.unwrap();
    });
    let (all, end) = opened(side.socket.writes.concat(), 5000, 5000);
    assert_eq!(all, bytes(2000).repeat(10));
    end.unwrap();
}

#[test]
fn a_connection_at_rest_has_no_buffer_and_much_leaves_and_comes_in_few_calls() {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    let mut key = Key::new(Chain(1).key()).unwrap();
    let records = (0..60).map(|_| record(&mut key, record::Kind::Data, &bytes(10_000)));
    let mut side = side(records.collect::<Vec<_>>().concat(), usize::MAX);
    side.socket.waits = true;
    let mut some = vec![0; 70_000];
    let (mut read, mut turns) = (0, 0);
    while read < 600_000 {
        match Pin::new(&mut side).poll_read(&mut cx, &mut some) {
            Poll::Ready(more) => read += more.unwrap(),
            Poll::Pending => turns += 1,
        }
    }
    assert!((1..=2).contains(&turns), "others have their turn");
    assert_eq!(woken.0.load(Ordering::Relaxed), turns);
    // It may be time for one more.
    let _ = Pin::new(&mut side).poll_read(&mut cx, &mut some);
    let woken_before = woken.0.load(Ordering::Relaxed);
    assert!(side.socket.reads <= 9, "{}", side.socket.reads);
    let poll = Pin::new(&mut side).poll_read(&mut cx, &mut some);
    assert!(poll.is_pending());
    assert_eq!(
        woken.0.load(Ordering::Relaxed),
        woken_before,
        "the socket wakes"
    );
    assert!(side.receiving.is_at_rest());
    // A piece of the multiplexer's and its header.
    futures::executor::block_on(async {
        side.write_all(&bytes(12)).await.unwrap();
        side.write_all(&bytes(4 * MAX_CONTENT_BYTES)).await.unwrap();
        side.flush().await.unwrap();
    });
    assert_eq!(side.socket.writes.len(), 1);
    futures::executor::block_on(async {
        for _ in 0..4 {
            assert!(!side.sending.is_at_rest());
            side.write_all(&bytes(12)).await.unwrap();
            side.flush().await.unwrap();
        }
    });
    assert!(side.sending.is_at_rest());
}

#[test]
fn what_is_flushed_while_more_comes_leaves_together() {
    let mut side = side(Vec::new(), usize::MAX);
    let cork = side.cork();
    let pieces = |side: &mut Tls<Noted>| {
        futures::executor::block_on(async {
            for _ in 0..2 {
                side.write_all(&bytes(12)).await.unwrap();
                side.write_all(&bytes(60_000)).await.unwrap();
                side.flush().await.unwrap();
            }
        });
    };
    let ((), is_owed) = cork.during(|| pieces(&mut side));
    assert!(is_owed && side.socket.writes.is_empty());
    futures::executor::block_on(side.flush()).unwrap();
    assert_eq!(side.socket.writes.len(), 1);
    pieces(&mut side);
    assert_eq!(side.socket.writes.len(), 3);
    let ((), is_owed) = cork.during(|| ());
    assert!(!is_owed);
}

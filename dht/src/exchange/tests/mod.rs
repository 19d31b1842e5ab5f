mod bounds;
mod vectors;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::message::{decode_reply, decode_request, encode_reply, encode_request};
use super::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}

fn any_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (any::<[u8; 32]>(), any::<u64>())
            .prop_map(|(address, offset)| Request::Manifest { address, offset }),
        (any::<[u8; 32]>(), any_have()).prop_map(|(manifest, (chunks, bits))| Request::Join {
            manifest,
            chunks,
            bits,
        }),
        (any::<u32>(), any::<[u8; 32]>()).prop_map(|(index, hash)| Request::Chunk { index, hash }),
        any::<u32>().prop_map(|target| Request::Cancel { target }),
        any::<bool>().prop_map(Request::Interest),
        any_indices().prop_map(|indices| Request::Got { indices }),
        proptest::collection::vec(any::<[u8; 32]>(), 1..=MAX_FILES)
            .prop_map(|addresses| Request::Files { addresses }),
        (any::<[u8; 32]>(), 0..=MAX_EARLY_BYTES).prop_map(|(address, early_bytes)| {
            Request::Begin {
                address,
                early_bytes,
            }
        }),
    ]
}

/// Chunks, and which of them are there.
fn any_have() -> impl Strategy<Value = (u32, Bytes)> {
    (proptest::collection::vec(any::<u8>(), 0..300), 0u32..8).prop_map(|(mut bits, unused)| {
        let all = u32::try_from(bits.len() * 8).unwrap();
        let unused = unused.min(all);
        if let Some(last) = bits.last_mut() {
            *last = *last >> unused << unused;
        }
        (all - unused, bits.into())
    })
}

fn any_indices() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(0..MAX_HAVE_CHUNKS, 1..=MAX_GOT)
}

fn any_peer() -> impl Strategy<Value = SwarmPeer> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..=MAX_SWARM_ADDR_BYTES);
    let addrs = proptest::collection::vec(bytes(), 0..=MAX_SWARM_ADDRS);
    let peer = proptest::collection::vec(any::<u8>(), 1..=MAX_SWARM_ADDR_BYTES);
    (peer, addrs).prop_map(|(peer, addrs)| SwarmPeer { peer, addrs })
}

/// A reply, and what may be its id.
fn any_answer() -> impl Strategy<Value = (u32, Reply)> {
    (any::<u32>(), any_reply()).prop_map(|(id, reply)| match reply {
        Reply::Got { .. } | Reply::Choke | Reply::Unchoke | Reply::Peers(_) => (0, reply),
        reply => (id, reply),
    })
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40_000).prop_map(Bytes::from);
    prop_oneof![
        (any::<u64>(), bytes())
            .prop_map(|(total_bytes, bytes)| Reply::Manifest { total_bytes, bytes }),
        any_have().prop_map(|(chunks, bits)| Reply::Have { chunks, bits }),
        bytes().prop_map(Reply::Chunk),
        Just(Reply::NotFound),
        any::<u32>().prop_map(|retry_after_ms| Reply::Busy { retry_after_ms }),
        Just(Reply::Choked),
        Just(Reply::Choke),
        Just(Reply::Unchoke),
        any_indices().prop_map(|indices| Reply::Got { indices }),
        proptest::collection::vec(any_peer(), 1..=MAX_SWARM_PEERS).prop_map(Reply::Peers),
        proptest::collection::vec(any_file(), 1..=MAX_FILES).prop_map(Reply::Files),
    ]
}

fn any_file() -> impl Strategy<Value = FileReply> {
    prop_oneof![
        Just(FileReply::NotHere),
        Just(FileReply::Larger),
        proptest::collection::vec(any::<u8>(), 0..300)
            .prop_map(|bytes| FileReply::Whole(bytes.into())),
    ]
}

fn frame_bytes(kind: u8, id: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(5 + body.len())
        .unwrap()
        .to_le_bytes()
        .to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Feeds `bytes` to a reader of requests and returns what it says first.
fn first_request(bytes: &[u8]) -> Result<Option<(u32, Request)>, ExchangeError> {
    runtime().block_on(async {
        let (mut ours, theirs) = duplex(1 << 20);
        let (mut requests, _replies) = serve_over(theirs).await.unwrap();
        ours.write_all(bytes).await.unwrap();
        ours.shutdown().await.unwrap();
        requests.next().await
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn messages_survive_the_wire_whatever_the_buffer(
        requests in proptest::collection::vec((any::<u32>(), any_request()), 0..8),
        replies in proptest::collection::vec(any_answer(), 0..5),
        pipe_bytes in 1usize..70_000,
    ) {
        runtime().block_on(async {
            // A pipe of few bytes splits every frame into many reads.
            let (a, b) = duplex(pipe_bytes);
            let (asker, server) = tokio::join!(ask_over(a), serve_over(b));
            let ((mut ask, mut answers), (mut asked, mut answer)) = (asker.unwrap(), server.unwrap());
            let there = async {
                for (id, request) in &requests { ask.send(*id, request).await.unwrap(); }
                ask.close().await.unwrap();
                for (id, reply) in &replies { answer.send(*id, reply).await.unwrap(); }
                answer.close().await.unwrap();
            };
            let back = async {
                for expected in &requests { assert_eq!(asked.next().await.unwrap().as_ref(), Some(expected)); }
                assert_eq!(asked.next().await.unwrap(), None);
                for expected in &replies { assert_eq!(answers.next().await.unwrap().as_ref(), Some(expected)); }
            };
            tokio::join!(there, back);
        });
    }

    #[test]
    fn garbage_is_an_error_or_a_message_but_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = first_request(&bytes);
    }

    #[test]
    fn a_decoded_body_has_one_encoding(kind: u8, body in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut body = body;
        if let Some(version) = body.first_mut() { *version = 1; }
        let frame = frame::Frame { kind, id: 0, body: body.clone().into() };
        if let Ok(request) = decode_request(&frame) {
            prop_assert_eq!(encode_request(&request).unwrap(), (kind, Bytes::from(body.clone())));
        }
        if let Ok(reply) = decode_reply(&frame) {
            prop_assert_eq!(encode_reply(&reply).unwrap(), (kind, Bytes::from(body)));
        }
    }

    #[test]
    fn a_cut_frame_is_truncated(request in any_request(), cut in 1usize..30) {
        let (kind, body) = encode_request(&request).unwrap();
        let bytes = frame_bytes(kind, 3, &body);
        let kept = bytes.len() - cut.min(bytes.len() - 1);
        prop_assert!(matches!(first_request(&bytes[..kept]), Err(ExchangeError::Truncated)));
    }
}

#[test]
fn an_oversized_request_is_refused_from_its_header_alone() {
    let mut bytes = u32::MAX.to_le_bytes().to_vec();
    assert!(matches!(
        first_request(&bytes),
        Err(ExchangeError::TooLarge { .. })
    ));
    let over = MAX_REQUEST_FRAME_BYTES + 1;
    bytes = u32::try_from(over).unwrap().to_le_bytes().to_vec();
    assert!(matches!(
        first_request(&bytes),
        Err(ExchangeError::TooLarge {
            len,
            max: MAX_REQUEST_FRAME_BYTES
        }) if len == over
    ));
    bytes = 4u32.to_le_bytes().to_vec();
    assert!(matches!(
        first_request(&bytes),
        Err(ExchangeError::TooShort(4))
    ));
}

#[test]
fn unknown_kinds_and_versions_are_named() {
    assert!(matches!(
        first_request(&frame_bytes(0x7f, 1, &[1])),
        Err(ExchangeError::UnknownKind(0x7f))
    ));
    let mut body = vec![2];
    body.extend_from_slice(&[0; 32]);
    assert!(matches!(
        first_request(&frame_bytes(0x03, 1, &body)),
        Err(ExchangeError::Malformed(CodecError::Version(2)))
    ));
}

#[test]
fn replies_larger_than_the_cap_are_neither_sent_nor_read() {
    runtime().block_on(async {
        let (mut raw, theirs) = duplex(1 << 16);
        let (_requests, mut replies) = serve_over(theirs).await.unwrap();
        let big = Reply::Chunk(vec![0; MAX_CHUNK_BYTES + 1].into());
        assert!(matches!(
            replies.send(1, &big).await,
            Err(ExchangeError::TooLarge { .. })
        ));
        let wrong = Reply::Have {
            chunks: 9,
            bits: vec![0].into(),
        };
        assert!(matches!(
            replies.send(1, &wrong).await,
            Err(ExchangeError::BadBody { .. })
        ));
        let mut hello = [0; 10];
        raw.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, [6, 0, 0, 0, 0x80, 0, 0, 0, 0, 1]);

        let (mut raw, ours) = duplex(1 << 16);
        raw.write_all(&hello).await.unwrap();
        let (_ask, mut answers) = ask_over(ours).await.unwrap();
        let too_long = u32::try_from(MAX_FRAME_BYTES + 1).unwrap();
        raw.write_all(&too_long.to_le_bytes()).await.unwrap();
        assert!(matches!(
            answers.next().await,
            Err(ExchangeError::TooLarge { .. })
        ));
    });
}

#[test]
fn a_stream_without_a_greeting_is_refused_and_a_silent_one_times_out() {
    runtime().block_on(async {
        let (gone, ours) = duplex(64);
        drop(gone);
        assert!(matches!(ask_over(ours).await, Err(ExchangeError::Refused)));
        let (_silent, ours) = duplex(64);
        assert!(matches!(ask_over(ours).await, Err(ExchangeError::Stalled)));
    });
}

#[test]
fn what_is_asked_first_does_not_wait_for_the_greeting() {
    runtime().block_on(async {
        let (mut raw, ours) = duplex(1 << 16);
        let first = (7, Request::Cancel { target: 3 });
        let asking = tokio::spawn(async move { ask_counted(ours, &[first], None).await });
        let mut frame = [0; 14];
        raw.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[..9], [10, 0, 0, 0, 4, 7, 0, 0, 0]);
        assert!(!asking.is_finished(), "the greeting has not come");
        raw.write_all(&[6, 0, 0, 0, 0x80, 0, 0, 0, 0, 1])
            .await
            .unwrap();
        assert!(asking.await.unwrap().is_ok());
    });
}

#[test]
fn a_peer_that_stops_within_a_frame_or_takes_no_bytes_is_dropped() {
    runtime().block_on(async {
        let (mut raw, theirs) = duplex(64);
        let (mut requests, mut replies) = serve_over(theirs).await.unwrap();
        raw.write_all(&[40, 0]).await.unwrap();
        assert!(matches!(requests.next().await, Err(ExchangeError::Stalled)));
        let chunk = Reply::Chunk(vec![7; 5000].into());
        assert!(matches!(
            replies.send(1, &chunk).await,
            Err(ExchangeError::Stalled)
        ));
    });
}

#[test]
fn a_cancelled_read_loses_nothing() {
    runtime().block_on(async {
        let (mut raw, theirs) = duplex(1024);
        let (mut requests, _replies) = serve_over(theirs).await.unwrap();
        let request = Request::Chunk {
            index: 7,
            hash: [9; 32],
        };
        let (kind, body) = encode_request(&request).unwrap();
        for byte in frame_bytes(kind, 5, &body) {
            raw.write_all(&[byte]).await.unwrap();
            // Whoever polls and gives up must not lose the bytes read so far.
            let poll = tokio::time::timeout(Duration::from_millis(1), requests.next()).await;
            if let Ok(got) = poll {
                assert_eq!(got.unwrap(), Some((5, request.clone())));
                return;
            }
        }
        panic!("the frame was complete and was not returned");
    });
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_for_a_frame_that_began_with_the_end_of_another() {
    let (near, mut far) = tokio::io::duplex(1024);
    let mut frames = FrameReader::new(near, 64);
    far.write_all(&[5, 0, 0, 0, 1, 9, 0, 0, 0, 5, 0])
        .await
        .unwrap();
    assert_eq!(frames.next().await.unwrap().unwrap().id, 9);
    let next = tokio::time::timeout(Duration::from_secs(3600), frames.next()).await;
    assert!(matches!(next, Ok(Err(ExchangeError::Stalled))), "{next:?}");
}

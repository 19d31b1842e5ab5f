//! What is refused, by those who would send it and by those who read it.

use bytes::Bytes;

use super::super::frame::Frame;
use super::super::message::{check_id, decode_reply, decode_request, encode_reply, encode_request};
use super::super::*;
use crate::codec;

fn frame(kind: u8, body: Vec<u8>) -> Frame {
    Frame {
        kind,
        id: 0,
        body: body.into(),
    }
}

fn is_bad(result: &Result<impl std::fmt::Debug, ExchangeError>, kind: u8) -> bool {
    matches!(result, Err(ExchangeError::BadBody { kind: told }) if *told == kind)
}

/// Neither sent nor read.
fn refused_request(request: &Request, kind: u8, body: Vec<u8>) {
    assert!(is_bad(&encode_request(request), kind), "sent: {request:?}");
    assert!(
        is_bad(&decode_request(&frame(kind, body)), kind),
        "read: {request:?}"
    );
}

fn refused_reply(reply: &Reply, kind: u8, body: Vec<u8>) {
    assert!(is_bad(&encode_reply(reply), kind), "sent: {reply:?}");
    assert!(
        is_bad(&decode_reply(&frame(kind, body)), kind),
        "read: {reply:?}"
    );
}

#[test]
fn a_bitmap_fits_its_chunks_and_says_nothing_beyond() {
    let most = MAX_HAVE_CHUNKS;
    let full = vec![0xff; most as usize / 8];
    for (chunks, bits, is_good) in [
        (0, vec![], true),
        (1, vec![0x80], true),
        (most, full.clone(), true),
        (0, vec![0], false),
        (9, vec![0], false),
        (8, vec![0, 0], false),
        // The second chunk of one.
        (1, vec![0x40], false),
        (15, vec![0, 1], false),
        (most + 8, [&full[..], &[0]].concat(), false),
        (u32::MAX, vec![], false),
    ] {
        let (manifest, bytes) = ([3; 32], Bytes::from(bits.clone()));
        let join = Request::Join {
            manifest,
            chunks,
            bits: bytes.clone(),
        };
        let have = Reply::Have {
            chunks,
            bits: bytes,
        };
        let (join_body, have_body) = (
            codec::encode(&(manifest, chunks, &bits)).unwrap(),
            codec::encode(&(chunks, &bits)).unwrap(),
        );
        if is_good {
            assert_eq!(
                encode_request(&join).unwrap(),
                (0x02, join_body.clone().into())
            );
            assert_eq!(decode_request(&frame(0x02, join_body)).unwrap(), join);
            assert_eq!(
                encode_reply(&have).unwrap(),
                (0x82, have_body.clone().into())
            );
            assert_eq!(decode_reply(&frame(0x82, have_body)).unwrap(), have);
        } else {
            refused_request(&join, 0x02, join_body);
            refused_reply(&have, 0x82, have_body);
        }
    }
}

#[test]
fn the_largest_request_fits_its_frame() {
    let join = Request::Join {
        manifest: [1; 32],
        chunks: MAX_HAVE_CHUNKS,
        bits: vec![0; MAX_HAVE_CHUNKS as usize / 8].into(),
    };
    let (_, body) = encode_request(&join).unwrap();
    assert!(body.len() + 5 <= MAX_REQUEST_FRAME_BYTES);
    assert!(MAX_REQUEST_FRAME_BYTES - body.len() <= 64);
}

#[test]
fn news_of_chunks_are_of_one_to_many_that_can_be() {
    let many: Vec<u32> = (0..=1024).collect();
    for (indices, is_good) in [
        (vec![0], true),
        (many[..1024].to_vec(), true),
        (vec![MAX_HAVE_CHUNKS - 1], true),
        (vec![], false),
        (many, false),
        (vec![MAX_HAVE_CHUNKS], false),
        (vec![5, u32::MAX], false),
    ] {
        let body = codec::encode(&indices).unwrap();
        let (request, reply) = (
            Request::Got {
                indices: indices.clone(),
            },
            Reply::Got { indices },
        );
        if is_good {
            assert_eq!(decode_request(&frame(0x06, body.clone())).unwrap(), request);
            assert_eq!(decode_reply(&frame(0x90, body)).unwrap(), reply);
        } else {
            refused_request(&request, 0x06, body.clone());
            refused_reply(&reply, 0x90, body);
        }
    }
}

#[test]
fn a_list_that_claims_to_be_long_costs_nothing() {
    for count in [1025, 1 << 17, u64::MAX] {
        let mut body = vec![1];
        body.extend(count.to_le_bytes());
        assert!(is_bad(&decode_request(&frame(0x06, body.clone())), 0x06));
        assert!(is_bad(&decode_request(&frame(0x07, body.clone())), 0x07));
        assert!(is_bad(&decode_reply(&frame(0x87, body.clone())), 0x87));
        assert!(is_bad(&decode_reply(&frame(0x90, body.clone())), 0x90));
        assert!(is_bad(&decode_reply(&frame(0x93, body)), 0x93));
    }
}

#[test]
fn peers_are_few_named_and_of_few_short_addresses() {
    let peer = |id: usize, addrs: usize, addr: usize| SwarmPeer {
        peer: vec![7; id],
        addrs: vec![vec![9; addr]; addrs],
    };
    for (peers, is_good) in [
        (vec![peer(1, 0, 0)], true),
        (vec![peer(128, 4, 128); 32], true),
        (vec![], false),
        (vec![peer(38, 1, 8); 33], false),
        (vec![peer(0, 1, 8)], false),
        (vec![peer(129, 1, 8)], false),
        (vec![peer(38, 5, 8)], false),
        (vec![peer(38, 1, 8), peer(38, 4, 129)], false),
    ] {
        let body = codec::encode(&peers).unwrap();
        let reply = Reply::Peers(peers);
        if is_good {
            assert!(body.len() <= MAX_TOLD_BYTES);
            assert_eq!(decode_reply(&frame(0x93, body)).unwrap(), reply);
        } else {
            refused_reply(&reply, 0x93, body);
        }
    }
}

#[test]
fn small_files_are_few_and_small() {
    for (count, is_good) in [(1, true), (256, true), (0, false), (257, false)] {
        let addresses = vec![[7; 32]; count];
        let body = codec::encode(&addresses).unwrap();
        let request = Request::Files { addresses };
        if is_good {
            assert_eq!(decode_request(&frame(0x07, body)).unwrap(), request);
        } else {
            refused_request(&request, 0x07, body);
        }
        let reply = Reply::Files(vec![FileReply::Larger; count]);
        let body = codec::encode(&vec![1u32; count]).unwrap();
        if is_good {
            assert_eq!(decode_reply(&frame(0x87, body)).unwrap(), reply);
        } else {
            refused_reply(&reply, 0x87, body);
        }
    }
    let too_large = |result: &Result<_, _>| matches!(result, Err(ExchangeError::TooLarge { .. }));
    let whole = |len: usize| FileReply::Whole(vec![3; len].into());
    let one = |file: FileReply| encode_reply(&Reply::Files(vec![file])).map(drop);
    assert!(one(whole(MAX_FILE_BYTES)).is_ok());
    assert!(too_large(&one(whole(MAX_FILE_BYTES + 1))));
    let body = codec::encode(&vec![(2u32, vec![3u8; MAX_FILE_BYTES + 1])]).unwrap();
    assert!(too_large(&decode_reply(&frame(0x87, body)).map(drop)));
    // As many as a reply holds, and one more.
    let many = vec![whole(MAX_FILE_BYTES - 12); 16];
    let (kind, body) = encode_reply(&Reply::Files(many.clone())).unwrap();
    assert_eq!(body.len(), 9 + MAX_FILES_REPLY_BYTES);
    assert_eq!(
        decode_reply(&frame(kind, body.to_vec())).unwrap(),
        Reply::Files(many.clone())
    );
    let more = [many, vec![FileReply::NotHere]].concat();
    assert!(too_large(&encode_reply(&Reply::Files(more)).map(drop)));
    // Something else than the three there are.
    assert!(decode_reply(&frame(0x87, codec::encode(&vec![3u32]).unwrap())).is_err());
}

#[test]
fn what_has_no_body_has_none() {
    for kind in [0x84, 0x86, 0x91, 0x92] {
        assert!(decode_reply(&frame(kind, vec![])).is_ok());
        assert!(is_bad(&decode_reply(&frame(kind, vec![1])), kind));
    }
    for kind in [0x04, 0x05, 0x07, 0x85, 0x87] {
        assert!(decode_request(&frame(kind, vec![])).is_err());
        assert!(decode_reply(&frame(kind, vec![])).is_err());
    }
    // Neither yes nor no.
    assert!(decode_request(&frame(0x05, vec![1, 2])).is_err());
}

#[test]
fn what_is_unasked_answers_no_request() {
    let got = codec::encode(&vec![1u32]).unwrap();
    let peers = codec::encode(&vec![SwarmPeer {
        peer: vec![1],
        addrs: vec![],
    }]);
    for (kind, body) in [
        (0x90, got),
        (0x91, vec![]),
        (0x92, vec![]),
        (0x93, peers.unwrap()),
    ] {
        let mut told = frame(kind, body);
        assert!(decode_reply(&told).is_ok());
        told.id = 1;
        assert!(is_bad(&decode_reply(&told), kind));
        assert!(is_bad(&check_id(kind, 1), kind));
    }
    assert!(check_id(0x83, 1).is_ok() && check_id(0x86, 1).is_ok());
}

#[test]
fn a_begin_asks_for_one_group_at_most() {
    let begin = |early_bytes| Request::Begin {
        address: [1; 32],
        early_bytes,
    };
    let (kind, body) = encode_request(&begin(MAX_EARLY_BYTES)).unwrap();
    let too_many = begin(MAX_EARLY_BYTES + 1);
    assert!(is_bad(&encode_request(&too_many), kind));
    let mut body = body.to_vec();
    let at = body.len() - 4;
    body[at..].copy_from_slice(&(MAX_EARLY_BYTES + 1).to_le_bytes());
    assert!(is_bad(&decode_request(&frame(kind, body)), kind));
}

#[test]
fn requests_are_no_replies_and_replies_no_requests() {
    for kind in 0..=u8::MAX {
        let nothing = frame(kind, vec![]);
        let unknown = |error: &ExchangeError| matches!(error, ExchangeError::UnknownKind(_));
        let is_request = !decode_request(&nothing).is_err_and(|error| unknown(&error));
        let is_reply = !decode_reply(&nothing).is_err_and(|error| unknown(&error));
        assert_eq!(is_request, (0x01..=0x08).contains(&kind), "{kind:#x}");
        let replies = (0x81..=0x87).contains(&kind) || (0x90..=0x93).contains(&kind);
        assert_eq!(is_reply, replies, "{kind:#x}");
    }
}

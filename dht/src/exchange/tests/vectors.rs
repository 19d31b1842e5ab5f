//! Every message byte by byte, as FORMATS has them.

use super::super::frame::Frame;
use super::super::message::{decode_reply, decode_request, encode_reply, encode_request};
use super::super::*;
use super::frame_bytes;

const FORMATS: &str = include_str!("../../../../docs/FORMATS.md");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes are these, and stand in FORMATS.
fn assert_pinned(kind: u8, id: u32, body: &[u8], expected: &str) {
    let found = hex(&frame_bytes(kind, id, body));
    assert_eq!(found, expected);
    let documented: String = FORMATS.split_whitespace().collect();
    assert!(documented.contains(expected), "not in FORMATS: {expected}");
}

fn frame(kind: u8, id: u32, body: &[u8]) -> Frame {
    Frame {
        kind,
        id,
        body: body.to_vec().into(),
    }
}

#[test]
fn the_bytes_of_requests_are_pinned() {
    let key = |byte: &str| byte.repeat(32);
    let (a, b, c) = (key("11"), key("22"), key("33"));
    for (id, request, expected) in [
        (
            1,
            Request::Manifest {
                address: [0x11; 32],
                offset: 1 << 20,
            },
            format!("2e000000 01 01000000 01 {a} 0000100000000000"),
        ),
        (
            2,
            // The first, the third and the tenth of eleven.
            Request::Join {
                manifest: [0x22; 32],
                chunks: 11,
                bits: vec![0xa0, 0x40].into(),
            },
            format!("34000000 02 02000000 01 {b} 0b000000 0200000000000000 a040"),
        ),
        (
            3,
            Request::Chunk {
                index: 9,
                hash: [0x33; 32],
            },
            format!("2a000000 03 03000000 01 09000000 {c}"),
        ),
        (
            4,
            Request::Cancel { target: 3 },
            "0a000000 04 04000000 01 03000000".to_owned(),
        ),
        (
            5,
            Request::Interest(true),
            "07000000 05 05000000 01 01".to_owned(),
        ),
        (
            6,
            Request::Got {
                indices: vec![1, 10],
            },
            "16000000 06 06000000 01 0200000000000000 01000000 0a000000".to_owned(),
        ),
        (
            7,
            Request::Files {
                addresses: vec![[0x11; 32], [0x33; 32]],
            },
            format!("4e000000 07 07000000 01 0200000000000000 {a} {c}"),
        ),
        (
            8,
            Request::Begin {
                address: [0x11; 32],
                early_bytes: 256 << 10,
            },
            format!("2a000000 08 08000000 01 {a} 00000400"),
        ),
    ] {
        let (kind, body) = encode_request(&request).unwrap();
        assert_pinned(kind, id, &body, &expected.replace(' ', ""));
        assert_eq!(decode_request(&frame(kind, id, &body)).unwrap(), request);
    }
}

#[test]
fn the_bytes_of_replies_are_pinned() {
    let peer = [&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20][..], &[0x44; 32]].concat();
    let addr: libp2p::Multiaddr = "/ip4/10.0.0.1/tcp/4101".parse().unwrap();
    for (id, reply, expected) in [
        (
            1,
            Reply::Manifest {
                total_bytes: 3,
                bytes: "abc".into(),
            },
            "19000000 81 01000000 01 0300000000000000 0300000000000000 616263".to_owned(),
        ),
        (
            2,
            Reply::Have {
                chunks: 11,
                bits: vec![0xff, 0xe0].into(),
            },
            "14000000 82 02000000 01 0b000000 0200000000000000 ffe0".to_owned(),
        ),
        (
            3,
            Reply::Chunk("xyz".into()),
            "08000000 83 03000000 78797a".to_owned(),
        ),
        (3, Reply::NotFound, "05000000 84 03000000".to_owned()),
        (
            3,
            Reply::Busy {
                retry_after_ms: 1500,
            },
            "0a000000 85 03000000 01 dc050000".to_owned(),
        ),
        (3, Reply::Choked, "05000000 86 03000000".to_owned()),
        (
            7,
            Reply::Files(vec![
                FileReply::Whole("xyz".into()),
                FileReply::Larger,
                FileReply::NotHere,
            ]),
            "25000000 87 07000000 01 0300000000000000 02000000 0300000000000000 78797a \
             01000000 00000000"
                .to_owned(),
        ),
        (
            0,
            Reply::Got { indices: vec![4] },
            "12000000 90 00000000 01 0100000000000000 04000000".to_owned(),
        ),
        (0, Reply::Choke, "05000000 91 00000000".to_owned()),
        (0, Reply::Unchoke, "05000000 92 00000000".to_owned()),
        (
            0,
            Reply::Peers(vec![SwarmPeer {
                peer: peer.clone(),
                addrs: vec![addr.to_vec()],
            }]),
            format!(
                "54000000 93 00000000 01 0100000000000000 2600000000000000 {} \
                 0100000000000000 0800000000000000 040a000001061005",
                hex(&peer)
            ),
        ),
    ] {
        let (kind, body) = encode_reply(&reply).unwrap();
        assert_pinned(kind, id, &body, &expected.replace(' ', ""));
        assert_eq!(decode_reply(&frame(kind, id, &body)).unwrap(), reply);
    }
}

#[test]
fn the_greeting_is_pinned() {
    assert_pinned(
        message::KIND_HELLO,
        0,
        &codec::encode(&()).unwrap(),
        "06000000800000000001",
    );
}

//! The JSON of these messages, pinned: scripts read it, and a daemon of the same version has to.

use serde_json::json;

use super::*;
use crate::api::{
    Keep, Output, Request, Response,
    pinned::{pinned, pinned_call},
};

#[test]
fn requests() {
    pinned_call(
        &Request::Get {
            address: "ab".to_owned(),
            output: Output::Stream,
            timeout_ms: None,
            peers: Vec::new(),
            keep: Keep::Auto,
            pin: false,
            seed: Some("ratio=1.5".to_owned()),
            swarm: Some(SwarmMode::Trusted),
        },
        "get",
        json!({
            "address": "ab", "output": "stream", "timeout_ms": null, "peers": [], "keep": "auto", "pin": false,
            "seed": "ratio=1.5", "swarm": "trusted",
        }),
    );
    pinned_call(
        &Request::Limits { change: None },
        "limits",
        json!({"change": null}),
    );
    let change = LimitsChange {
        up: Some(RateLimit::Unlimited),
        down: NonZeroU64::new(2048).map(RateLimit::BytesPerS),
        local: Some(true),
    };
    pinned_call(
        &Request::Limits {
            change: Some(change),
        },
        "limits",
        json!({"change": {"up": "unlimited", "down": {"bytes_per_s": 2048}, "local": true}}),
    );
    pinned_call(
        &Request::Linger {
            address: "ab".to_owned(),
        },
        "linger",
        json!({"address": "ab"}),
    );
    pinned_call(
        &Request::SwarmStatus {
            address: "ab".to_owned(),
        },
        "swarm_status",
        json!({"address": "ab"}),
    );
}

#[test]
fn a_limit_of_nothing_is_refused() {
    let zero = br#"{"change": {"up": {"bytes_per_s": 0}}}"#;
    let error = Request::from_call("limits", zero).unwrap_err();
    assert!(
        error.to_string().contains("`change.up.bytes_per_s`"),
        "{error}"
    );
}

#[test]
fn limits() {
    let report = LimitsReport {
        up_bytes_per_s: Some(2048),
        down_bytes_per_s: None,
        local: true,
        up_now_bytes_per_s: 1,
        down_now_bytes_per_s: 2,
        up_bytes: 3,
        down_bytes: 4,
    };
    pinned(
        &Response::Limits(report),
        json!({
            "result": "limits", "up_bytes_per_s": 2048, "down_bytes_per_s": null, "local": true, "up_now_bytes_per_s": 1,
            "down_now_bytes_per_s": 2, "up_bytes": 3, "down_bytes": 4,
        }),
    );
}

#[test]
fn a_swarm() {
    let peer = SwarmPeer {
        peer: "12D3".to_owned(),
        addr: Some("/ip4/1.2.3.4/tcp/1".to_owned()),
        transport: Some("tcp".to_owned()),
        cipher: Some("tls13-aes-128-gcm".to_owned()),
        up_bytes_per_s: 1,
        down_bytes_per_s: 2,
        up_bytes: 3,
        down_bytes: 4,
        have_chunks: Some(5),
        choked_by_us: None,
        chokes_us: Some(true),
        interested_in_us: false,
        interests_us: true,
        snubs_us: false,
    };
    let seed = SeedReport {
        policy: "30m".to_owned(),
        finished_unix_ms: Some(9),
        uploaded_bytes: 10,
        ratio: 0.5,
        left_ms: Some(11),
        left_bytes: None,
        over: false,
    };
    let report = SwarmReport {
        address: "ab".to_owned(),
        name: None,
        bytes: 20,
        chunks: 6,
        chunks_here: 5,
        mode: SwarmMode::Fair,
        copies: 1.5,
        up_bytes: 7,
        down_bytes: 8,
        map: ChunkMap {
            chunks_per_cell: 4,
            here: vec![4, 1],
            copies: vec![2, 1],
        },
        seed,
        peers: vec![peer],
    };
    pinned(
        &Response::SwarmStatus(report),
        json!({
            "result": "swarm_status", "address": "ab", "name": null, "bytes": 20, "chunks": 6, "chunks_here": 5, "mode": "fair",
            "copies": 1.5, "up_bytes": 7, "down_bytes": 8,
            "map": {"chunks_per_cell": 4, "here": [4, 1], "copies": [2, 1]},
            "seed": {"policy": "30m", "finished_unix_ms": 9, "uploaded_bytes": 10, "ratio": 0.5, "left_ms": 11,
                     "left_bytes": null, "over": false},
            "peers": [{"peer": "12D3", "addr": "/ip4/1.2.3.4/tcp/1", "transport": "tcp",
                       "cipher": "tls13-aes-128-gcm", "up_bytes_per_s": 1, "down_bytes_per_s": 2, "up_bytes": 3, "down_bytes": 4, "have_chunks": 5, "choked_by_us": null,
                       "chokes_us": true, "interested_in_us": false, "interests_us": true, "snubs_us": false}],
        }),
    );
}

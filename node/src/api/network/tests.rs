//! The JSON of these messages, pinned: scripts read it, and a daemon of the same version has to.

use serde_json::json;

use super::*;
use crate::api::{
    Request, Response,
    pinned::{pinned, pinned_call},
};

#[test]
fn requests() {
    let key = "ab".repeat(32);
    pinned_call(
        &Request::ProvideStatus { address: None },
        "provide_status",
        json!({"address": null}),
    );
    pinned_call(
        &Request::ProvideNow {
            address: Some(key.clone()),
            wait: true,
            timeout_ms: Some(5),
        },
        "provide_now",
        json!({"address": key, "wait": true, "timeout_ms": 5}),
    );
    pinned_call(
        &Request::DhtLookup {
            key: key.clone(),
            timeout_ms: None,
        },
        "dht_lookup",
        json!({"key": key, "timeout_ms": null}),
    );
    pinned_call(
        &Request::DhtGet {
            key: key.clone(),
            timeout_ms: None,
        },
        "dht_get",
        json!({"key": key, "timeout_ms": null}),
    );
    pinned_call(
        &Request::DhtPutTest {
            timeout_ms: Some(1),
        },
        "dht_put_test",
        json!({"timeout_ms": 1}),
    );
    pinned_call(
        &Request::DhtMode {
            mode: Some(DhtMode::Auto),
        },
        "dht_mode",
        json!({"mode": "auto"}),
    );
    pinned_call(&Request::Metrics, "metrics", json!({}));
}

#[test]
fn how_announcing_stands() {
    let report = ProvideReport {
        daemon: true,
        keys: 9,
        files: 1,
        done: 7,
        due: 2,
        new: 1,
        failed: 1,
        last_success_unix_ms: Some(1_000),
        next_due_unix_ms: Some(2_000),
        keys_per_hour: 60,
        finish_secs: Some(120),
        interval_secs: 79_200,
        expiry_secs: 172_800,
        churn_percent_per_hour: Some(4),
        network_peers: Some(20),
        behind: Some(BehindReport {
            reason: "stalled".to_owned(),
            what: "a".to_owned(),
            why: "b".to_owned(),
            next: "c".to_owned(),
        }),
        last_run: Some(ProvideRun {
            ended_unix_ms: 1_000,
            keys: 7,
            lookups: 1,
            peers: 3,
            failed_peers: 1,
            copies: 14,
            took_ms: 250,
        }),
    };
    pinned(
        &Response::ProvideStatus(report),
        json!({
            "result": "provide_status", "daemon": true, "keys": 9, "files": 1, "done": 7, "due": 2, "new": 1, "failed": 1,
            "last_success_unix_ms": 1000, "next_due_unix_ms": 2000, "keys_per_hour": 60, "finish_secs": 120,
            "interval_secs": 79200, "expiry_secs": 172_800, "churn_percent_per_hour": 4, "network_peers": 20,
            "behind": {"reason": "stalled", "what": "a", "why": "b", "next": "c"},
            "last_run": {"ended_unix_ms": 1000, "keys": 7, "lookups": 1, "peers": 3, "failed_peers": 1, "copies": 14,
                         "took_ms": 250},
        }),
    );
    let keys = KeysReport {
        keys: 1,
        done: 1,
        copies_min: 2,
        copies_median: 3,
        last_success_unix_ms: Some(5),
        ..KeysReport::default()
    };
    let keys_json = json!({
        "keys": 1, "unscheduled": 0, "done": 1, "due": 0, "failed": 0, "copies_min": 2, "copies_median": 3,
        "oldest_success_unix_ms": null, "last_success_unix_ms": 5, "next_due_unix_ms": null,
    });
    let report = ProvideFileReport {
        address: "ab".to_owned(),
        name: None,
        file: keys.clone(),
        chunks: keys,
    };
    pinned(
        &Response::ProvideFile(report),
        json!({"result": "provide_file", "address": "ab", "name": null, "file": keys_json, "chunks": keys_json}),
    );
    let report = ProvideNowReport {
        address: None,
        keys: 3,
        waited: true,
        took_ms: 8,
    };
    pinned(
        &Response::ProvideNow(report),
        json!({"result": "provide_now", "address": null, "keys": 3, "waited": true, "took_ms": 8}),
    );
}

#[test]
fn what_the_dht_says() {
    let report = DhtLookupReport {
        key: "ab".to_owned(),
        peers: vec![ClosePeer {
            peer: "12D3".to_owned(),
            shared_bits: 4,
            addrs: Vec::new(),
        }],
        asked_peers: 3,
        complete: true,
        took_ms: 9,
    };
    pinned(
        &Response::DhtLookup(report),
        json!({
            "result": "dht_lookup", "key": "ab", "peers": [{"peer": "12D3", "shared_bits": 4, "addrs": []}],
            "asked_peers": 3, "complete": true, "took_ms": 9,
        }),
    );
    let report = DhtGetReport {
        key: "ab".to_owned(),
        record: Some(RecordReport {
            record_bytes: 90,
            bytes: 10,
            kind: "file".to_owned(),
            chunker: "fixed, 256 KiB".to_owned(),
            chunks: 1,
            name: Some("x".to_owned()),
            has_manifest: true,
            publisher: Some("12D3".to_owned()),
            published_unix_ms: Some(6),
        }),
        providers: Vec::new(),
        asked_peers: 2,
        took_ms: 7,
    };
    pinned(
        &Response::DhtGet(report),
        json!({
            "result": "dht_get", "key": "ab", "providers": [], "asked_peers": 2, "took_ms": 7,
            "record": {"record_bytes": 90, "bytes": 10, "kind": "file", "chunker": "fixed, 256 KiB", "chunks": 1, "name": "x",
                       "has_manifest": true, "publisher": "12D3", "published_unix_ms": 6},
        }),
    );
    let report = DhtPutTestReport {
        key: "ab".to_owned(),
        closest_peers: 3,
        provider_copies: 3,
        value_copies: 2,
        provider_read: 3,
        value_read: true,
        lookup_ms: 1,
        put_ms: 2,
        read_ms: 3,
        ok: true,
    };
    pinned(
        &Response::DhtPutTest(report),
        json!({
            "result": "dht_put_test", "key": "ab", "closest_peers": 3, "provider_copies": 3, "value_copies": 2,
            "provider_read": 3, "value_read": true, "lookup_ms": 1, "put_ms": 2, "read_ms": 3, "ok": true,
        }),
    );
    let report = DhtModeReport {
        mode: DhtMode::Client,
        serving: false,
    };
    pinned(
        &Response::DhtMode(report),
        json!({"result": "dht_mode", "mode": "client", "serving": false}),
    );
    let metrics = vec![MetricReport {
        name: "a_total".to_owned(),
        help: "A.".to_owned(),
        kind: "counter".to_owned(),
        values: vec![MetricValue {
            what: None,
            value: 1.5,
        }],
    }];
    pinned(
        &Response::Metrics { metrics },
        json!({
            "result": "metrics",
            "metrics": [{"name": "a_total", "help": "A.", "kind": "counter", "values": [{"what": null, "value": 1.5}]}],
        }),
    );
}

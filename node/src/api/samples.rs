//! For tests: a sample of each result as `--json` prints it. Scripts read these: what changes here changes for them.

use serde_json::Value;
use utoipa::PartialSchema;

use super::Response;

/// Results whose samples are beside their types.
const ELSEWHERE: [&str; 17] = [
    "store_tree",
    "directory",
    "get_tree",
    "ls_tree",
    "get_many",
    "provide_status",
    "provide_file",
    "provide_now",
    "dht_lookup",
    "dht_get",
    "dht_put_test",
    "dht_mode",
    "limits",
    "metrics",
    "swarm_status",
    "peers",
    "doctor",
];

const SAMPLES: [&str; 16] = [
    r#"{"result": "store", "address": "ab", "bytes": 5, "chunks": 1, "new_chunks": 1, "new_bytes": 5, "saved_bytes": 0,
        "referenced_bytes": 0, "name": "a.bin", "announced_to": 3}"#,
    r#"{"result": "store_many", "outcomes": [
        {"Ok": {"address": "ab", "bytes": 5, "chunks": 1, "new_chunks": 1, "new_bytes": 5, "saved_bytes": 0,
                "referenced_bytes": 0, "name": null, "announced_to": 0}},
        {"Err": {"kind": "no_space", "what": "a", "why": "b", "next": "c"}}]}"#,
    r#"{"result": "get", "address": "ab", "path": "/x", "bytes": 5, "seconds": 0.5, "chunks": 2, "local_chunks": 1,
        "local_bytes": 2, "fetched_chunks": 1, "fetched_bytes": 3, "duplicate_bytes": 0, "rejected_chunks": 1,
        "unchanged": false, "kept": "in_place", "in_place": "/x", "seed": "forever",
        "providers": [{"peer": "12D3", "bytes": 3, "chunks": 1, "rejected": 1}]}"#,
    r#"{"result": "cat", "address": "ab", "offset_bytes": 1, "bytes": 2, "size_bytes": 5, "name": "a.bin", "seconds": 0.5}"#,
    r#"{"result": "linger", "policy": "ratio=1.5", "finished_unix_ms": 7, "uploaded_bytes": 9, "ratio": 0.5, "left_ms": 1,
        "left_bytes": 2, "over": false}"#,
    r#"{"result": "ls", "files": [{"address": "ab", "name": "a", "bytes": 5, "chunks": 1, "state": "complete", "pinned": true,
        "stored_unix_ms": 1, "last_used_unix_ms": 2, "in_place": "/x", "source_state": "unchanged",
        "directory": {"files": 3, "bytes": 4}}]}"#,
    r#"{"result": "stat", "address": "ab", "name": null, "bytes": 5, "chunks": 1, "state": "partial", "pinned": false,
        "stored_unix_ms": 1, "last_used_unix_ms": 2, "in_place": null, "source_state": null, "directory": null,
        "chunks_here": 1, "bytes_here": 5, "chunker": "fastcdc", "manifest": "cd",
        "seed": {"policy": "forever", "finished_unix_ms": null, "uploaded_bytes": 0, "ratio": 0.0, "left_ms": null,
                 "left_bytes": null, "over": false}}"#,
    r#"{"result": "rm", "address": "ab", "freed_chunks": 1, "freed_bytes": 5}"#,
    r#"{"result": "pin", "address": "ab", "name": "a", "pinned": true}"#,
    r#"{"result": "gc_plan", "orphan_chunks": 1, "orphan_bytes": 2, "evict_files": 1,
        "evict": [{"address": "ab", "name": "a", "bytes": 5}], "compact_packs": 1, "copy_bytes": 2, "reclaim_bytes": 3}"#,
    r#"{"result": "gc", "freed_chunks": 1, "freed_bytes": 2, "evicted_files": 1,
        "evicted": [{"address": "ab", "name": null, "bytes": 5}], "compacted_packs": 1, "copied_bytes": 2,
        "disk_bytes_before": 9, "disk_bytes_after": 6}"#,
    r#"{"result": "du", "files": [{"address": "ab", "name": "a", "logical_bytes": 5, "stored_bytes": 4, "shared_bytes": 1,
        "referenced_bytes": 0}]}"#,
    r#"{"result": "verify", "chunks": 9, "bytes": 99, "bad_chunks": 1, "bad_bytes": 5, "damaged_files": 1,
        "unrepaired_files": 1, "damaged": [{"address": "ab", "name": "a", "bad_chunks": 1, "bad_manifest": false,
        "source": "/x", "source_state": "changed", "missing_chunks": 1, "error": "nobody has it"}], "missing_chunks": 0,
        "repaired_chunks": 0, "fetched_bytes": 0}"#,
    r#"{"result": "providers", "key": "ab", "providers": [{"peer": "12D3", "addrs": ["/ip4/1.2.3.4/tcp/1"]}],
        "asked_peers": 4}"#,
    r#"{"result": "why", "address": "ab", "steps": [{"kind": "hop", "outcome": "nothing", "peer": "12D3", "shared_bits": 7,
        "what": "knows no provider", "took_ms": 3}], "cause": "no_providers", "what": "a", "next": "b", "took_ms": 5}"#,
    r#"{"result": "status", "peer_id": "12D3", "dht_key": "ab", "listen": ["/ip4/1.2.3.4/tcp/1/p2p/12D3"], "http": "127.0.0.1:4180",
        "daemon": true, "pid": 7, "version": "0.1.0", "network": "main", "dht_mode": "auto", "dht_serving": true,
        "network_peers": 5, "swarm_mode": "fair", "peers": 4, "files": 3, "chunks": 2, "stored_bytes": 1,
        "disk_bytes": 9, "max_store_bytes": 99, "reclaimable_bytes": 1, "pinned_files": 1, "read_only": false,
        "scrub": {"bytes_per_s": 8, "checked_bytes": 9, "rounds": 1, "bad_chunks": 0, "repaired_chunks": 0},
        "announced": 3, "to_announce": 1, "dropped": [{"what": "records", "count": 1}]}"#,
];

#[test]
fn a_sample_reads_and_is_written_as_it_was() {
    for sample in SAMPLES {
        let value: Value = serde_json::from_str(sample).unwrap();
        let response: Response = serde_json::from_value(value.clone())
            .unwrap_or_else(|error| panic!("{error} in {value}"));
        assert_eq!(serde_json::to_value(&response).unwrap(), value);
    }
}

#[test]
fn each_result_has_a_sample() {
    let described = serde_json::to_string(&Response::schema()).unwrap();
    let schema: Value = serde_json::from_str(&described).unwrap();
    let mut names = Vec::new();
    tags(&schema, &mut names);
    names.sort_unstable();
    let samples = SAMPLES.map(|sample| {
        let value: Value = serde_json::from_str(sample).unwrap();
        value["result"].as_str().unwrap_or_default().to_owned()
    });
    let mut sampled: Vec<String> = samples
        .into_iter()
        .chain(ELSEWHERE.map(str::to_owned))
        .collect();
    sampled.sort_unstable();
    assert_eq!(names, sampled);
}

/// The names that the tag of a result can have.
fn tags(schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(tag) = fields
                .get("properties")
                .map(|fields| &fields["result"]["enum"][0])
                && let Some(name) = tag.as_str()
            {
                names.push(name.to_owned());
            }
            fields.values().for_each(|field| tags(field, names));
        }
        Value::Array(items) => items.iter().for_each(|item| tags(item, names)),
        _ => {}
    }
}

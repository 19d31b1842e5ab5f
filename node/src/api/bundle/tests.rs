//! The JSON of these messages, pinned.

use serde_json::json;

use super::*;
use crate::api::{
    ErrorKind, Keep, Request, Response,
    pinned::{pinned, pinned_call},
};

#[test]
fn a_list_and_what_became_of_it() {
    pinned_call(
        &Request::GetMany {
            files: vec![ListedFile {
                address: "ab".to_owned(),
                path: "a/b".to_owned(),
            }],
            folder: "/x".into(),
            force: false,
            timeout_ms: Some(5),
            peers: Vec::new(),
            keep: Keep::No,
            pin: false,
            seed: None,
        },
        "get_many",
        json!({
            "files": [{"address": "ab", "path": "a/b"}], "folder": "/x", "force": false,
            "timeout_ms": 5, "peers": [], "keep": "no", "pin": false, "seed": null,
        }),
    );
    let file = FetchedFile {
        address: "ab".to_owned(),
        path: "a/b".to_owned(),
        bytes: 0,
        state: FetchedState::Failed,
        error: Some(ApiError::new(ErrorKind::NotFound, "a", "b", "c")),
    };
    let told = json!({
        "address": "ab", "path": "a/b", "bytes": 0, "state": "failed",
        "error": {"kind": "not_found", "what": "a", "why": "b", "next": "c"},
    });
    pinned(
        &Response::GetMany(ListReport {
            files: vec![file],
            fetched: 0,
            here: 0,
            failed: 1,
            bytes: 0,
            kept_in_place: 0,
            seconds: 0.5,
            providers: Vec::new(),
        }),
        json!({
            "result": "get_many", "files": [told], "fetched": 0, "here": 0, "failed": 1, "bytes": 0, "kept_in_place": 0,
            "seconds": 0.5, "providers": [],
        }),
    );
}

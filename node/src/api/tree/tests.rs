//! The JSON of these messages, pinned.

use serde_json::json;

use super::*;
use crate::api::{
    ChunkerName, Keep, Request, Response,
    pinned::{pinned, pinned_call},
};

#[test]
fn a_folder_that_is_stored() {
    pinned_call(
        &Request::StoreTree {
            path: "/x".into(),
            name: None,
            include: vec!["*.rs".to_owned()],
            exclude: Vec::new(),
            chunker: ChunkerName::FastCdc,
            pinned: true,
        },
        "store_tree",
        json!({
            "path": "/x", "name": null, "include": ["*.rs"], "exclude": [],
            "chunker": "fastcdc", "pinned": true,
        }),
    );
    pinned(
        &Response::StoreTree(StoreTreeReport {
            address: "ab".to_owned(),
            name: Some("x".to_owned()),
            files: 1,
            symlinks: 2,
            empty_folders: 3,
            bytes: 4,
            read_files: 5,
            new_files: 6,
            new_bytes: 7,
            listing_bytes: 8,
            left_out: 9,
            faults: vec![TreeFault {
                path: "a/b".to_owned(),
                kind: ErrorKind::Failure,
                why: "why".to_owned(),
            }],
            outward_symlinks: 10,
            announced_to: 11,
            seconds: 0.5,
        }),
        json!({
            "result": "store_tree", "address": "ab", "name": "x", "files": 1, "symlinks": 2, "empty_folders": 3, "bytes": 4,
            "read_files": 5, "new_files": 6, "new_bytes": 7, "listing_bytes": 8, "left_out": 9,
            "faults": [{"path": "a/b", "kind": "failure", "why": "why"}], "outward_symlinks": 10, "announced_to": 11,
            "seconds": 0.5,
        }),
    );
}

#[test]
fn a_directory_that_is_fetched() {
    pinned_call(
        &Request::GetTree {
            address: "ab".to_owned(),
            path: "a/b".to_owned(),
            include: Vec::new(),
            exclude: vec!["c".to_owned()],
            output: TreeOutput::At("/x".into()),
            force: false,
            timeout_ms: None,
            peers: Vec::new(),
            keep: Keep::Auto,
            pin: false,
            seed: None,
        },
        "get_tree",
        json!({
            "address": "ab", "path": "a/b", "include": [], "exclude": ["c"],
            "output": {"at": "/x"}, "force": false, "timeout_ms": null, "peers": [], "keep": "auto",
            "pin": false, "seed": null,
        }),
    );
    pinned(
        &Response::GetTree(GetTreeReport {
            address: "ab".to_owned(),
            path: "/x".to_owned(),
            files: 1,
            fetched: 2,
            here: 3,
            failed: 4,
            symlinks: 5,
            refused_symlinks: 6,
            empty_folders: 7,
            bytes: 8,
            kept_in_place: 1,
            seconds: 0.5,
            faults: Vec::new(),
            missing: 9,
            providers: Vec::new(),
        }),
        json!({
            "result": "get_tree", "address": "ab", "path": "/x", "files": 1, "fetched": 2, "here": 3, "failed": 4,
            "symlinks": 5, "refused_symlinks": 6, "empty_folders": 7, "bytes": 8, "kept_in_place": 1, "seconds": 0.5, "faults": [],
            "missing": 9, "providers": [],
        }),
    );
    pinned(
        &Response::Directory(DirectoryReport {
            address: "ab".to_owned(),
        }),
        json!({"result": "directory", "address": "ab"}),
    );
}

#[test]
fn what_is_in_a_directory() {
    pinned_call(
        &Request::LsTree {
            address: "ab".to_owned(),
            path: String::new(),
            recursive: true,
            skip: 5,
            timeout_ms: Some(6),
            peers: Vec::new(),
        },
        "ls_tree",
        json!({
            "address": "ab", "path": "", "recursive": true, "skip": 5, "timeout_ms": 6, "peers": [],
        }),
    );
    let entry = TreeEntry {
        path: "a".to_owned(),
        kind: TreeEntryKind::File,
        bytes: 1,
        files: 1,
        address: Some("cd".to_owned()),
        executable: true,
        target: None,
    };
    let link = TreeEntry {
        kind: TreeEntryKind::Symlink,
        bytes: 0,
        files: 0,
        address: None,
        executable: false,
        target: Some("b".to_owned()),
        ..entry.clone()
    };
    pinned(
        &Response::LsTree(TreePage {
            address: "ab".to_owned(),
            entries: vec![entry, link],
            next: Some(2),
        }),
        json!({
            "result": "ls_tree", "address": "ab", "next": 2, "entries": [
                {"path": "a", "kind": "file", "bytes": 1, "files": 1, "address": "cd", "executable": true, "target": null},
                {"path": "a", "kind": "symlink", "bytes": 0, "files": 0, "address": null, "executable": false, "target": "b"},
            ],
        }),
    );
}

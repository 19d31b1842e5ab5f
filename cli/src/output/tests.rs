use casnode_node::api::{Kept, ProviderUse, StoreReport};

use super::*;

fn get_report() -> GetReport {
    GetReport {
        address: "ab".repeat(32),
        path: Some("/tmp/x".to_owned()),
        bytes: 3 << 20,
        seconds: 1.5,
        chunks: 12,
        local_chunks: 0,
        local_bytes: 0,
        fetched_chunks: 12,
        fetched_bytes: 3 << 20,
        duplicate_bytes: 0,
        rejected_chunks: 0,
        unchanged: false,
        kept: Kept::Copy,
        in_place: None,
        seed: None,
        providers: Vec::new(),
    }
}

fn sender(peer: &str, rejected: u32) -> ProviderUse {
    ProviderUse {
        peer: peer.to_owned(),
        bytes: 1 << 20,
        chunks: 4,
        rejected,
    }
}

fn file(name: &str) -> FileInfo {
    FileInfo {
        address: "cd".repeat(32),
        name: Some(name.to_owned()),
        bytes: 1,
        chunks: 1,
        state: "complete".to_owned(),
        pinned: true,
        stored_unix_ms: 0,
        last_used_unix_ms: 0,
        in_place: None,
        source_state: None,
        directory: None,
    }
}

#[test]
fn store_prints_the_address_alone() {
    let report = StoreReport {
        address: "ab".repeat(32),
        bytes: 1,
        chunks: 1,
        new_chunks: 1,
        new_bytes: 1,
        saved_bytes: 0,
        referenced_bytes: 0,
        name: None,
        announced_to: 0,
    };
    let response = Response::Store(report);
    assert_eq!(text(&response), "ab".repeat(32) + "\n");
    let json: serde_json::Value = serde_json::from_str(&json_lines(&response).unwrap()).unwrap();
    for field in ["address", "bytes", "chunks", "new_chunks", "name"] {
        assert!(json.get(field).is_some(), "{field}");
    }
    assert!(
        json.get("result").is_none(),
        "the envelope is not part of the result"
    );
}

#[test]
fn a_directory_is_listed_with_what_is_in_it() {
    let mut file = file("d");
    file.directory = Some(casnode_node::api::DirectoryInfo {
        files: 3,
        bytes: 2 << 10,
    });
    assert!(file_line(&file).ends_with("     2.00 KiB  d/  (3 files)\n"));
}

#[test]
fn a_changed_file_in_place_is_marked_in_the_list() {
    let mut file = file("a");
    file.in_place = Some("/data/a".to_owned());
    file.source_state = Some("intact".to_owned());
    assert!(file_line(&file).ends_with("a  (in place)\n"));
    file.state = "partial".to_owned();
    file.source_state = Some("changed".to_owned());
    assert!(file_line(&file).ends_with("a  (partial, in place, changed)\n"));
}

#[test]
fn what_is_shared_in_place_is_told_in_a_line_and_how_to_have_a_copy() {
    let mut report = get_report();
    assert_eq!(kept_remark(&report), "");
    report.in_place = report.path.clone();
    let told = kept_remark(&report);
    assert!(told.starts_with("the file itself is what") && told.contains("unchanged"));
    assert!(told.contains("`get --copy`") && told.lines().count() == 1);
    report.in_place = Some("/else\nwhere".to_owned());
    assert!(kept_remark(&report).starts_with("/else\\nwhere"));
    assert_eq!(many_kept_remark(0), "");
    assert!(many_kept_remark(1).contains("1 large file,"));
    assert!(many_kept_remark(2).contains("2 large files,"));
}

#[test]
fn get_has_the_promised_fields() {
    let mut report = get_report();
    report.providers.push(sender("p", 0));
    let json = json_lines(&Response::Get(report)).unwrap();
    assert_eq!(json.lines().count(), 1);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let fields = [
        "address",
        "path",
        "bytes",
        "seconds",
        "chunks",
        "duplicate_bytes",
        "rejected_chunks",
        "providers",
    ];
    for field in fields {
        assert!(json.get(field).is_some(), "{field}");
    }
    for field in ["peer", "bytes", "chunks", "rejected"] {
        assert!(json["providers"][0].get(field).is_some(), "{field}");
    }
}

#[test]
fn lists_are_one_object_a_line() {
    let files = vec![file("a"), file("b")];
    assert_eq!(
        json_lines(&Response::Ls { files }).unwrap().lines().count(),
        2
    );
    assert_eq!(json_lines(&Response::Ls { files: Vec::new() }).unwrap(), "");
}

#[test]
fn names_of_others_cannot_drive_the_terminal() {
    let line = file_line(&file("a\u{1b}[2J\nb\u{202e}c"));
    assert_eq!(line.lines().count(), 1);
    assert!(
        !line.contains('\u{1b}') && !line.contains('\u{202e}'),
        "{line:?}"
    );
    assert_eq!(printable("ünïcode ok"), "ünïcode ok");
}

#[test]
fn the_summary_names_rate_and_sources_and_the_warnings_liars() {
    let mut report = get_report();
    report.providers = vec![sender("honest", 0), sender("liar", 3)];
    let summary = get_summary(&report);
    assert!(
        summary.contains("2.0 MiB/s") && summary.contains("from 2 providers"),
        "{summary}"
    );
    assert_eq!(
        liars(&report),
        "warning: liar sent 3 wrong chunks and is asked no more\n"
    );
    assert!(!summary.contains("here already"), "{summary}");
    report.local_bytes = 1 << 20;
    let summary = get_summary(&report);
    assert!(
        summary.contains("1.00 MiB of it were here already"),
        "{summary}"
    );
    report.unchanged = true;
    assert!(get_summary(&report).contains("already there"));
}

#[test]
fn times_of_any_size_are_printed() {
    assert_eq!(stored_at(0), "1970-01-01T00:00:00Z");
    assert!(stored_at(u64::MAX).contains("ms after 1970"));
}

#[test]
fn sums_are_what_b3sum_prints_and_a_list_is_read_from() {
    let address = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    for (path, line) in [
        ("a b", format!("{address}  a b\n")),
        ("a\nb", format!("\\{address}  a\\nb\n")),
        ("a\\n\r", format!("\\{address}  a\\\\n\\r\n")),
    ] {
        assert_eq!(sum_line(address, path), line);
        let read = crate::list::parse(line.as_bytes()).unwrap();
        assert_eq!((&*read[0].address, &*read[0].path), (address, path));
    }
}

//! What is printed about the DHT itself.

use std::fmt::Write as _;

use casnode_node::api::{
    DhtGetReport, DhtLookupReport, DhtMode, DhtModeReport, DhtPutTestReport, RecordReport,
};

use super::{Rows, bytes, count, printable, provider_lines, when};

/// The peers closest to a key, a line each, and what finding them took.
pub(super) fn lookup_text(report: &DhtLookupReport) -> String {
    let mut text = String::new();
    for peer in &report.peers {
        let _ = write!(text, "{:>3} bits  {}", peer.shared_bits, peer.peer);
        for addr in &peer.addrs {
            let _ = write!(text, "  {addr}");
        }
        text.push('\n');
    }
    let complete = if report.complete {
        "complete"
    } else {
        "cut off: try a longer --timeout"
    };
    let _ = writeln!(
        text,
        "{} found with {} in {}, {complete}",
        count(report.peers.len() as u64, "peer"),
        count(report.asked_peers, "request"),
        when::took(report.took_ms)
    );
    text
}

/// What the DHT holds under a key.
pub(super) fn get_text(report: &DhtGetReport, now_ms: u64) -> String {
    let mut rows = Rows::default();
    rows.add("key", &report.key);
    match &report.record {
        Some(record) => add_record(&mut rows, record, now_ms),
        None => rows.add(
            "record",
            "none: the key is a chunk's, or nobody has published the file",
        ),
    }
    rows.add(
        "providers",
        format_args!(
            "{} ({} in {})",
            report.providers.len(),
            count(report.asked_peers, "request"),
            when::took(report.took_ms)
        ),
    );
    rows.0 + &provider_lines(&report.providers)
}

fn add_record(rows: &mut Rows, record: &RecordReport, now_ms: u64) {
    let with = if record.has_manifest {
        "with the list of chunks"
    } else {
        "without the list of chunks"
    };
    rows.add(
        "record",
        format_args!("{}, {with}", bytes(record.record_bytes)),
    );
    rows.add("kind", &record.kind);
    if let Some(name) = &record.name {
        rows.add("name", printable(name));
    }
    rows.add(
        "size",
        format_args!("{} bytes ({})", record.bytes, bytes(record.bytes)),
    );
    rows.add(
        "chunks",
        format_args!("{} ({})", record.chunks, record.chunker),
    );
    if let Some(publisher) = &record.publisher {
        rows.add("publisher", publisher);
    }
    if let Some(published) = record.published_unix_ms {
        rows.add("published", when::relative(now_ms, published));
    }
}

/// The steps of a test, with counts and times.
pub(super) fn put_test_text(report: &DhtPutTestReport) -> String {
    let closest = report.closest_peers;
    let mut rows = Rows::default();
    rows.add("key", &report.key);
    rows.add(
        "lookup",
        format_args!(
            "{} found in {}",
            count(closest, "closest peer"),
            when::took(report.lookup_ms)
        ),
    );
    rows.add(
        "put",
        format_args!(
            "provider record taken by {} of {closest}, value record answered by {} of {closest}, in {}",
            report.provider_copies,
            report.value_copies,
            when::took(report.put_ms)
        ),
    );
    let value = if report.value_read {
        "the value came back"
    } else {
        "the value did not come back"
    };
    rows.add(
        "read",
        format_args!(
            "{} of {closest} name this node as provider, {value}, in {}",
            report.provider_read,
            when::took(report.read_ms)
        ),
    );
    rows.add("result", if report.ok { "works" } else { "failed" });
    rows.0
}

/// Which part the daemon takes.
pub(super) fn mode_text(report: &DhtModeReport) -> String {
    let serving = if report.serving {
        "holds records for others now"
    } else {
        "holds no records for others now"
    };
    format!("{}: {serving}\n", mode_name(report.mode))
}

/// The word for it.
pub(super) fn mode_name(mode: DhtMode) -> &'static str {
    match mode {
        DhtMode::Auto => "auto",
        DhtMode::Server => "server",
        DhtMode::Client => "client",
    }
}

#[cfg(test)]
mod tests {
    use casnode_node::api::{ClosePeer, ProviderInfo};

    use super::*;

    #[test]
    fn a_lookup_says_how_it_ended() {
        let mut report = DhtLookupReport {
            key: "ab".repeat(32),
            peers: vec![ClosePeer {
                peer: "12D3".to_owned(),
                shared_bits: 7,
                addrs: vec!["/ip4/1.2.3.4/tcp/1".to_owned()],
            }],
            asked_peers: 3,
            complete: true,
            took_ms: 12,
        };
        let text = lookup_text(&report);
        assert!(
            text.starts_with("  7 bits  12D3  /ip4/1.2.3.4/tcp/1\n"),
            "{text}"
        );
        assert!(
            text.ends_with("1 peer found with 3 requests in 12 ms, complete\n"),
            "{text}"
        );
        report.complete = false;
        assert!(lookup_text(&report).contains("cut off"));
    }

    #[test]
    fn a_record_is_shown_with_whoever_signed_it_and_a_name_cannot_drive_the_terminal() {
        let record = RecordReport {
            record_bytes: 400,
            bytes: 3 << 20,
            kind: "file".to_owned(),
            chunker: "fixed, 256 KiB".to_owned(),
            chunks: 12,
            name: Some("a\u{1b}[2J".to_owned()),
            has_manifest: true,
            publisher: Some("12D3".to_owned()),
            published_unix_ms: Some(1_000),
        };
        let mut report = DhtGetReport {
            key: "ab".repeat(32),
            record: Some(record),
            providers: vec![ProviderInfo {
                peer: "12D4".to_owned(),
                addrs: Vec::new(),
            }],
            asked_peers: 2,
            took_ms: 5,
        };
        let text = get_text(&report, 181_000);
        for part in [
            "3145728 bytes (3.00 MiB)",
            "12 (fixed",
            "3 min ago",
            "\n12D4\n",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
        report.record = None;
        assert!(get_text(&report, 0).contains("none:"));
    }
}

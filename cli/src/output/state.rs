//! What is printed about this node and its peers.

use std::fmt::Write as _;

use casnode_node::api::{PeerReport, StatusReport};
use indicatif::HumanBytes;

use super::{Rows, bytes, count, printable};

/// This node.
pub(super) fn status_text(report: &StatusReport) -> String {
    let mut rows = Rows::default();
    rows.add("peer id", &report.peer_id);
    if report.daemon {
        rows.add(
            "daemon",
            format_args!("process {}, casnode {}", report.pid, report.version),
        );
        for addr in &report.listen {
            rows.add("listening", addr);
        }
        if let Some(http) = &report.http {
            rows.add("http", format_args!("http://{http}"));
        }
        rows.add("network", network_of(report));
        if let Some(mode) = report.swarm_mode {
            rows.add("swarms", super::swarm_mode(mode));
        }
        rows.add("peers", report.peers);
    } else {
        rows.add("daemon", "none runs on this data directory");
    }
    rows.add(
        "files",
        format_args!("{} ({} pinned)", report.files, report.pinned_files),
    );
    rows.add(
        "chunks",
        format_args!("{} ({})", report.chunks, HumanBytes(report.stored_bytes)),
    );
    let limit = report.max_store_bytes.map_or_else(
        || "no limit".to_owned(),
        |max| format!("limit {}", bytes(max)),
    );
    let only_read = if report.read_only { ", read only" } else { "" };
    rows.add(
        "on disk",
        format_args!(
            "{} ({limit}; {} can be given back{only_read})",
            HumanBytes(report.disk_bytes),
            HumanBytes(report.reclaimable_bytes),
        ),
    );
    if let Some(scrub) = &report.scrub {
        rows.add("scrub", super::upkeep::scrub_text(scrub));
    }
    rows.add(
        "announced",
        format_args!("{} keys, {} to go", report.announced, report.to_announce),
    );
    for dropped in &report.dropped {
        rows.add(
            "dropped",
            format_args!("{} {}", dropped.count, words(&dropped.what)),
        );
    }
    rows.0
}

/// Which network it is in, and how.
fn network_of(report: &StatusReport) -> String {
    let name = report.network.as_deref().unwrap_or("none");
    let mode = report.dht_mode.map_or("no part", super::dht::mode_name);
    let serving = match (mode, report.dht_serving) {
        ("auto", Some(true)) => " (now a server)",
        ("auto", _) => " (now a client)",
        _ => "",
    };
    let peers = report.network_peers.unwrap_or(0);
    format!("{name}, {mode}{serving}, about {}", count(peers, "node"))
}

/// A counter's name as people read it: `failed_handshakes` is for programs.
fn words(name: &str) -> String {
    printable(name).replace('_', " ")
}

/// One connected peer.
pub(super) fn peer_line(peer: &PeerReport) -> String {
    let mut line = peer.peer.clone();
    for addr in &peer.addrs {
        let _ = write!(line, "  {addr}");
    }
    let _ = write!(line, "  {}", peer.transport);
    if let Some(cipher) = &peer.cipher {
        let _ = write!(line, ", {cipher}");
    }
    let _ = write!(
        line,
        ", {}",
        if peer.outbound {
            "dialled by us"
        } else {
            "dialled us"
        }
    );
    if let Some(rtt_ms) = peer.rtt_ms {
        let _ = write!(line, ", {rtt_ms} ms");
    }
    if let Some(agent) = &peer.agent {
        let _ = write!(line, ", {}", printable(agent));
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_shown_in_words() {
        assert_eq!(words("bad_provider_records"), "bad provider records");
        assert!(!words("a_\u{1b}[2J").contains('\u{1b}'));
    }

    #[test]
    fn a_peer_is_shown_with_what_its_connection_is() {
        let mut peer = PeerReport {
            dht_key: String::new(),
            peer: "12D3".to_owned(),
            addrs: vec!["/ip4/1.2.3.4/tcp/1".to_owned()],
            agent: Some("a\u{1b}[2J".to_owned()),
            outbound: true,
            transport: "tcp".to_owned(),
            cipher: Some("tls13-chacha20-poly1305".to_owned()),
            rtt_ms: Some(3),
        };
        let line = peer_line(&peer);
        let begins =
            "12D3  /ip4/1.2.3.4/tcp/1  tcp, tls13-chacha20-poly1305, dialled by us, 3 ms, ";
        assert!(line.starts_with(begins), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
        peer.cipher = None;
        assert!(peer_line(&peer).contains("  tcp, dialled by us, "));
    }
}

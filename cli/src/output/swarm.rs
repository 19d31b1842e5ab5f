//! What is printed about limits, swarms and seeding.

use std::fmt::Write as _;

use casnode_node::SwarmMode;
use casnode_node::api::{GetReport, LimitsReport, SeedReport, SwarmPeer, SwarmReport};

use super::{Rows, bytes, count, printable, when};

/// A node's limits, and what flows.
pub(super) fn limits_text(report: &LimitsReport) -> String {
    let mut rows = Rows::default();
    let row = |limit: Option<u64>, now, all| {
        let limit = limit.map_or_else(
            || "no limit".to_owned(),
            |rate| format!("at most {}", per_s(rate)),
        );
        format!(
            "{limit}; {} now, {} since the start",
            per_s(now),
            bytes(all)
        )
    };
    rows.add(
        "up",
        row(
            report.up_bytes_per_s,
            report.up_now_bytes_per_s,
            report.up_bytes,
        ),
    );
    rows.add(
        "down",
        row(
            report.down_bytes_per_s,
            report.down_now_bytes_per_s,
            report.down_bytes,
        ),
    );
    let local = if report.local {
        "limited like all others"
    } else {
        "not limited"
    };
    rows.add(
        "local",
        format_args!("peers on the local network are {local}"),
    );
    rows.0
}

/// A file's swarm: its facts, and a line for each peer.
pub(super) fn status_text(report: &SwarmReport) -> String {
    let mut rows = Rows::default();
    rows.add("address", &report.address);
    if let Some(name) = &report.name {
        rows.add("name", printable(name));
    }
    rows.add(
        "here",
        format_args!(
            "{} of {}, {}",
            report.chunks_here,
            count(report.chunks, "chunk"),
            bytes(report.bytes)
        ),
    );
    rows.add(
        "swarm",
        format_args!(
            "{}, {}, {:.2} copies",
            mode_name(report.mode),
            count(report.peers.len() as u64, "peer"),
            report.copies
        ),
    );
    rows.add(
        "moved",
        format_args!(
            "{} up, {} down",
            bytes(report.up_bytes),
            bytes(report.down_bytes)
        ),
    );
    rows.add("served", seed_text(&report.seed));
    if !report.peers.is_empty() {
        rows.0.push('\n');
        rows.0.push_str(&table(report));
    }
    rows.0
}

/// For how long a file is served, and what it has given.
pub(super) fn seed_text(seed: &SeedReport) -> String {
    let mut text = seed.policy.clone();
    if seed.over {
        text.push_str(", which is over");
    } else if let Some(left_ms) = seed.left_ms {
        let _ = write!(text, ", {} left", when::span(left_ms.div_ceil(1_000)));
    } else if let Some(left_bytes) = seed.left_bytes {
        let _ = write!(text, ", {} left", bytes(left_bytes));
    }
    let _ = write!(
        text,
        "; {} given so far (ratio {:.2})",
        bytes(seed.uploaded_bytes),
        seed.ratio
    );
    text
}

/// The remark on standard error after a `get`: for how long the file is served from now on, and by whom.
pub(crate) fn seed_remark(report: &GetReport, by_daemon: bool, lingers: bool) -> String {
    match report.seed.as_deref() {
        Some(policy) if lingers => format!("serving it to others: {policy}; Ctrl-C ends it\n"),
        Some("none") => "not served to others (--seed none)\n".to_owned(),
        Some(policy) if by_daemon => format!("the daemon serves it to others: {policy} (--seed)\n"),
        _ if by_daemon => "not served to others: nothing of it is kept here\n".to_owned(),
        _ => "not served to others: no daemon runs; --seed 30m, for example, stays and serves it\n"
            .to_owned(),
    }
}

/// The remark on standard error when serving is over.
pub(crate) fn seed_summary(seed: &SeedReport) -> String {
    format!(
        "served it {}: {} given in all (ratio {:.2})\n",
        seed.policy,
        bytes(seed.uploaded_bytes),
        seed.ratio
    )
}

/// The word for it, and what it means.
pub(crate) fn mode_text(mode: SwarmMode) -> &'static str {
    match mode {
        SwarmMode::Fair => "fair: who gives gets",
        SwarmMode::Trusted => "trusted: nobody owes anybody",
    }
}

/// The word for it.
fn mode_name(mode: SwarmMode) -> &'static str {
    match mode {
        SwarmMode::Fair => "fair",
        SwarmMode::Trusted => "trusted",
    }
}

const HEADINGS: [&str; 8] = [
    "have", "down", "up", "got", "gave", "ratio", "state", "peer",
];

/// A line for each peer, in columns.
fn table(report: &SwarmReport) -> String {
    let lines = report.peers.iter().map(|peer| cells(peer, report.chunks));
    let lines: Vec<[String; 8]> = [HEADINGS.map(str::to_owned)]
        .into_iter()
        .chain(lines)
        .collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in &lines {
        // Numbers end alike, words begin alike, and nothing is after the last one.
        let [numbers @ .., state, peer] = line;
        for (cell, width) in numbers.iter().zip(&widths) {
            let _ = write!(text, "{cell:>width$}  ");
        }
        let _ = writeln!(text, "{state:<0$}  {peer}", widths[6]);
    }
    text
}

fn cells(peer: &SwarmPeer, chunks: u32) -> [String; 8] {
    let mut place = match (&peer.transport, &peer.addr) {
        (Some(transport), Some(addr)) => format!("{}  {transport} {}", peer.peer, printable(addr)),
        _ => peer.peer.clone(),
    };
    if let Some(cipher) = &peer.cipher {
        let _ = write!(place, "  {cipher}");
    }
    [
        peer.have_chunks
            .map_or_else(|| "?".to_owned(), |have| percent(have, chunks)),
        per_s(peer.down_bytes_per_s),
        per_s(peer.up_bytes_per_s),
        bytes(peer.down_bytes),
        bytes(peer.up_bytes),
        ratio(peer.up_bytes, peer.down_bytes),
        state(peer),
        place,
    ]
}

/// What goes on between the two, in words: what it does for this node, and what this node does for it.
fn state(peer: &SwarmPeer) -> String {
    let does = |choked: Option<bool>, wanted: bool, who: [&str; 3]| match (choked, wanted) {
        (None, _) => None,
        (Some(_), false) => Some(who[2].to_owned()),
        (Some(true), true) => Some(who[1].to_owned()),
        (Some(false), true) => Some(who[0].to_owned()),
    };
    let gives = does(
        peer.chokes_us,
        peer.interests_us,
        ["serves us", "chokes us", "has nothing for us"],
    );
    let takes = does(
        peer.choked_by_us,
        peer.interested_in_us,
        ["served by us", "choked by us", "wants nothing of us"],
    );
    let snubs = peer.snubs_us.then(|| "snubs us".to_owned());
    let words: Vec<String> = [gives, takes, snubs].into_iter().flatten().collect();
    words.join(", ")
}

/// What this node gave for what it got.
fn ratio(up_bytes: u64, down_bytes: u64) -> String {
    if down_bytes == 0 {
        return "-".to_owned();
    }
    format!("{:.2}", up_bytes as f64 / down_bytes as f64)
}

fn percent(part: u32, whole: u32) -> String {
    // Rounded down: 100 % is all of it. Of the empty file all is everywhere.
    let percent = u64::from(part) * 100 / u64::from(whole.max(1));
    let percent = if whole == 0 { 100 } else { percent.min(100) };
    format!("{percent} %")
}

/// Bytes a second for people.
fn per_s(bytes_per_s: u64) -> String {
    format!("{}/s", bytes(bytes_per_s))
}

#[cfg(test)]
mod tests {
    use casnode_node::api::ChunkMap;

    use super::*;

    fn seed() -> SeedReport {
        SeedReport {
            policy: "30m".to_owned(),
            finished_unix_ms: Some(0),
            uploaded_bytes: 3 << 20,
            ratio: 1.5,
            left_ms: Some(90_001),
            left_bytes: None,
            over: false,
        }
    }

    fn peer() -> SwarmPeer {
        SwarmPeer {
            peer: "12D3".to_owned(),
            addr: Some("/ip4/1.2.3.4/tcp/1".to_owned()),
            transport: Some("tcp".to_owned()),
            cipher: Some("tls13-aes-128-gcm".to_owned()),
            up_bytes_per_s: 2 << 20,
            down_bytes_per_s: 0,
            up_bytes: 30 << 20,
            down_bytes: 20 << 20,
            have_chunks: Some(3),
            choked_by_us: Some(false),
            chokes_us: Some(true),
            interested_in_us: true,
            interests_us: true,
            snubs_us: false,
        }
    }

    fn swarm(peers: Vec<SwarmPeer>) -> SwarmReport {
        SwarmReport {
            address: "ab".repeat(32),
            name: Some("a\u{1b}[2J".to_owned()),
            bytes: 2 << 20,
            chunks: 8,
            chunks_here: 8,
            mode: SwarmMode::Fair,
            copies: 1.375,
            up_bytes: 30 << 20,
            down_bytes: 0,
            map: ChunkMap::default(),
            seed: seed(),
            peers,
        }
    }

    #[test]
    fn limits_say_what_is_set_and_what_flows() {
        let text = limits_text(&LimitsReport {
            up_bytes_per_s: Some(2 << 20),
            down_bytes_per_s: None,
            local: false,
            up_now_bytes_per_s: 1 << 20,
            down_now_bytes_per_s: 0,
            up_bytes: 5 << 20,
            down_bytes: 0,
        });
        for part in [
            "at most 2.00 MiB/s; 1.00 MiB/s now, 5.00 MiB since the start",
            "no limit; 0 B/s now",
            "are not limited",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn a_swarm_has_a_line_a_peer_and_a_name_cannot_drive_the_terminal() {
        let mut silent = peer();
        silent.have_chunks = None;
        silent.transport = None;
        silent.cipher = None;
        let text = status_text(&swarm(vec![peer(), silent]));
        for part in [
            "fair, 2 peers, 1.38 copies",
            "8 of 8 chunks, 2.00 MiB",
            "37 %",
            "1.50",
            "chokes us, served by us",
            "12D3  tcp /ip4/1.2.3.4/tcp/1  tls13-aes-128-gcm\n",
            "30m, 91 s left; 3.00 MiB given so far (ratio 1.50)",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let table: Vec<&str> = text.split("\n\n").nth(1).unwrap().lines().collect();
        assert_eq!(table.len(), 3);
        let column = table[0].find("peer").unwrap();
        assert!(table[1][column..].starts_with("12D3"), "{text}");
        assert!(!status_text(&swarm(Vec::new())).contains("ratio  state"));
    }

    #[test]
    fn a_part_is_rounded_down_and_whole_only_when_it_is_whole() {
        assert_eq!(percent(999, 1000), "99 %");
        assert_eq!(percent(1000, 1000), "100 %");
        assert_eq!(percent(u32::MAX, 1), "100 %");
        assert_eq!(percent(0, 0), "100 %");
        assert_eq!(ratio(5, 0), "-");
    }

    #[test]
    fn what_a_peer_neither_asks_nor_is_asked_is_left_out() {
        let mut peer = peer();
        (peer.chokes_us, peer.interested_in_us, peer.snubs_us) = (None, false, true);
        assert_eq!(state(&peer), "wants nothing of us, snubs us");
    }

    #[test]
    fn what_is_over_has_nothing_left() {
        let mut report = seed();
        report.over = true;
        assert!(seed_text(&report).starts_with("30m, which is over; 3.00 MiB given"));
        (report.over, report.left_ms, report.left_bytes) = (false, None, Some(1 << 20));
        assert!(seed_text(&report).contains("1.00 MiB left"));
    }
}

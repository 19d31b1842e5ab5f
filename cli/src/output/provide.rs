//! What is printed about announcing.

use std::fmt::Display;

use casnode_node::api::{
    KeysReport, ProvideFileReport, ProvideNowReport, ProvideReport, ProvideRun,
};
use indicatif::HumanCount;

use super::{Rows, count, printable, when};

/// How announcing stands, over all keys.
pub(super) fn status_text(report: &ProvideReport, now_ms: u64) -> String {
    let mut rows = Rows::default();
    rows.add(
        "keys",
        format_args!(
            "{} ({} of files)",
            number(report.keys),
            number(report.files)
        ),
    );
    rows.add("done", number(report.done));
    rows.add(
        "due",
        format_args!(
            "{} ({} of them new)",
            number(report.due),
            number(report.new)
        ),
    );
    rows.add("failed", number(report.failed));
    add_times(
        &mut rows,
        report.last_success_unix_ms,
        report.next_due_unix_ms,
        now_ms,
    );
    if !report.daemon {
        rows.add("daemon", "none runs on this data directory");
        return rows.0;
    }
    let to_go = report
        .finish_secs
        .map_or_else(String::new, |secs| format!(", {} to go", when::span(secs)));
    rows.add(
        "rate",
        format_args!("{} keys an hour{to_go}", number(report.keys_per_hour)),
    );
    rows.add(
        "renewal",
        format_args!(
            "every {}; others forget after {}",
            when::span(report.interval_secs),
            when::span(report.expiry_secs)
        ),
    );
    match report.churn_percent_per_hour {
        Some(percent) => rows.add("churn", format_args!("{percent} % of the peers an hour")),
        None => rows.add("churn", "not measured yet"),
    }
    if let Some(peers) = report.network_peers {
        rows.add("network", format_args!("about {}", count(peers, "peer")));
    }
    if let Some(run) = &report.last_run {
        rows.add("last run", run_text(run, now_ms));
    }
    rows.0
}

fn run_text(run: &ProvideRun, now_ms: u64) -> String {
    format!(
        "{}: {} to {} ({} failed), {}, {}, in {}",
        when::relative(now_ms, run.ended_unix_ms),
        count(run.keys, "key"),
        count(run.peers, "peer"),
        run.failed_peers,
        if run.copies == 1 {
            "1 copy".to_owned()
        } else {
            format!("{} copies", number(run.copies))
        },
        count(run.lookups, "lookup"),
        when::took(run.took_ms)
    )
}

/// The warning on standard error when announcing falls behind; nothing else.
pub(crate) fn warning(report: &ProvideReport) -> String {
    report.behind.as_ref().map_or_else(String::new, |behind| {
        format!(
            "warning: {}\n  why: {}\n  next: {}\n",
            behind.what, behind.why, behind.next
        )
    })
}

/// How announcing of one file stands.
pub(super) fn file_text(report: &ProvideFileReport, now_ms: u64) -> String {
    let mut rows = Rows::default();
    rows.add("address", &report.address);
    if let Some(name) = &report.name {
        rows.add("name", printable(name));
    }
    rows.add("file", keys_text(&report.file));
    add_times(
        &mut rows,
        report.file.last_success_unix_ms,
        report.file.next_due_unix_ms,
        now_ms,
    );
    rows.add("chunks", keys_text(&report.chunks));
    if report.chunks.keys > 0 {
        if let Some(oldest) = report.chunks.oldest_success_unix_ms {
            rows.add("oldest", when::relative(now_ms, oldest));
        }
        add_times(
            &mut rows,
            report.chunks.last_success_unix_ms,
            report.chunks.next_due_unix_ms,
            now_ms,
        );
    }
    rows.0
}

/// How many of some keys are announced, and with how many peers.
fn keys_text(keys: &KeysReport) -> String {
    let mut text = format!("{} of {} announced", number(keys.done), number(keys.keys));
    for (number_of, what) in [
        (keys.due, "due"),
        (keys.failed, "failed"),
        (keys.unscheduled, "not in the schedule"),
    ] {
        if number_of > 0 {
            text += &format!(", {} {what}", number(number_of));
        }
    }
    if keys.done > 0 {
        let held = if keys.copies_min == keys.copies_median {
            count(keys.copies_min, "peer")
        } else {
            format!("{} to {} peers", keys.copies_min, keys.copies_median)
        };
        text += &format!(", held by {held}");
    }
    text
}

fn add_times(rows: &mut Rows, last_ms: Option<u64>, next_ms: Option<u64>, now_ms: u64) {
    match last_ms {
        Some(last) => rows.add("announced", when::relative(now_ms, last)),
        None => rows.add("announced", "never"),
    }
    match next_ms {
        Some(next) if next <= now_ms => rows.add("next", "now"),
        Some(next) => rows.add("next", when::relative(now_ms, next)),
        None => {}
    }
}

/// What was made due, or done.
pub(super) fn now_text(report: &ProvideNowReport) -> String {
    let keys = count(report.keys, "key");
    if report.waited {
        format!("{keys} announced in {}\n", when::took(report.took_ms))
    } else {
        format!("{keys} due now\n")
    }
}

/// A large number for people.
fn number(number: u64) -> impl Display {
    HumanCount(number)
}

#[cfg(test)]
mod tests {
    use casnode_node::api::BehindReport;

    use super::*;

    const NOW_MS: u64 = 1_000_000_000;

    fn report() -> ProvideReport {
        ProvideReport {
            daemon: true,
            keys: 1_000_000,
            files: 3,
            done: 999_000,
            due: 1_000,
            new: 900,
            failed: 2,
            last_success_unix_ms: Some(NOW_MS - 180_000),
            next_due_unix_ms: Some(NOW_MS + 21 * 3_600_000),
            keys_per_hour: 50_000,
            finish_secs: Some(72),
            interval_secs: 22 * 3600,
            expiry_secs: 48 * 3600,
            churn_percent_per_hour: None,
            network_peers: Some(320),
            behind: None,
            last_run: None,
        }
    }

    #[test]
    fn the_state_of_announcing_is_told_in_human_numbers_and_times() {
        let mut report = report();
        let text = status_text(&report, NOW_MS);
        for part in [
            "1,000,000 (3 of files)",
            "1,000 (900 of them new)",
            "3 min ago",
            "in 21 h",
            "50,000 keys an hour, 72 s to go",
            "every 22 h; others forget after 48 h",
            "not measured yet",
            "about 320 peers",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        report.next_due_unix_ms = Some(NOW_MS - 5_000);
        report.churn_percent_per_hour = Some(4);
        report.last_run = Some(ProvideRun {
            ended_unix_ms: NOW_MS - 60_000,
            keys: 7,
            lookups: 2,
            peers: 20,
            failed_peers: 1,
            copies: 140,
            took_ms: 300,
        });
        let text = status_text(&report, NOW_MS);
        for part in [
            "next       now",
            "4 % of the peers",
            "60 s ago: 7 keys to 20 peers (1 failed)",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn without_a_daemon_nothing_is_said_of_what_nobody_does() {
        let mut report = report();
        report.daemon = false;
        let text = status_text(&report, NOW_MS);
        assert!(
            text.contains("none runs") && !text.contains("rate"),
            "{text}"
        );
    }

    #[test]
    fn a_warning_has_three_parts_and_comes_only_with_a_reason() {
        let mut report = report();
        assert_eq!(warning(&report), "");
        report.behind = Some(BehindReport {
            reason: "stalled".to_owned(),
            what: "a".to_owned(),
            why: "b".to_owned(),
            next: "c".to_owned(),
        });
        assert_eq!(warning(&report), "warning: a\n  why: b\n  next: c\n");
    }

    #[test]
    fn of_a_files_keys_only_what_is_so_is_told() {
        let mut keys = KeysReport {
            keys: 12,
            done: 12,
            copies_min: 18,
            copies_median: 20,
            ..KeysReport::default()
        };
        assert_eq!(
            keys_text(&keys),
            "12 of 12 announced, held by 18 to 20 peers"
        );
        keys.done = 0;
        keys.due = 12;
        keys.unscheduled = 1;
        assert_eq!(
            keys_text(&keys),
            "0 of 12 announced, 12 due, 1 not in the schedule"
        );
    }
}

//! How announcing stands, as it is told: numbers, times, and why it falls behind.

use std::time::Duration;

use casnode_dht::{AnnounceTimes, Behind, KeysStatus, ProvideStatus, RunReport, SleepingSchedule};

use super::millis;
use crate::{
    api::{BehindReport, ErrorKind, KeysReport, ProvideReport, ProvideRun},
    errors,
    node::Node,
};

pub(super) fn awake(node: &Node, status: &ProvideStatus) -> ProvideReport {
    ProvideReport {
        daemon: node.serve_dht,
        network_peers: Some(status.network_peers),
        behind: status.behind.map(|behind| tell(behind, status, node)),
        ..numbers(status)
    }
}

fn numbers(status: &ProvideStatus) -> ProvideReport {
    ProvideReport {
        keys: status.keys,
        files: status.files,
        done: status.done,
        due: status.due,
        new: status.new,
        failed: status.failed,
        last_success_unix_ms: status.last_success.map(unix_ms),
        next_due_unix_ms: status.next_due.map(unix_ms),
        keys_per_hour: status.keys_per_hour,
        finish_secs: status.finish.map(|finish| finish.as_secs()),
        interval_secs: status.interval.as_secs(),
        expiry_secs: status.expiry.as_secs(),
        churn_percent_per_hour: status.churn_percent_per_hour,
        last_run: status.last_run.as_ref().map(run),
        ..ProvideReport::default()
    }
}

/// Without a daemon the schedule on disk tells what is in it.
pub(super) fn on_disk(schedule: Option<SleepingSchedule>) -> ProvideReport {
    let times = AnnounceTimes::default();
    let status = schedule.map_or_else(ProvideStatus::default, |mut schedule| schedule.status());
    let behind = (status.keys > 0).then(|| BehindReport {
        reason: "no_daemon".to_owned(),
        what: "nothing is announced, and what was announced is forgotten in time".to_owned(),
        why: format!(
            "no daemon runs on this data directory, and others forget a record after {}",
            span(times.expiry)
        ),
        next: "start `casnode daemon`".to_owned(),
    });
    ProvideReport {
        daemon: false,
        network_peers: None,
        interval_secs: times.renewal.as_secs(),
        expiry_secs: times.expiry.as_secs(),
        behind,
        ..numbers(&status)
    }
}

/// Why announcing falls behind, in the three parts a person needs.
fn tell(behind: Behind, status: &ProvideStatus, node: &Node) -> BehindReport {
    let due = were(status.due);
    let (reason, what, why, next) = match behind {
        Behind::NoPeers => {
            let alone = errors::alone(ErrorKind::Failure, String::new(), node);
            (
                "no_peers",
                format!("{due} due, and nothing is announced"),
                alone.why.replace(", so 0 peers were asked", ""),
                alone.next,
            )
        }
        Behind::Stalled(time) => (
            "stalled",
            format!("{due} due, and no announcement has arrived for {}", span(time)),
            "peers are connected, and none has acknowledged a key".to_owned(),
            "try `casnode dht put-test`: it shows which step fails; `casnode peers` shows who is connected".to_owned(),
        ),
        Behind::TooSlow { needs, has } => (
            "too_slow",
            format!("{due} due, and records run out before all are announced again"),
            format!(
                "at the present rate that takes {}, and others forget what is not renewed within {}",
                span(needs),
                span(has)
            ),
            "give the daemon more of the line with --profile server (on a fast local network: lab), or store fewer files \
             here"
                .to_owned(),
        ),
        other => (
            "behind",
            format!("{due} due, and announcing falls behind"),
            format!("{other:?}"),
            "see `casnode peers` and the daemon's log".to_owned(),
        ),
    };
    BehindReport {
        reason: reason.to_owned(),
        what,
        why,
        next,
    }
}

fn run(run: &RunReport) -> ProvideRun {
    ProvideRun {
        ended_unix_ms: unix_ms(run.ended),
        keys: run.keys,
        lookups: run.lookups,
        peers: run.peers,
        failed_peers: run.failed_peers,
        copies: run.copies,
        took_ms: millis(run.took),
    }
}

pub(super) fn keys_report(status: &KeysStatus) -> KeysReport {
    KeysReport {
        keys: status.keys,
        unscheduled: status.unscheduled,
        done: status.done,
        due: status.due,
        failed: status.failed,
        copies_min: status.copies_min,
        copies_median: status.copies_median,
        oldest_success_unix_ms: status.oldest_success.map(unix_ms),
        last_success_unix_ms: status.last_success.map(unix_ms),
        next_due_unix_ms: status.next_due.map(unix_ms),
    }
}

pub(super) fn were(keys: u64) -> String {
    let verb = if keys == 1 { "is" } else { "are" };
    format!("{} {verb}", errors::count(keys, "key"))
}

/// A span of time, by its largest unit.
fn span(time: Duration) -> String {
    match time.as_secs() {
        secs @ 0..120 => format!("{secs} s"),
        secs @ 120..7_200 => format!("{} min", secs / 60),
        secs @ 7_200..259_200 => format!("{} h", secs / 3_600),
        secs => format!("{} days", secs / 86_400),
    }
}

fn unix_ms(unix_secs: u32) -> u64 {
    u64::from(unix_secs) * 1_000
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::NodeConfig;

    async fn offline(dir: &std::path::Path) -> Arc<Node> {
        let config = NodeConfig {
            data_dir: dir.to_owned(),
            ..NodeConfig::default()
        };
        Node::start(config).await.unwrap()
    }

    #[tokio::test]
    async fn every_reason_to_fall_behind_is_told_in_three_parts() {
        let dir = tempfile::tempdir().unwrap();
        let node = offline(dir.path()).await;
        let mut status = ProvideStatus::default();
        status.due = 7;
        let slow = Behind::TooSlow {
            needs: Duration::from_secs(100 * 3600),
            has: Duration::from_secs(26 * 3600),
        };
        for (behind, reason, part) in [
            (Behind::NoPeers, "no_peers", "connected to no peers"),
            (
                Behind::Stalled(Duration::from_secs(900)),
                "stalled",
                "15 min",
            ),
            (slow, "too_slow", "within 26 h"),
        ] {
            let told = tell(behind, &status, &node);
            assert_eq!(told.reason, reason);
            assert!(told.what.starts_with("7 keys are due"), "{}", told.what);
            let all = format!("{} {}", told.what, told.why);
            assert!(all.contains(part), "{all}");
            assert!(!told.next.is_empty());
        }
        node.shutdown().await;
    }

    #[test]
    fn an_empty_data_directory_is_not_behind_for_want_of_a_daemon() {
        let report = on_disk(None);
        assert_eq!((report.keys, &report.behind), (0, &None));
        assert_eq!(report.expiry_secs, 48 * 3600);
    }

    #[test]
    fn spans_have_their_largest_unit() {
        let told = |secs| span(Duration::from_secs(secs));
        assert_eq!(told(119), "119 s");
        assert_eq!(told(120), "2 min");
        assert_eq!(told(7_200), "2 h");
        assert_eq!(told(172_800), "48 h");
        assert_eq!(told(259_200), "3 days");
    }
}

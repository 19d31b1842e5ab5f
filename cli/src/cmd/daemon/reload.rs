//! SIGHUP: the config file is read again, and what can change while the node runs is changed.

use std::fmt;
use std::num::NonZeroU64;

use casnode_node::api::{LimitsChange, RateLimit};
use casnode_node::{ChangeCall, SettingsChange};
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};

use super::systemd;
use crate::args::{Args, Command};
use crate::config::{Setting, Settings};
use crate::exit::{Failure, Result};
use crate::session::{Context, unexpected};

/// What was read again, and what of it is new.
struct Reread {
    args: Args,
    settings: Settings,
    changes: Vec<Changed>,
}

/// A setting that is another than before.
struct Changed {
    before: Setting,
    now: Setting,
}

/// Reads the file again with each signal, until the daemon is gone.
pub(super) async fn run(context: &Context, mut hangups: Signal, calls: mpsc::Sender<ChangeCall>) {
    let mut latest = None;
    while hangups.recv().await.is_some() {
        systemd::notify("RELOADING=1");
        let settings = latest.as_ref().unwrap_or(&context.settings);
        match reload(settings, &calls).await {
            Ok(reread) => {
                tell(context, &reread.changes);
                latest = Some(reread.settings);
            }
            Err(failure) => {
                let (what, why) = failure.what_and_why();
                tracing::warn!("the settings stay as they are: {what}: {why}");
            }
        }
        systemd::notify("READY=1");
    }
}

async fn reload(settings: &Settings, calls: &mpsc::Sender<ChangeCall>) -> Result<Reread> {
    let (args, now) = settings.read_again()?;
    let pairs = settings.all().into_iter().zip(now.all());
    let changes = pairs
        .filter(|(before, now)| before.shown() != now.shown())
        .map(|(before, now)| Changed { before, now });
    let reread = Reread {
        args,
        settings: now,
        changes: changes.collect(),
    };
    let change = change(&reread)?;
    if change != SettingsChange::default() {
        let (done, changed) = oneshot::channel();
        let sent = calls.send(ChangeCall { change, done }).await;
        // A daemon that is about to end makes no changes.
        if sent.is_err() {
            return Err(unexpected());
        }
        changed.await.map_err(|_| unexpected())??;
    }
    Ok(reread)
}

/// What a running node is told. What was changed by `casnode limits` stays, unless the file says something new.
fn change(reread: &Reread) -> Result<SettingsChange> {
    let Command::Daemon(daemon) = &reread.args.command else {
        return Err(unexpected());
    };
    let is_new = |name| {
        reread
            .changes
            .iter()
            .any(|changed| changed.now.key.name == name)
    };
    let bandwidth = daemon.network.bandwidth();
    let rate = |limit: Option<NonZeroU64>| limit.map_or(RateLimit::Unlimited, RateLimit::BytesPerS);
    let max_store = reread.args.global.max_store.and_then(|limit| limit.0);
    Ok(SettingsChange {
        limits: LimitsChange {
            up: is_new("max-up").then(|| rate(bandwidth.up_bytes_per_s)),
            down: is_new("max-down").then(|| rate(bandwidth.down_bytes_per_s)),
            local: is_new("limit-local").then_some(!bandwidth.exempt_local),
        },
        // A limit that nobody names any more is the one that the data directory remembers.
        max_store: max_store.filter(|_| is_new("max-store")),
        scrub_bytes_per_s: is_new("scrub-rate").then_some(daemon.scrub_rate.0),
    })
}

/// Says what changed. That something did not yet is a warning, which is heard where no remarks are.
fn tell(context: &Context, changes: &[Changed]) {
    let (live, waiting): (Vec<_>, Vec<_>) =
        changes.iter().partition(|changed| changed.now.key.live);
    context.tell(&told(&live, waiting.len()));
    for changed in waiting {
        tracing::warn!("{changed} (with the next start)");
    }
}

/// What is another now, a line each.
fn told(live: &[&Changed], waiting: usize) -> String {
    let rest = match (live.len(), waiting) {
        (0, 0) => " nothing is new\n".to_owned(),
        (0, _) => " what is new holds with the next start\n".to_owned(),
        _ => live.iter().fold("\n".to_owned(), |text, changed| {
            format!("{text}  {changed}\n")
        }),
    };
    format!("the settings were read again:{rest}")
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, old, new) = (self.now.key.name, self.before.shown(), self.now.shown());
        write!(f, "{name}: {old} -> {new}")
    }
}

impl Failure {
    /// What happened and why, each on one line.
    fn what_and_why(&self) -> (String, String) {
        match self {
            Self::Api(error) => {
                let why: Vec<&str> = error.why.lines().map(str::trim).collect();
                (error.what.clone(), why.join("; "))
            }
            Self::Told(_) | Self::OutputClosed => Default::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;
    use std::path::Path;

    use casnode_node::StoreLimit;

    use super::*;
    use crate::config;

    fn start(file: &Path) -> Settings {
        let words = [
            "casnode",
            "--config",
            file.to_str().unwrap(),
            "daemon",
            "--max-down",
            "1MiB/s",
        ];
        let (_, settings) = config::read(words.map(OsString::from).into()).unwrap();
        settings
    }

    /// What a daemon that was started with the first text is told with the second.
    async fn after(first: &str, second: &str) -> (Result<Reread>, Option<SettingsChange>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        fs::write(&file, first).unwrap();
        let settings = start(&file);
        fs::write(&file, second).unwrap();
        let (calls, mut received) = mpsc::channel::<ChangeCall>(1);
        let node = tokio::spawn(async move {
            let call = received.recv().await?;
            let _ = call.done.send(Ok(()));
            Some(call.change)
        });
        let reread = reload(&settings, &calls).await;
        drop(calls);
        (reread, node.await.unwrap())
    }

    #[tokio::test]
    async fn what_is_new_and_can_change_is_changed() {
        let first = "max-up = \"1MiB/s\"\nscrub-rate = \"off\"\nmax-store = \"1GiB\"\nmax-down = \"5MiB/s\"\n";
        let second = "max-store = \"2GiB\"\nscrub-rate = \"2MiB/s\"\nmax-down = \"6MiB/s\"\nnetwork = \"lab\"\n";
        let (reread, change) = after(first, second).await;
        let change = change.unwrap();
        assert_eq!(change.limits.up, Some(RateLimit::Unlimited));
        assert_eq!(change.limits.down, None, "the flag is stronger");
        assert_eq!(change.max_store, Some(StoreLimit::Bytes(2 << 30)));
        assert_eq!(change.scrub_bytes_per_s, Some(Some(2 << 20)));
        let changes = reread.unwrap().changes;
        let shown: Vec<String> = changes.iter().map(Changed::to_string).collect();
        assert!(shown.contains(&"max-up: 1MiB/s -> none".to_owned()));
        assert!(shown.contains(&"network: main -> lab".to_owned()));
        assert_eq!(shown.len(), 4, "{shown:?}");
        assert!(!shown.iter().any(|line| line.starts_with("max-down")));
    }

    #[tokio::test]
    async fn a_broken_file_changes_nothing() {
        let (reread, change) = after(
            "max-up = \"1MiB/s\"\n",
            "max-up = \"2MiB/s\"\nmax-dwon = 1\n",
        )
        .await;
        let (what, why) = reread.err().unwrap().what_and_why();
        assert!(
            what.contains("1 mistake") && why.contains("line 2"),
            "{what}: {why}"
        );
        assert_eq!(change, None);
        let (reread, change) = after("", "").await;
        assert!(reread.unwrap().changes.is_empty());
        assert_eq!(change, None);
        assert!(told(&[], 0).contains("nothing is new"));
        assert!(told(&[], 1).contains("with the next start"));
    }
}

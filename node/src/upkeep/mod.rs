//! What a daemon does beside its calls, so that what is stored stays true and within its limit.
//!
//! [`sources`] looks after files kept in place, [`scrub`] reads stored bytes and checks them, [`repairs`] fetches
//! what was found damaged, [`collect`] gives back space, [`withdraw_evicted`] takes what had to make room off the
//! announce schedule, and [`seeding`] what is served no more. Every task ends with the node.

mod collect;
mod repairs;
mod scrub;
mod seeding;
mod sources;

use std::{convert::Infallible, sync::Arc, time::Duration};

pub(crate) use self::seeding::{run as look_after_seeding, save as save_seeding};
pub(crate) use self::sources::look as look_at_sources;
use self::{repairs::Repairs, scrub::Scrub};
use crate::{api::ScrubReport, node::Node, publish};

/// How often is looked whether files had to make room.
const EVICTED_PAUSE: Duration = Duration::from_secs(2);

/// What background work knows between its steps.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    scrub: Scrub,
    repairs: Repairs,
}

impl Upkeep {
    /// Background work with a check of stored bytes at this pace, if at any.
    pub(crate) fn new(scrub_bytes_per_s: Option<u64>) -> Self {
        Self {
            scrub: Scrub::new(scrub_bytes_per_s),
            repairs: Repairs::default(),
        }
    }

    /// Another pace for the background check, from its next step on; `None`: it stops.
    pub(crate) fn set_scrub_pace(&self, bytes_per_s: Option<u64>) {
        self.scrub.set_pace(bytes_per_s);
    }

    /// What the background check has done; `None` when none runs.
    pub(crate) fn scrub_report(&self) -> Option<ScrubReport> {
        self.scrub.report(self.repairs.repaired_chunks())
    }
}

/// Begins the background work of a daemon.
pub(crate) fn start(node: &Arc<Node>) {
    let tasks = &node.tasks;
    tasks.spawn("watch files in place", sources::watch(node.clone()));
    tasks.spawn("collect", collect::run(node.clone()));
    tasks.spawn("withdraw evicted files", watch_evicted(node.clone()));
    tasks.spawn("scrub", scrub::run(node.clone()));
    for _ in 0..repairs::WORKERS {
        tasks.spawn("repair", repairs::run(node.clone()));
    }
}

/// Takes files that had to make room, and the chunks that went with them, off the announce schedule. What cannot be
/// taken off now is found stale at the next start.
pub(crate) async fn withdraw_evicted(node: &Node) {
    for evicted in node.store.take_evicted() {
        let gone = [&[evicted.address][..], &evicted.members].concat();
        gone.iter().for_each(|address| node.seeding.forget(address));
        if let Err(error) = publish::withdraw(node, &gone, &evicted.freed_chunks).await {
            tracing::warn!(%error, "an evicted file's keys stay scheduled until the next start");
        }
    }
}

async fn watch_evicted(node: Arc<Node>) -> Result<(), Infallible> {
    loop {
        withdraw_evicted(&node).await;
        tokio::time::sleep(EVICTED_PAUSE).await;
    }
}

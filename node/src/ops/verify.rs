//! `verify`: everything is read and checked; with `repair`, what is damaged is fetched again, and only that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use casnode_cas::{
    Address, ChunkHash, FileEntry, LostSource, SourceState, Store, StoreError, Verified,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::files::{not_here, on_store, source_state};
use crate::{
    api::{
        ApiError, DamagedFile, ErrorKind, Event, MAX_LISTED, Phase, Progress, VerifyReport,
        events::EventSink,
    },
    errors,
    node::Node,
    publish,
    repair::{absent, repair, should_be_whole},
    steps::Steps,
};

/// Longest reason told of one file that could not be repaired.
const MAX_REASON_CHARS: usize = 200;

pub(super) async fn verify(
    node: &Arc<Node>,
    address: Option<&str>,
    repair: bool,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<VerifyReport, ApiError> {
    let address: Option<Address> = address
        .map(|text| super::parse("an address", text))
        .transpose()?;
    if let Some(address) = address
        && on_store(node, move |store| store.file(&address))
            .await?
            .is_none()
    {
        return Err(not_here(&address));
    }
    let verified = check(node, address, events.clone(), cancel.clone()).await?;
    let mut report = VerifyReport {
        chunks: verified.chunks,
        bytes: verified.bytes,
        bad_chunks: verified.bad.len() as u64,
        bad_bytes: verified.bad.iter().map(|b| u64::from(b.len_bytes)).sum(),
        ..VerifyReport::default()
    };
    let gone: Vec<ChunkHash> = verified.bad.iter().map(|bad| bad.hash).collect();
    let lost = verified.lost.clone();
    let mut damage = on_store(node, move |store| Damage::find(store, address, &verified)).await?;
    withdraw(node, &gone, &lost).await;
    if repair {
        report.fetched_bytes = damage.repair(node, &events, &cancel).await?;
    }
    let damage = on_store(node, |store| {
        damage.look_again(store)?;
        Ok(damage)
    })
    .await?;
    damage.tell(&mut report);
    Ok(report)
}

/// Announces no more what was found not to be here. What cannot be taken off the schedule is found at the next start.
async fn withdraw(node: &Node, bad: &[ChunkHash], lost: &[LostSource]) {
    let mut withdrawn = publish::withdraw_chunks(node, bad).await;
    for lost in lost {
        withdrawn = withdrawn.and(publish::withdraw(node, &[lost.address], &lost.chunks).await);
    }
    if let Err(error) = withdrawn {
        tracing::warn!(%error, "what is damaged stays announced until the next start");
    }
}

/// Reads and checks on a thread that the node waits for.
async fn check(
    node: &Arc<Node>,
    address: Option<Address>,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<Verified, ApiError> {
    let store = node.store.clone();
    let mut steps = Steps::new(Phase::Verifying, events, cancel);
    let work = node.tasks.blocking("verify", move || {
        let mut progress = |done_bytes, total_bytes| steps.step(done_bytes, Some(total_bytes));
        store.verify(address.as_ref(), &mut progress)
    });
    let verified = work.await.map_err(errors::panicked)?;
    let verified = verified.map_err(|e| errors::store("the store could not be read", &e))?;
    if verified.cancelled {
        return Err(ApiError::new(
            ErrorKind::Interrupted,
            "the check was stopped",
            "it was interrupted",
            "run it again: damage that was found until then is remembered",
        ));
    }
    Ok(verified)
}

/// The files that are not what they should be.
#[derive(Default)]
struct Damage {
    files: BTreeMap<Address, DamagedFile>,
    /// Chunks of theirs that were damaged or absent, each once.
    lacking: BTreeSet<ChunkHash>,
    /// Those of them that are here again.
    repaired_chunks: u64,
}

impl Damage {
    /// What the check has found, and what was found missing before it: by an earlier check, or by a read. Of a file
    /// that nobody relies on, an unfinished download, what was bad is just not here yet.
    fn find(
        store: &Store,
        address: Option<Address>,
        verified: &Verified,
    ) -> Result<Self, StoreError> {
        let mut damage = Self::default();
        let bad = bad_chunks(verified);
        let files = store.files()?.into_iter();
        let wanted = |file: &FileEntry| address.is_none_or(|wanted| wanted == file.address);
        for entry in files.filter(wanted).filter(should_be_whole) {
            let lost = entry.source.filter(|s| s.state != SourceState::Intact);
            let bad_manifest = verified.bad_manifests.contains(&entry.address);
            let bad = bad.get(&entry.address);
            let absent = absent(store, &entry.address)?;
            if lost.is_none() && !bad_manifest && bad.is_none() && absent.is_empty() {
                continue;
            }
            damage.lacking.extend(absent);
            damage.lacking.extend(bad.into_iter().flatten());
            let state = lost
                .as_ref()
                .map(|lost| source_state(lost.state).to_owned());
            let file = DamagedFile {
                address: entry.address.to_string(),
                name: entry.name,
                bad_chunks: bad.map_or(0, |bad| bad.len() as u64),
                bad_manifest,
                source: lost.map(|lost| lost.path.display().to_string()),
                source_state: state,
                ..DamagedFile::default()
            };
            damage.files.insert(entry.address, file);
        }
        Ok(damage)
    }

    /// Fetches what is absent, one file after the other; returns the bytes that came. What cannot be had is noted.
    async fn repair(
        &mut self,
        node: &Arc<Node>,
        events: &EventSink,
        cancel: &CancellationToken,
    ) -> Result<u64, ApiError> {
        let mut fetched_bytes = 0;
        for (address, file) in &mut self.files {
            let (sink, queue) = EventSink::new();
            let fetch = repair(node, *address, None, sink, cancel.child_token());
            let (fetched, ()) = tokio::join!(fetch, forward(queue, events));
            match fetched {
                Ok(repaired) => fetched_bytes += repaired.bytes,
                Err(error) if error.kind == ErrorKind::Interrupted => return Err(error),
                Err(error) => {
                    let reason = error.to_string();
                    file.error = Some(reason.chars().take(MAX_REASON_CHARS).collect());
                }
            }
        }
        Ok(fetched_bytes)
    }

    /// How things are in the end.
    fn look_again(&mut self, store: &Store) -> Result<(), StoreError> {
        for (address, file) in &mut self.files {
            file.missing_chunks = match store.file(address)? {
                Some(_) => absent(store, address)?.len() as u64,
                None => 0, // removed meanwhile: nobody misses anything
            };
        }
        for hash in std::mem::take(&mut self.lacking) {
            if store.has(&hash)? {
                self.repaired_chunks += 1;
            } else {
                self.lacking.insert(hash);
            }
        }
        Ok(())
    }

    fn tell(self, report: &mut VerifyReport) {
        report.missing_chunks = self.lacking.len() as u64;
        report.repaired_chunks = self.repaired_chunks;
        report.damaged_files = self.files.len() as u64;
        report.damaged = self.files.into_values().collect();
        report.damaged.sort_by_key(DamagedFile::is_whole);
        let unrepaired = report.damaged.iter().filter(|file| !file.is_whole());
        report.unrepaired_files = unrepaired.count() as u64;
        report.damaged.truncate(MAX_LISTED);
    }
}

/// The bad chunks of each file.
fn bad_chunks(verified: &Verified) -> BTreeMap<Address, Vec<ChunkHash>> {
    let mut of_file: BTreeMap<Address, Vec<ChunkHash>> = BTreeMap::new();
    for bad in &verified.bad {
        for file in &bad.files {
            of_file.entry(*file).or_default().push(bad.hash);
        }
    }
    of_file
}

/// Hands on what a download says, as part of the repair.
async fn forward(mut queue: mpsc::Receiver<Event>, events: &EventSink) {
    while let Some(event) = queue.recv().await {
        match event {
            Event::Progress(progress) => events.progress(Progress {
                phase: Phase::Repairing,
                ..progress
            }),
            Event::Warning { message } => events.warn(message).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use casnode_cas::{ImportOptions, StoreConfig, import_reader};

    use super::*;
    use crate::config::NodeConfig;

    #[tokio::test]
    async fn a_check_that_nobody_wants_any_more_ends() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreConfig::default()).unwrap();
        let mut bytes = &vec![7; 1 << 20][..];
        let (options, mut go_on) = (ImportOptions::default(), |_, _| ControlFlow::Continue(()));
        import_reader(&store, &mut bytes, None, &options, &mut go_on).unwrap();
        drop(store);
        let config = NodeConfig {
            data_dir: dir.path().to_owned(),
            ..NodeConfig::default()
        };
        let node = Node::start(config).await.unwrap();
        let (events, _heard) = EventSink::new();
        let cancel = CancellationToken::new();
        let report = verify(&node, None, false, events.clone(), cancel.clone()).await;
        assert!(report.unwrap().is_whole());
        cancel.cancel();
        let stopped = verify(&node, None, false, events, cancel).await;
        assert_eq!(stopped.unwrap_err().kind, ErrorKind::Interrupted);
        node.shutdown().await;
    }

    #[test]
    fn what_is_still_wrong_is_listed_first_and_counted_beyond_the_list() {
        let mut damage = Damage::default();
        for byte in 0..=u8::MAX {
            for other in 0..4 {
                let address = Address::from_bytes([[byte, other]; 16].concat().try_into().unwrap());
                let file = DamagedFile {
                    missing_chunks: u64::from(byte == u8::MAX),
                    ..DamagedFile::default()
                };
                damage.files.insert(address, file);
            }
        }
        let mut report = VerifyReport::default();
        damage.tell(&mut report);
        assert_eq!((report.damaged_files, report.unrepaired_files), (1024, 4));
        assert_eq!(report.damaged.len(), MAX_LISTED);
        assert!(report.damaged[..4].iter().all(|file| !file.is_whole()));
        assert!(!report.is_whole());
    }
}

//! Files kept in place: when one was changed or removed, that is told once, and it is announced no more.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use casnode_cas::{Address, ChunkHash, FileSource, SourceKind, SourceState, Store, StoreError};

use crate::{node::Node, ops, publish, repair::absent, tasks::blocking};

/// How often they are looked at: size, time and inode of each.
const PAUSE: Duration = Duration::from_secs(60);

/// A file kept in place that is not what it was.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) address: Address,
    path: PathBuf,
    state: SourceState,
    /// Whether it was the store's own, and no file of the user's.
    own: bool,
    /// Chunks that are absent since.
    chunks: Vec<ChunkHash>,
}

impl Lost {
    /// What a person should know of it.
    pub(crate) fn told(&self) -> String {
        let (path, what) = (self.path.display(), ops::source_state(self.state));
        if self.own {
            format!(
                "{path}, a file of the store itself, is {what}: it is served no more, and fetched again where a peer has it"
            )
        } else {
            format!(
                "{path}, which is kept in place, is {what}: it is served no more; store it again, or fetch it"
            )
        }
    }
}

/// Looks at every file that is not in the packs, and returns those that are found lost by that.
pub(crate) fn look(store: &Store) -> Result<Vec<Lost>, StoreError> {
    Known::from_before(store)?.look(store)
}

/// The files of a store that are known to be lost.
#[derive(Debug, Default)]
struct Known(HashSet<Address>);

impl Known {
    /// Those that were lost before.
    fn from_before(store: &Store) -> Result<Self, StoreError> {
        let lost = lost_sources(store)?.into_iter();
        Ok(Self(lost.map(|(address, _)| address).collect()))
    }

    /// Looks at every file, and returns those that were lost since the last look: found now, or by a read meanwhile.
    fn look(&mut self, store: &Store) -> Result<Vec<Lost>, StoreError> {
        let found = store.check_sources()?.into_iter();
        let mut chunks: HashMap<Address, Vec<ChunkHash>> =
            found.map(|lost| (lost.address, lost.chunks)).collect();
        let mut lost = Vec::new();
        let all = lost_sources(store)?;
        for (address, source) in &all {
            if self.0.insert(*address) {
                lost.push(Lost {
                    address: *address,
                    path: source.path.clone(),
                    state: source.state,
                    own: source.kind == SourceKind::Clone,
                    chunks: match chunks.remove(address) {
                        Some(chunks) => chunks,
                        None => absent(store, address)?,
                    },
                });
            }
        }
        // What was stored again may be lost again.
        let still: HashSet<Address> = all.into_iter().map(|(address, _)| address).collect();
        self.0.retain(|address| still.contains(address));
        Ok(lost)
    }
}

fn lost_sources(store: &Store) -> Result<Vec<(Address, FileSource)>, StoreError> {
    let sources = store.files()?.into_iter();
    let sources = sources.filter_map(|file| file.source.map(|source| (file.address, source)));
    Ok(sources
        .filter(|(_, source)| source.state != SourceState::Intact)
        .collect())
}

/// Looks at the files kept in place, now and every minute.
pub(super) async fn watch(node: Arc<Node>) -> Result<(), Infallible> {
    let store = node.store.clone();
    let mut known = match blocking(move || Known::from_before(&store)).await {
        Ok(Ok(known)) => known,
        _ => Known::default(),
    };
    loop {
        let store = node.store.clone();
        let looked = blocking(move || {
            let lost = known.look(&store);
            (known, lost)
        });
        let lost = match looked.await {
            Ok((after, lost)) => {
                known = after;
                lost
            }
            Err(error) => {
                tracing::warn!(%error, "files kept in place could not be looked at");
                known = Known::default();
                Ok(Vec::new())
            }
        };
        match lost {
            Ok(lost) => {
                for lost in &lost {
                    give_up(&node, lost).await;
                }
            }
            Err(error) => tracing::warn!(%error, "files kept in place could not be looked at"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn give_up(node: &Node, lost: &Lost) {
    tracing::warn!(file = %lost.address, "{}", lost.told());
    if lost.own {
        node.upkeep.repairs.want(&[lost.address]);
    }
    if let Err(error) = publish::withdraw(node, &[lost.address], &lost.chunks).await {
        tracing::warn!(%error, "its keys stay scheduled until the next start");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, ops::ControlFlow};

    use casnode_cas::{Claim, ImportOptions, StoreConfig, import_reader};

    use super::*;

    #[test]
    fn a_file_that_a_read_found_changed_is_told_too_and_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), StoreConfig::default()).unwrap();
        let mut manifests = Vec::new();
        for name in ["a", "b", "c"] {
            let bytes = name.repeat(5000).into_bytes();
            let scratch = Store::in_memory().unwrap();
            let (options, mut go_on) = (ImportOptions::default(), |_, _| ControlFlow::Continue(()));
            let file = import_reader(&scratch, &mut &bytes[..], None, &options, &mut go_on);
            let manifest = file.unwrap().manifest;
            let path = dir.path().join(name);
            fs::write(&path, &bytes).unwrap();
            store
                .adopt_in_place(&manifest, &path, None, Claim::Pinned)
                .unwrap();
            manifests.push(manifest);
        }
        let change = |name: &str| fs::write(dir.path().join(name), b"something else").unwrap();
        change("a");
        store.check_sources().unwrap();
        let mut known = Known::from_before(&store).unwrap();
        change("b");
        store.get(&manifests[1].chunks()[0].hash).unwrap_err();
        fs::remove_file(dir.path().join("c")).unwrap();
        let lost = known.look(&store).unwrap();
        let mut told: Vec<String> = lost.iter().map(Lost::told).collect();
        told.sort();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("/b, which is kept in place, is changed"),
            "{told:?}"
        );
        assert!(
            told[1].contains("/c, which is kept in place, is missing"),
            "{told:?}"
        );
        assert!(lost.iter().all(|lost| lost.chunks.len() == 1));
        assert!(known.look(&store).unwrap().is_empty());
    }
}

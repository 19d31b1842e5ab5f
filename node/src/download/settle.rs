//! What stays of a file when its download is done.

use std::{path::PathBuf, sync::Arc};

use casnode_cas::{ChunkHash, Claim, FileEntry, FileState, Manifest, Store, StoreError};

use crate::{api::Keep, errors, node::Node, publish, tasks::blocking};

/// What a person wants to stay here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stay {
    pub(crate) keep: Keep,
    /// What keeps it when others are collected or have to make room.
    pub(crate) claim: Claim,
}

/// A file whose bytes are where they belong.
pub(super) struct Fetched {
    pub(super) manifest: Manifest,
    /// Where the output is.
    pub(super) path: Option<PathBuf>,
    /// All of it is in the store's unfinished file of this address.
    pub(super) is_stores: bool,
    pub(super) name: Option<String>,
    /// Somebody else announces it.
    pub(super) is_announced_apart: bool,
}

/// What the store made of a file.
enum Entered {
    /// It was here before.
    Known,
    /// It is here now.
    New,
    /// It is here no more, and neither are these chunks.
    Gone(Vec<ChunkHash>),
}

/// Makes the store have of a fetched file what is wanted, and tells the DHT. What goes wrong here is told in words.
pub(super) async fn settle(node: &Arc<Node>, stay: Stay, fetched: Fetched) -> Result<(), String> {
    let (manifest, name) = (fetched.manifest.clone(), fetched.name.clone());
    let announces = node.serve_dht && !fetched.is_announced_apart;
    let store = node.store.clone();
    let entered = blocking(move || enter(&store, stay, &fetched)).await;
    let entered = entered.map_err(|error| errors::chain(&error))?;
    match entered.map_err(|error| errors::chain(&error))? {
        Entered::Known => {}
        Entered::New if announces => {
            let all = publish::file_and_chunks(node.clone(), manifest, name);
            node.tasks.spawn("publish", all);
        }
        Entered::New => {}
        Entered::Gone(chunks) => {
            let withdrawn = publish::withdraw(node, &[manifest.address()], &chunks).await;
            if let Err(error) = withdrawn {
                tracing::warn!(%error, "keys of a file that was not kept stay scheduled until the next start");
            }
        }
    }
    Ok(())
}

fn enter(store: &Store, stay: Stay, fetched: &Fetched) -> Result<Entered, StoreError> {
    let (manifest, name) = (&fetched.manifest, fetched.name.as_deref());
    let address = manifest.address();
    let before = store.file(&address)?;
    let was_whole = before.is_some_and(|entry| entry.state == FileState::Complete);
    let entered = match (stay.keep, fetched.path.as_deref()) {
        // What was kept before is not this download's to remove.
        (Keep::No, _) if was_whole => Entered::Known,
        (Keep::No, _) => {
            return match store.remove_file(&address) {
                // A directory that is here wants it, and has a part of it.
                Err(StoreError::IsMember { .. }) => Ok(Entered::Known),
                removed => Ok(Entered::Gone(removed?.unwrap_or_default().freed_chunks)),
            };
        }
        (Keep::InPlace, Some(path)) => {
            store.adopt_in_place(manifest, path, name, stay.claim)?;
            if was_whole {
                Entered::Known
            } else {
                Entered::New
            }
        }
        (Keep::Store | Keep::InPlace, _) if was_whole => {
            store.claim_file(&address, stay.claim)?;
            Entered::Known
        }
        (Keep::Store | Keep::InPlace, _) => {
            let entry = complete(store, stay, fetched)?;
            if let (None, Some(name)) = (entry.name, name) {
                store.set_name(&address, name)?;
            }
            Entered::New
        }
    };
    store.drop_unfinished(&address); // what it had is elsewhere by now
    store.touch(&address)?;
    Ok(entered)
}

/// Makes the download complete: its file becomes the store's, or what is in there goes into packs.
fn complete(store: &Store, stay: Stay, fetched: &Fetched) -> Result<FileEntry, StoreError> {
    let manifest = &fetched.manifest;
    if fetched.is_stores {
        // The entry has the name that it began with; one that is known only now is given later.
        match store.add_unfinished(manifest, None, stay.claim) {
            Ok(Some(entry)) => return Ok(entry),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a fetched file is copied into packs"),
        }
    }
    if store.has_unfinished(&manifest.address()) {
        for chunk in manifest.chunks() {
            if store.is_lent(&chunk.hash)?
                && let Some(bytes) = store.get(&chunk.hash)?
            {
                store.put(&chunk.hash, &bytes)?;
            }
        }
    }
    store.complete_partial(&manifest.address(), stay.claim)
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::File, ops::ControlFlow, path::Path};

    use casnode_cas::{ImportOptions, Imported, StoreConfig, import_reader};

    use super::*;

    const CHUNK: usize = 256 << 10;

    fn content() -> Vec<u8> {
        (0..3 * CHUNK)
            .map(|i| u8::try_from(i * 31 / CHUNK + i % 251).unwrap_or(0))
            .collect()
    }

    fn import(store: &Store, bytes: &[u8], pinned: bool) -> Imported {
        let options = ImportOptions {
            claim: Claim::own(pinned),
            ..ImportOptions::default()
        };
        let size = Some(bytes.len() as u64);
        import_reader(store, &mut &bytes[..], size, &options, &mut |_, _| {
            ControlFlow::Continue(())
        })
        .unwrap()
    }

    fn stay(keep: Keep) -> Stay {
        let claim = Claim::Own;
        Stay { keep, claim }
    }

    /// A file that was fetched to `path`, if anywhere but the packs.
    fn fetched(manifest: &Manifest, path: Option<&Path>) -> Fetched {
        Fetched {
            manifest: manifest.clone(),
            path: path.map(Path::to_owned),
            is_stores: false,
            name: None,
            is_announced_apart: false,
        }
    }

    #[test]
    fn what_is_not_wanted_goes_and_what_was_whole_before_stays() {
        let bytes = content();
        let source = Store::in_memory().unwrap();
        let manifest = import(&source, &bytes, true).manifest;
        let store = Store::in_memory().unwrap();
        store.begin_partial(&manifest, None, Claim::Own).unwrap();
        let chunk = &manifest.chunks()[0];
        let earlier = source.get(&chunk.hash).unwrap().unwrap();
        store.put(&chunk.hash, &earlier).unwrap();
        match enter(&store, stay(Keep::No), &fetched(&manifest, None)).unwrap() {
            Entered::Gone(chunks) => assert_eq!(chunks, [chunk.hash]),
            _ => panic!("it is kept"),
        }
        assert!(store.file(&manifest.address()).unwrap().is_none());
        let entered = enter(&source, stay(Keep::No), &fetched(&manifest, None)).unwrap();
        assert!(matches!(entered, Entered::Known));
        assert!(source.have(&manifest).unwrap().is_complete());
    }

    #[test]
    fn a_name_that_became_known_later_is_entered() {
        let source = Store::in_memory().unwrap();
        let manifest = import(&source, &content(), true).manifest;
        let store = Store::in_memory().unwrap();
        store.begin_partial(&manifest, None, Claim::Own).unwrap();
        for chunk in manifest.chunks() {
            let bytes = source.get(&chunk.hash).unwrap().unwrap();
            store.put(&chunk.hash, &bytes).unwrap();
        }
        let named = Fetched {
            name: Some("late".to_owned()),
            ..fetched(&manifest, None)
        };
        enter(&store, stay(Keep::Store), &named).unwrap();
        let entry = store.file(&manifest.address()).unwrap().unwrap();
        assert_eq!(entry.name.as_deref(), Some("late"));
    }

    #[test]
    fn a_file_that_is_here_can_be_pinned_by_fetching_it() {
        let store = Store::in_memory().unwrap();
        let imported = import(&store, &content(), false);
        let pinned = |store: &Store| store.file(&imported.address).unwrap().unwrap().is_pinned();
        assert!(!pinned(&store));
        let wanted = Stay {
            keep: Keep::Store,
            claim: Claim::Pinned,
        };
        enter(&store, wanted, &fetched(&imported.manifest, None)).unwrap();
        assert!(pinned(&store));
        enter(
            &store,
            stay(Keep::Store),
            &fetched(&imported.manifest, None),
        )
        .unwrap();
        assert!(
            pinned(&store),
            "it is let go of only when that is asked for"
        );
    }

    #[test]
    fn an_output_takes_the_place_of_what_was_damaged_in_the_store() {
        let bytes = content();
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let manifest = {
            let store = Store::open(&data_dir, StoreConfig::default()).unwrap();
            import(&store, &bytes, false).manifest
        };
        flip(&data_dir, &bytes[CHUNK..2 * CHUNK]);
        let store = Store::open(&data_dir, StoreConfig::default()).unwrap();
        let chunk = &manifest.chunks()[1];
        store.get(&chunk.hash).unwrap_err();
        let output = dir.path().join("out");
        fs::write(&output, &bytes).unwrap();
        let file = Arc::new(casnode_cas::OutputFile::from(File::open(&output).unwrap()));
        store.lend(&chunk.hash, file.clone(), CHUNK as u64, chunk.len_bytes);
        let written = fetched(&manifest, Some(&output));
        enter(&store, stay(Keep::InPlace), &written).unwrap();
        store.unlend(&file);
        assert!(store.get(&chunk.hash).unwrap().unwrap() == bytes[CHUNK..2 * CHUNK]);
        assert!(store.have(&manifest).unwrap().is_complete());
    }

    /// Flips a byte of `wanted` in the pack that holds it.
    fn flip(data_dir: &Path, wanted: &[u8]) {
        for pack in fs::read_dir(data_dir.join("packs")).unwrap() {
            let path = pack.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            if let Some(at) = bytes.windows(wanted.len()).position(|w| w == wanted) {
                bytes[at + wanted.len() / 2] ^= 1;
                fs::write(&path, bytes).unwrap();
                return;
            }
        }
        panic!("it is in no pack");
    }

    /// As a kill between the output and the store leaves it.
    #[test]
    fn what_is_in_an_unfinished_file_alone_goes_into_packs_when_the_output_was_there_already() {
        let bytes = content();
        let (dir, source) = (tempfile::tempdir().unwrap(), Store::in_memory().unwrap());
        let manifest = import(&source, &bytes, false).manifest;
        let store = Store::open(dir.path(), StoreConfig::default()).unwrap();
        store.begin_partial(&manifest, None, Claim::Own).unwrap();
        let begun = store.begin_unfinished(&manifest.address(), manifest.size_bytes());
        begun.unwrap().unwrap().write_at(0, &bytes).unwrap();
        drop(store);
        let store = Store::open(dir.path(), StoreConfig::default()).unwrap();
        let wanted = Stay {
            keep: Keep::Store,
            claim: Claim::Pinned,
        };
        enter(&store, wanted, &fetched(&manifest, Some(dir.path()))).unwrap();
        let entry = store.file(&manifest.address()).unwrap().unwrap();
        assert!(entry.is_pinned() && entry.state == FileState::Complete);
        assert!(!store.has_unfinished(&manifest.address()));
        for chunk in manifest.chunks() {
            assert!(!store.is_lent(&chunk.hash).unwrap());
            assert!(store.get(&chunk.hash).unwrap().is_some());
        }
    }
}

//! What stays of a file when its download is done.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use casnode_cas::{ChunkHash, FileState, Manifest, Store, StoreError};

use crate::{api::Keep, errors, node::Node, publish, tasks::blocking};

/// What a person wants to stay here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stay {
    pub(crate) keep: Keep,
    /// Whatever is collected or has to make room.
    pub(crate) pin: bool,
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

/// Makes the store have of a fetched file what is wanted, and tells the DHT. The bytes are where they belong: what goes
/// wrong here is told in words.
pub(super) async fn settle(
    node: &Arc<Node>,
    stay: Stay,
    manifest: &Manifest,
    path: Option<PathBuf>,
    name: Option<String>,
) -> Result<(), String> {
    let (store, m, hint) = (node.store.clone(), manifest.clone(), name.clone());
    let entered = blocking(move || enter(&store, stay, &m, path.as_deref(), hint.as_deref())).await;
    let entered = entered.map_err(|error| errors::chain(&error))?;
    match entered.map_err(|error| errors::chain(&error))? {
        Entered::Known => {}
        Entered::New if node.serve_dht => {
            let all = publish::file_and_chunks(node.clone(), manifest.clone(), name);
            node.tasks.spawn("publish", all);
        }
        Entered::New => {}
        Entered::Gone(chunks) => {
            let withdrawn = publish::withdraw(node, &manifest.address(), &chunks).await;
            if let Err(error) = withdrawn {
                tracing::warn!(%error, "keys of a file that was not kept stay scheduled until the next start");
            }
        }
    }
    Ok(())
}

fn enter(
    store: &Store,
    stay: Stay,
    manifest: &Manifest,
    path: Option<&Path>,
    name: Option<&str>,
) -> Result<Entered, StoreError> {
    let address = manifest.address();
    let before = store.file(&address)?;
    let was_whole = before.is_some_and(|entry| entry.state == FileState::Complete);
    let entered = match (stay.keep, path) {
        // What was kept before is not this download's to remove.
        (Keep::No, _) if was_whole => Entered::Known,
        (Keep::No, _) => {
            let removed = store.remove_file(&address)?;
            return Ok(Entered::Gone(removed.unwrap_or_default().freed_chunks));
        }
        (Keep::InPlace, Some(path)) => {
            store.adopt_in_place(manifest, path, name, stay.pin)?;
            if was_whole {
                Entered::Known
            } else {
                Entered::New
            }
        }
        (Keep::Store | Keep::InPlace, _) if was_whole => {
            if stay.pin {
                store.set_pinned(&address, true)?;
            }
            Entered::Known
        }
        (Keep::Store | Keep::InPlace, _) => {
            store.complete_partial(&address, stay.pin)?;
            Entered::New
        }
    };
    store.touch(&address)?;
    Ok(entered)
}

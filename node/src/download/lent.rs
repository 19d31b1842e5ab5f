//! Chunks that are kept in what their download writes alone: its output, or a file of the store.

use std::{convert::Infallible, sync::Arc};

use casnode_cas::{ChunkRef, FileState, Manifest, OutputFile, Store, StoreError};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{node::Node, publish, tasks::blocking};

/// What becomes of lent chunks when their download is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// The output is somebody else's: nothing is read there any more.
    No,
    /// The file is the store's, which knows them until it has taken it over, or removed it.
    WithTheStore,
}

/// What a download has in its output and not in the packs: as long as this lives, everybody in this node finds it
/// there. Nothing of it is durable before the output is finished; a download that is broken off finds again what the
/// output has by reading it.
#[derive(Debug)]
pub(super) struct Lent {
    store: Store,
    file: Arc<OutputFile>,
    stay: Stay,
    /// Says that it is over.
    _over: DropGuard,
}

impl Lent {
    /// Chunks in `file`, of which nobody is told in the end that they are here if they are not.
    pub(super) fn new(
        node: &Arc<Node>,
        manifest: &Arc<Manifest>,
        file: Arc<OutputFile>,
        stay: Stay,
    ) -> Arc<Self> {
        let over = CancellationToken::new();
        let (task_node, manifest, done) = (node.clone(), manifest.clone(), over.clone());
        node.tasks.spawn("withdraw", async move {
            done.cancelled().await;
            withdraw(&task_node, &manifest).await;
            Ok::<(), Infallible>(())
        });
        Self::until(node.store.clone(), file, stay, over)
    }

    /// Chunks in `file`; when the last of its owners lets go of it, `over` is cancelled.
    pub(super) fn until(
        store: Store,
        file: Arc<OutputFile>,
        stay: Stay,
        over: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            file,
            stay,
            _over: over.drop_guard(),
        })
    }

    /// Whether the file is the store's.
    pub(super) fn is_stores(&self) -> bool {
        self.stay == Stay::WithTheStore
    }

    /// This chunk is right, and in the file.
    pub(super) fn lend(&self, chunk: &ChunkRef, offset: u64) {
        let file = self.file.clone();
        self.store.lend(&chunk.hash, file, offset, chunk.len_bytes);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.stay == Stay::No {
            self.store.unlend(&self.file);
        }
    }
}

/// Announces the file no more if nothing of it has stayed.
async fn withdraw(node: &Node, manifest: &Arc<Manifest>) {
    let (store, m) = (node.store.clone(), manifest.clone());
    let stayed = move || -> Result<bool, StoreError> {
        Ok(match store.file(&m.address())? {
            None => false,
            Some(entry) if entry.state == FileState::Complete => true,
            Some(_) => store.have(&m)?.count() > 0,
        })
    };
    let withdrawn = match blocking(stayed).await {
        Ok(Ok(true)) => return,
        Ok(Ok(false)) => publish::withdraw(node, &[manifest.address()], &[]).await,
        Ok(Err(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
    };
    if let Err(error) = withdrawn {
        tracing::warn!(%error, "a file that has not stayed here remains scheduled until the next start");
    }
}

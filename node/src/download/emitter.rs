//! Hands a file to a stream in order; only groups that are proven leave.

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;
use casnode_cas::{Listing, Store};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::{Mutex, mpsc},
};

use super::{LiveHave, directory, engine::EngineEvent};
use crate::tasks::blocking;

/// The stream of a call and how far it got; it outlives an attempt with a forged manifest, whose proven groups are
/// the file's own bytes all the same.
pub(super) struct StreamOut {
    out: Box<dyn AsyncWrite + Send + Unpin>,
    written_bytes: u64,
}

impl StreamOut {
    pub(super) fn new(out: Box<dyn AsyncWrite + Send + Unpin>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            out,
            written_bytes: 0,
        }))
    }

    /// Writes the part of `bytes`, which begin at `offset` of the file, that has not left yet. Cancel-safe.
    async fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        loop {
            let done = usize::try_from(self.written_bytes.saturating_sub(offset))
                .map_err(io::Error::other)?;
            match bytes.get(done..) {
                None | Some([]) => return Ok(()),
                Some(rest) => match self.out.write(rest).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    n => self.written_bytes += n as u64,
                },
            }
        }
    }
}

/// Writes the whole file to `out`, each group when it is proven, and tells the engine how far that is. The bytes come
/// from the store, so a slow reader of the stream delays nobody. A directory may be refused.
pub(super) async fn emit(
    store: Store,
    live: Arc<LiveHave>,
    out: Arc<Mutex<StreamOut>>,
    refuses_directories: bool,
    events: mpsc::Sender<EngineEvent>,
) -> io::Result<()> {
    let mut out = out.lock().await;
    let manifest = live.manifest.clone();
    let mut proven = live.proven.subscribe();
    let mut last: Option<(usize, Bytes)> = None;
    for group in 0..manifest.proof().group_count() {
        let chunks = manifest.chunks_of_group(group);
        position(&chunks, &events).await;
        proven
            .wait_for(|count| *count > group)
            .await
            .map_err(io::Error::other)?;
        let range = manifest.proof().group_range(group);
        for index in manifest.chunks_of_group(group) {
            let start = manifest.chunk_offset(index);
            let bytes = match &last {
                Some((at, bytes)) if *at == index => bytes.clone(),
                _ => read(&store, &manifest.chunks()[index].hash).await?,
            };
            if refuses_directories
                && start == 0
                && Listing::is_listing(&bytes)
                && is_directory(&store, &live, &events).await?
            {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let from =
                usize::try_from(range.start.saturating_sub(start)).map_err(io::Error::other)?;
            let to = usize::try_from(range.end - start)
                .map_err(io::Error::other)?
                .min(bytes.len());
            out.write(start + from as u64, &bytes[from..to]).await?;
            last = Some((index, bytes));
        }
    }
    out.out.shutdown().await
}

/// Tells the engine what is needed next.
async fn position(chunks: &Range<usize>, events: &mpsc::Sender<EngineEvent>) {
    if let (Ok(index), Ok(end)) = (u32::try_from(chunks.start), u32::try_from(chunks.end)) {
        let _ = events.send(EngineEvent::Position { index, end }).await;
    }
}

/// Whether a file that begins as a listing is one: all of it is waited for, if its size leaves that open.
async fn is_directory(
    store: &Store,
    live: &Arc<LiveHave>,
    events: &mpsc::Sender<EngineEvent>,
) -> io::Result<bool> {
    let manifest = live.manifest.clone();
    if !directory::may_be_listing(&manifest) {
        return Ok(false);
    }
    let mut proven = live.proven.subscribe();
    for group in 0..manifest.proof().group_count() {
        position(&manifest.chunks_of_group(group), events).await;
        let come = proven.wait_for(|count| *count > group).await;
        come.map_err(io::Error::other)?;
    }
    let store = store.clone();
    let judge = move || {
        directory::is_listing(&manifest, |index| {
            let hash = &manifest.chunks().get(index)?.hash;
            store.get(hash).ok().flatten()
        })
    };
    blocking(judge).await.map_err(io::Error::other)
}

async fn read(store: &Store, hash: &casnode_cas::ChunkHash) -> io::Result<Bytes> {
    let (store, hash) = (store.clone(), *hash);
    let found = blocking(move || store.get(&hash))
        .await
        .map_err(io::Error::other)?;
    match found.map_err(io::Error::other)? {
        Some(bytes) => Ok(bytes),
        None => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("chunk {hash} is no longer in the store"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_that_have_left_do_not_leave_again() {
        let (there, mut here) = tokio::io::duplex(64);
        let out = StreamOut::new(Box::new(there));
        let mut out = out.lock().await;
        out.write(0, b"hello").await.unwrap();
        out.write(0, b"hello").await.unwrap();
        out.write(3, b"lo, world").await.unwrap();
        out.out.shutdown().await.unwrap();
        let mut all = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut here, &mut all)
            .await
            .unwrap();
        assert_eq!(all, "hello, world");
    }
}

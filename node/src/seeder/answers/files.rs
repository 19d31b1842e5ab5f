//! What is said of small files that are asked for by their addresses alone.

use casnode_cas::{Address, ChunkHash, StoreError};
use casnode_dht::exchange::{FileReply, MAX_FILE_BYTES, MAX_FILES_REPLY_BYTES, Reply};
use tokio::sync::oneshot;

use super::Answers;
use crate::tasks::blocking;

impl Answers {
    /// Begins to read small files: the first ones, as many as a reply holds. Every read is checked against the address.
    pub(in crate::seeder) fn files(&self, addresses: Vec<Address>, tell: oneshot::Sender<Reply>) {
        let store = self.store.clone();
        let served: Vec<bool> = addresses.iter().map(|a| self.is_served(a)).collect();
        drop(blocking(move || {
            let (mut files, mut wire_bytes) = (Vec::new(), 0);
            for (address, is_served) in addresses.iter().zip(served) {
                let file = match is_served {
                    true => read(&store, address),
                    false => Ok(FileReply::NotHere),
                };
                let file = file.unwrap_or_else(|error| {
                    tracing::warn!(file = %address, %error, "a stored file could not be served");
                    FileReply::NotHere
                });
                wire_bytes += file.wire_bytes();
                if wire_bytes > MAX_FILES_REPLY_BYTES {
                    break;
                }
                files.push(file);
            }
            let _ = tell.send(Reply::Files(files));
        }));
    }

    /// These bytes of these files went out.
    pub(in crate::seeder) fn sent_files(&self, addresses: &[Address], files: &[FileReply]) {
        for (address, file) in addresses.iter().zip(files) {
            if let FileReply::Whole(bytes) = file {
                self.seeding.uploaded(*address, bytes.len() as u64);
            }
        }
    }
}

/// Only what is a file here: for anything else nobody needs to ask by an address.
fn read(store: &casnode_cas::Store, address: &Address) -> Result<FileReply, StoreError> {
    let Some(entry) = store.file(address)? else {
        return Ok(FileReply::NotHere);
    };
    if entry.size_bytes == 0 {
        return Ok(FileReply::Whole(bytes::Bytes::new()));
    }
    if entry.chunk_count > 1 || entry.size_bytes > MAX_FILE_BYTES as u64 {
        return Ok(FileReply::Larger);
    }
    let found = store.get(&ChunkHash::from_bytes(*address.as_bytes()))?;
    let fits = |bytes: &bytes::Bytes| bytes.len() <= MAX_FILE_BYTES;
    Ok(found
        .filter(fits)
        .map_or(FileReply::NotHere, FileReply::Whole))
}

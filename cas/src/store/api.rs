//! What a store does with chunks and files.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::core::Core;
use super::entry::{Claim, FileEntry};
use super::types::{LostSource, Put, Removed, StoreStats};
use super::{Added, Hold, NewClone, Store};
use crate::bitmap::HaveBitmap;
use crate::error::StoreError;
use crate::export::OutputFile;
use crate::id::{Address, ChunkHash, ManifestId};
use crate::import::FileIdentity;
use crate::manifest::Manifest;

impl Store {
    /// Protects the chunks of an unfinished import.
    pub(crate) fn hold(&self) -> Hold {
        self.core.hold()
    }

    /// Whether the chunk is here, as far as is known: a chunk that was found damaged is not.
    ///
    /// # Errors
    /// When the index fails.
    pub fn has(&self, hash: &ChunkHash) -> Result<bool, StoreError> {
        self.core.has(hash)
    }

    /// The chunk's bytes, verified against the hash on every read.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the stored bytes are not the chunk's: it counts as absent from then
    /// on, and a put of the right bytes heals it.
    pub fn get(&self, hash: &ChunkHash) -> Result<Option<Bytes>, StoreError> {
        self.core.get(hash)
    }

    /// Has these chunks read ahead, behind the caller: a sequential reader says what comes next. Only a
    /// hint.
    pub fn will_need(&self, hashes: &[ChunkHash]) {
        self.core.will_need(hashes);
    }

    /// Gives memory back that reading had no use for since the last call: for a caller that calls it now and
    /// then.
    pub fn trim_memory(&self) {
        self.core.packs.buffers.trim();
    }

    /// Appends a chunk, unless it is here. It can be read at once, and survives a crash only after a
    /// [`Store::commit`] that began later. The caller has verified the bytes.
    ///
    /// A chunk that no file, unfinished download or running import lists stays until it is named to
    /// [`Store::drop_unreferenced`], or until [`Store::drop_orphans`].
    ///
    /// # Errors
    /// [`StoreError::ChunkLength`], [`StoreError::NoSpace`], or what the medium says.
    pub fn put(&self, hash: &ChunkHash, bytes: &[u8]) -> Result<Put, StoreError> {
        self.core.put(hash, bytes)
    }

    /// Returns when everything put before the call survives a power cut. Concurrent commits share the
    /// work.
    ///
    /// # Errors
    /// After a failure nothing put since the last success is acknowledged; if a sync failed, the store
    /// takes no more writes until it is opened again.
    pub fn commit(&self) -> Result<(), StoreError> {
        self.core.commit()
    }

    /// Records a file whose chunks are all here. Durable when it returns.
    ///
    /// If the file is here already and whole, its manifest stays, and only name and claim are taken over.
    ///
    /// # Errors
    /// [`StoreError::MissingChunks`] when not all chunks are here.
    pub fn add_file(
        &self,
        manifest: &Manifest,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<FileEntry, StoreError> {
        self.core.add_file(manifest, name, claim)
    }

    /// Remembers the manifest of a download that begins; its chunks are protected from then on. Durable
    /// when it returns. Changes nothing if the file is whole or has this manifest; replaces another
    /// partial manifest and drops the chunks that only that one needed. A damaged record of this manifest
    /// is written anew, and the entry stays what it was.
    ///
    /// # Errors
    /// What the medium says.
    pub fn begin_partial(
        &self,
        manifest: &Manifest,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<FileEntry, StoreError> {
        self.core.begin_partial(manifest, name, claim)
    }

    /// Makes a download complete. Durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::UnknownFile`] (also for a [`crate::FileState::Remnant`]), [`StoreError::MissingChunks`], or
    /// [`StoreError::CorruptManifest`], which a [`Store::begin_partial`] or [`Store::add_file`] mends.
    pub fn complete_partial(
        &self,
        address: &Address,
        claim: Claim,
    ) -> Result<FileEntry, StoreError> {
        self.core.complete_partial(address, claim)
    }

    /// A file's entry.
    ///
    /// # Errors
    /// When the index fails.
    pub fn file(&self, address: &Address) -> Result<Option<FileEntry>, StoreError> {
        self.core.file(address)
    }

    /// All entries, by address.
    ///
    /// # Errors
    /// When the index fails.
    pub fn files(&self) -> Result<Vec<FileEntry>, StoreError> {
        self.core.files()
    }

    /// The entries of files that were stored or fetched by themselves, by address: directories among them,
    /// but not what is here for directories alone.
    ///
    /// # Errors
    /// When the index fails.
    pub fn own_files(&self) -> Result<Vec<FileEntry>, StoreError> {
        self.core.files_that(FileEntry::is_own)
    }

    /// Visits all entries by address, without memory for all of them. Their last uses are not looked up:
    /// each is when the file was stored.
    ///
    /// # Errors
    /// When the index fails.
    pub fn for_each_file(
        &self,
        mut visit: impl FnMut(FileEntry) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.core.each_file(&mut visit)
    }

    /// A file's manifest, verified; a [`crate::FileState::Remnant`] has none.
    ///
    /// # Errors
    /// [`StoreError::CorruptManifest`] when it is damaged.
    pub fn manifest(&self, address: &Address) -> Result<Option<Manifest>, StoreError> {
        self.core.manifest(address)
    }

    /// Which file the manifest with this id belongs to, if it is stored here.
    ///
    /// # Errors
    /// When the index fails.
    pub fn address_of(&self, id: &ManifestId) -> Result<Option<Address>, StoreError> {
        Ok(self.core.manifest_entry(id)?.map(|entry| entry.address))
    }

    /// Which chunks of a manifest are here.
    ///
    /// # Errors
    /// When the index fails.
    pub fn have(&self, manifest: &Manifest) -> Result<HaveBitmap, StoreError> {
        self.core.have(manifest)
    }

    /// Visits those of these files of which something is here, in no order: each with its manifest, and with which of its
    /// chunks are here. One whose manifest is damaged is passed over. Their last uses are not looked up. What is known of
    /// each is in memory: thousands at a time, not all.
    ///
    /// # Errors
    /// When the index or the medium fails.
    pub fn for_each_here(
        &self,
        addresses: &[Address],
        mut visit: impl FnMut(FileEntry, Manifest, HaveBitmap),
    ) -> Result<(), StoreError> {
        self.core.each_here(addresses, &mut visit)
    }

    /// Forgets a file, and gives back the space of the chunks that no other file, unfinished download or
    /// running import needs. `None` when it is not here.
    ///
    /// A directory goes with the members that have no claim of their own and are in no other directory, in
    /// steps between which others have their turn; where it is interrupted, [`Store::drop_orphans`] does the
    /// rest. A file that a directory lists stays, and only its own claim goes ([`Removed::kept_by`]).
    ///
    /// # Errors
    /// [`StoreError::IsMember`] for a file that is here for a directory alone, or what the medium says.
    pub fn remove_file(&self, address: &Address) -> Result<Option<Removed>, StoreError> {
        self.core.remove_file(address)
    }

    /// Gives back the space of those of these chunks that nothing needs: fetched under a manifest that
    /// proved forged, for example.
    ///
    /// # Errors
    /// What the medium says.
    pub fn drop_unreferenced(&self, hashes: &[ChunkHash]) -> Result<Removed, StoreError> {
        self.core.drop_unreferenced(hashes)
    }

    /// Gives back the space of all chunks that nothing needs: left by a crash in the middle of an import,
    /// or put for a download whose entry was removed meanwhile; and before that, of members that no directory
    /// lists, unless somebody holds them ([`Store::hold_members`]). Visits every file and chunk of the index.
    ///
    /// # Errors
    /// What the medium says.
    pub fn drop_orphans(&self) -> Result<Removed, StoreError> {
        self.core.drop_orphans()
    }

    /// Forgets the forged manifest of a download. `keep` are the chunks, by index in it, that are proven
    /// to be the file's own bytes; one that is not here is not kept.
    ///
    /// If the address still names this manifest and is [`crate::FileState::Partial`], the manifest goes with all
    /// its chunks that nothing else needs, and the kept ones stay behind under a durable entry of state
    /// [`crate::FileState::Remnant`], which has no manifest. The next [`Store::begin_partial`] or
    /// [`Store::add_file`] of the address takes those over that its manifest lists, and drops the others.
    /// When none ever follows, [`Store::remove_file`] gives their space back. With nothing to keep, or no
    /// space to note it, no entry stays behind.
    ///
    /// If the address has another manifest or is complete, only chunks that are not kept go. If it has no
    /// entry any more, all that nothing needs go.
    ///
    /// # Errors
    /// What the medium says.
    pub fn forget_forged(
        &self,
        manifest: &Manifest,
        keep: &HaveBitmap,
    ) -> Result<Removed, StoreError> {
        self.core.forget_forged(manifest, keep)
    }

    /// The store in numbers. Reads the sizes of its own files. Entries are counted when one has changed; where there are so
    /// many that it takes more than 20 ms, their number may be up to 20 times as old as it takes to count them.
    ///
    /// # Errors
    /// When the index fails.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let totals = self.core.totals();
        let counts = self.core.count_files()?;
        self.core.measure();
        let disk_bytes = self.core.space.disk_bytes();
        let needed = self.core.live_bytes()
            + self.core.index.disk_bytes()
            + self.core.space.reserve_disk_bytes();
        Ok(StoreStats {
            files: counts.files,
            pinned_files: counts.pinned,
            chunks: totals.chunks,
            stored_bytes: totals.bytes,
            disk_bytes,
            waste_bytes: disk_bytes.saturating_sub(needed),
            max_bytes: self.max_bytes(),
        })
    }

    /// Gives a file that is here a name, which became known after its download began. Durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::UnknownFile`], or what the medium says.
    pub fn set_name(&self, address: &Address, name: &str) -> Result<(), StoreError> {
        self.core.set_name(address, name)
    }

    /// Gives a file at least this claim; `None` when it is not here. Durable when it returns.
    ///
    /// # Errors
    /// What the medium says.
    pub fn claim_file(
        &self,
        address: &Address,
        claim: Claim,
    ) -> Result<Option<FileEntry>, StoreError> {
        self.core.claim_file(address, claim)
    }

    /// Pins a file, or lets go of it: it is then a file of its own, unless it was none before. `None` when it is not here. Durable when it returns.
    ///
    /// # Errors
    /// What the medium says.
    pub fn set_pinned(
        &self,
        address: &Address,
        pinned: bool,
    ) -> Result<Option<FileEntry>, StoreError> {
        self.core.set_pinned(address, pinned)
    }

    /// Notes that a file was used now; at most once a minute that is written down.
    ///
    /// # Errors
    /// When the index fails.
    pub fn touch(&self, address: &Address) -> Result<(), StoreError> {
        self.core.touch(address)
    }

    /// Compares the file that this one is kept in, if it is kept in place, with what it was, as
    /// [`Store::check_sources`] does with all.
    ///
    /// # Errors
    /// What the medium says.
    pub fn check_source(&self, address: &Address) -> Result<(), StoreError> {
        self.core.check_source(address)
    }

    /// Whether a file is pinned, or in a directory that is.
    ///
    /// # Errors
    /// When the index fails.
    pub fn is_pinned(&self, address: &Address) -> Result<bool, StoreError> {
        self.core.is_pinned(address)
    }

    /// Compares every file kept in place with what it was. Those that changed or vanished become
    /// [`crate::FileState::Partial`], and what only they held counts as absent.
    ///
    /// # Errors
    /// What the medium says.
    pub fn check_sources(&self) -> Result<Vec<LostSource>, StoreError> {
        self.core.check_sources()
    }

    /// Lets the store read verified bytes from a file that a download is writing. Nothing of this is
    /// durable; `file` is remembered until [`Store::unlend`].
    pub fn lend(&self, hash: &ChunkHash, file: Arc<OutputFile>, offset: u64, len_bytes: u32) {
        self.core.lend(hash, file, offset, len_bytes);
    }

    /// Whether the chunk is here only as long as it is lent: a download that needs it for longer puts it.
    ///
    /// # Errors
    /// When the index fails.
    pub fn is_lent(&self, hash: &ChunkHash) -> Result<bool, StoreError> {
        self.core.is_lent(hash)
    }

    /// Whether the chunk is in bytes that nobody but the store can change: neither lent nor in a file kept in place.
    /// Whoever needs it whatever becomes of the files of others puts it.
    ///
    /// # Errors
    /// When the index fails.
    pub fn has_own(&self, hash: &ChunkHash) -> Result<bool, StoreError> {
        self.core.has_own(hash)
    }

    /// Forgets everything that was lent of this file.
    pub fn unlend(&self, file: &Arc<OutputFile>) {
        self.core.unlend(file);
    }

    /// Records a file that stays at `path`, whose bytes the caller has just found to be what the manifest
    /// says: chunks that the store does not have are read from there. Durable when it returns.
    ///
    /// # Errors
    /// What the medium says.
    pub fn adopt_in_place(
        &self,
        manifest: &Manifest,
        path: &Path,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<FileEntry, StoreError> {
        let data = std::fs::metadata(path).map_err(StoreError::io("look at", path))?;
        self.add_in_place(manifest, path, &FileIdentity::of(&data), name, claim)
            .map(|added| added.entry)
    }

    /// The same for a file whose identity is known.
    pub(crate) fn add_in_place(
        &self,
        manifest: &Manifest,
        path: &Path,
        identity: &FileIdentity,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<Added, StoreError> {
        self.core
            .add_in_place(manifest, path, identity, name, claim)
    }

    /// A clone of a file that is to be stored, where the file system shares blocks.
    pub(crate) fn clone_of(&self, file: &File) -> Option<NewClone> {
        Core::clone_of(&self.core, file)
    }

    /// Records a file whose clone was just read.
    pub(crate) fn add_clone(
        &self,
        manifest: &Manifest,
        clone: &NewClone,
        name: Option<&str>,
        claim: Claim,
    ) -> Result<Added, StoreError> {
        self.core.add_clone(manifest, clone, name, claim)
    }

    /// Visits every committed chunk with its length in bytes, until told to stop.
    ///
    /// # Errors
    /// When the index fails.
    pub fn for_each_chunk(
        &self,
        mut visit: impl FnMut(&ChunkHash, u32) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.core.for_each_chunk_from(0, &mut visit)
    }

    /// The same, in order, from the first hash on that begins with this byte or a greater one. To meet all chunks in one
    /// pass takes far less than to ask for each.
    ///
    /// # Errors
    /// When the index fails.
    pub fn for_each_chunk_from(
        &self,
        first_byte: u8,
        mut visit: impl FnMut(&ChunkHash, u32) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.core.for_each_chunk_from(first_byte, &mut visit)
    }
}

//! Reading everything again: on demand as fast as the disk goes, or a little at a time.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use super::core::Core;
use super::entry::{self, ChunkEntry, Place};
use super::settings::SCRUBBED;
use super::types::{BadChunk, Scrubbed, Verified};
use super::{Store, lock};
use crate::error::StoreError;
use crate::id::{Address, ChunkHash};

/// Called with the bytes read and the bytes in all; breaks to end it.
pub type VerifyProgress<'a> = &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>;

/// Chunks whose places are in memory at once: 16 MiB of them.
const SPAN_CHUNKS: usize = 1 << 18;

/// Chunks handed to a reading thread at once.
const PART_CHUNKS: usize = 16;

/// Parts that are read ahead of the threads: 16 MiB of chunks of 256 KiB.
const AHEAD_PARTS: usize = 4;

/// Most threads that read and hash.
const MAX_READERS: usize = 4;

/// A chunk and where it is.
type Placed = (ChunkHash, Place);

impl Core {
    pub(super) fn verify(
        &self,
        address: Option<&Address>,
        progress: VerifyProgress<'_>,
    ) -> Result<Verified, StoreError> {
        let mut report = Verified::default();
        if !self.is_read_only() {
            self.commit()?;
            report.lost = self.check_sources()?;
        }
        let total = match address {
            Some(address) => self
                .usage(Some(address))?
                .iter()
                .map(|u| u.stored_bytes)
                .sum(),
            None => self.totals().bytes,
        };
        self.verify_manifests(address, &mut report)?;
        report.mended_records += u64::from(self.mend_settings()?);
        let mut from = Some(Vec::new());
        while let Some(start) = from {
            let span = match address {
                Some(address) => {
                    from = None;
                    self.places_of_file(address)?
                }
                None => {
                    let (span, next) = self.places_from(&start)?;
                    from = next;
                    span
                }
            };
            if self
                .read_all(span, total, &mut report, progress)?
                .is_break()
            {
                report.cancelled = true;
                break;
            }
        }
        self.name_files(&mut report.bad)?;
        Ok(report)
    }

    fn verify_manifests(
        &self,
        address: Option<&Address>,
        report: &mut Verified,
    ) -> Result<(), StoreError> {
        let files = match address {
            Some(address) => self.file(address)?.into_iter().collect(),
            None => self.files()?,
        };
        for file in files {
            let (mended, intact) = self.mend_file(&file)?;
            report.mended_records += mended;
            if !intact {
                report.bad_manifests.push(file.address);
            }
        }
        Ok(())
    }

    fn places_of_file(&self, address: &Address) -> Result<Vec<Placed>, StoreError> {
        let Some(file) = self.file(address)? else {
            return Ok(Vec::new());
        };
        let mut places = Vec::new();
        for hash in self.listed_chunks(&file)? {
            if let Some(chunk) = self.indexed(&hash)?.filter(|chunk| !chunk.bad) {
                places.push((hash, chunk.place));
            }
        }
        Ok(places)
    }

    /// The next chunks of the index from the key `from` on, and the key to go on from.
    fn places_from(&self, from: &[u8]) -> Result<(Vec<Placed>, Option<Vec<u8>>), StoreError> {
        let mut places = Vec::new();
        let mut next = None;
        let start = if from.is_empty() {
            entry::CHUNK_PREFIX
        } else {
            from
        };
        let scanned = self
            .index
            .scan_from(entry::CHUNK_PREFIX, start, &mut |key, value| {
                if places.len() == SPAN_CHUNKS {
                    next = Some(key.to_vec());
                    return Ok(ControlFlow::Break(()));
                }
                let chunk = ChunkEntry::decode(value)?;
                if !chunk.bad {
                    places.push((entry::chunk_of_key(key)?, chunk.place));
                }
                Ok(ControlFlow::Continue(()))
            });
        self.noting(scanned)?;
        Ok((places, next))
    }

    /// Reads these chunks in the order in which they lie on the disk.
    fn read_all(
        &self,
        mut span: Vec<Placed>,
        total: u64,
        report: &mut Verified,
        progress: VerifyProgress<'_>,
    ) -> Result<ControlFlow<()>, StoreError> {
        span.sort_unstable_by_key(|(_, place)| match *place {
            Place::Pack(at) => (0, at.pack, at.offset),
            Place::Source(extent) => (1, extent.source, extent.offset),
        });
        let readers = thread::available_parallelism().map_or(1, |n| n.get().min(MAX_READERS));
        let read_bytes = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let before = report.bytes;
        let (ask, asked) = sync_channel::<&[Placed]>(readers);
        let (tell, told) = sync_channel::<Placed>(span.len().clamp(1, 1024));
        let asked = Arc::new(Mutex::new(asked));
        let broken_off = thread::scope(|scope| {
            let collector = scope.spawn(move || told.into_iter().collect::<Vec<_>>());
            let mut threads = Vec::new();
            for _ in 0..readers {
                let (asked, tell) = (Arc::clone(&asked), tell.clone());
                let (read_bytes, stop) = (&read_bytes, &stop);
                threads.push(scope.spawn(move || self.reader(&asked, &tell, read_bytes, stop)));
            }
            drop((tell, asked));
            let mut broken_off = ControlFlow::Continue(());
            let mut ahead = span.chunks(PART_CHUNKS);
            for part in ahead.by_ref().take(AHEAD_PARTS) {
                self.read_ahead(part);
            }
            for part in span.chunks(PART_CHUNKS) {
                self.read_ahead(ahead.next().unwrap_or_default());
                broken_off = progress(before + read_bytes.load(Ordering::Relaxed), total);
                if broken_off.is_break() || ask.send(part).is_err() {
                    stop.store(true, Ordering::Relaxed);
                    break;
                }
            }
            drop(ask);
            for thread in threads {
                if let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
            (broken_off, collector.join())
        });
        let (broken_off, suspects) = broken_off;
        let suspects = suspects.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        report.bytes += read_bytes.load(Ordering::Relaxed);
        report.chunks += span.len() as u64;
        for (hash, place) in suspects {
            if self.mend_chunk(&hash)? {
                report.mended_records += 1;
                continue;
            }
            report.bad.extend(self.confirm_bad(&hash, place)?);
        }
        let _ = progress(report.bytes, total);
        Ok(broken_off)
    }

    /// The readers share the order of the disk, which the kernel cannot see from one of them.
    fn read_ahead(&self, part: &[Placed]) {
        let in_packs = part.iter().filter_map(|(_, place)| match *place {
            Place::Pack(at) => Some(at),
            Place::Source(_) => None,
        });
        self.packs.will_need(&in_packs.collect::<Vec<_>>());
    }

    /// Reads and hashes what it is handed, until there is no more; tells of what is not right.
    fn reader(
        &self,
        asked: &Mutex<Receiver<&[Placed]>>,
        tell: &SyncSender<Placed>,
        read_bytes: &AtomicU64,
        stop: &AtomicBool,
    ) {
        loop {
            let Ok(part) = lock(asked).recv() else { return };
            if stop.load(Ordering::Relaxed) {
                continue;
            }
            for (hash, place) in part {
                let bytes = match place {
                    Place::Pack(at) => self.packs.read(*at),
                    Place::Source(extent) => self.read_source(*extent),
                };
                let intact = bytes.is_ok_and(|bytes| ChunkHash::of(&bytes) == *hash);
                if !intact && tell.send((*hash, *place)).is_err() {
                    return;
                }
                read_bytes.fetch_add(place.len_bytes().into(), Ordering::Relaxed);
            }
        }
    }

    /// It may have been moved or removed while it was read: only what is still there counts.
    fn confirm_bad(&self, hash: &ChunkHash, place: Place) -> Result<Option<BadChunk>, StoreError> {
        if self
            .indexed(hash)?
            .is_none_or(|chunk| chunk.bad || chunk.place != place)
        {
            return Ok(None);
        }
        match self.get(hash) {
            Err(StoreError::Corrupt { .. }) => Ok(Some(BadChunk {
                hash: *hash,
                len_bytes: place.len_bytes(),
                files: Vec::new(),
            })),
            Err(error) => Err(error),
            Ok(_) => Ok(None),
        }
    }

    /// Enters which files list the bad chunks.
    fn name_files(&self, bad: &mut [BadChunk]) -> Result<(), StoreError> {
        if bad.is_empty() {
            return Ok(());
        }
        for file in self.files()? {
            let listed: HashSet<ChunkHash> = self.listed_chunks(&file)?;
            for chunk in bad.iter_mut().filter(|chunk| listed.contains(&chunk.hash)) {
                chunk.files.push(file.address);
            }
        }
        Ok(())
    }

    pub(super) fn scrub_step(&self, max_bytes: u64) -> Result<Scrubbed, StoreError> {
        self.commit()?;
        let noted = self.setting(SCRUBBED)?;
        let from = noted.map_or_else(Vec::new, |noted| noted.value);
        let start = if from.starts_with(entry::CHUNK_PREFIX) {
            from
        } else {
            entry::CHUNK_PREFIX.to_vec()
        };
        let mut places = Vec::new();
        let (mut bytes, mut next) = (0u64, None);
        let scanned = self
            .index
            .scan_from(entry::CHUNK_PREFIX, &start, &mut |key, value| {
                if bytes >= max_bytes || places.len() == SPAN_CHUNKS {
                    next = Some(key.to_vec());
                    return Ok(ControlFlow::Break(()));
                }
                let chunk = ChunkEntry::decode(value)?;
                if !chunk.bad {
                    bytes += u64::from(chunk.len_bytes());
                    places.push((entry::chunk_of_key(key)?, chunk.place));
                }
                Ok(ControlFlow::Continue(()))
            });
        self.noting(scanned)?;
        let mut scrubbed = Scrubbed {
            bytes,
            wrapped: next.is_none(),
            ..Scrubbed::default()
        };
        for (hash, place) in places {
            if let Err(StoreError::Corrupt { .. }) = self.get(&hash) {
                scrubbed.bad.push(BadChunk {
                    hash,
                    len_bytes: place.len_bytes(),
                    files: Vec::new(),
                });
            }
        }
        self.name_files(&mut scrubbed.bad)?;
        self.note(SCRUBBED, &next.unwrap_or_default())?;
        Ok(scrubbed)
    }
}

impl Store {
    /// Reads and hashes every chunk, or those of one file, and looks at the manifests and at the files
    /// kept in place. What is not right counts as absent from then on; a put of the right bytes heals it.
    ///
    /// # Errors
    /// When the index fails, or damage cannot be noted.
    pub fn verify(
        &self,
        address: Option<&Address>,
        progress: VerifyProgress<'_>,
    ) -> Result<Verified, StoreError> {
        self.core.verify(address, progress)
    }

    /// Reads and hashes about `max_bytes` more, going on where the last call ended, also after the store
    /// was closed.
    ///
    /// # Errors
    /// When the index fails, or damage cannot be noted.
    pub fn scrub_step(&self, max_bytes: u64) -> Result<Scrubbed, StoreError> {
        self.core.scrub_step(max_bytes)
    }
}

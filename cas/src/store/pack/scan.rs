//! Walking a pack from header to header, over torn tails and damage.

use std::ops::Range;

use bytes::Bytes;

use super::record::{
    ALIGN, PACK_HEADER_BYTES, RECORD_HEADER_BYTES, RECORD_MAGIC, RecordHeader, decode_record_header,
};
use super::{Location, Packs, RecordKind};
use crate::chunker::MAX_CHUNK_BYTES;
use crate::error::{StoreError, io_is_loss};
use crate::manifest::MAX_MANIFEST_BYTES;
use crate::store::medium::PackFile;

/// Bytes read at once while looking for the next intact header.
const RESYNC_BYTES: usize = 1024 * 1024;

/// The same where that cannot be read: what a medium loses at once.
const RESYNC_PIECE_BYTES: usize = 4096;

/// How far a walk trusts the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    /// No payload is read: for a visitor that reads those it wants by itself.
    Nothing,
    /// Chunk payloads above the inline size are not read: for packs that were synced, whose chunks are
    /// verified whenever they are read.
    Headers,
    /// Every payload is hashed: for a tail that was perhaps not synced.
    Payloads,
}

/// An intact record.
pub(crate) struct Scanned {
    pub(crate) kind: RecordKind,
    pub(crate) hash: [u8; 32],
    pub(crate) at: Location,
    /// Freed earlier: its payload may be gone.
    pub(crate) dead: bool,
    /// The payload, when it was read; then it matches the hash.
    pub(crate) payload: Option<Bytes>,
}

/// What a walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScanEnd {
    /// Where the last intact record ends, aligned.
    pub(crate) end: u64,
    /// Records with an intact header and a payload that is not what the header says.
    pub(crate) bad_payloads: u64,
    /// Times the walk had to look for the next header.
    pub(crate) gaps: u64,
    /// Times the medium could not give the bytes: what is there may be intact all the same.
    pub(crate) unreadable: u64,
    /// Chunks above the inline size whose payload was read and is not what the header says; found by
    /// [`Verify::Payloads`] only. [`Verify::Headers`] would take them for intact.
    pub(crate) torn: Vec<([u8; 32], Location)>,
}

impl Packs {
    /// Visits all records of `pack` that have an intact header, in order, and reads no payload.
    pub(crate) fn walk(
        &self,
        pack: u32,
        visit: &mut dyn FnMut(Scanned) -> Result<(), StoreError>,
    ) -> Result<ScanEnd, StoreError> {
        self.scan(pack, PACK_HEADER_BYTES, Verify::Nothing, visit)
    }

    /// Visits the intact records of `pack` from `from` on, in order.
    pub(crate) fn scan(
        &self,
        pack: u32,
        from: u64,
        verify: Verify,
        visit: &mut dyn FnMut(Scanned) -> Result<(), StoreError>,
    ) -> Result<ScanEnd, StoreError> {
        let file = self.file(pack)?;
        let mut walk = Walk {
            packs: self,
            file: file.as_ref(),
            pack,
            len: self.len(pack)?,
            unreadable: 0,
        };
        let mut result = ScanEnd {
            end: from,
            ..ScanEnd::default()
        };
        let mut offset = from;
        while offset.saturating_add(RECORD_HEADER_BYTES as u64) <= walk.len {
            let Some(header) = walk.header_at(offset)? else {
                result.gaps += 1;
                match walk.next_header(offset + ALIGN)? {
                    Some(found) => offset = found,
                    None => break,
                }
                continue;
            };
            let at = Location {
                pack,
                offset,
                len_bytes: header.len_bytes,
            };
            offset = at.next_offset();
            let Some(kind) = header.kind else {
                result.end = offset;
                continue;
            };
            match walk.examine(at, kind, header, verify)? {
                Payload::Fits(payload) => {
                    result.end = offset;
                    visit(Scanned {
                        kind,
                        hash: header.hash,
                        at,
                        dead: header.dead,
                        payload,
                    })?;
                }
                Payload::Differs => {
                    result.bad_payloads += 1;
                    if verify == Verify::Payloads && is_large_chunk(kind, at) {
                        result.torn.push((header.hash, at));
                    }
                }
                Payload::Unreadable => result.bad_payloads += 1,
            }
        }
        result.unreadable = walk.unreadable;
        Ok(result)
    }
}

fn is_large_chunk(kind: RecordKind, at: Location) -> bool {
    kind == RecordKind::Chunk && at.len_bytes as usize > crate::store::INLINE_BYTES
}

/// What is known of a payload.
enum Payload {
    /// It is what the header says; the bytes, when they were read.
    Fits(Option<Bytes>),
    Differs,
    Unreadable,
}

/// A walk through one pack.
struct Walk<'a> {
    packs: &'a Packs,
    file: &'a dyn PackFile,
    pack: u32,
    /// Of the file.
    len: u64,
    unreadable: u64,
}

impl Walk<'_> {
    /// Whether the bytes could be read. What the medium has lost is damage; any other failure (no memory,
    /// no descriptor left) says nothing of the bytes, and ends the walk.
    fn read(&mut self, buf: &mut [u8], offset: u64) -> Result<bool, StoreError> {
        match self.file.read_at(buf, offset) {
            Ok(()) => Ok(true),
            Err(error) if io_is_loss(&error) => {
                tracing::debug!(pack = self.pack, offset, %error, "unreadable");
                self.unreadable += 1;
                Ok(false)
            }
            Err(error) => Err(self.packs.error("read a pack in", error)),
        }
    }

    fn examine(
        &mut self,
        at: Location,
        kind: RecordKind,
        header: RecordHeader,
        verify: Verify,
    ) -> Result<Payload, StoreError> {
        let unread = match verify {
            Verify::Nothing => true,
            Verify::Headers => is_large_chunk(kind, at),
            Verify::Payloads => false,
        };
        if header.dead || unread {
            return Ok(Payload::Fits(None));
        }
        let Some(payload) = self.packs.read_if_there(at)? else {
            self.unreadable += 1;
            return Ok(Payload::Unreadable);
        };
        Ok(if *blake3::hash(&payload).as_bytes() == header.hash {
            Payload::Fits(Some(payload))
        } else {
            Payload::Differs
        })
    }

    /// The record header at `offset`, if there is an intact one whose payload ends within the file.
    fn header_at(&mut self, offset: u64) -> Result<Option<RecordHeader>, StoreError> {
        let mut bytes = [0u8; RECORD_HEADER_BYTES];
        if offset.saturating_add(RECORD_HEADER_BYTES as u64) > self.len
            || !self.read(&mut bytes, offset)?
        {
            return Ok(None);
        }
        let header = decode_record_header(&bytes, self.packs.store_id(), self.pack, offset);
        Ok(header.filter(|header| {
            let limit = match header.kind {
                None => u32::MAX as usize,
                Some(RecordKind::Chunk) => MAX_CHUNK_BYTES as usize,
                Some(_) => MAX_MANIFEST_BYTES,
            };
            let end = offset + (RECORD_HEADER_BYTES as u64) + u64::from(header.len_bytes);
            header.len_bytes as usize <= limit && end <= self.len
        }))
    }

    /// Looks for the next intact header at or behind `from`.
    fn next_header(&mut self, from: u64) -> Result<Option<u64>, StoreError> {
        let mut block = vec![0u8; RESYNC_BYTES];
        let mut start = from;
        while start < self.len {
            let end = self.len.min(start + RESYNC_BYTES as u64);
            let found = match self.header_in(&mut block, start..end)? {
                Ok(found) => found,
                Err(Unreadable) => self.header_in_pieces(&mut block, start..end)?,
            };
            if found.is_some() {
                return Ok(found);
            }
            start = end;
        }
        Ok(None)
    }

    /// The same in what of the range can be read.
    fn header_in_pieces(
        &mut self,
        block: &mut [u8],
        range: Range<u64>,
    ) -> Result<Option<u64>, StoreError> {
        let mut start = range.start;
        while start < range.end {
            let next = (start + 1).next_multiple_of(RESYNC_PIECE_BYTES as u64);
            let end = next.min(range.end);
            if let Ok(Some(found)) = self.header_in(block, start..end)? {
                return Ok(Some(found));
            }
            start = end;
        }
        Ok(None)
    }

    /// The first intact header that begins in the range, which `block` has room for.
    fn header_in(
        &mut self,
        block: &mut [u8],
        range: Range<u64>,
    ) -> Result<Result<Option<u64>, Unreadable>, StoreError> {
        let len =
            usize::try_from(range.end - range.start).map_or(block.len(), |n| n.min(block.len()));
        let bytes = &mut block[..len];
        if !self.read(bytes, range.start)? {
            return Ok(Err(Unreadable));
        }
        for (bytes, offset) in bytes.chunks(8).zip(range.step_by(8)) {
            if bytes.starts_with(&RECORD_MAGIC) && self.header_at(offset)?.is_some() {
                return Ok(Ok(Some(offset)));
            }
        }
        Ok(Ok(None))
    }
}

/// The medium could not give the bytes.
struct Unreadable;

//! Walking a pack from header to header, over torn tails and damage.

use bytes::Bytes;

use super::record::{
    ALIGN, PACK_HEADER_BYTES, RECORD_HEADER_BYTES, RECORD_MAGIC, RecordHeader, decode_record_header,
};
use super::{Location, Packs, RecordKind};
use crate::chunker::MAX_CHUNK_BYTES;
use crate::error::StoreError;
use crate::manifest::MAX_MANIFEST_BYTES;
use crate::store::medium::PackFile;

/// Bytes read at once while looking for the next intact header.
const RESYNC_BYTES: usize = 1024 * 1024;

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScanEnd {
    /// Where the last intact record ends, aligned.
    pub(crate) end: u64,
    /// Records with an intact header and a payload that is not what the header says.
    pub(crate) bad_payloads: u64,
    /// Times the walk had to look for the next header.
    pub(crate) gaps: u64,
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
        let len = self.len(pack)?;
        let mut result = ScanEnd {
            end: from,
            ..ScanEnd::default()
        };
        let mut offset = from;
        while offset.saturating_add(RECORD_HEADER_BYTES as u64) <= len {
            let Some(header) = self.header_at(file.as_ref(), pack, offset, len) else {
                result.gaps += 1;
                match self.next_header(file.as_ref(), pack, offset + ALIGN, len) {
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
            match self.examine(at, kind, header, verify) {
                Some(scanned) => {
                    result.end = offset;
                    visit(scanned)?;
                }
                None => result.bad_payloads += 1,
            }
        }
        Ok(result)
    }

    /// `None` when the payload is not what the header says.
    fn examine(
        &self,
        at: Location,
        kind: RecordKind,
        header: RecordHeader,
        verify: Verify,
    ) -> Option<Scanned> {
        let RecordHeader { dead, hash, .. } = header;
        let large = at.len_bytes as usize > crate::store::INLINE_BYTES;
        let unread = match verify {
            Verify::Nothing => true,
            Verify::Headers => kind == RecordKind::Chunk && large,
            Verify::Payloads => false,
        };
        let skip = dead || unread;
        let payload = if skip {
            None
        } else {
            let payload = self.read(at).ok()?;
            if *blake3::hash(&payload).as_bytes() != hash {
                return None;
            }
            Some(payload)
        };
        Some(Scanned {
            kind,
            hash,
            at,
            dead,
            payload,
        })
    }

    /// The record header at `offset`, if there is an intact one whose payload ends within the file.
    fn header_at(
        &self,
        file: &dyn PackFile,
        pack: u32,
        offset: u64,
        len: u64,
    ) -> Option<RecordHeader> {
        let mut bytes = [0u8; RECORD_HEADER_BYTES];
        file.read_at(&mut bytes, offset).ok()?;
        let header = decode_record_header(&bytes, self.store_id(), pack, offset)?;
        let limit = match header.kind {
            None => u32::MAX as usize,
            Some(RecordKind::Chunk) => MAX_CHUNK_BYTES as usize,
            Some(_) => MAX_MANIFEST_BYTES,
        };
        let end = offset + (RECORD_HEADER_BYTES as u64) + u64::from(header.len_bytes);
        (header.len_bytes as usize <= limit && end <= len).then_some(header)
    }

    /// Looks for the next intact header at or behind `from`.
    fn next_header(&self, file: &dyn PackFile, pack: u32, from: u64, len: u64) -> Option<u64> {
        let mut block = vec![0u8; RESYNC_BYTES];
        let mut start = from;
        while start < len {
            let take = usize::try_from(len - start).map_or(RESYNC_BYTES, |n| n.min(RESYNC_BYTES));
            // An unreadable block is damage like any other: go on behind it.
            if file.read_at(&mut block[..take], start).is_ok() {
                let candidates = block[..take].chunks(8).zip((start..).step_by(8));
                for (bytes, offset) in candidates {
                    if bytes.starts_with(&RECORD_MAGIC)
                        && self.header_at(file, pack, offset, len).is_some()
                    {
                        return Some(offset);
                    }
                }
            }
            start += RESYNC_BYTES as u64;
        }
        None
    }
}

//! Reading payloads, and saying in time which ones will be read.

use std::ops::Range;

use bytes::Bytes;

use super::{Location, Packs};
use crate::error::{StoreError, io_is_loss};
use crate::store::lock;

/// Ranges closer to each other than this are read ahead as one.
const MERGE_BYTES: u64 = 64 * 1024;

impl Packs {
    /// Reads a payload. The caller checks it against its hash.
    pub(crate) fn read(&self, at: Location) -> Result<Bytes, StoreError> {
        let file = self.file(at.pack)?;
        let mut payload = self.buffers.take(at.len_bytes as usize);
        // First what is not in the file: it may be there a moment later, never the other way round.
        let in_file = lock(&self.unwritten).copy_to(at.pack, at.payload_offset(), &mut payload);
        if in_file > 0 {
            let read = file.read_at(&mut payload[..in_file], at.payload_offset());
            read.map_err(|error| self.error("read a pack in", error))?;
        }
        Ok(payload.freeze())
    }

    /// Like [`Packs::read`]; `None` when the medium has lost the bytes.
    pub(crate) fn read_if_there(&self, at: Location) -> Result<Option<Bytes>, StoreError> {
        match self.read(at) {
            Err(StoreError::Io { path, source, .. }) if io_is_loss(&source) => {
                tracing::warn!(path = %path.display(), pack = at.pack, error = %source, "a record is lost");
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// Has these records read ahead, behind the caller, so that reading them soon does not wait. Only a
    /// hint: what fails here fails again, and is told, when it is read.
    pub(crate) fn will_need(&self, records: &[Location]) {
        let mut ranges: Vec<(u32, Range<u64>)> = Vec::new();
        for at in records {
            match ranges.last_mut() {
                Some((pack, range))
                    if *pack == at.pack
                        && at.offset >= range.start
                        && at.offset <= range.end + MERGE_BYTES =>
                {
                    range.end = range.end.max(at.end());
                }
                _ => ranges.push((at.pack, at.offset..at.end())),
            }
        }
        for (pack, range) in ranges {
            if let Ok(file) = self.file(pack) {
                file.will_need(range);
            }
        }
    }
}

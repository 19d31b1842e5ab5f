//! Giving space back: records die, runs of dead ones become gaps.
//!
//! A record that dies alone keeps its header, and the whole blocks of its payload become a hole. Where
//! records next to each other die together, one gap header is written over the first one's and covers
//! them all, so that everything between it and the next record can become a hole. Marks and gap headers
//! are durable before holes are made. Until then any part of them may be lost: a gap covers only records
//! that the index has durably forgotten, and behind a torn gap header the walk finds the next header, of
//! a dead record or a live one.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use super::record::{self, RECORD_HEADER_BYTES};
use super::{Location, Packs};
use crate::error::StoreError;
use crate::store::medium::PackFile;

/// Neighbours, as one: its offset is that of the first, its length reaches to the end of the last.
fn runs(mut records: Vec<Location>) -> Vec<(Location, Vec<Location>)> {
    records.sort_unstable_by_key(|at| at.offset);
    records.dedup();
    let mut runs: Vec<(Location, Vec<Location>)> = Vec::new();
    for at in records {
        if let Some((run, members)) = runs.last_mut()
            && run.next_offset() == at.offset
            && let Ok(len_bytes) = u32::try_from(at.end() - run.payload_offset())
        {
            run.len_bytes = len_bytes;
            members.push(at);
        } else {
            runs.push((at, vec![at]));
        }
    }
    runs
}

impl Packs {
    /// Marks records dead, durably, and then gives their blocks back.
    ///
    /// The index must have forgotten them, durably, before this is called.
    pub(crate) fn free(&self, records: &[Location]) -> Result<(), StoreError> {
        let mut by_pack: BTreeMap<u32, Vec<Location>> = BTreeMap::new();
        for at in records {
            by_pack.entry(at.pack).or_default().push(*at);
        }
        for (pack, records) in by_pack {
            let file = match self.file(pack) {
                // Compacted meanwhile, or someone deleted it: nothing in it is left to free.
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    tracing::debug!(pack, "a pack is gone");
                    continue;
                }
                file => file?,
            };
            // A block written later would make them live again.
            let end = records.iter().map(|at| at.next_offset()).max();
            self.write_out_to(pack, end.unwrap_or(0))?;
            self.free_in(pack, file.as_ref(), records)
                .map_err(|error| self.error("free", error))?;
        }
        Ok(())
    }

    /// Whether there is a record at this place, and of this length: a damaged index must not cost others.
    fn is_record(&self, file: &dyn PackFile, at: Location) -> bool {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        let header = file.read_at(&mut bytes, at.offset).ok().and_then(|()| {
            record::decode_record_header(&bytes, &self.store_id, at.pack, at.offset)
        });
        let is_record = header.is_some_and(|header| header.len_bytes == at.len_bytes);
        if !is_record {
            tracing::debug!(?at, "no such record: its space comes back with its pack");
        }
        is_record
    }

    fn free_in(
        &self,
        pack: u32,
        file: &dyn PackFile,
        mut records: Vec<Location>,
    ) -> io::Result<()> {
        records.retain(|at| self.is_record(file, *at));
        let mut holes: Vec<Range<u64>> = Vec::new();
        for (run, members) in runs(records) {
            for at in &members {
                let (offset, mark) = at.death_mark();
                file.write_at(&mark, offset)?;
            }
            if members.len() > 1 {
                let gap = record::encode_gap_header(run, &self.store_id);
                // Where even this needs space that is not there, each record keeps its header.
                if file.write_at(&gap, run.offset).is_ok() {
                    holes.push(run.blocks());
                    continue;
                }
            }
            holes.extend(members.into_iter().map(Location::blocks));
        }
        self.sync_file(pack, file)?;
        for hole in holes.into_iter().filter(|hole| !hole.is_empty()) {
            file.punch(hole)?;
        }
        Ok(())
    }
}

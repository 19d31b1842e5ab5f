//! Bringing the index up to what the packs hold: after a crash, or from nothing.
//!
//! Every pack has a checkpoint in the index: up to there it was durable and indexed. What is behind it is
//! walked, verified and adopted; the torn end of the last pack is cut off, if all of it could be read. Without any checkpoint the
//! index is new or lost, and all packs are walked; references are then counted anew.

mod files;

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::{
    self, ChunkEntry, FileEntry, FileValue, INLINE_BYTES, ManifestEntry, PackAccount, Place,
    Setting,
};
use super::flush::BATCH_CHUNKS;
use super::index::{Index, MAX_BATCH_KEYS, Op};
use super::ledger::Ledger;
use super::pack::{Location, PACK_HEADER_BYTES, Packs, RecordKind, Scanned, Verify};
use super::space::Space;
use crate::error::{IndexError, StoreError};
use crate::id::{Address, ChunkHash, ManifestId};

/// How often a rebuild says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// Checks that all of the index can be read and that its counters agree with its entries.
pub(super) fn check_index(index: &dyn Index) -> Result<(), IndexError> {
    let mut counted = Ledger::default();
    let noted = Ledger::load(index)?;
    for (source, account) in noted.sources() {
        counted.add_source(*source, account.address);
    }
    index.scan(&[], &mut |key, value| {
        entry::check(key, value)?;
        match key.first() {
            Some(b'c') => counted.chunk(None, Some(&ChunkEntry::decode(value)?)),
            Some(b'f') => counted.record(None, Some(FileValue::decode(value)?.at)),
            Some(b'm') => counted.record(None, Some(ManifestEntry::decode(value)?.at)),
            Some(b't') => counted.record(None, Some(entry::decode_location(value)?)),
            Some(b's') => counted.record(None, Setting::decode(value)?.at),
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if noted.agrees_with(&counted) {
        Ok(())
    } else {
        Err(IndexError::Malformed)
    }
}

/// What a recovery found.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) ledger: Ledger,
    pub(super) packs: u64,
    /// Records with an intact header whose payload is not what it says.
    pub(super) bad_records: u64,
}

/// Adopts what the index does not know. Packs on a read-only medium are left as they are.
pub(super) fn recover(
    index: &Arc<dyn Index>,
    packs: &Packs,
    space: &Space,
    read_only: bool,
) -> Result<Recovered, StoreError> {
    let ids = packs.ids()?;
    let ledger = Ledger::load(index.as_ref())?;
    if let Some((newest, _)) = ledger.packs().last_key_value() {
        packs.reserve_ids_above(*newest);
    }
    let durable = |account: &PackAccount| account.durable_bytes > 0;
    // A rebuild that was cut off has counted live bytes, and no pack is durable for it yet.
    let rebuild = !ledger.packs().values().any(durable) && !ids.is_empty();
    if rebuild && !read_only {
        tracing::warn!(packs = ids.len(), "no index: building it from the packs");
    }
    let mut adopter = Adopter {
        index: index.as_ref(),
        packs,
        space,
        rebuild,
        read_only,
        ledger,
        batch: BTreeMap::new(),
        manifests: HashMap::new(),
        waiting: HashMap::new(),
        checkpoints: Vec::new(),
        adopted: 0,
        bad_records: 0,
    };
    let mut told = Instant::now();
    for (done, id) in ids.iter().enumerate() {
        if rebuild && told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tracing::warn!("building the index: pack {} of {}", done + 1, ids.len());
        }
        let is_last = ids.last() == Some(id);
        adopter.walk(*id, is_last)?;
    }
    adopter.write_batch()?;
    if rebuild {
        adopter.count_references()?;
        adopter.write_checkpoints()?;
    }
    adopter.settle_references()?;
    adopter.sweep_sources()?;
    if adopter.adopted > 0 {
        tracing::info!(
            records = adopter.adopted,
            "adopted records the index did not have"
        );
        index.sync()?;
    }
    Ok(Recovered {
        packs: ids.len() as u64,
        bad_records: adopter.bad_records,
        ledger: adopter.ledger,
    })
}

struct Adopter<'a> {
    index: &'a dyn Index,
    packs: &'a Packs,
    space: &'a Space,
    rebuild: bool,
    read_only: bool,
    ledger: Ledger,
    /// Chunks waiting to be written to the index.
    batch: BTreeMap<ChunkHash, ChunkEntry>,
    /// Manifest records met, until a file entry says whose they are.
    manifests: HashMap<ManifestId, Location>,
    /// File entries met, until their manifest is: rewriting a pack may put it behind them.
    waiting: HashMap<ManifestId, Address>,
    /// Up to where packs are durable, in their order; of a rebuild written when all is done.
    checkpoints: Vec<(u32, u64)>,
    adopted: u64,
    bad_records: u64,
}

impl Adopter<'_> {
    fn walk(&mut self, pack: u32, is_last: bool) -> Result<(), StoreError> {
        let account = self.ledger.packs().get(&pack);
        let checkpoint = account.map(|account| account.durable_bytes);
        let checkpoint = checkpoint.filter(|bytes| *bytes > 0);
        // Payloads are not padded: the file may end a few bytes before the aligned end.
        let len = self.packs.len(pack)?.next_multiple_of(8);
        let from = checkpoint
            .unwrap_or(PACK_HEADER_BYTES)
            .max(PACK_HEADER_BYTES);
        if checkpoint.is_some() && len < from {
            tracing::warn!(
                pack,
                "pack is shorter than it was; what is missing will be found bad"
            );
            return Ok(());
        }
        if checkpoint.is_some() && len == from {
            return if is_last && !self.read_only {
                self.packs.resume(pack, from)
            } else {
                Ok(())
            };
        }
        let packs = self.packs;
        // What is adopted must not be lost again: it may be in the page cache only, and stay there after
        // a failed sync.
        if !self.read_only {
            packs.sync_pack(pack)?;
            packs.forget_cached(pack, from)?;
        }
        let verify = if self.rebuild && !is_last {
            Verify::Headers
        } else {
            Verify::Payloads
        };
        let found = packs.scan(pack, from, verify, &mut |record| self.adopt(record))?;
        self.bad_records += found.bad_payloads;
        if found.unreadable > 0 {
            tracing::warn!(
                pack,
                times = found.unreadable,
                "a pack cannot be read in places: what is there counts as absent, and stays as it is; \
                 when the disk gives it again, rebuilding the index finds it"
            );
        }
        if found.bad_payloads > 0 || found.gaps > u64::from(is_last) {
            tracing::warn!(
                pack,
                bad_records = found.bad_payloads,
                gaps = found.gaps,
                "damage in a pack: what it held there counts as absent"
            );
        }
        self.write_batch()?;
        if !self.read_only {
            self.kill_torn(&found.torn)?;
        }
        // Behind what cannot be read there may be what was acknowledged: nothing is cut off, and the next
        // append begins a new pack.
        let may_cut = is_last && found.unreadable == 0;
        let end = if may_cut { found.end } else { len };
        if may_cut && !self.read_only {
            packs.resume(pack, end)?;
        }
        self.checkpoints.push((pack, end));
        // A rebuild that is cut off must begin anew, or nobody would count the references.
        if self.rebuild {
            Ok(())
        } else {
            self.write_checkpoints()
        }
    }

    /// A record that is not whole would be taken for intact by its header once its pack is not the last:
    /// it is marked dead.
    fn kill_torn(&mut self, torn: &[([u8; 32], Location)]) -> Result<(), StoreError> {
        for (hash, at) in torn {
            let hash = ChunkHash::from_bytes(*hash);
            let old = self.chunk(&hash)?;
            let old = old.filter(|old| !old.bad && old.place == Place::Pack(*at));
            if let Some(old) = old {
                let bad = ChunkEntry {
                    bad: true,
                    inline: None,
                    ..old.clone()
                };
                self.ledger.chunk(Some(&old), Some(&bad));
                self.apply(vec![(entry::chunk_key(&hash), Some(bad.encode()))])?;
            }
        }
        let places: Vec<Location> = torn.iter().map(|(_, at)| *at).collect();
        match self.packs.free(&places) {
            // Then a rebuild takes it for intact, and whoever reads it finds out.
            Err(error) if error.is_no_space() => {
                tracing::debug!(%error, "torn records stay as they are");
                Ok(())
            }
            freed => freed,
        }
    }

    /// In the order of the packs: whatever is walked again after a crash then ends in the newest state.
    fn write_checkpoints(&mut self) -> Result<(), StoreError> {
        for part in std::mem::take(&mut self.checkpoints).chunks(MAX_BATCH_KEYS / 2) {
            for (pack, end) in part {
                self.ledger.durable(*pack, *end);
            }
            self.space.check_index()?;
            self.index.apply(self.ledger.take_changes())?;
        }
        Ok(())
    }

    fn adopt(&mut self, record: Scanned) -> Result<(), StoreError> {
        if record.dead {
            return Ok(());
        }
        self.adopted += 1;
        match (record.kind, record.payload) {
            (RecordKind::Chunk, payload) => {
                let inline = payload.filter(|payload| payload.len() <= INLINE_BYTES);
                self.adopt_chunk(ChunkHash::from_bytes(record.hash), record.at, inline)
            }
            (RecordKind::Manifest, _) => {
                self.meet_manifest(ManifestId::from_bytes(record.hash), record.at)
            }
            (RecordKind::File, Some(payload)) => match FileEntry::decode(&payload) {
                Ok(file) => self.adopt_file(file, record.at),
                Err(_) => Ok(()),
            },
            (RecordKind::Tombstone, Some(payload)) => {
                match <[u8; 32]>::try_from(payload.as_ref()) {
                    Ok(address) => self.adopt_removal(&Address::from_bytes(address), record.at),
                    Err(_) => Ok(()),
                }
            }
            (RecordKind::Setting, Some(payload)) => self.adopt_setting(&payload, record.at),
            (RecordKind::File | RecordKind::Tombstone | RecordKind::Setting, None) => Ok(()),
        }
    }

    /// The newest record of a chunk counts: a second one was written because the first was bad.
    fn adopt_chunk(
        &mut self,
        hash: ChunkHash,
        at: Location,
        inline: Option<bytes::Bytes>,
    ) -> Result<(), StoreError> {
        let old = match self.batch.get(&hash) {
            Some(old) => Some(old.clone()),
            None => {
                let mut old = self.chunk(&hash)?;
                // A rebuild counts from nothing, whatever an earlier one that was cut off has counted.
                if let Some(old) = old.as_mut().filter(|_| self.rebuild) {
                    old.refs = 0;
                }
                old
            }
        };
        let chunk = ChunkEntry {
            place: Place::Pack(at),
            refs: old.as_ref().map_or(0, |old| old.refs),
            bad: false,
            inline,
        };
        self.ledger.chunk(old.as_ref(), Some(&chunk));
        self.batch.insert(hash, chunk);
        if self.batch.len() >= BATCH_CHUNKS {
            self.write_batch()
        } else {
            Ok(())
        }
    }

    fn chunk(&self, hash: &ChunkHash) -> Result<Option<ChunkEntry>, StoreError> {
        let value = self.index.get(&entry::chunk_key(hash))?;
        Ok(value.as_deref().map(ChunkEntry::decode).transpose()?)
    }

    /// One batch with the counters that go with it.
    fn apply(&mut self, mut ops: Vec<Op>) -> Result<(), StoreError> {
        ops.extend(self.ledger.take_changes());
        if ops.is_empty() {
            return Ok(());
        }
        self.space.check_index()?;
        Ok(self.index.apply(ops)?)
    }

    fn write_batch(&mut self) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let entries = batch.iter();
        let ops = entries.map(|(hash, chunk)| (entry::chunk_key(hash), Some(chunk.encode())));
        self.apply(ops.collect())
    }
}

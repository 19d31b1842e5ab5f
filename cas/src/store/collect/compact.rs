//! Rewriting a pack: what lives in it is appended anew, then it is removed.
//!
//! Order of each step: copies to the pack that is appended to, fdatasync, index, index synced, the old
//! records' space given back. When the index points at nothing in the old pack any more, the file is
//! removed. Readers that had found the old place look again.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::error::StoreError;
use crate::id::{Address, ChunkHash, ManifestId};
use crate::store::core::Core;
use crate::store::entry::{self, ManifestEntry, Place, Setting};
use crate::store::flush::Extra;
use crate::store::lock;
use crate::store::pack::{Location, RecordKind};
use crate::store::settings::decode_setting;

/// Bytes that are copied before others have their turn.
const STEP_BYTES: u64 = 8 * 1024 * 1024;

/// Records of a step: their index entries go into few batches.
const STEP_RECORDS: usize = 256;

/// A record to copy, if it is still alive then.
#[derive(Clone, Copy)]
struct Record {
    kind: RecordKind,
    hash: [u8; 32],
    at: Location,
}

impl Core {
    /// Rewrites a pack that is not appended to. `step` is told of bytes copied, and may break it off: what
    /// was copied until then stays. Nothing happens to a pack that is gone.
    pub(in crate::store) fn compact(
        &self,
        pack: u32,
        step: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let _alone = lock(&self.collecting);
        if !self.packs.ids()?.contains(&pack) {
            return Ok(ControlFlow::Continue(()));
        }
        self.compact_alone(pack, step)
    }

    /// The same for the holder of `collecting`.
    pub(super) fn compact_alone(
        &self,
        pack: u32,
        step: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        // What was appended and is not indexed yet would look dead.
        self.flush(&mut lock(&self.commit), Extra::default())?;
        let mut records = Vec::new();
        self.packs.walk(pack, &mut |found| {
            if !found.dead {
                records.push(Record {
                    kind: found.kind,
                    hash: found.hash,
                    at: found.at,
                });
            }
            Ok(())
        })?;
        // What was copied is on the disk twice until the step ends.
        let max_bytes = self.space.max_bytes().unwrap_or(u64::MAX);
        let step_bytes = STEP_BYTES.min(max_bytes / 64);
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |record: &&Record| {
                bytes += record.at.record_bytes();
                bytes <= step_bytes
            };
            let count = rest.iter().take(STEP_RECORDS).take_while(fits).count();
            let (now, later) = rest.split_at(count.max(1));
            rest = later;
            let copied = self.copy_live(now)?;
            if step(copied).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.remove_emptied(pack)?;
        Ok(ControlFlow::Continue(()))
    }

    /// Appends anew what the index points at; returns how many bytes that took.
    fn copy_live(&self, records: &[Record]) -> Result<u64, StoreError> {
        let mut committed = lock(&self.commit);
        let mut extra = Extra::default();
        let mut copied = 0;
        let (mut old, mut bad) = (Vec::new(), Vec::new());
        for record in records {
            if !self.is_live(record)? {
                continue;
            }
            let payload = self.packs.read_if_there(record.at)?;
            let intact = |bytes: &Bytes| *blake3::hash(bytes).as_bytes() == record.hash;
            let payload = match payload.filter(intact) {
                Some(payload) => Some(payload),
                None => self.inline_copy(record)?.filter(intact),
            };
            let Some(payload) = payload else {
                if record.kind == RecordKind::Chunk {
                    bad.push(*record);
                }
                continue;
            };
            self.space.check_disk(payload.len() as u64)?;
            let to = self.append(record.kind, &record.hash, &payload)?;
            copied += to.record_bytes();
            old.push(record.at);
            self.point_at(&mut extra, record, &payload, to)?;
        }
        self.flush(&mut committed, extra)?;
        if !old.is_empty() {
            self.sync_index()?;
        }
        drop(committed);
        self.packs.free(&old)?;
        self.measure();
        for record in bad {
            let hash = ChunkHash::from_bytes(record.hash);
            tracing::warn!(%hash, "a stored chunk is damaged");
            self.mark_bad(&hash, Place::Pack(record.at))?;
        }
        Ok(copied)
    }

    /// What the index itself has of a record's payload.
    fn inline_copy(&self, record: &Record) -> Result<Option<Bytes>, StoreError> {
        Ok(match record.kind {
            RecordKind::Chunk => {
                let chunk = self.indexed(&ChunkHash::from_bytes(record.hash))?;
                chunk.and_then(|chunk| chunk.inline)
            }
            RecordKind::Manifest => {
                let listing = self.manifest_entry(&ManifestId::from_bytes(record.hash))?;
                listing.and_then(|listing| listing.inline)
            }
            _ => None,
        })
    }

    /// Whether the index points at the record.
    fn is_live(&self, record: &Record) -> Result<bool, StoreError> {
        Ok(match record.kind {
            RecordKind::Chunk => {
                let chunk = self.indexed(&ChunkHash::from_bytes(record.hash))?;
                chunk.is_some_and(|chunk| !chunk.bad && chunk.place == Place::Pack(record.at))
            }
            RecordKind::Manifest => {
                let entry = self.manifest_entry(&ManifestId::from_bytes(record.hash))?;
                entry.is_some_and(|entry| entry.at == record.at)
            }
            RecordKind::File | RecordKind::Tombstone | RecordKind::Setting => {
                let Some(payload) = self.packs.read_if_there(record.at)? else {
                    return Ok(false);
                };
                self.is_live_payload(record, &payload)?
            }
        })
    }

    fn is_live_payload(&self, record: &Record, payload: &[u8]) -> Result<bool, StoreError> {
        Ok(match record.kind {
            RecordKind::File => match entry::FileEntry::decode(payload) {
                Ok(file) => {
                    let value = self.file_value(&file.address)?;
                    value.is_some_and(|value| value.at == record.at)
                }
                Err(_) => false,
            },
            RecordKind::Tombstone => match <[u8; 32]>::try_from(payload) {
                Ok(address) => self.tombstone(&Address::from_bytes(address))? == Some(record.at),
                Err(_) => false,
            },
            _ => match decode_setting(payload) {
                Some((name, _)) => {
                    let setting = self.setting(name)?;
                    setting.is_some_and(|setting| setting.at == Some(record.at))
                }
                None => false,
            },
        })
    }

    fn point_at(
        &self,
        extra: &mut Extra,
        record: &Record,
        payload: &[u8],
        to: Location,
    ) -> Result<(), StoreError> {
        match record.kind {
            RecordKind::Chunk => {
                let hash = ChunkHash::from_bytes(record.hash);
                let moved = (hash, Place::Pack(record.at), Place::Pack(to));
                extra.moved.push(moved);
                return Ok(());
            }
            RecordKind::Tombstone => {
                if let Ok(address) = <[u8; 32]>::try_from(payload) {
                    let key = entry::tombstone_key(&Address::from_bytes(address));
                    extra.last.push((key, Some(entry::encode_location(to))));
                }
            }
            RecordKind::Manifest => {
                let id = ManifestId::from_bytes(record.hash);
                if let Some(old) = self.manifest_entry(&id)? {
                    let value = ManifestEntry { at: to, ..old }.encode();
                    extra.last.push((entry::manifest_key(&id), Some(value)));
                }
            }
            RecordKind::File => {
                if let Ok(file) = entry::FileEntry::decode(payload) {
                    let key = entry::file_key(&file.address);
                    let value = entry::FileValue {
                        at: to,
                        entry: file,
                    };
                    extra.last.push((key, Some(value.encode())));
                }
            }
            RecordKind::Setting => {
                if let Some((name, value)) = decode_setting(payload) {
                    let setting = Setting {
                        at: Some(to),
                        value: value.to_vec(),
                    };
                    extra
                        .last
                        .push((entry::setting_key(name), Some(setting.encode())));
                }
            }
        }
        extra.records.push((Some(record.at), Some(to)));
        Ok(())
    }

    fn remove_emptied(&self, pack: u32) -> Result<(), StoreError> {
        let mut committed = lock(&self.commit);
        self.flush(&mut committed, Extra::default())?;
        let account = committed.ledger.packs().get(&pack).copied();
        let live_bytes = account.map_or(0, |account| account.live_bytes);
        if live_bytes > 0 {
            tracing::warn!(
                pack,
                live_bytes,
                "a pack cannot be emptied; `verify` finds out why"
            );
            return Ok(());
        }
        self.sync_index()?;
        self.packs.remove(pack)?;
        // Only now: a pack that is there and unknown would be adopted as new.
        committed.ledger.forget_pack(pack);
        self.apply_counted(&mut committed, Vec::new())
    }
}

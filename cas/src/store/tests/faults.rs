//! Media that fail: reads that cannot be done, syncs that lose writes, disks that are full.

use super::*;
use crate::store::pack::{Location, Packs, RecordKind};

fn append(packs: &Packs, seed: u64) -> Location {
    let payload = bytes_of(seed, 5000);
    let hash = *blake3::hash(&payload).as_bytes();
    packs.append(RecordKind::Chunk, &hash, &payload).unwrap()
}

fn open_packs(medium: Arc<FaultMedium>) -> Packs {
    Packs::open(medium, [1; 16], 1 << 30).unwrap()
}

#[test]
fn after_a_failed_sync_a_pack_is_never_said_to_be_durable_again() {
    let (medium, faults) = FaultMedium::new(i64::MAX / 2);
    let packs = open_packs(medium.clone());
    let first = append(&packs, 1);
    packs.sync(&packs.sync_point()).unwrap();
    append(&packs, 2);
    // The system loses the second record and tells only the sync that frees the first one.
    faults.failing_syncs.store(1, Ordering::Relaxed);
    packs.free(&[first]).unwrap_err();
    packs.sync(&packs.sync_point()).unwrap_err();
    packs.sync_pack(0).unwrap_err();
    drop(packs);
    open_packs(medium).sync_pack(0).unwrap();
}

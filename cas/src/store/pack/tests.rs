use super::*;
use crate::store::memory::MemoryMedium;

const STORE: [u8; 16] = [7; 16];

fn packs(medium: &Arc<MemoryMedium>, pack_bytes: u64) -> Packs {
    let medium: Arc<dyn Medium> = medium.clone();
    Packs::open(medium, STORE, pack_bytes).unwrap()
}

fn append(packs: &Packs, payload: &[u8]) -> Location {
    packs
        .append(RecordKind::Chunk, blake3::hash(payload).as_bytes(), payload)
        .unwrap()
}

fn walk(packs: &Packs, pack: u32) -> (Vec<Vec<u8>>, scan::ScanEnd) {
    let mut found = Vec::new();
    let end = packs
        .scan(pack, PACK_HEADER_BYTES, Verify::Payloads, &mut |record| {
            found.push(
                record
                    .payload
                    .map(|payload| payload.to_vec())
                    .unwrap_or_default(),
            );
            Ok(())
        })
        .unwrap();
    (found, end)
}

/// Vectors `pack-header` and `record-header` of docs/FORMATS.md.
#[test]
fn headers_are_pinned() {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let header = record::encode_pack_header(&STORE, 3, 1_700_000_000_000);
    assert_eq!(header.len(), 4096);
    let expected = concat!(
        "4341535041434b31",
        "0100",
        "07070707070707070707070707070707",
        "0300000000000000",
        "0068e5cf8b010000",
        "bf29551c",
    );
    assert_eq!(hex(&header[..46]), expected);
    assert!(header[46..].iter().all(|byte| *byte == 0));
    let at = Location {
        pack: 3,
        offset: 4096,
        len_bytes: 5,
    };
    let hash = *blake3::hash(b"hello").as_bytes();
    let header = record::encode_record_header(RecordKind::Chunk, &hash, at, &STORE);
    assert_eq!(hex(&header[..16]), "4341535205000000bd28002d01ff0000");
    assert_eq!(header[16..], hash);
}

#[test]
fn records_are_aligned_walked_and_read() {
    let medium = Arc::new(MemoryMedium::default());
    let packs = packs(&medium, u64::MAX);
    let payloads: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; usize::from(n) * 3 + 1]).collect();
    for payload in &payloads {
        let at = append(&packs, payload);
        assert_eq!(at.offset % 8, 0);
        assert_eq!(packs.read(at).unwrap(), payload);
    }
    let (found, end) = walk(&packs, 0);
    assert_eq!(found, payloads);
    assert_eq!((end.bad_payloads, end.gaps), (0, 0));
    assert_eq!(end.end, packs.len(0).unwrap().next_multiple_of(8));
}

#[test]
fn a_full_pack_is_followed_by_the_next() {
    let medium = Arc::new(MemoryMedium::default());
    let packs = packs(&medium, 5000);
    let places: Vec<Location> = (0..5u8).map(|n| append(&packs, &[n; 600])).collect();
    assert_eq!(
        places.iter().map(|at| at.pack).collect::<Vec<_>>(),
        [0, 0, 1, 1, 2]
    );
    let synced = packs.sync(&packs.sync_point()).unwrap();
    assert_eq!(
        synced.iter().map(|(pack, _)| *pack).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert!(packs.sync(&packs.sync_point()).unwrap().is_empty());
}

#[test]
fn any_flipped_bit_costs_at_most_its_record() {
    let medium = Arc::new(MemoryMedium::default());
    let packs = packs(&medium, u64::MAX);
    let payloads: Vec<Vec<u8>> = (0..4u8).map(|n| vec![n; 40]).collect();
    for payload in &payloads {
        append(&packs, payload);
    }
    let file = medium.open(0).unwrap();
    for offset in PACK_HEADER_BYTES..packs.len(0).unwrap() {
        let mut byte = [0u8];
        file.read_at(&mut byte, offset).unwrap();
        for bit in 0..8 {
            file.write_at(&[byte[0] ^ (1 << bit)], offset).unwrap();
            let (found, _) = walk(&packs, 0);
            let hit = usize::try_from((offset - PACK_HEADER_BYTES) / 88).unwrap();
            let mut rest = payloads.clone();
            rest.remove(hit);
            assert!(
                found == rest || found == payloads,
                "bit {bit} of byte {offset}"
            );
        }
        file.write_at(&byte, offset).unwrap();
    }
}

#[test]
fn every_torn_end_leaves_the_records_before_it() {
    let medium = Arc::new(MemoryMedium::default());
    let packs = packs(&medium, u64::MAX);
    let first = append(&packs, &[1; 100]);
    let second = append(&packs, &[2; 100]);
    let file = medium.open(0).unwrap();
    for len in (second.offset..packs.len(0).unwrap()).rev() {
        file.set_len(len).unwrap();
        let (found, end) = walk(&packs, 0);
        assert_eq!(found, [vec![1; 100]]);
        assert_eq!(end.end, first.next_offset());
    }
    packs.resume(0, first.next_offset()).unwrap();
    assert_eq!(append(&packs, &[3; 7]).offset, second.offset);
    assert_eq!(walk(&packs, 0).0, [vec![1; 100], vec![3; 7]]);
}

#[test]
fn freed_records_are_dead_and_the_walk_goes_over_them() {
    let medium = Arc::new(MemoryMedium::default());
    let packs = packs(&medium, u64::MAX);
    let places: Vec<Location> = (1..4u8).map(|n| append(&packs, &[n; 20_000])).collect();
    packs.free(&places[..2]).unwrap();
    let mut dead = Vec::new();
    packs
        .scan(0, PACK_HEADER_BYTES, Verify::Payloads, &mut |record| {
            dead.push(record.dead);
            Ok(())
        })
        .unwrap();
    assert_eq!(dead, [true, true, false]);
    assert_ne!(
        packs.read(places[1]).unwrap(),
        vec![2; 20_000],
        "the blocks are gone"
    );
    assert_eq!(packs.read(places[2]).unwrap(), vec![3; 20_000]);
}

#[test]
fn a_pack_whose_creation_was_cut_short_is_completed() {
    let medium = Arc::new(MemoryMedium::default());
    medium.create(0, b"CASP").unwrap();
    let packs = packs(&medium, u64::MAX);
    assert_eq!(packs.len(0).unwrap(), PACK_HEADER_BYTES);
    assert_eq!(append(&packs, b"x").pack, 1, "not resumed: the next one");
}

#[test]
fn a_newer_pack_is_refused() {
    let medium = Arc::new(MemoryMedium::default());
    let mut header = record::encode_pack_header(&STORE, 0, 0);
    header[8] = 2;
    let crc = crc32fast::hash(&header[..42]);
    header[42..46].copy_from_slice(&crc.to_le_bytes());
    medium.create(0, &header).unwrap();
    let error = Packs::open(medium, STORE, u64::MAX).err().unwrap();
    assert!(matches!(
        error,
        StoreError::NewerVersion { found: 2, known: 1 }
    ));
}

use super::record::RECORD_HEADER_BYTES;
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
    let gap = record::encode_gap_header(at, &STORE);
    assert_eq!(hex(&gap[..16]), "4341535205000000a0cf0dcd00000000");
    assert_eq!(gap[16..], [0; 32]);
}

#[test]
fn kinds_are_pinned() {
    let kinds = [
        (1, RecordKind::Chunk),
        (2, RecordKind::Manifest),
        (3, RecordKind::File),
        (4, RecordKind::Tombstone),
        (6, RecordKind::Setting),
    ];
    for (code, kind) in kinds {
        let at = Location {
            pack: 0,
            offset: 4096,
            len_bytes: 0,
        };
        let header = record::encode_record_header(kind, &[0; 32], at, &STORE);
        assert_eq!(header[12], code);
        let decoded = record::decode_record_header(&header, &STORE, 0, 4096).unwrap();
        assert_eq!(decoded.kind, Some(kind));
    }
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
    assert_eq!(end.end, packs.len(0).unwrap());
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
    for len in (second.offset..second.end()).rev() {
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
fn a_record_that_dies_alone_keeps_its_header() {
    let medium = Arc::new(MemoryMedium::default());
    let packs = packs(&medium, u64::MAX);
    let places: Vec<Location> = (1..4u8).map(|n| append(&packs, &[n; 20_000])).collect();
    packs.free(&places[1..2]).unwrap();
    let mut dead = Vec::new();
    packs
        .scan(0, PACK_HEADER_BYTES, Verify::Payloads, &mut |record| {
            dead.push((record.at, record.dead));
            Ok(())
        })
        .unwrap();
    assert_eq!(
        dead,
        [(places[0], false), (places[1], true), (places[2], false)]
    );
    assert_ne!(
        packs.read(places[1]).unwrap(),
        vec![2; 20_000],
        "the blocks are gone"
    );
    assert_eq!(packs.read(places[2]).unwrap(), vec![3; 20_000]);
}

/// Five small records, of which three in the middle are freed together.
fn with_a_gap() -> (Arc<MemoryMedium>, Packs, Vec<Location>) {
    let medium = Arc::new(MemoryMedium::default());
    let packs = packs(&medium, u64::MAX);
    let places: Vec<Location> = (0..5u8).map(|n| append(&packs, &[n; 5000])).collect();
    packs.free(&[places[3], places[1], places[2]]).unwrap();
    (medium, packs, places)
}

#[test]
fn neighbours_that_die_together_become_one_gap() {
    let (medium, packs, places) = with_a_gap();
    let (found, end) = walk(&packs, 0);
    assert_eq!(found, [vec![0; 5000], vec![4; 5000]]);
    assert_eq!((end.bad_payloads, end.gaps), (0, 0));
    // All blocks between the gap's header and the next record are zeros, inner headers among them.
    let hole = places[1].payload_offset().next_multiple_of(4096)..places[4].offset / 4096 * 4096;
    let mut bytes = vec![1; usize::try_from(hole.end - hole.start).unwrap()];
    medium
        .open(0)
        .unwrap()
        .read_at(&mut bytes, hole.start)
        .unwrap();
    assert!(bytes.len() >= 2 * 4096 && bytes.iter().all(|byte| *byte == 0));
    // At the end of a pack, too; and what follows is appended behind it.
    packs.free(&places[4..]).unwrap();
    packs
        .free(&[append(&packs, b"a"), append(&packs, b"b")])
        .unwrap();
    let end = walk(&packs, 0).1;
    assert_eq!(end.end, packs.len(0).unwrap());
    append(&packs, b"behind");
    assert_eq!(walk(&packs, 0).0.last().unwrap(), b"behind");
}

#[test]
fn a_torn_or_damaged_gap_header_is_stepped_over_and_resurrects_nothing() {
    for torn in 1..RECORD_HEADER_BYTES {
        let (medium, packs, places) = with_a_gap();
        let file = medium.open(0).unwrap();
        let old = record::encode_record_header(
            RecordKind::Chunk,
            blake3::hash(&[1; 5000]).as_bytes(),
            places[1],
            &STORE,
        );
        // The first bytes are of the gap, the rest was not written.
        let mut mixed = [0; RECORD_HEADER_BYTES];
        file.read_at(&mut mixed, places[1].offset).unwrap();
        mixed[torn..].copy_from_slice(&old[torn..]);
        mixed[13] = 0;
        file.write_at(&mixed, places[1].offset).unwrap();
        let (found, _) = walk(&packs, 0);
        let live: Vec<_> = found
            .into_iter()
            .filter(|bytes| !bytes.is_empty())
            .collect();
        assert_eq!(live, [vec![0; 5000], vec![4; 5000]], "torn at {torn}");
    }
}

#[test]
fn what_a_crash_between_marks_and_gap_leaves_is_walked() {
    // Any of the marks and the gap header may have reached the medium, and no hole was made.
    for survived in 0..16u8 {
        let medium = Arc::new(MemoryMedium::default());
        let packs = packs(&medium, u64::MAX);
        let places: Vec<Location> = (0..5u8).map(|n| append(&packs, &[n; 5000])).collect();
        let file = medium.open(0).unwrap();
        for at in (1..4)
            .filter(|n| survived & (1 << n) != 0)
            .map(|n| places[n])
        {
            let (offset, mark) = at.death_mark();
            file.write_at(&mark, offset).unwrap();
        }
        if survived & 1 != 0 {
            let run = Location {
                len_bytes: u32::try_from(places[3].end() - places[1].payload_offset()).unwrap(),
                ..places[1]
            };
            let gap = record::encode_gap_header(run, &STORE);
            file.write_at(&gap, run.offset).unwrap();
        }
        let mut live = Vec::new();
        let end = packs
            .walk(0, &mut |record| {
                assert!(record.payload.is_none());
                live.extend((!record.dead).then_some(record.at));
                Ok(())
            })
            .unwrap();
        let expected: Vec<Location> = (0..5)
            .filter(|n| matches!(n, 0 | 4) || survived & (1 | 1 << n) == 0)
            .map(|n| places[n])
            .collect();
        assert_eq!((live, end.gaps), (expected, 0));
    }
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

//! Damage to stored chunks, as a failing disk would do it: bits change behind the node's back.
//!
//! This reads pack files as `docs/FORMATS.md` describes them, and on purpose nothing of the node's own code.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The pack file's own header.
const PACK_HEADER_BYTES: u64 = 4096;

/// In front of each payload: magic 4, length 4 (little endian), CRC 4, kind 1, state 1, zero 2, hash 32.
const RECORD_HEADER_BYTES: u64 = 48;
const RECORD_MAGIC: &[u8] = b"CASR";

/// Where the kind is in a record's header, and the kind of chunks.
const KIND_AT: usize = 12;
const CHUNK: u8 = 1;

/// Records begin at multiples of this.
const ALIGN: u64 = 8;

/// Flips one byte in every second chunk of a data directory's packs, and says in how many.
pub(crate) fn corrupt(data_dir: &Path) -> io::Result<u32> {
    let mut damaged = 0;
    for entry in fs::read_dir(data_dir.join("packs"))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "pack")
        {
            damaged += corrupt_pack(&path)?;
        }
    }
    Ok(damaged)
}

fn corrupt_pack(path: &Path) -> io::Result<u32> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut offset = PACK_HEADER_BYTES;
    let (mut chunks, mut damaged) = (0u32, 0);
    while let Some((kind, length)) = record_at(&file, offset)? {
        let payload = offset + RECORD_HEADER_BYTES;
        if kind == CHUNK && length > 0 {
            if chunks.is_multiple_of(2) {
                flip(&file, payload + length / 2)?;
                damaged += 1;
            }
            chunks += 1;
        }
        offset = (payload + length).next_multiple_of(ALIGN);
    }
    Ok(damaged)
}

/// Kind and length of the record at `offset`; `None` at the end of the records.
fn record_at(file: &File, offset: u64) -> io::Result<Option<(u8, u64)>> {
    let mut header = [0; 16];
    match file.read_exact_at(&mut header, offset) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let [m0, m1, m2, m3, l0, l1, l2, l3, ..] = header;
    if [m0, m1, m2, m3] != RECORD_MAGIC {
        return Ok(None);
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    Ok(Some((header[KIND_AT], length.into())))
}

fn flip(file: &File, offset: u64) -> io::Result<()> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    file.write_all_at(&[byte[0] ^ 0xff], offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut record = RECORD_MAGIC.to_vec();
        record.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
        record.resize(KIND_AT, 0);
        record.push(kind);
        record.resize(48, 0);
        record.extend(payload);
        record.resize(record.len().next_multiple_of(8), 0);
        record
    }

    #[test]
    fn every_second_chunk_and_nothing_else_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let packs = dir.path().join("packs");
        fs::create_dir(&packs).unwrap();
        let mut pack = vec![7; 4096];
        for (kind, payload) in [
            (2, &[1; 100][..]),
            (CHUNK, &[2; 33]),
            (CHUNK, &[3; 5]),
            (3, &[4]),
            (CHUNK, &[5]),
        ] {
            pack.extend(record(kind, payload));
        }
        // What lies behind the last record is none.
        pack.extend([9; 64]);
        fs::write(packs.join("00000000.pack"), &pack).unwrap();
        fs::write(packs.join("notes"), &pack).unwrap();
        assert_eq!(corrupt(dir.path()).unwrap(), 2);
        assert_eq!(fs::read(packs.join("notes")).unwrap(), pack);
        let after = fs::read(packs.join("00000000.pack")).unwrap();
        let changed: Vec<u8> = pack
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .map(|(before, _)| *before)
            .collect();
        assert_eq!(changed, [2, 5]);
    }

    #[test]
    fn a_directory_without_packs_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(corrupt(dir.path()).is_err());
    }
}

//! The framing of pack files: one header a file, one header a record.

use std::ops::Range;

use super::Location;

/// Bytes before the first record.
pub(crate) const PACK_HEADER_BYTES: u64 = 4096;

/// Bytes before each payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 48;

/// Records begin at multiples of this.
pub(super) const ALIGN: u64 = 8;

/// Version of the pack format.
pub(super) const VERSION: u16 = 1;

const PACK_MAGIC: [u8; 8] = *b"CASPACK1";
pub(super) const RECORD_MAGIC: [u8; 4] = *b"CASR";
const STATE_LIVE: u8 = 0xff;
const STATE_DEAD: u8 = 0x00;

/// Where the state byte is in a record header; the only byte of a record that changes.
const STATE_OFFSET: u64 = 13;

/// Unit in which file systems give space back.
const BLOCK_BYTES: u64 = 4096;

/// What a record holds. The hash in its header is the BLAKE3 of its payload, whatever the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// A chunk's bytes.
    Chunk,
    /// An encoded manifest.
    Manifest,
    /// An encoded file entry; the newest one of an address counts.
    File,
    /// An address that has no file entry any more.
    Tombstone,
    /// A setting: its name and value.
    Setting,
}

/// The kind of a gap: no record, but the header of what dead neighbours left.
const GAP_CODE: u8 = 0;

impl RecordKind {
    fn code(self) -> u8 {
        match self {
            RecordKind::Chunk => 1,
            RecordKind::Manifest => 2,
            RecordKind::File => 3,
            RecordKind::Tombstone => 4,
            RecordKind::Setting => 6,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(RecordKind::Chunk),
            2 => Some(RecordKind::Manifest),
            3 => Some(RecordKind::File),
            4 => Some(RecordKind::Tombstone),
            6 => Some(RecordKind::Setting),
            _ => None,
        }
    }
}

/// A decoded record header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    /// `None` of a gap.
    pub(super) kind: Option<RecordKind>,
    pub(super) dead: bool,
    pub(super) len_bytes: u32,
    pub(super) hash: [u8; 32],
}

/// The first block of a pack.
pub(super) fn encode_pack_header(store: &[u8; 16], pack: u32, created_unix_ms: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(4096);
    header.extend_from_slice(&PACK_MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(store);
    header.extend_from_slice(&u64::from(pack).to_le_bytes());
    header.extend_from_slice(&created_unix_ms.to_le_bytes());
    let crc = crc32fast::hash(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    header.resize(4096, 0);
    header
}

/// The version a pack header states; `None` when it is not an intact header of this store's pack.
pub(super) fn decode_pack_header(bytes: &[u8], store: &[u8; 16], pack: u32) -> Option<u16> {
    let (fields, rest) = bytes.split_at_checked(42)?;
    let crc = u32::from_le_bytes(*rest.first_chunk::<4>()?);
    let is_ours = fields[..8] == PACK_MAGIC
        && fields[10..26] == *store
        && fields[26..34] == u64::from(pack).to_le_bytes();
    (is_ours && crc32fast::hash(fields) == crc).then(|| u16::from_le_bytes([fields[8], fields[9]]))
}

/// The checksum covers the place as well: the bytes of a pack that someone stores as a file are never
/// taken for records.
fn header_crc(header: &[u8; RECORD_HEADER_BYTES], store: &[u8; 16], pack: u32, offset: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(store);
    crc.update(&pack.to_le_bytes());
    crc.update(&offset.to_le_bytes());
    crc.update(&header[..8]);
    crc.update(&header[12..13]);
    crc.update(&header[14..]);
    crc.finalize()
}

/// magic 4 | length 4 | crc 4 | kind 1 | state 1 | zero 2 | hash 32
pub(super) fn encode_record_header(
    kind: RecordKind,
    hash: &[u8; 32],
    at: Location,
    store: &[u8; 16],
) -> [u8; RECORD_HEADER_BYTES] {
    encode_header(kind.code(), STATE_LIVE, hash, at, store)
}

/// The header of a gap in place of the records in `run`. Its hash is zeros.
pub(super) fn encode_gap_header(run: Location, store: &[u8; 16]) -> [u8; RECORD_HEADER_BYTES] {
    encode_header(GAP_CODE, STATE_DEAD, &[0; 32], run, store)
}

fn encode_header(
    kind_code: u8,
    state: u8,
    hash: &[u8; 32],
    at: Location,
    store: &[u8; 16],
) -> [u8; RECORD_HEADER_BYTES] {
    let mut header = [0u8; RECORD_HEADER_BYTES];
    header[..4].copy_from_slice(&RECORD_MAGIC);
    header[4..8].copy_from_slice(&at.len_bytes.to_le_bytes());
    header[12] = kind_code;
    header[13] = state;
    header[16..].copy_from_slice(hash);
    let crc = header_crc(&header, store, at.pack, at.offset);
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    header
}

/// `None` when the bytes are not the header of a record at this place.
pub(super) fn decode_record_header(
    header: &[u8; RECORD_HEADER_BYTES],
    store: &[u8; 16],
    pack: u32,
    offset: u64,
) -> Option<RecordHeader> {
    let (magic, rest) = header.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (crc, _) = rest.split_first_chunk::<4>()?;
    if *magic != RECORD_MAGIC || u32::from_le_bytes(*crc) != header_crc(header, store, pack, offset)
    {
        return None;
    }
    let kind = match header[12] {
        GAP_CODE => None,
        code => Some(RecordKind::from_code(code)?),
    };
    Some(RecordHeader {
        kind,
        // A flipped bit in the state of a live record must not lose it.
        dead: header[13] == STATE_DEAD,
        len_bytes: u32::from_le_bytes(*len),
        hash: *header.last_chunk::<32>()?,
    })
}

impl Location {
    pub(super) fn payload_offset(self) -> u64 {
        self.offset + RECORD_HEADER_BYTES as u64
    }

    /// Where the payload ends.
    pub(super) fn end(self) -> u64 {
        self.payload_offset() + u64::from(self.len_bytes)
    }

    /// Bytes that the record takes: header, payload and padding.
    pub(crate) fn record_bytes(self) -> u64 {
        self.next_offset() - self.offset
    }

    /// Where the next record begins.
    pub(super) fn next_offset(self) -> u64 {
        self.end().next_multiple_of(ALIGN)
    }

    /// Zeros between the payload and the next record.
    pub(super) fn padding_bytes(self) -> usize {
        usize::try_from(self.next_offset() - self.end()).unwrap_or(0)
    }

    /// Where the state byte is, and what makes the record dead.
    pub(super) fn death_mark(self) -> (u64, [u8; 1]) {
        (self.offset + STATE_OFFSET, [STATE_DEAD])
    }

    /// The whole blocks inside the payload, or inside a run: the header stays, so that the pack can still be walked.
    pub(super) fn blocks(self) -> Range<u64> {
        let start = self.payload_offset().next_multiple_of(BLOCK_BYTES);
        let end = self.end() / BLOCK_BYTES * BLOCK_BYTES;
        start..end.max(start)
    }
}

//! The file `seeding` of the data directory: `docs/FORMATS.md` has its bytes.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use casnode_cas::{Address, ChunkHash, HASH_BYTES};

use super::{
    MAX_SEED_TIME, SeedPolicy,
    table::{Entry, MAX_ENTRIES, Table},
};

const FILE: &str = "seeding";
/// Where a file is put that cannot be read.
const BAD_FILE: &str = "seeding.bad";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1;
const ENTRY_BYTES: usize = HASH_BYTES + 1 + 4 * 8;
const MAX_FILE_BYTES: usize = HEAD_BYTES + MAX_ENTRIES * ENTRY_BYTES + HASH_BYTES;

/// Why a file cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("its version is {0}, and this program knows {VERSION}")]
    Version(u8),
    #[error("its length or its checksum is wrong")]
    Torn,
    #[error("it says of a file what makes no sense")]
    Entry,
}

/// What the file of a data directory says. One that cannot be used is set aside, with a warning, and nothing is known.
pub(super) fn load(dir: &Path) -> io::Result<Table> {
    let path = dir.join(FILE);
    let bytes = match fs::metadata(&path) {
        Ok(meta) if meta.len() > MAX_FILE_BYTES as u64 => Err(Damage::Torn),
        Ok(_) => Ok(fs::read(&path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Table::new([], MAX_ENTRIES));
        }
        Err(error) => return Err(error),
    };
    match bytes.and_then(|bytes| decode(&bytes)) {
        Ok(table) => Ok(table),
        Err(damage) => {
            set_aside(&path, &dir.join(BAD_FILE), damage);
            Ok(Table::new([], MAX_ENTRIES))
        }
    }
}

fn set_aside(path: &Path, bad: &Path, damage: Damage) {
    let shown = (path.display(), bad.display());
    match fs::rename(path, bad) {
        Ok(()) => tracing::warn!(
            "{} cannot be used ({damage}) and is {} now: every file that is here is served, until it is fetched or \
             stored again",
            shown.0,
            shown.1
        ),
        Err(error) => {
            tracing::warn!(%error, "{} cannot be used ({damage}), nor renamed", shown.0);
        }
    }
}

/// Writes the bytes in place of the file: after a crash it is the old one or the new one.
pub(super) fn save(dir: &Path, bytes: &[u8]) -> io::Result<()> {
    let path: PathBuf = dir.join(FILE);
    let temp = path.with_extension("new");
    let mut file = File::create(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temp, &path)?;
    File::open(dir)?.sync_all()
}

pub(super) fn encode(table: &Table) -> Vec<u8> {
    let entries = table.entries();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + entries.len() * ENTRY_BYTES + HASH_BYTES);
    bytes.push(VERSION);
    for (address, entry) in entries {
        let (kind, value) = encode_policy(entry.policy);
        bytes.extend(address.as_bytes());
        bytes.push(kind);
        for number in [
            value,
            entry.finished_s,
            entry.size_bytes,
            entry.uploaded_bytes,
        ] {
            bytes.extend(number.to_le_bytes());
        }
    }
    bytes.extend(ChunkHash::of(&bytes).as_bytes());
    bytes
}

/// Reads a table. What was to be served until an earlier process ended is not served any more.
pub(super) fn decode(bytes: &[u8]) -> Result<Table, Damage> {
    match bytes.first() {
        Some(&VERSION) => {}
        Some(&other) => return Err(Damage::Version(other)),
        None => return Err(Damage::Torn),
    }
    let (body, sum) = bytes.split_last_chunk::<HASH_BYTES>().ok_or(Damage::Torn)?;
    if bytes.len() > MAX_FILE_BYTES || ChunkHash::of(body).as_bytes() != sum {
        return Err(Damage::Torn);
    }
    let (entries, rest) = body
        .get(HEAD_BYTES..)
        .unwrap_or_default()
        .as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err(Damage::Torn);
    }
    let entries: Vec<_> = entries.iter().map(decode_entry).collect::<Result<_, _>>()?;
    if !entries.is_sorted_by(|(a, _), (b, _)| a < b) {
        return Err(Damage::Entry);
    }
    Ok(Table::new(entries, MAX_ENTRIES))
}

fn decode_entry(bytes: &[u8; ENTRY_BYTES]) -> Result<(Address, Entry), Damage> {
    let (address, rest) = bytes
        .split_first_chunk::<HASH_BYTES>()
        .ok_or(Damage::Torn)?;
    let (kind, rest) = rest.split_first().ok_or(Damage::Torn)?;
    let (numbers, _) = rest.as_chunks::<8>();
    let &[value, finished_s, size_bytes, uploaded_bytes] = numbers else {
        return Err(Damage::Torn);
    };
    let entry = Entry {
        policy: decode_policy(*kind, u64::from_le_bytes(value)).ok_or(Damage::Entry)?,
        finished_s: u64::from_le_bytes(finished_s),
        size_bytes: u64::from_le_bytes(size_bytes),
        uploaded_bytes: u64::from_le_bytes(uploaded_bytes),
    };
    Ok((Address::from_bytes(*address), entry))
}

/// Nothing is written that [`decode_policy`] refuses.
fn encode_policy(policy: SeedPolicy) -> (u8, u64) {
    match policy {
        SeedPolicy::UntilExit => (1, 0),
        SeedPolicy::For(span) => (2, span.min(MAX_SEED_TIME).as_secs()),
        SeedPolicy::Ratio(ratio) if ratio > 0.0 => (3, ratio.to_bits()),
        SeedPolicy::None | SeedPolicy::Ratio(_) => (0, 0),
        SeedPolicy::Forever => (4, 0),
    }
}

fn decode_policy(kind: u8, value: u64) -> Option<SeedPolicy> {
    let ratio = f64::from_bits(value);
    match kind {
        0 | 1 if value == 0 => Some(SeedPolicy::None),
        2 if value <= MAX_SEED_TIME.as_secs() => Some(SeedPolicy::For(Duration::from_secs(value))),
        3 if ratio > 0.0 => Some(SeedPolicy::Ratio(ratio)),
        4 if value == 0 => Some(SeedPolicy::Forever),
        _ => None,
    }
}

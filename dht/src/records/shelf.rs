//! The file of the announce schedule: its buckets, each as it was written last.
//!
//! ```text
//! "CASSCHED" | version u32 LE
//! bucket u16 LE | length u32 LE | CRC-32 of both and of what follows u32 LE | the keys of the bucket, 44 bytes each
//! ```
//!
//! Only appended to; when most of it is history it is written anew. So a write that was cut off costs what it wrote and
//! nothing else, and what is lost is made again from the content store. In memory is where each bucket lies.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::announce::schedule::{BUCKETS, STORED_BYTES};

const FILE: &str = "schedule";
const NEW_FILE: &str = "schedule.new";
const MAGIC: [u8; 8] = *b"CASSCHED";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 12;
const RECORD_HEADER_BYTES: usize = 10;
/// Far more than the keys of a bucket of a schedule of a billion.
const MAX_BUCKET_BYTES: u32 = 16 << 20;
/// The file is written anew when it is twice as long as what is in it, and this much, in bytes.
const MIN_HISTORY_BYTES: u64 = 8 << 20;

/// A bucket and its keys, as they are written.
pub(crate) type Written = (u16, Vec<u8>);

/// The file. Reading and writing are blocking.
pub(crate) struct Shelf {
    folder: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    file: Arc<File>,
    /// Where the keys of each bucket begin, behind their header, and how many bytes they are.
    places: Vec<(u64, u32)>,
    end: u64,
    live_bytes: u64,
}

impl Shelf {
    /// Opens or creates the file in `folder`; `take` gets the keys of each bucket. What cannot be read is left out, and
    /// cut off if it is the end.
    pub(crate) fn open(folder: &Path, mut take: impl FnMut(u16, &[u8])) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let len = file.metadata()?.len();
        let mut inner = Inner {
            file: Arc::new(file),
            places: vec![(0, 0); BUCKETS],
            end: HEADER_BYTES as u64,
            live_bytes: 0,
        };
        let mut header = [0; HEADER_BYTES];
        let known = len >= HEADER_BYTES as u64 && {
            inner.file.read_exact_at(&mut header, 0)?;
            header == head()
        };
        if !known {
            if len > 0 {
                tracing::warn!(path = %path.display(), "an announce schedule that cannot be read is begun anew");
            }
            inner.file.set_len(0)?;
            inner.file.write_all_at(&head(), 0)?;
            inner.file.sync_all()?;
            File::open(folder)?.sync_all()?;
        } else {
            let lost = inner.find_buckets(len)?;
            if lost > 0 {
                tracing::warn!(
                    lost,
                    "parts of the announce schedule could not be read; they are made again"
                );
            }
        }
        for bucket in 0..BUCKETS {
            let bucket = u16::try_from(bucket).unwrap_or(u16::MAX);
            if let Ok(keys) = inner
                .read(bucket)
                .and_then(|(file, place)| read_at(&file, bucket, place))
                && !keys.is_empty()
            {
                take(bucket, &keys);
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            inner: Mutex::new(inner),
        })
    }

    /// The keys of a bucket.
    pub(crate) fn read(&self, bucket: u16) -> io::Result<Vec<u8>> {
        // Not locked while the disk works.
        let (file, place) = self.locked().read(bucket)?;
        read_at(&file, bucket, place)
    }

    /// Writes buckets; they survive this process, and the machine after [`Self::sync`].
    pub(crate) fn write(&self, buckets: &[Written]) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut inner = self.locked();
        let mut places = Vec::with_capacity(buckets.len());
        for (bucket, keys) in buckets {
            let len = u32::try_from(keys.len())
                .ok()
                .filter(|len| *len <= MAX_BUCKET_BYTES);
            let len = len.ok_or(io::ErrorKind::InvalidInput)?;
            bytes.extend_from_slice(&record_header(*bucket, len, keys));
            places.push((*bucket, (inner.end + bytes.len() as u64, len)));
            bytes.extend_from_slice(keys);
        }
        inner.file.write_all_at(&bytes, inner.end)?;
        inner.end += bytes.len() as u64;
        for (bucket, place) in places {
            inner.put(bucket, place);
        }
        if inner.end > inner.live_bytes * 2 + MIN_HISTORY_BYTES {
            inner.write_anew(&self.folder)?;
        }
        Ok(())
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let file = self.locked().file.clone();
        file.sync_data()
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Walks the file; returns how many records of it could not be read.
    fn find_buckets(&mut self, len: u64) -> io::Result<u64> {
        let file = self.file.clone();
        let mut file = BufReader::with_capacity(1 << 16, &*file);
        let mut skipped = vec![0; HEADER_BYTES];
        file.read_exact(&mut skipped)?;
        let (mut lost, mut keys) = (0, Vec::new());
        loop {
            let mut header = [0; RECORD_HEADER_BYTES];
            let begin = self.end + RECORD_HEADER_BYTES as u64;
            if begin > len || file.read_exact(&mut header).is_err() {
                break;
            }
            let (bucket, bytes, crc) = read_header(&header);
            let possible = usize::from(bucket) < BUCKETS
                && bytes <= MAX_BUCKET_BYTES
                && begin + u64::from(bytes) <= len;
            if !possible {
                break;
            }
            keys.resize(bytes as usize, 0);
            file.read_exact(&mut keys)?;
            match crc_of(bucket, bytes, &keys) == crc && keys.len().is_multiple_of(STORED_BYTES) {
                true => self.put(bucket, (begin, bytes)),
                false => lost += 1,
            }
            self.end = begin + u64::from(bytes);
        }
        if self.end < len {
            lost += 1;
            self.file.set_len(self.end)?;
        }
        Ok(lost)
    }

    fn put(&mut self, bucket: u16, place: (u64, u32)) {
        let Some(known) = self.places.get_mut(usize::from(bucket)) else {
            return;
        };
        self.live_bytes -= u64::from(known.1);
        self.live_bytes += u64::from(place.1);
        *known = place;
    }

    fn read(&self, bucket: u16) -> io::Result<(Arc<File>, (u64, u32))> {
        let place = self.places.get(usize::from(bucket));
        let place = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.file.clone(), *place))
    }

    fn write_anew(&mut self, folder: &Path) -> io::Result<()> {
        let (path, new_path) = (folder.join(FILE), folder.join(NEW_FILE));
        let new = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&new_path)?;
        let mut out = BufWriter::with_capacity(1 << 16, &new);
        out.write_all(&head())?;
        let (mut places, mut end) = (vec![(0, 0); BUCKETS], HEADER_BYTES as u64);
        for (bucket, place) in (0..).zip(&self.places) {
            // What cannot be read any more is left out.
            let Ok(keys) = read_at(&self.file, bucket, *place) else {
                continue;
            };
            if !keys.is_empty() {
                out.write_all(&record_header(bucket, place.1, &keys))?;
                out.write_all(&keys)?;
                let begin = end + RECORD_HEADER_BYTES as u64;
                places[usize::from(bucket)] = (begin, place.1);
                end = begin + u64::from(place.1);
            }
        }
        out.flush()?;
        drop(out);
        new.sync_all()?;
        std::fs::rename(&new_path, &path)?;
        File::open(folder)?.sync_all()?;
        let live_bytes = places.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
        let file = Arc::new(new);
        *self = Self {
            file,
            places,
            end,
            live_bytes,
        };
        Ok(())
    }
}

fn head() -> [u8; HEADER_BYTES] {
    let mut head = [0; HEADER_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8..].copy_from_slice(&VERSION.to_le_bytes());
    head
}

fn record_header(bucket: u16, bytes: u32, keys: &[u8]) -> [u8; RECORD_HEADER_BYTES] {
    let mut header = [0; RECORD_HEADER_BYTES];
    header[..2].copy_from_slice(&bucket.to_le_bytes());
    header[2..6].copy_from_slice(&bytes.to_le_bytes());
    header[6..].copy_from_slice(&crc_of(bucket, bytes, keys).to_le_bytes());
    header
}

fn read_header(header: &[u8; RECORD_HEADER_BYTES]) -> (u16, u32, u32) {
    let [b0, b1, l0, l1, l2, l3, c0, c1, c2, c3] = *header;
    let bucket = u16::from_le_bytes([b0, b1]);
    let bytes = u32::from_le_bytes([l0, l1, l2, l3]);
    (bucket, bytes, u32::from_le_bytes([c0, c1, c2, c3]))
}

fn crc_of(bucket: u16, bytes: u32, keys: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bucket.to_le_bytes());
    crc.update(&bytes.to_le_bytes());
    crc.update(keys);
    crc.finalize()
}

/// The keys at a place, with their header checked.
fn read_at(file: &File, bucket: u16, (begin, bytes): (u64, u32)) -> io::Result<Vec<u8>> {
    if bytes == 0 {
        return Ok(Vec::new());
    }
    let mut record = vec![0; RECORD_HEADER_BYTES + bytes as usize];
    let at = begin.saturating_sub(RECORD_HEADER_BYTES as u64);
    file.read_exact_at(&mut record, at)?;
    let keys = record.split_off(RECORD_HEADER_BYTES);
    match record == record_header(bucket, bytes, &keys) {
        true => Ok(keys),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(n: u8, count: usize) -> Vec<u8> {
        vec![n; count * STORED_BYTES]
    }

    fn found(folder: &Path) -> (Shelf, Vec<(u16, u8, usize)>) {
        let mut found = Vec::new();
        let shelf = Shelf::open(folder, |bucket, keys| {
            found.push((bucket, keys[0], keys.len() / STORED_BYTES));
        });
        (shelf.unwrap(), found)
    }

    #[test]
    fn buckets_come_back_as_they_were_written_last() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, none) = found(dir.path());
        assert!(none.is_empty());
        shelf.write(&[(7, keys(1, 3)), (9, keys(2, 1))]).unwrap();
        shelf.write(&[(7, keys(3, 5)), (9, Vec::new())]).unwrap();
        assert_eq!(shelf.read(7).unwrap(), keys(3, 5));
        assert!(shelf.read(9).unwrap().is_empty() && shelf.read(0).unwrap().is_empty());
        shelf.sync().unwrap();
        drop(shelf);
        let (shelf, all) = found(dir.path());
        assert_eq!(all, [(7, 3, 5)]);
        assert_eq!(shelf.read(7).unwrap(), keys(3, 5));
    }

    #[test]
    fn the_bytes_are_pinned() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, _) = found(dir.path());
        shelf.write(&[(0x0102, keys(4, 1))]).unwrap();
        let bytes = std::fs::read(dir.path().join(FILE)).unwrap();
        assert_eq!(&bytes[..18], b"CASSCHED\x01\0\0\0\x02\x01\x2c\0\0\0");
        let crc = crc32fast::hash(&[&bytes[12..18], &bytes[22..]].concat());
        assert_eq!(bytes[18..22], crc.to_le_bytes());
        assert_eq!(bytes.len(), 22 + STORED_BYTES);
    }

    #[test]
    fn a_torn_write_costs_itself_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, _) = found(dir.path());
        shelf.write(&[(1, keys(1, 2)), (2, keys(2, 2))]).unwrap();
        drop(shelf);
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        let first = 12 + RECORD_HEADER_BYTES + 2 * STORED_BYTES;
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            let (shelf, left) = found(dir.path());
            assert_eq!(left.len(), usize::from(len >= first), "{len}");
            // It goes on behind what is whole.
            shelf.write(&[(3, keys(3, 1))]).unwrap();
            drop(shelf);
            assert_eq!(found(dir.path()).1.len(), left.len() + 1);
        }
    }

    #[test]
    fn damage_costs_its_bucket_and_absurd_lengths_nothing_but_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, _) = found(dir.path());
        for n in 1..=3u8 {
            shelf.write(&[(n.into(), keys(n, 2))]).unwrap();
        }
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        let second = 12 + RECORD_HEADER_BYTES + 2 * STORED_BYTES;
        let mut bytes = whole.clone();
        bytes[second + RECORD_HEADER_BYTES + 5] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        shelf.read(2).unwrap_err();
        assert_eq!(found(dir.path()).1, [(1, 1, 2), (3, 3, 2)]);
        for (at, absurd) in [(second, [0xff; 2]), (second + 4, [0xff; 2])] {
            let mut bytes = whole.clone();
            bytes[at..at + 2].copy_from_slice(&absurd);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(found(dir.path()).1, [(1, 1, 2)]);
        }
        std::fs::write(&path, b"CASSCHED\x02\0\0\0").unwrap();
        assert!(found(dir.path()).1.is_empty());
    }

    #[test]
    fn history_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, _) = found(dir.path());
        shelf.write(&[(5, keys(9, 4))]).unwrap();
        for n in 0..40 {
            shelf.write(&[(6, keys(n, 10_000))]).unwrap();
        }
        let bytes = std::fs::metadata(dir.path().join(FILE)).unwrap().len();
        assert!(bytes < 10 << 20, "{bytes}");
        assert_eq!(shelf.read(6).unwrap(), keys(39, 10_000));
        drop(shelf);
        assert_eq!(found(dir.path()).1, [(5, 9, 4), (6, 39, 10_000)]);
    }
}

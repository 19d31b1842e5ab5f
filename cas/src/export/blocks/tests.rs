use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::direct::direct_align_bytes;
use crate::testing::bytes_from;

/// How a page was written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Not,
    Cached,
    Direct,
}

/// A disk in memory, which may refuse direct writes, or be full.
#[derive(Clone, Debug)]
struct Twin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: Mutex<Vec<u8>>,
    ways: Mutex<Vec<Way>>,
    direct_writes: AtomicUsize,
    is_direct: AtomicBool,
    is_full: AtomicBool,
}

impl Twin {
    fn new(len: usize) -> Self {
        Self(Arc::new(Inner {
            bytes: Mutex::new(vec![0; len]),
            ways: Mutex::new(vec![Way::Not; len.div_ceil(direct_align_bytes())]),
            direct_writes: AtomicUsize::new(0),
            is_direct: AtomicBool::new(true),
            is_full: AtomicBool::new(false),
        }))
    }

    fn put(&self, buf: &[u8], offset: u64, way: Way) -> io::Result<()> {
        if self.0.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let start = usize::try_from(offset).unwrap();
        let end = start + buf.len();
        self.0.bytes.lock().unwrap()[start..end].copy_from_slice(buf);
        let align = direct_align_bytes();
        let mut ways = self.0.ways.lock().unwrap();
        for page in &mut ways[start / align..end.div_ceil(align)] {
            assert!(*page == Way::Not || *page == way, "a page of both ways");
            *page = way;
        }
        Ok(())
    }
}

impl Disk for Twin {
    fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let bytes = self.0.bytes.lock().unwrap();
        let found = bytes.get(start..start + buf.len());
        buf.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.put(buf, offset, Way::Cached)
    }

    fn write_direct(&self, buf: &[u8], offset: u64) -> io::Result<bool> {
        let align = direct_align_bytes();
        let numbers = [
            buf.as_ptr().addr(),
            buf.len(),
            usize::try_from(offset).unwrap(),
        ];
        assert!(
            numbers.iter().all(|n| n.is_multiple_of(align)),
            "{numbers:?}"
        );
        if !self.is_direct() {
            return Ok(false);
        }
        self.0.direct_writes.fetch_add(1, Ordering::Relaxed);
        self.put(buf, offset, Way::Direct).map(|()| true)
    }

    fn is_direct(&self) -> bool {
        self.0.is_direct.load(Ordering::Relaxed)
    }
}

fn blocks(len: usize) -> (Twin, Arc<Blocks>) {
    let twin = Twin::new(len);
    let blocks = Blocks::new(Box::new(twin.clone()), len as u64);
    (twin, blocks)
}

fn content(len: usize) -> Vec<u8> {
    bytes_from(b"", len)
}

/// Where each piece begins and ends, of whole bytes cut to these sizes again and again.
fn cut(len: usize, sizes: &[usize]) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        let end = len.min(start + size);
        pieces.push(start..end);
        start = end;
        if start == len {
            break;
        }
    }
    pieces
}

#[test]
fn in_order_all_but_the_last_page_goes_around_the_cache() {
    let bytes = content(5 * BLOCK_BYTES + 70_000);
    let (twin, blocks) = blocks(bytes.len());
    for piece in cut(bytes.len(), &[300_001, 90_000, 700_123]) {
        blocks
            .write(&bytes[piece.clone()], piece.start as u64)
            .unwrap();
    }
    blocks.flush().unwrap();
    assert!(*twin.0.bytes.lock().unwrap() == bytes);
    let ways = twin.0.ways.lock().unwrap();
    let direct = ways.iter().filter(|way| **way == Way::Direct).count();
    assert_eq!(direct, 5 * BLOCK_BYTES / direct_align_bytes());
    assert_eq!(twin.0.direct_writes.load(Ordering::Relaxed), 5, "in blocks");
}

#[test]
fn what_a_full_disk_refused_is_written_when_there_is_room() {
    let bytes = content(20 * BLOCK_BYTES);
    let (twin, blocks) = blocks(bytes.len());
    let pieces = cut(bytes.len(), &[BLOCK_BYTES / 2]);
    let mut refused = 0;
    for (n, piece) in pieces.iter().enumerate() {
        twin.0.is_full.store(n % 8 > 4, Ordering::Relaxed);
        let write = || blocks.write(&bytes[piece.clone()], piece.start as u64);
        while let Err(error) = write() {
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            refused += 1;
            twin.0.is_full.store(false, Ordering::Relaxed);
        }
    }
    twin.0.is_full.store(true, Ordering::Relaxed);
    blocks.write(&bytes[..BLOCK_BYTES], 0).ok();
    let error = blocks.flush().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let mut seen = vec![0; bytes.len()];
    blocks.read(&mut seen, 0).unwrap();
    assert!(seen == bytes, "what is not on the disk is in memory");
    twin.0.is_full.store(false, Ordering::Relaxed);
    blocks.flush().unwrap();
    assert!(*twin.0.bytes.lock().unwrap() == bytes, "{refused} refused");
}

#[test]
fn memory_is_bounded_and_given_back() {
    let bytes = content(BLOCK_BYTES);
    let (_, blocks) = blocks(40 * BLOCK_BYTES);
    for n in 0..40u64 {
        let offset = n * 17 % 40 * BLOCK_BYTES as u64;
        blocks.write(&bytes[..BLOCK_BYTES - 1], offset).unwrap();
        if n % 7 == 6 {
            blocks.hand_over();
        }
        let state = blocks.lock();
        let held = state.open.len() + state.waiting.len() + state.spare.len();
        assert!(held <= OPEN_BLOCKS + WAITING_BLOCKS, "{held}");
    }
    blocks.flush().unwrap();
    let state = blocks.lock();
    assert!(state.open.is_empty() && state.waiting.is_empty() && state.spare.is_empty());
}

#[test]
fn what_is_handed_over_is_written_whether_more_comes_or_not() {
    let bytes = content(3 * BLOCK_BYTES);
    let (twin, blocks) = blocks(bytes.len());
    let pieces = [1000..300_000, 2 * BLOCK_BYTES - 7..2 * BLOCK_BYTES + 90_000];
    for piece in &pieces {
        blocks
            .write(&bytes[piece.clone()], piece.start as u64)
            .unwrap();
    }
    blocks.hand_over();
    let is_there = |piece: &Range<usize>| {
        let there = twin.0.bytes.lock().unwrap();
        there[piece.clone()] == bytes[piece.clone()]
    };
    let began = Instant::now();
    while !pieces.iter().all(is_there) {
        assert!(began.elapsed() < Duration::from_secs(60), "it is kept");
        thread::sleep(Duration::from_millis(1));
    }
    // The rest of these blocks comes later.
    for gap in [0..1000, 300_000..2 * BLOCK_BYTES - 7] {
        blocks.write(&bytes[gap.clone()], gap.start as u64).unwrap();
    }
    let end = 2 * BLOCK_BYTES + 90_000;
    blocks.write(&bytes[end..], end as u64).unwrap();
    blocks.flush().unwrap();
    assert!(*twin.0.bytes.lock().unwrap() == bytes);
}

#[test]
fn what_is_discarded_is_not_written_afterwards() {
    let bytes = content(9 * BLOCK_BYTES);
    let (twin, blocks) = blocks(bytes.len());
    blocks.write(&bytes, 0).unwrap();
    blocks.discard();
    let left = twin.0.bytes.lock().unwrap().clone();
    assert!(!blocks.has(&(0..bytes.len() as u64)));
    blocks.flush().unwrap();
    assert!(*twin.0.bytes.lock().unwrap() == left);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pieces_in_any_order_are_seen_at_once_and_written_in_the_end(
        len in 1..11 * BLOCK_BYTES,
        sizes in prop::collection::vec(prop_oneof![1_000..40_000usize, 60_000..1_100_000usize], 1..20),
        order in any::<u64>(),
        refuses_after in prop::option::of(0..20usize),
    ) {
        let bytes = content(len);
        let (twin, blocks) = blocks(len);
        let mut pieces = cut(len, &sizes);
        pieces.sort_by_key(|piece| blake3::hash(&(piece.start as u64 ^ order).to_le_bytes()).as_bytes().to_owned());
        for (n, piece) in pieces.iter().enumerate() {
            if refuses_after == Some(n) {
                // From here on each page is written as it can be.
                twin.0.is_direct.store(false, Ordering::Relaxed);
            }
            blocks.write(&bytes[piece.clone()], piece.start as u64).unwrap();
            let back = &pieces[n / 2];
            let mut seen = vec![0; back.len()];
            blocks.read(&mut seen, back.start as u64).unwrap();
            prop_assert!(seen == bytes[back.clone()]);
        }
        blocks.flush().unwrap();
        prop_assert!(*twin.0.bytes.lock().unwrap() == bytes);
    }
}

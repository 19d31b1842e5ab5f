//! Memory that chunks are read into, used again and again.
//!
//! The allocator maps every large buffer anew, zeroed, and gives it back right after: for a chunk that is
//! read once and sent, that costs more than copying it. Here a buffer goes back with the last [`Bytes`] that
//! uses it, and is not zeroed again. What is kept unused is bounded in bytes, and what nobody had a use for
//! since the last [`Pool::trim`] is given back.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::lock;
use crate::chunker::MAX_CHUNK_BYTES;

/// Bytes of unused buffers that a store keeps: what a few streams have read ahead, of the usual chunks.
pub(super) const KEPT_BYTES: usize = 8 << 20;

/// Buffers have sizes of powers of two from this on, so that one of them suits many chunks. Less is
/// cheap to allocate.
const MIN_BUFFER_BYTES: usize = 32 << 10;

/// No chunk is larger. Larger ones are not kept.
const MAX_BUFFER_BYTES: usize = MAX_CHUNK_BYTES as usize;

/// The size of the buffers for `len` bytes; `None` when they are not kept.
fn size_for(len: usize) -> Option<usize> {
    (MIN_BUFFER_BYTES / 2 + 1..=MAX_BUFFER_BYTES)
        .contains(&len)
        .then(|| len.next_power_of_two().max(MIN_BUFFER_BYTES))
}

/// Buffers for reading; clones share them. Any number may be in use at once: whoever takes them is bounded.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    max_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The one used last is at the end.
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    /// The fewest that were unused since the last trim.
    least_bytes: usize,
}

impl Kept {
    /// Takes the buffer of this size that was used last.
    fn take(&mut self, size: usize) -> Option<Vec<u8>> {
        let at = self.buffers.iter().rposition(|b| b.len() == size)?;
        let buffer = self.buffers.remove(at);
        self.bytes -= size;
        self.least_bytes = self.least_bytes.min(self.bytes);
        Some(buffer)
    }

    /// Puts a buffer back; what has to go for it, or with it.
    fn put(&mut self, buffer: Vec<u8>, max_bytes: usize) -> Vec<Vec<u8>> {
        if buffer.len() > max_bytes {
            return vec![buffer];
        }
        self.bytes += buffer.len();
        self.buffers.push(buffer);
        self.drop_down_to(max_bytes)
    }

    /// Takes out those that were not used for longest.
    fn drop_down_to(&mut self, bytes: usize) -> Vec<Vec<u8>> {
        let (mut left, mut count) = (self.bytes, 0);
        while left > bytes {
            left -= self.buffers[count].len();
            count += 1;
        }
        self.bytes = left;
        self.least_bytes = self.least_bytes.min(left);
        self.buffers.drain(..count).collect()
    }
}

impl Pool {
    /// A pool that keeps at most `max_bytes` of unused buffers.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self(Arc::new(Shared {
            max_bytes,
            kept: Mutex::default(),
        }))
    }

    /// A buffer of `len` bytes of any content.
    pub(crate) fn take(&self, len: usize) -> Buffer {
        let size = size_for(len);
        let kept = size.and_then(|size| lock(&self.0.kept).take(size));
        Buffer {
            bytes: kept.unwrap_or_else(|| vec![0; size.unwrap_or(len)]),
            len,
            home: size.map(|_| Arc::clone(&self.0)),
        }
    }

    /// Gives back the buffers that were not needed since the last call.
    pub(crate) fn trim(&self) {
        let mut kept = lock(&self.0.kept);
        let needed = kept.bytes - kept.least_bytes;
        let dropped = kept.drop_down_to(needed);
        kept.least_bytes = kept.bytes;
        drop(kept);
        drop(dropped); // not while others wait for the lock
    }
}

/// A buffer of a [`Pool`].
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    len: usize,
    /// `None`: it is not kept.
    home: Option<Arc<Shared>>,
}

impl Buffer {
    /// The bytes to be shared and not changed any more. The buffer goes back with the last of them.
    pub(crate) fn freeze(mut self) -> Bytes {
        match self.home {
            Some(_) => Bytes::from_owner(self),
            None => mem::take(&mut self.bytes).into(),
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let buffer = mem::take(&mut self.bytes);
            let dropped = lock(&home.kept).put(buffer, home.max_bytes);
            drop(dropped); // not while others wait for the lock
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    impl Pool {
        fn kept(&self) -> (usize, usize) {
            let kept = lock(&self.0.kept);
            let sum = kept.buffers.iter().map(Vec::len).sum();
            assert_eq!(kept.bytes, sum);
            (kept.buffers.len(), sum)
        }
    }

    #[test]
    fn memory_is_used_again_when_the_last_reader_is_done() {
        let pool = Pool::new(KEPT_BYTES);
        let mut buffer = pool.take(200_000);
        assert_eq!(buffer.len(), 200_000);
        buffer.fill(7);
        let first = buffer.as_ptr();
        let bytes = buffer.freeze();
        let part = bytes.slice(100..200);
        drop(bytes);
        assert_eq!(pool.kept(), (0, 0), "somebody still reads it");
        assert!(pool.take(200_000).as_ptr() != first);
        assert_eq!(part, vec![7; 100]);
        drop(part);
        let kept = pool.kept().0;
        // One of another length fits.
        let again = [pool.take(140_000), pool.take(262_144)];
        assert_eq!(kept, 2);
        assert!(again.iter().any(|buffer| buffer.as_ptr() == first));
        assert_eq!(pool.kept(), (0, 0));
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_rest_is_not_kept_at_all() {
        let pool = Pool::new(1 << 20);
        let many: Vec<Bytes> = (0..100).map(|_| pool.take(256 << 10).freeze()).collect();
        drop(many);
        assert_eq!(pool.kept(), (4, 1 << 20));
        drop(pool.take(2 << 20).freeze());
        assert_eq!(pool.kept(), (4, 1 << 20), "larger than all that is kept");
        drop(pool.take(100).freeze());
        drop(pool.take(MAX_BUFFER_BYTES + 1).freeze());
        assert_eq!(pool.kept(), (4, 1 << 20));
        // What was used last pushes out what was used before.
        drop(pool.take(1 << 20).freeze());
        assert_eq!(pool.kept(), (1, 1 << 20));
        assert_eq!(Pool::new(0).take(0).freeze().len(), 0);
    }

    #[test]
    fn what_nobody_needs_is_given_back() {
        let pool = Pool::new(KEPT_BYTES);
        let busy: Vec<Buffer> = (0..8).map(|_| pool.take(512 << 10)).collect();
        drop(busy);
        pool.trim();
        assert_eq!(pool.kept().0, 8, "it was in use just now");
        // Two at a time are needed from now on.
        for _ in 0..5 {
            drop([pool.take(512 << 10), pool.take(512 << 10)]);
        }
        pool.trim();
        assert_eq!(pool.kept().0, 2);
        pool.trim();
        assert_eq!(pool.kept().0, 0);
    }

    #[test]
    fn many_threads_never_share_a_buffer() {
        let pool = Pool::new(1 << 20);
        thread::scope(|scope| {
            for mark in 0..8u8 {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..200 {
                        let mut buffer = pool.take((round + 1) * 1000);
                        buffer.fill(mark);
                        let bytes = buffer.freeze();
                        thread::yield_now();
                        assert!(bytes.iter().all(|byte| *byte == mark));
                        if round % 50 == 0 {
                            pool.trim();
                        }
                    }
                });
            }
        });
        assert!(pool.kept().1 <= 1 << 20);
    }
}

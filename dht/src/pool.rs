//! Memory that chunks are received into, used again and again.
//!
//! The allocator maps every large buffer anew, zeroed, and gives it back right after: page faults and zeroing cost more than
//! the chunk's way through the connection. Here a buffer goes back with the last [`Bytes`] that uses it. What is kept
//! unused is bounded, and gone with the last stream that receives and the last chunk that is in use.

use std::collections::VecDeque;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

/// Bytes of unused buffers that a process keeps where nothing else is said: about what is on its way from the streams to
/// the disk.
pub(crate) const KEPT_BYTES: usize = 16 << 20;
/// Less is cheap to allocate.
pub(crate) const MIN_BUFFER_BYTES: usize = 64 << 10;
/// Chunks are not larger by default. Larger buffers are not kept.
const MAX_BUFFER_BYTES: usize = 1 << 20;

/// What is said: see [`keep_at_most`].
static MAX_KEPT_BYTES: AtomicUsize = AtomicUsize::new(KEPT_BYTES);

/// Sets how many bytes of unused buffers this process keeps, from the next time on that it begins to receive.
pub(crate) fn keep_at_most(bytes: usize) {
    MAX_KEPT_BYTES.store(bytes, Ordering::Relaxed);
}

/// The pool of this process, while anybody uses it.
static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

/// The size of the buffers for `len` bytes, a power of two or one and a half; `None` when they are not kept.
fn size_for(len: usize) -> Option<usize> {
    if !(MIN_BUFFER_BYTES / 2..=MAX_BUFFER_BYTES).contains(&len) {
        return None;
    }
    let above = len.next_power_of_two().max(MIN_BUFFER_BYTES);
    let between = above / 4 * 3;
    Some(match len <= between && between > MIN_BUFFER_BYTES {
        true => between,
        false => above,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Buffers for receiving; clones share them. Any number may be in use at once: whoever takes them is bounded.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The one used last is at the end.
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Pool {
    /// The one pool of this process.
    pub(crate) fn shared() -> Self {
        let mut shared = lock(&SHARED);
        if let Some(pool) = shared.upgrade() {
            return Self(pool);
        }
        let pool = Self::new(MAX_KEPT_BYTES.load(Ordering::Relaxed));
        *shared = Arc::downgrade(&pool.0);
        pool
    }

    /// A pool that keeps at most `max_bytes` of unused buffers.
    fn new(max_bytes: usize) -> Self {
        Self(Arc::new(Shared {
            max_bytes,
            kept: Mutex::default(),
        }))
    }

    /// A buffer of `len` bytes of any content.
    pub(crate) fn take(&self, len: usize) -> Buffer {
        let size = size_for(len);
        let kept = size.and_then(|size| self.0.take(size));
        Buffer {
            bytes: kept.unwrap_or_else(|| vec![0; size.unwrap_or(len)]),
            len,
            home: size.map(|_| self.0.clone()),
        }
    }
}

impl Shared {
    /// Takes the buffer of this size that was used last: the processor may still have it at hand.
    fn take(&self, size: usize) -> Option<Vec<u8>> {
        let mut kept = lock(&self.kept);
        let at = kept.buffers.iter().rposition(|b| b.len() == size)?;
        kept.bytes -= size;
        kept.buffers.remove(at)
    }

    /// Puts a buffer back. Those that were not used for longest go for it.
    fn put(&self, buffer: Vec<u8>) {
        let mut gone = Vec::new();
        let mut kept = lock(&self.kept);
        kept.bytes += buffer.len();
        kept.buffers.push_back(buffer);
        while kept.bytes > self.max_bytes
            && let Some(oldest) = kept.buffers.pop_front()
        {
            kept.bytes -= oldest.len();
            gone.push(oldest);
        }
        drop(kept); // nobody waits while memory is given back
    }
}

/// A buffer of a [`Pool`].
#[derive(Debug)]
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
            home.put(mem::take(&mut self.bytes));
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
    fn sizes_waste_a_third_at_most() {
        for len in (MIN_BUFFER_BYTES..=MAX_BUFFER_BYTES).step_by(1000) {
            let size = size_for(len).unwrap();
            assert!(size >= len && size <= len * 3 / 2 + 1, "{size} for {len}");
        }
        assert_eq!(size_for(100), None);
        assert_eq!(size_for(256 << 10), Some(256 << 10));
        assert_eq!(size_for((256 << 10) + 1), Some(384 << 10));
        assert_eq!(size_for(1 << 20), Some(1 << 20));
        assert_eq!(size_for((1 << 20) + 1), None);
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
        assert_ne!(pool.take(200_000).as_ptr(), first);
        assert_eq!(part, vec![7; 100]);
        drop(part);
        assert_eq!(pool.kept().0, 2);
        // One of another length fits.
        assert_eq!(pool.take(250_000).as_ptr(), first);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_rest_is_not_kept_at_all() {
        let pool = Pool::new(1 << 20);
        let many: Vec<Bytes> = (0..100).map(|_| pool.take(256 << 10).freeze()).collect();
        drop(many);
        assert_eq!(pool.kept(), (4, 1 << 20));
        drop(pool.take(100).freeze());
        drop(pool.take(MAX_BUFFER_BYTES + 1).freeze());
        assert_eq!(pool.kept(), (4, 1 << 20));
        // What was used last pushes out what was used before.
        drop(pool.take(1 << 20).freeze());
        assert_eq!(pool.kept(), (1, 1 << 20));
        assert_eq!(Pool::new(0).take(0).freeze().len(), 0);
        let none = Pool::new(0);
        drop(none.take(1 << 20));
        assert_eq!(none.kept(), (0, 0));
    }

    #[test]
    fn nothing_is_kept_when_nobody_receives() {
        let pool = Pool::new(KEPT_BYTES);
        let chunk = pool.take(256 << 10).freeze();
        drop(pool.take(512 << 10));
        let weak = Arc::downgrade(&pool.0);
        drop(pool);
        assert!(weak.upgrade().is_some(), "a chunk is in use");
        drop(chunk);
        assert!(weak.upgrade().is_none());
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
                    }
                });
            }
        });
        assert!(pool.kept().1 <= 1 << 20);
    }
}

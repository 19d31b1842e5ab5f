//! Memory at an address that direct I/O takes.

use std::ops::Range;

use super::direct_align_bytes;

/// Memory that begins at an address as aligned as direct I/O wants it.
pub(crate) struct Aligned {
    /// Never grows, so it stays where it is.
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` bytes. They take no memory before they are written.
    pub(crate) fn new(len: usize) -> Self {
        let align = direct_align_bytes();
        let bytes = vec![0; len + align];
        let start = bytes.as_ptr().align_offset(align);
        Self {
            // An unaligned start would only make the kernel refuse direct I/O.
            start: start.min(align),
            bytes,
            len,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[self.start + range.start..self.start + range.end]
    }

    pub(crate) fn get_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.bytes[self.start + range.start..self.start + range.end]
    }
}

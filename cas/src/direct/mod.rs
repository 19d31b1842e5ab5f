//! Writing around the page cache: what it costs the processor is a fraction of what a first touch of new
//! pages of the cache costs, above all on virtual machines.
//!
//! A page must never be written both ways: what is not a whole page goes through the cache.

mod aligned;
mod handle;

pub(crate) use self::aligned::Aligned;
pub(crate) use self::handle::{Direct, can_write};

/// Direct I/O takes memory, offsets and lengths at multiples of this: no device wants more than a page, and
/// a page that is written directly is never shared with one that is written through the cache. A power of
/// two: 4096, or the size of this system's pages where those are larger.
pub(crate) fn direct_align_bytes() -> usize {
    rustix::param::page_size().max(4096)
}

/// The multiple of the alignment at or below `offset`.
pub(crate) fn align_down(offset: u64) -> u64 {
    let align = direct_align_bytes() as u64;
    offset / align * align
}

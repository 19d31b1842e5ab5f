//! How the C library's allocator is to deal with buffers of the size of a chunk.

/// The size from which a buffer is a mapping of its own, and half the size of what stays unused at the end of a heap.
const LARGEST_KEPT_BYTES: usize = 4 << 20;

/// Has buffers up to 4 MiB taken from the heap. By default glibc maps those above 128 KiB anew for each use, and gives
/// memory at the end of a heap back as soon as 128 KiB of it are unused: a fetched GiB was 350,000 page faults, a third
/// of all processor time. Both limits grow with the first mapping that is given back (mallopt(3), "dynamic mmap
/// threshold"), so that a single one at the start sets them, without a call into C. Other allocators lose nothing by it.
pub(crate) fn keep_buffers() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(
        LARGEST_KEPT_BYTES,
    )));
}

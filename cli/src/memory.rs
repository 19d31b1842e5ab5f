//! How the C library's allocator is to deal with what this program needs and no longer needs.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The size from which a buffer is a mapping of its own, and half the size of what stays unused at the end of a heap.
const LARGEST_KEPT_BYTES: usize = 4 << 20;

/// How often it is looked whether a daemon rests.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// A daemon rests when it took less processor time than this since the last look: a fiftieth of one processor.
const REST: Duration = Duration::from_millis(400);

/// What a daemon did since memory was last given back is worth doing so again from this processor time on.
const WORTH_IT: Duration = Duration::from_millis(500);

/// Has buffers up to 4 MiB taken from the heap. By default glibc maps those above 128 KiB anew for each use, and gives
/// memory at the end of a heap back as soon as 128 KiB of it are unused: a fetched GiB was 350,000 page faults, a third
/// of all processor time. Both limits grow with the first mapping that is given back (mallopt(3), "dynamic mmap
/// threshold"), so that a single one at the start sets them, without a call into C. Other allocators lose nothing by it.
pub(crate) fn keep_buffers() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(
        LARGEST_KEPT_BYTES,
    )));
}

/// Heaps that threads share: one for each processor, within these bounds. glibc makes eight for each, and every heap
/// keeps what was freed in it: of a daemon that fetched a directory of 52,000 files on two processors, 110 of 375 MiB were
/// in use. With two heaps it had 172 MiB, with four 202, and was no slower.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: std::ops::RangeInclusive<usize> = 2..=4;

/// Has all threads share a few heaps. To be called before there are others.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "the allocator has no safe way to be told; what it is for is measured above"
)]
pub(crate) fn share_heaps() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let heaps = processors.clamp(*HEAPS.start(), *HEAPS.end());
    // SAFETY: mallopt(3) takes two numbers, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, libc::c_int::try_from(heaps).unwrap_or(2));
    }
}

/// Other C libraries have no such heaps, or cannot be told.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn share_heaps() {}

/// Gives unused memory back to the system whenever the process has worked and then rests. glibc keeps what was freed:
/// of a daemon that had opened a store of a million chunks, 90 of 136 MiB.
pub(crate) async fn give_back_at_rest(stop: CancellationToken) {
    let mut looked = cpu_time();
    let mut given_back = Duration::ZERO;
    while stop
        .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
        .await
        .is_some()
    {
        let now = cpu_time();
        if now - looked < REST && now - given_back >= WORTH_IT {
            // It walks the free lists with their locks held, some milliseconds: not on a thread that tasks need.
            let _ = tokio::task::spawn_blocking(trim).await;
            given_back = cpu_time();
        }
        looked = now;
    }
}

/// What this process has used of all processors together.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "the allocator has no safe way to be told; what it is for is measured above"
)]
fn trim() {
    // SAFETY: malloc_trim(3) takes a number, is thread-safe, and touches nothing that is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other C libraries give back what is free by themselves, or cannot be told.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of this process that are in memory and in no file.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn anonymous_bytes() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib: usize = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        kib << 10
    }

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn what_was_freed_below_something_that_lives_goes_back_to_the_system() {
        const PIECES: usize = 20_000;
        let pieces: Vec<Vec<u8>> = (0..PIECES).map(|_| vec![1; 4096]).collect();
        let lives = vec![1u8; 4096];
        drop(pieces);
        let before = anonymous_bytes();
        trim();
        let after = anonymous_bytes();
        assert!(
            after + PIECES * 4096 / 2 < before,
            "{before} bytes before, {after} afterwards"
        );
        drop(std::hint::black_box(lives));
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_it_is_told_to() {
        let stop = CancellationToken::new();
        let task = tokio::spawn(give_back_at_rest(stop.clone()));
        tokio::time::sleep(LOOK_EVERY * 3).await;
        stop.cancel();
        task.await.unwrap();
    }
}

//! What other processes use, as the kernel tells it in `/proc`; where there is none, nothing is known.

use std::future::Future;
use std::time::Duration;

use super::child::Pid;

/// How often memory is looked at. What comes and goes in between is not seen.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// Processor time of a process so far, user and system. The kernel tells it in hundredths of a second.
pub(crate) fn cpu_s(pid: Pid) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.0)).ok()?;
    let ticks = cpu_ticks(&stat)?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// User and system time of a line of `/proc/PID/stat`. The name in it may hold anything, parentheses too.
fn cpu_ticks(stat: &str) -> Option<u64> {
    /// Of the fields behind the name.
    const USER: usize = 11;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(USER);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(user + system)
}

/// Memory that is no file's, in bytes.
fn anonymous_bytes(pid: Pid) -> Option<u64> {
    // Less to write for the kernel than `status`: looking shall cost little.
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", pid.0)).ok()?;
    let pages = anonymous_pages(&statm)?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

/// Resident pages but those of files, of a line of `/proc/PID/statm`.
fn anonymous_pages(statm: &str) -> Option<u64> {
    let mut fields = statm.split_whitespace().skip(1);
    let resident: u64 = fields.next()?.parse().ok()?;
    let of_files: u64 = fields.next()?.parse().ok()?;
    Some(resident.saturating_sub(of_files))
}

/// Does something, and says the most memory that each of these processes had meanwhile.
pub(crate) async fn with_peaks<T>(
    pids: &[Pid],
    work: impl Future<Output = T>,
) -> (T, Vec<Option<u64>>) {
    let mut peaks = vec![None; pids.len()];
    let mut look = || {
        for (peak, &pid) in peaks.iter_mut().zip(pids) {
            *peak = (*peak).max(anonymous_bytes(pid));
        }
    };
    let mut work = std::pin::pin!(work);
    let mut every = tokio::time::interval(SAMPLE_EVERY);
    let done = loop {
        tokio::select! {
            biased;
            done = &mut work => break done,
            _ = every.tick() => look(),
        }
    };
    look();
    (done, peaks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_past_any_name() {
        let stat = "7 (a) R (b) S 1 7 7 0 -1 4194304 5 0 0 0 250 50 9 9 20 0 3 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn pages_of_files_are_not_counted() {
        assert_eq!(anonymous_pages("900 250 50 7 0 80 0\n"), Some(200));
        assert_eq!(anonymous_pages("900 250"), None);
        assert_eq!(anonymous_pages("x"), None);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn memory_in_use_is_seen_and_processes_that_are_not_there_have_none() {
        const BYTES: usize = 64 << 20;
        let own = Pid(std::process::id());
        // It lives on with the result, so that the last look sees it, however late the others are.
        let work = async { vec![1u8; BYTES] };
        let (memory, peaks) = with_peaks(&[own, Pid(u32::MAX)], work).await;
        assert!(peaks[0].unwrap() >= BYTES as u64, "{peaks:?}");
        assert_eq!(peaks[1], None);
        assert_eq!(memory.len(), BYTES);
        assert!(cpu_s(own).is_some());
    }
}

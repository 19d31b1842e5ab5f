//! Times and spans as people say them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// A span of time, by its largest unit.
pub(super) fn span(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        120..7_200 => format!("{} min", secs / 60),
        7_200..259_200 => format!("{} h", secs / 3_600),
        _ => format!("{} days", secs / 86_400),
    }
}

/// A time as seen from now: `3 min ago`, `in 21 h`.
pub(super) fn relative(now_ms: u64, then_ms: u64) -> String {
    let secs = now_ms.abs_diff(then_ms) / 1_000;
    if secs == 0 {
        "now".to_owned()
    } else if then_ms < now_ms {
        format!("{} ago", span(secs))
    } else {
        format!("in {}", span(secs))
    }
}

/// Milliseconds of something that was waited for.
pub(super) fn took(ms: u64) -> String {
    if ms < 10_000 {
        format!("{ms} ms")
    } else {
        span(ms / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_from_now() {
        let now = 1_000_000_000;
        assert_eq!(relative(now, now + 500), "now");
        assert_eq!(relative(now, now - 180_000), "3 min ago");
        assert_eq!(relative(now, now + 21 * 3_600_000), "in 21 h");
        assert_eq!(relative(now, now + 3 * 86_400_000), "in 3 days");
        assert_eq!(relative(now, 0), "11 days ago");
    }

    #[test]
    fn what_took_long_is_told_roughly() {
        assert_eq!(took(999), "999 ms");
        assert_eq!(took(10_000), "10 s");
        assert_eq!(took(600_000), "10 min");
    }
}

//! `limits`: how much is sent and taken at most, and how much is just now.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use casnode_dht::{Bandwidth, Dht, Traffic};

use super::network::joined;
use crate::{
    api::{ApiError, ErrorKind, LimitsChange, LimitsReport, Outcome, RateLimit, Response},
    clock,
    node::Node,
};

/// What flows is measured over this span: with less, one burst of a limited node would be all there is to see.
const MEASURED: Duration = Duration::from_secs(1);

/// Why a node without a network has no limits.
const IDLE: &str = "this node sends and takes nothing";

/// Changes how much this node sends and takes at most.
pub(crate) fn change_limits(node: &Node, change: LimitsChange) -> Result<(), ApiError> {
    let dht = joined(node, IDLE)?;
    check(change)?;
    let bandwidth = dht.change_bandwidth(|before| changed(before, change));
    tracing::info!(
        ?bandwidth,
        "the limits of what is sent and taken were changed"
    );
    Ok(())
}

/// Says, or changes, how much this node sends and takes at most.
pub(super) async fn limits(node: &Arc<Node>, change: Option<LimitsChange>) -> Outcome {
    if let Some(wanted) = change {
        change_limits(node, wanted)?;
    }
    let dht = joined(node, IDLE)?;
    let bandwidth = dht.bandwidth();
    let (up_now_bytes_per_s, down_now_bytes_per_s) = flow(dht).await;
    let Traffic {
        up_bytes,
        down_bytes,
    } = dht.traffic();
    Ok(Response::Limits(LimitsReport {
        up_bytes_per_s: bandwidth.up_bytes_per_s.map(NonZeroU64::get),
        down_bytes_per_s: bandwidth.down_bytes_per_s.map(NonZeroU64::get),
        local: !bandwidth.exempt_local,
        up_now_bytes_per_s,
        down_now_bytes_per_s,
        up_bytes,
        down_bytes,
    }))
}

/// Refuses a limit that would break streams rather than slow them down.
fn check(change: LimitsChange) -> Result<(), ApiError> {
    let least = RateLimit::MIN_BYTES_PER_S;
    let too_low = |limit| matches!(limit, Some(RateLimit::BytesPerS(rate)) if rate.get() < least);
    if too_low(change.up) || too_low(change.down) {
        return Err(ApiError::new(
            ErrorKind::Usage,
            "the limits were not changed",
            format!("the lowest limit is {least} bytes a second"),
            "say a higher one, or none",
        ));
    }
    Ok(())
}

/// These limits with what is to change.
fn changed(bandwidth: Bandwidth, change: LimitsChange) -> Bandwidth {
    let limit = |old, new| match new {
        None => old,
        Some(RateLimit::Unlimited) => None,
        Some(RateLimit::BytesPerS(rate)) => Some(rate),
    };
    Bandwidth {
        up_bytes_per_s: limit(bandwidth.up_bytes_per_s, change.up),
        down_bytes_per_s: limit(bandwidth.down_bytes_per_s, change.down),
        exempt_local: change.local.map_or(bandwidth.exempt_local, |local| !local),
    }
}

/// Bytes a second that are sent and taken just now.
async fn flow(dht: &Dht) -> (u64, u64) {
    let (before, begun) = (dht.traffic(), clock::now());
    tokio::time::sleep(MEASURED).await;
    let (after, span) = (dht.traffic(), begun.elapsed());
    let per_s = |from: u64, to: u64| rate(to.saturating_sub(from), span);
    (
        per_s(before.up_bytes, after.up_bytes),
        per_s(before.down_bytes, after.down_bytes),
    )
}

/// Bytes a second. Saturates.
fn rate(bytes: u64, span: Duration) -> u64 {
    let per_s = u128::from(bytes) * 1_000_000 / span.as_micros().max(1);
    u64::try_from(per_s).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_to_change_stays() {
        let rate = |bytes| NonZeroU64::new(bytes);
        let before = Bandwidth {
            up_bytes_per_s: rate(5),
            down_bytes_per_s: rate(7),
            exempt_local: true,
        };
        assert_eq!(changed(before, LimitsChange::default()), before);
        let change = LimitsChange {
            up: Some(RateLimit::Unlimited),
            down: rate(9).map(RateLimit::BytesPerS),
            local: Some(true),
        };
        let after = Bandwidth {
            up_bytes_per_s: None,
            down_bytes_per_s: rate(9),
            exempt_local: false,
        };
        assert_eq!(changed(before, change), after);
    }

    #[test]
    fn a_limit_that_is_too_low_is_refused() {
        let change = |bytes| LimitsChange {
            down: NonZeroU64::new(bytes).map(RateLimit::BytesPerS),
            ..LimitsChange::default()
        };
        assert!(check(change(RateLimit::MIN_BYTES_PER_S - 1)).is_err());
        assert!(check(change(RateLimit::MIN_BYTES_PER_S)).is_ok());
        assert!(check(LimitsChange::default()).is_ok());
    }

    #[test]
    fn a_rate_is_bytes_by_time_and_no_time_is_no_panic() {
        assert_eq!(rate(3 << 20, Duration::from_millis(1500)), 2 << 20);
        assert_eq!(rate(0, Duration::ZERO), 0);
        assert_eq!(rate(u64::MAX, Duration::ZERO), u64::MAX);
    }
}

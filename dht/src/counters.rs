//! Counts of what was refused.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::records::Taken;

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares the counters and their snapshot together, so that none is forgotten in one of them.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The live counters of one node.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter,)* }

        /// What this node has refused since its start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct DropCounters { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub(crate) fn snapshot(&self) -> DropCounters {
                DropCounters { $($name: self.$name.get(),)* }
            }
        }

        impl DropCounters {
            /// Names and values, in a fixed order.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

impl Counters {
    /// Counts the provider records that were not taken, by reason.
    pub(crate) fn count_refused(&self, taken: &Taken) {
        self.over_quota_records.add(taken.over_quota as u64);
        self.far_records.add(taken.far as u64);
    }
}

counters! {
    /// Connections of others that did not finish their handshake: garbage, scanners, timeouts.
    failed_handshakes,
    /// Connections refused because a limit was reached.
    refused_connections,
    /// Connections, and places in the routing table, refused because one part of the internet has many.
    refused_by_origin,
    /// Peers disconnected because they are of another network.
    foreign_peers,
    /// Peers dropped from the routing table because they did not answer.
    stale_peers_removed,
    /// Connections closed because many were open and nobody needed them.
    spare_connections,
    /// Connections refused because the peer is banned.
    banned_connections,
    /// Streams refused because too many are open.
    refused_streams,
    /// Frames longer than allowed.
    oversized_frames,
    /// Frames that could not be understood.
    bad_frames,
    /// Streams on which a frame was begun and not finished, or that took no bytes.
    stalled_streams,
    /// Value records whose value is not true for their key, or is too large.
    bad_records,
    /// Provider records with a key or addresses of a wrong shape.
    bad_provider_records,
    /// Records refused because a quota was reached.
    over_quota_records,
    /// Provider records not taken because other nodes are closer to the key.
    far_records,
    /// Answers of other nodes to lookups that did not pass the record check.
    bad_answers,
    /// Records dropped because too many arrived at once.
    overflowed_records,
}

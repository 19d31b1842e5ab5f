//! How sessions ended, and when their peers may be asked again.

use std::time::{Duration, Instant};

use super::super::session::SessionEnd;

/// A peer whose session ended is tried again after this long: it may have come back, or have the file by now.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The same for a peer that could not be reached, or turned this node away: another of its addresses may be known by
/// then, or a place be free.
const REDIAL_AFTER: Duration = Duration::from_secs(2);

/// The same for one that made room for another.
const RETURN_AFTER: Duration = Duration::from_secs(60);

/// How the last session of a peer ended.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) at: Instant,
    pub(super) answer: Answer,
    pub(super) why: String,
}

/// What is known of whether a peer has the file, after its session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was asked, and does not have it, or what it had was of no use.
    Given,
    /// It could not be asked.
    Unreachable,
    /// It closed the stream: its places may all be taken.
    TurnedAway,
    /// It was of no use for a while, and made room for another.
    MadeRoom,
    /// It does not have what it claims to have.
    Lied,
}

impl Answer {
    pub(super) fn of(end: &SessionEnd) -> Self {
        match end {
            SessionEnd::Unreachable(_) => Self::Unreachable,
            SessionEnd::Closed | SessionEnd::Stream(_) => Self::TurnedAway,
            SessionEnd::MadeRoom => Self::MadeRoom,
            SessionEnd::Lied => Self::Lied,
            _ => Self::Given,
        }
    }

    /// How long it is let rest.
    pub(super) fn pause(self) -> Duration {
        match self {
            Self::Given => RETRY_AFTER,
            Self::Unreachable | Self::TurnedAway => REDIAL_AFTER,
            Self::MadeRoom => RETURN_AFTER,
            Self::Lied => Duration::MAX,
        }
    }
}

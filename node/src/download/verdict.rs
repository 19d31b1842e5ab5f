//! When a download gives up, and what it says. Pure: facts in, verdict out.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::sources::Turns;
use crate::{
    api::{ApiError, ErrorKind},
    errors::count,
};

/// Somebody offers the file within this time or nobody does.
pub(super) const FIND_DEADLINE: Duration = Duration::from_secs(30);

/// A download of a file that somebody offers, and that makes no progress for this long, gives up with what it has.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_secs(300);

/// The same while somebody has what is wanted and chokes this node: the line may be long, and it is an honest one.
pub(super) const TURN_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Lookups that must have come back with nothing before an address is unknown: a record may be on its way.
const LOOKUPS_TO_BE_SURE: u32 = 3;

/// Lookups after the last liar was banned before nobody else is believed to have the file.
const LOOKUPS_AFTER_BAN: u32 = 2;

/// What is known of a download that is not complete.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) address: String,
    /// Since the get began.
    pub(super) elapsed: Duration,
    /// Since this attempt began to search.
    pub(super) searching: Duration,
    /// The person's own limit has passed.
    pub(super) out_of_time: bool,
    pub(super) has_manifest: bool,
    /// Chunks that are kept.
    pub(super) kept_chunks: u32,
    pub(super) all_chunks: u32,
    /// Sessions that run, joined or not.
    pub(super) active: usize,
    /// Peers named by hand that are still being dialled.
    pub(super) dialling: usize,
    /// Since the last chunk was kept or the manifest was chosen; before that, since the last part of one came.
    pub(super) idle: Duration,
    /// Of that, the time until which somebody had what is wanted and choked this node.
    pub(super) choked: Duration,
    /// Lookups of the file that have ended.
    pub(super) lookups: u32,
    /// The same since the last ban.
    pub(super) lookups_since_ban: u32,
    pub(super) banned: usize,
    /// Peers this node is connected to; `None` while it waits for the network.
    pub(super) network_peers: Option<u32>,
    pub(super) asked_peers: u32,
    /// Providers that lookups named.
    pub(super) known_providers: u32,
    /// Peers that may have it and could not be reached yet; they are tried again.
    pub(super) unreachable: usize,
    /// Peers that closed the stream before they said what they have: they may have no place now, and later have one.
    pub(super) turned_away: usize,
    /// Peers that have what is wanted.
    pub(super) turns: Turns,
    /// Somebody said that he knows the file. Its manifest may also come from its metadata record, and chunks from peers
    /// that have them as parts of other files: neither means that the rest can be had.
    pub(super) offered: bool,
    /// How the peers that were tried ended.
    pub(super) story: String,
    /// Peers named by hand that could not be reached.
    pub(super) dial_failures: String,
}

/// How a download that is not complete stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    GoOn,
    Error(ApiError),
    /// Nobody is connected: there is nobody to ask, and the node knows best what to do about it.
    Lonely(ErrorKind),
}

/// Gives up with an error, or goes on.
pub(super) fn verdict(f: &Facts) -> Verdict {
    if f.out_of_time {
        return out_of_time(f);
    }
    if f.active > 0 || f.dialling > 0 {
        return out_of_patience(f);
    }
    let others_may_come = may_come(f);
    if f.banned > 0 && f.lookups_since_ban >= LOOKUPS_AFTER_BAN && !others_may_come {
        return Verdict::Error(only_liars(f));
    }
    let sure =
        (f.lookups >= LOOKUPS_TO_BE_SURE || f.searching >= FIND_DEADLINE) && !others_may_come;
    if sure && is_lonely(f) {
        let kind = if f.kept_chunks > 0 {
            ErrorKind::Partial
        } else {
            ErrorKind::NotFound
        };
        return Verdict::Lonely(kind);
    }
    if !f.has_manifest {
        return if sure {
            Verdict::Error(not_found(f))
        } else {
            Verdict::GoOn
        };
    }
    out_of_patience(f)
}

fn out_of_patience(f: &Facts) -> Verdict {
    if left(f).is_zero() {
        out_of_time(f)
    } else {
        Verdict::GoOn
    }
}

/// How much longer nothing may come. Time in which a turn was waited for counts only for the longer limit.
pub(super) fn left(f: &Facts) -> Duration {
    let for_a_turn = TURN_PATIENCE.saturating_sub(f.idle);
    if f.turns.choking > 0 {
        return for_a_turn;
    }
    let stalled = f.idle.saturating_sub(f.choked);
    for_a_turn.min(patience(f).saturating_sub(stalled))
}

/// How long nothing may come of those who may send.
fn patience(f: &Facts) -> Duration {
    if (f.has_manifest && f.offered) || f.turned_away > 0 {
        GIVE_UP_AFTER
    } else {
        FIND_DEADLINE
    }
}

/// True while a peer that may have the file is worth trying again.
fn may_come(f: &Facts) -> bool {
    (f.unreachable > 0 && f.searching < FIND_DEADLINE)
        || (f.turned_away > 0 && f.searching < GIVE_UP_AFTER)
}

fn what(f: &Facts) -> String {
    format!("{} could not be fetched", f.address)
}

fn with_story(why: String, f: &Facts) -> String {
    let details: Vec<&str> = [f.story.as_str(), f.dial_failures.as_str()]
        .into_iter()
        .filter(|s| !s.is_empty())
        .collect();
    if details.is_empty() {
        why
    } else {
        format!("{why} ({})", details.join("; "))
    }
}

fn kept(f: &Facts) -> String {
    format!(
        "{} of {} chunks are here and kept",
        f.kept_chunks, f.all_chunks
    )
}

fn out_of_time(f: &Facts) -> Verdict {
    if f.kept_chunks > 0 {
        let why = match f.turns.are_waited_for() {
            false => format!("no provider sent what is missing in time; {}", kept(f)),
            true => format!("{}; {}", no_turn(f), kept(f)),
        };
        return Verdict::Error(ApiError::new(
            ErrorKind::Partial,
            what(f),
            with_story(why, f),
            "the same get goes on from there; name a provider with --peer if you know one",
        ));
    }
    if is_lonely(f) {
        return Verdict::Lonely(ErrorKind::NotFound);
    }
    if f.active == 0 && f.dialling == 0 && f.unreachable + f.turned_away == 0 && f.asked_peers > 0 {
        return Verdict::Error(not_found(f)); // everybody who was asked has answered
    }
    let (secs, asked) = (f.elapsed.as_secs(), count(f.asked_peers.into(), "peer"));
    let why = match f.known_providers {
        _ if f.turns.are_waited_for() => no_turn(f),
        0 => format!("within {secs} s no provider was found; {asked} asked"),
        n => {
            let known = count(n.into(), "known provider");
            format!("within {secs} s none of {known} sent it; {asked} asked")
        }
    };
    Verdict::Error(ApiError::new(
        ErrorKind::TimedOut,
        what(f),
        with_story(why, f),
        "try again with a longer --timeout, or name a provider with --peer",
    ))
}

/// Whoever has it serves others first.
fn no_turn(f: &Facts) -> String {
    let choking = f.turns.choking;
    let peers = count(u64::try_from(choking).unwrap_or(u64::MAX), "peer");
    let verb = if choking == 1 { "has" } else { "have" };
    format!("{peers} {verb} it and gave this node no turn in time")
}

/// True when nobody is connected, and nobody was ever there to be asked.
fn is_lonely(f: &Facts) -> bool {
    f.network_peers.unwrap_or(0) == 0 && f.asked_peers == 0 && f.known_providers == 0
}

fn not_found(f: &Facts) -> ApiError {
    let asked = match f.asked_peers {
        1 => "1 peer was asked".to_owned(),
        n => format!("{n} peers were asked"),
    };
    let why = match f.known_providers {
        0 => format!("nobody is known to have it; {asked}"),
        n => format!(
            "none of {} could give it; {asked}",
            count(n.into(), "known provider")
        ),
    };
    ApiError::new(
        ErrorKind::NotFound,
        what(f),
        with_story(why, f),
        "check the address, make sure that a node which has it is running, or name one with --peer",
    )
}

fn only_liars(f: &Facts) -> ApiError {
    ApiError::new(
        ErrorKind::Integrity,
        what(f),
        with_story(
            format!("the only providers lied and were banned; {}", kept(f)),
            f,
        ),
        "name another provider with --peer, or try again when one is there: right chunks are kept",
    )
}

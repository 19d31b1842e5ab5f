//! What a person is told: progress, and the facts the verdict is made of.

use std::time::Duration;

use super::{
    super::{
        AssembleError,
        verdict::{Facts, left},
    },
    Attempt,
};
use crate::{
    api::{ApiError, ErrorKind, Phase, Progress},
    clock,
    errors::{self, Made},
};

/// A silence is mentioned after this.
const QUIET_SPAN: Duration = Duration::from_secs(3);

impl Attempt<'_> {
    pub(super) fn out_of_time(&self) -> bool {
        self.job.deadline.is_some_and(|d| clock::now() >= d)
    }

    /// Nobody is connected who could be asked.
    pub(super) fn lonely(&self, kind: ErrorKind) -> ApiError {
        let what = format!("{} could not be fetched", self.job.address);
        let mut error = errors::no_peers(kind, what, &self.job.node);
        if let Some(r) = self.running.as_ref().filter(|r| r.here_chunks > 0) {
            let all = r.manifest.chunks().len();
            error.why = format!(
                "{}; {} of {all} chunks are here and kept",
                error.why, r.here_chunks
            );
        }
        let failures = self.search.dial_failures();
        if !failures.is_empty() {
            error.why = format!("{} ({failures})", error.why);
        }
        error
    }

    /// Everything is here, and the output does not take it.
    pub(super) fn output_too_slow(&self) -> ApiError {
        ApiError::new(
            ErrorKind::TimedOut,
            format!("{} was not written in time", self.job.address),
            "everything is here, but the output took too long",
            "the same get needs no network any more; give it a longer --timeout",
        )
    }

    /// What is made of it; only one of many files is announced by somebody else.
    pub(super) fn makes(&self) -> Made {
        Made::of(&self.job.target, self.job.terms.is_announced_apart)
    }

    /// The store or the output failed.
    pub(super) fn not_assembled(&self, error: &AssembleError) -> ApiError {
        let mut told = errors::assemble(error, &self.job.address, self.makes());
        if !self.job.place.is_in_store() && matches!(error, AssembleError::Output(_)) {
            // All that was fetched is in this very output.
            "mend that, and run the same command again: it goes on with what was fetched"
                .clone_into(&mut told.next);
        }
        told
    }

    pub(super) fn facts(&self) -> Facts {
        let r = self.running.as_ref();
        Facts {
            address: self.job.address.to_string(),
            elapsed: self.job.started.elapsed(),
            searching: self.search.began.elapsed(),
            out_of_time: self.out_of_time(),
            has_manifest: r.is_some() || self.waiting.is_some(),
            kept_chunks: r.map_or(0, |r| r.here_chunks),
            all_chunks: r.map_or(0, |r| {
                u32::try_from(r.manifest.chunks().len()).unwrap_or(u32::MAX)
            }),
            active: self.job.sources.active(),
            dialling: self.search.dialling(),
            idle: r.map_or(self.search.last_sign.elapsed(), |r| {
                r.pace.idle(clock::now())
            }),
            choked: r.map_or(Duration::ZERO, |r| r.pace.choked()),
            lookups: self.search.lookups,
            lookups_since_ban: self.search.lookups_since_ban,
            banned: self.job.sources.banned(),
            network_peers: self.search.network_peers,
            asked_peers: self.search.asked_peers,
            known_providers: self.search.known_providers,
            unreachable: self.job.sources.unreachable(),
            turned_away: self.job.sources.turned_away(),
            turns: self.job.sources.turns(),
            offered: self.job.sources.offered,
            story: self.job.sources.story(),
            dial_failures: self.search.dial_failures(),
        }
    }

    pub(super) fn tell_progress(&self) {
        let sources = self.job.sources.joined_count();
        let (phase, done, total, detail) = match &self.running {
            None if self.search.network_peers.is_none() => (
                Phase::Connecting,
                0,
                None,
                "waiting for a first peer".to_owned(),
            ),
            None => (
                Phase::Finding,
                0,
                None,
                match self.job.sources.turned_away() {
                    0 => format!(
                        "{} peers asked, {} providers known",
                        self.search.asked_peers, self.search.known_providers
                    ),
                    n => format!(
                        "waiting for a place at {}",
                        errors::count(u64::try_from(n).unwrap_or(0), "busy peer")
                    ),
                },
            ),
            Some(r) => {
                let idle = r.pace.idle(clock::now());
                let detail = match r.sched.is_complete() || idle < QUIET_SPAN {
                    true => String::new(),
                    false => quiet(&self.facts(), sources),
                };
                let phase = if r.sched.is_complete() {
                    Phase::Verifying
                } else {
                    Phase::Fetching
                };
                (phase, r.done_bytes, Some(r.manifest.size_bytes()), detail)
            }
        };
        self.job.events.progress(Progress {
            phase,
            done_bytes: done,
            total_bytes: total,
            sources,
            detail,
        });
    }
}

/// What is said when nothing has come for a while.
fn quiet(facts: &Facts, sources: u32) -> String {
    let idle = facts.idle.as_secs();
    let left = match left(facts).as_secs() {
        secs @ 0..600 => format!("{secs} s"),
        secs => format!("{} min", secs / 60),
    };
    if sources == 0 {
        return format!("no provider is connected; looking again, giving up in {left}");
    }
    if !facts.turns.are_waited_for() {
        return format!("nothing came for {idle} s, giving up in {left}");
    }
    match facts.turns.choking {
        1 => format!("1 peer has it, waiting for a turn; giving up in {left}"),
        n => format!("{n} peers have it, waiting for a turn; giving up in {left}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_is_told_for_what_and_how_long() {
        let mut facts = Facts {
            has_manifest: true,
            offered: true,
            idle: Duration::from_secs(10),
            ..Facts::default()
        };
        assert!(quiet(&facts, 0).starts_with("no provider is connected"));
        assert_eq!(
            quiet(&facts, 2),
            "nothing came for 10 s, giving up in 290 s"
        );
        facts.turns.choking = 2;
        assert_eq!(
            quiet(&facts, 2),
            "2 peers have it, waiting for a turn; giving up in 29 min"
        );
        facts.turns.sending = 1;
        assert_eq!(
            quiet(&facts, 2),
            "nothing came for 10 s, giving up in 29 min"
        );
    }
}

//! One run of the announcer: what to look up, what to send to whom, and what came of it. Pure: the engine makes the
//! lookups, sends, and reports back.

use std::collections::{HashSet, VecDeque};

use libp2p::PeerId;

use super::plan::{Batches, Lookup, Plan, Region};
use crate::Key;
use crate::key::REPLICATION;
use crate::report::RunReport;

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Step {
    /// Look up the peers closest to a key; report with [`Announcement::looked_up`] or [`Announcement::lookup_failed`].
    LookUp(Lookup),
    /// Send these keys to a peer; report with [`Announcement::taken`] as they are acknowledged, then with
    /// [`Announcement::sent`].
    Send(PeerId, Vec<usize>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    LookUp,
    Send,
    /// Whoever failed is replaced, once.
    Replace,
    Done,
}

/// A run under way.
pub(crate) struct Announcement {
    plan: Plan,
    phase: Phase,
    queue: VecDeque<(PeerId, Vec<usize>)>,
    running: usize,
    failed: HashSet<PeerId>,
    /// Acknowledgements of each key.
    copies: Vec<u8>,
    report: RunReport,
}

impl Announcement {
    /// Of these keys, in a network in which holders of a key usually share `usual_depth` bits; the seed is the plan's.
    pub(crate) fn new(keys: impl IntoIterator<Item = Key>, usual_depth: u32, seed: u64) -> Self {
        let plan = Plan::new(keys, REPLICATION, usual_depth, seed);
        let report = RunReport {
            keys: plan.len() as u64,
            ..RunReport::default()
        };
        Self {
            copies: vec![0; plan.len()],
            plan,
            phase: Phase::LookUp,
            queue: VecDeque::new(),
            running: 0,
            failed: HashSet::new(),
            report,
        }
    }

    /// The plan, to be told what is known before the first step.
    pub(crate) fn plan_mut(&mut self) -> &mut Plan {
        &mut self.plan
    }

    /// The next thing to do; `None` when first something has to come back, or when all is done.
    pub(crate) fn next(&mut self) -> Option<Step> {
        loop {
            let step = match self.phase {
                Phase::LookUp => self.plan.next_lookup().map(Step::LookUp),
                Phase::Send | Phase::Replace => {
                    let next = self.queue.pop_front();
                    next.map(|(peer, keys)| Step::Send(peer, keys))
                }
                Phase::Done => return None,
            };
            if step.is_some() {
                self.running += 1;
                return step;
            }
            if self.running > 0 {
                return None;
            }
            self.enter_next_phase();
        }
    }

    /// Whether the peers of some keys are still to be found.
    pub(crate) fn is_looking_up(&self) -> bool {
        self.phase == Phase::LookUp
    }

    /// Whether nothing is left to do, and nothing under way.
    #[cfg(test)]
    pub(crate) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    fn enter_next_phase(&mut self) {
        self.phase = match self.phase {
            Phase::LookUp => {
                self.plan.give_up();
                self.report.lookups = self.plan.lookups();
                self.enqueue(self.plan.batches());
                Phase::Send
            }
            Phase::Send if !self.failed.is_empty() => {
                self.enqueue(self.plan.replacements(&self.failed));
                Phase::Replace
            }
            _ => Phase::Done,
        };
    }

    fn enqueue(&mut self, batches: Batches) {
        self.report.peers += u32::try_from(batches.len()).unwrap_or(u32::MAX);
        self.queue.extend(batches);
    }

    /// A lookup has come back; `complete` when it came to its end. Returns what is worth remembering.
    pub(crate) fn looked_up(
        &mut self,
        id: u32,
        found: impl IntoIterator<Item = PeerId>,
        complete: bool,
    ) -> Option<Region> {
        self.running = self.running.saturating_sub(1);
        if complete {
            return self.plan.lookup_done(id, found);
        }
        self.plan.lookup_cut_off(id, found);
        None
    }

    /// A lookup came to nothing.
    pub(crate) fn lookup_failed(&mut self, id: u32) {
        self.running = self.running.saturating_sub(1);
        self.plan.lookup_failed(id);
    }

    /// A peer has acknowledged the keys at these positions; returns them with their number of copies.
    pub(crate) fn taken(&mut self, positions: &[usize]) -> Vec<(Key, u8)> {
        let mut taken = Vec::with_capacity(positions.len());
        for &at in positions {
            if let (Some(copies), Some(key)) = (self.copies.get_mut(at), self.plan.key_at(at)) {
                *copies = copies.saturating_add(1);
                self.report.copies += 1;
                taken.push((key, *copies));
            }
        }
        taken
    }

    /// Sending to a peer is over; whoever failed, or took nothing, is replaced.
    pub(crate) fn sent(&mut self, peer: PeerId, good: bool) {
        self.running = self.running.saturating_sub(1);
        if !good {
            self.failed.insert(peer);
        }
    }

    /// The keys at these positions.
    pub(crate) fn keys_at(&self, positions: &[usize]) -> Vec<Key> {
        self.plan.keys_at(positions).collect()
    }

    /// The peers that failed so far.
    #[cfg(test)]
    pub(crate) fn failed_peers(&self) -> &HashSet<PeerId> {
        &self.failed
    }

    /// The peers closest to a key that have not failed.
    pub(crate) fn alive_near(&self, key: &Key) -> Vec<PeerId> {
        self.plan.alive_holders(key, &self.failed)
    }

    /// The keys that nobody has acknowledged.
    pub(crate) fn unacknowledged(&self) -> Vec<Key> {
        let none = self
            .copies
            .iter()
            .enumerate()
            .filter(|(_, copies)| **copies == 0);
        none.filter_map(|(at, _)| self.plan.key_at(at)).collect()
    }

    /// What was done so far.
    pub(crate) fn report(&self) -> RunReport {
        RunReport {
            failed_peers: u32::try_from(self.failed.len()).unwrap_or(u32::MAX),
            lookups: self.plan.lookups(),
            ..self.report.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(count: u16) -> Vec<PeerId> {
        (0..count).map(|_| PeerId::random()).collect()
    }

    fn keys(count: u8) -> Vec<Key> {
        (0..count).map(|n| [n; 32]).collect()
    }

    /// Carries a run out in a network in which all know each other; `fails` says who does not answer.
    fn carry_out(
        run: &mut Announcement,
        network: &[PeerId],
        fails: impl Fn(&PeerId) -> bool,
    ) -> usize {
        let (mut steps, mut waiting) = (0, Vec::new());
        while !run.is_done() {
            while let Some(step) = run.next() {
                waiting.push(step);
            }
            let Some(step) = waiting.pop() else {
                assert!(run.is_done());
                break;
            };
            steps += 1;
            match step {
                Step::LookUp(lookup) => {
                    let _ = run.looked_up(lookup.id, network.iter().copied().take(20), true);
                }
                Step::Send(peer, _) if fails(&peer) => run.sent(peer, false),
                Step::Send(peer, positions) => {
                    run.taken(&positions);
                    run.sent(peer, true);
                }
            }
        }
        steps
    }

    #[test]
    fn every_key_gets_its_copies_and_the_report_says_so() {
        let network = peers(12);
        let mut run = Announcement::new(keys(50), 0, 1);
        carry_out(&mut run, &network, |_| false);
        let report = run.report();
        assert_eq!((report.keys, report.copies), (50, 600));
        assert_eq!(
            (report.lookups, report.peers, report.failed_peers),
            (1, 12, 0)
        );
        assert!(run.unacknowledged().is_empty());
    }

    #[test]
    fn who_fails_is_replaced_once_and_what_nobody_took_is_known() {
        let network = peers(12);
        let mut run = Announcement::new(keys(5), 0, 1);
        carry_out(&mut run, &network, |peer| *peer != network[3]);
        assert_eq!(run.report().copies, 5);
        assert_eq!(run.failed_peers().len(), 11);
        assert_eq!(run.alive_near(&[1; 32]), [network[3]]);
        let mut run = Announcement::new(keys(5), 0, 1);
        carry_out(&mut run, &network, |_| true);
        assert_eq!(run.unacknowledged().len(), 5);
    }

    #[test]
    fn a_run_without_keys_or_without_peers_ends() {
        let mut run = Announcement::new([], 0, 1);
        assert!(run.next().is_none() && run.is_done());
        let mut run = Announcement::new(keys(3), 0, 1);
        let Some(Step::LookUp(first)) = run.next() else {
            panic!("no lookup")
        };
        assert!(
            run.next().is_none() && !run.is_done(),
            "the first has to come back"
        );
        run.lookup_failed(first.id);
        while let Some(Step::LookUp(lookup)) = run.next() {
            run.lookup_failed(lookup.id);
        }
        assert!(run.is_done());
        assert_eq!(run.unacknowledged().len(), 3);
    }
}

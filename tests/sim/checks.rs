//! What must never happen, looked at while it runs.

use std::collections::{BTreeMap, BTreeSet};

use casnode_cas::HaveBitmap;
use casnode_node::lab::{Action, Order};

use super::world::{NodeId, StreamId, World};

/// What was found wrong, and what that takes to know.
#[derive(Debug, Default)]
pub struct Checks {
    pub violations: Vec<String>,
    /// By node and chunk: the streams it was asked of and has not come from.
    under_way: BTreeMap<(NodeId, u32), Vec<StreamId>>,
    /// By node: chunks that were taken back from somebody before they were here, as late; they may come from there,
    /// too.
    taken_back: BTreeSet<(NodeId, u32)>,
    /// By node: chunks that came twice and were not late.
    pub needless: BTreeMap<NodeId, u64>,
}

/// Of more violations than this nothing new is learnt.
const MAX_VIOLATIONS: usize = 10;

impl World {
    pub fn violated(&mut self, node: NodeId, what: String) {
        let now = self.now().0;
        if let Some(checks) = &mut self.checks
            && checks.violations.len() < MAX_VIOLATIONS
        {
            checks
                .violations
                .push(format!("{now:?}: node {node}: {what}"));
        }
    }

    /// What a scheduler may do.
    pub fn check(&mut self, node: NodeId, id: StreamId, action: Action) {
        if self.checks.is_none() {
            return;
        }
        let stream = &self.streams[id as usize];
        let (asker, server) = (&self.nodes[node as usize], stream.server);
        let mut wrong = Vec::new();
        if let Action::Request { index, .. } = action {
            if stream.chokes_asker {
                wrong.push(format!("asks {server} for {index} while it is choked"));
            }
            if !stream
                .told
                .as_ref()
                .is_some_and(|told| told.get(index as usize))
            {
                wrong.push(format!(
                    "asks {server} for {index}, which it does not offer"
                ));
            }
            if asker.have.get(index as usize) {
                wrong.push(format!("asks {server} for {index}, which is here"));
            }
        }
        wrong.extend(self.check_twice(node, id, action));
        wrong.into_iter().for_each(|what| self.violated(node, what));
    }

    /// What a node has told its peers of its interest, once it has nothing more to tell.
    pub fn check_interest(&mut self, node: NodeId, said: &BTreeMap<StreamId, bool>) {
        let have = &self.nodes[node as usize].have;
        let mut wrong = Vec::new();
        for (id, wants) in said {
            let stream = &self.streams[*id as usize];
            let truth = |told: &HaveBitmap| told.iter_ones().any(|index| !have.get(index));
            if stream
                .told
                .as_ref()
                .is_some_and(|told| *wants != truth(told))
            {
                wrong.push(format!(
                    "tells {} that it wants something: {wants}",
                    stream.server
                ));
            }
        }
        wrong.into_iter().for_each(|what| self.violated(node, what));
    }

    /// A chunk is asked of a second peer only when nothing else is wanted; before the first one is here, too. What a
    /// stream waits for next may be asked for twice at any time.
    fn check_twice(&mut self, node: NodeId, id: StreamId, action: Action) -> Option<String> {
        let checks = self.checks.as_mut()?;
        match action {
            Action::Request { index, .. } => {
                let holders = checks.under_way.entry((node, index)).or_default();
                holders.push(id);
                let count = holders.len();
                let have = &self.nodes[node as usize].have;
                let wanted = have.missing() - checks.of(node).count();
                let urgent = have.count() == 0 || self.setup.order == Order::Sequential;
                let too_many = count > 2 || (count == 2 && wanted > 0 && !urgent);
                too_many.then(|| {
                    format!("asks for {index} {count} times at once while {wanted} are wanted")
                })
            }
            Action::Cancel { index, .. } => {
                if !self.nodes[node as usize].have.get(index as usize) {
                    checks.taken_back.insert((node, index));
                }
                self.not_under_way(node, index, id);
                None
            }
            _ => None,
        }
    }

    /// A peer was told that a chunk is not needed, or said that it does not send it.
    pub fn not_under_way(&mut self, node: NodeId, index: u32, id: StreamId) {
        let Some(checks) = &mut self.checks else {
            return;
        };
        if let Some(holders) = checks.under_way.get_mut(&(node, index)) {
            holders.retain(|holder| *holder != id);
            if holders.is_empty() {
                checks.under_way.remove(&(node, index));
            }
        }
    }

    /// Nothing comes on this stream for the time being.
    pub fn nothing_under_way(&mut self, id: StreamId) {
        let asker = self.streams[id as usize].asker;
        let Some(checks) = &self.checks else {
            return;
        };
        let indices: Vec<u32> = checks.of(asker).collect();
        for index in indices {
            self.not_under_way(asker, index, id);
        }
    }

    /// A chunk came that is here.
    pub fn came_twice(&mut self, node: NodeId, index: u32) {
        if let Some(checks) = &mut self.checks
            && !checks.taken_back.contains(&(node, index))
        {
            *checks.needless.entry(node).or_default() += 1;
        }
    }

    pub fn no_longer_under_way(&mut self, node: NodeId, index: u32) {
        if let Some(checks) = &mut self.checks {
            checks.under_way.remove(&(node, index));
        }
    }
}

impl Checks {
    /// What a node waits for.
    fn of(&self, node: NodeId) -> impl Iterator<Item = u32> + '_ {
        let range = self.under_way.range((node, 0)..=(node, u32::MAX));
        range.map(|((_, index), _)| *index)
    }
}

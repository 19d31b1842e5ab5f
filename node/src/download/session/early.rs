//! Requests for chunks that go with the join, before the engine wants them.

use casnode_cas::HaveBitmap;
use casnode_dht::exchange::{Reply, Request};

use super::{Goal, opening::BEGIN_ID, pending::Pending};

/// The only chunk of a file is asked for together with the join when it is no longer: that saves a round trip, and costs little
/// where several peers send it.
const MAX_BYTES: u32 = 64 << 10;

/// Requests for chunks that go with the join.
#[derive(Default)]
pub(super) struct Early {
    /// What is to be sent.
    pub(super) requests: Vec<(u32, Request)>,
    /// Ids that were not answered.
    open: Vec<u32>,
    /// What was answered before the join was.
    pub(super) heard: Vec<(u32, Reply)>,
}

impl Early {
    /// Asks for the only chunk of a small file, where it is not here.
    pub(super) fn of(goal: &Goal, mine: &HaveBitmap, pending: &mut Pending) -> Self {
        let [chunk] = goal.manifest.chunks() else {
            return Self::default();
        };
        if mine.get(0) || chunk.len_bytes > MAX_BYTES {
            return Self::default();
        }
        let (id, hash) = (pending.early(0), *chunk.hash.as_bytes());
        Self {
            requests: vec![(id, Request::Chunk { index: 0, hash })],
            open: vec![id],
            heard: Vec::new(),
        }
    }

    /// What a `Begin` with so many bytes has asked for.
    pub(super) fn begun(goal: &Goal, early_bytes: u32, pending: &mut Pending) -> Self {
        let begins_early =
            |index: &u32| goal.manifest.chunk_offset(*index as usize) < u64::from(early_bytes);
        let indices = (0..goal.manifest.chunk_count()).take_while(begins_early);
        let open = indices.zip(BEGIN_ID + 2..).map(|(index, id)| {
            pending.early_as(index, id);
            id
        });
        Self {
            requests: Vec::new(),
            open: open.collect(),
            heard: Vec::new(),
        }
    }

    /// Keeps an answer; false when it is to nothing that was asked.
    pub(super) fn hears(&mut self, id: u32, reply: Reply) -> bool {
        let Some(at) = self.open.iter().position(|open| *open == id) else {
            return false;
        };
        self.open.swap_remove(at);
        self.heard.push((id, reply));
        true
    }

    /// Whether an answer is still to come.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }
}

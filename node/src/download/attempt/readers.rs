//! What readers of ranges need of a download.

use casnode_cas::FileRecord;

use super::{
    super::{Target, begin::ROOM_BYTES},
    Attempt,
    naming::NAME_PATIENCE,
};
use crate::{clock, read::chunks_of, room, sched::Event, tasks::blocking};

impl Attempt<'_> {
    /// Readers have come, gone on, or left.
    pub(super) fn look_at_readers(&mut self) {
        let table = self.readers.borrow_and_update();
        self.search.hint(table.hints());
        let windows = table.windows();
        drop(table);
        let is_on_demand = self.is_for_readers();
        let Some(r) = &mut self.running else { return };
        let ranges = windows.iter().map(|bytes| chunks_of(&r.manifest, bytes));
        let ranges: Vec<_> = ranges.filter(|range| !range.is_empty()).collect();
        // The group that the first reader needs first tells whether the manifest is the file's.
        let is_first = !ranges.is_empty() && !std::mem::replace(&mut r.has_begun_to_read, true);
        let first = match windows.first() {
            Some(bytes) if is_first && !r.is_proven && is_on_demand => {
                chunks_of(&r.manifest, &(bytes.start..bytes.start + 1)).collect()
            }
            _ => Vec::new(),
        };
        self.needs.send_replace(ranges.clone());
        self.schedule(Event::Ranges { ranges, first });
    }

    /// Whether it runs for readers alone.
    fn is_for_readers(&self) -> bool {
        matches!(self.job.target, Target::Readers)
    }

    /// So much came. On demand room is made as it is needed, while more comes.
    pub(super) fn came_for_readers(&mut self, bytes: u64) {
        let is_for_readers = self.is_for_readers();
        let Some(r) = self.running.as_mut().filter(|_| is_for_readers) else {
            return;
        };
        r.unmade_bytes += bytes;
        if r.unmade_bytes < ROOM_BYTES / 2 {
            return;
        }
        r.unmade_bytes = 0;
        let store = self.job.node.store.clone();
        self.tasks.spawn_blocking("make room", move || {
            if let Err(error) = room::make(&store, ROOM_BYTES) {
                tracing::debug!(%error, "there may be no room for what is read");
            }
        });
    }

    /// Nothing is needed at the moment.
    pub(super) fn rest(&mut self) {
        let is_for_readers = self.is_for_readers();
        let Some(r) = &mut self.running else { return };
        r.pace.rests(clock::now());
        if is_for_readers && r.sched.is_complete() {
            // What nobody has read is proven, too: then the file is whole.
            let all: Vec<_> = std::iter::once(0..r.manifest.chunk_count()).collect();
            self.needs.send_if_modified(|needs| {
                let news = *needs != all;
                *needs = all;
                news
            });
        }
    }

    /// True while readers are to learn what the file is called.
    pub(super) fn is_named_for_readers(&self) -> bool {
        let is_early = self.search.began.elapsed() < NAME_PATIENCE;
        self.is_for_readers() && !self.search.record_done && is_early
    }

    /// The metadata record was found, or is not to be had.
    pub(super) fn tell_name(&self, record: Option<&FileRecord>) {
        let name = record.and_then(FileRecord::name).map(str::to_owned);
        self.job.readers.named(name.clone());
        let (store, address) = (self.job.node.store.clone(), self.job.address);
        let is_entered = self.is_for_readers() && self.running.is_some();
        if let Some(name) = name.filter(|_| is_entered) {
            self.tasks.spawn("name", async move {
                match blocking(move || store.set_name(&address, &name)).await {
                    Ok(named) => named,
                    Err(_) => Ok(()),
                }
            });
        }
    }
}

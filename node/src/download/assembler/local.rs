//! The order in which what is here is read, with the disk told what comes next.

use std::ops::Range;

use casnode_cas::{ChunkHash, HaveBitmap, Manifest, Store};

/// Bytes that the disk is asked for before they are read.
const AHEAD_BYTES: u64 = 16 << 20;

/// The chunks that are here and were not looked at yet.
#[derive(Debug)]
pub(super) struct Local {
    indices: Vec<usize>,
    /// Those of them that were not handed out.
    left: HaveBitmap,
    is_on_demand: bool,
    /// None of those left is before this one.
    begins: usize,
    /// How many of them were handed out, and how many the disk knows of.
    taken: usize,
    asked: usize,
    /// Bytes of those between.
    ahead_bytes: u64,
}

impl Local {
    /// Those of `here` that `taken` does not have.
    pub(super) fn new(here: &HaveBitmap, taken: &HaveBitmap, is_on_demand: bool) -> Self {
        let indices: Vec<usize> = here.iter_ones().filter(|i| !taken.get(*i)).collect();
        let mut left = HaveBitmap::new(here.len());
        for index in &indices {
            left.set(*index);
        }
        Self {
            indices,
            left,
            is_on_demand,
            begins: 0,
            taken: 0,
            asked: 0,
            ahead_bytes: 0,
        }
    }

    /// One that a reader needs, of the first reader first.
    pub(super) fn needed(&mut self, needs: &[Range<u32>]) -> Option<usize> {
        for needs in needs {
            let (start, end) = (needs.start as usize, needs.end as usize);
            let found = (start.max(self.begins)..end).find(|index| self.left.get(*index));
            if start <= self.begins {
                self.begins = found.unwrap_or(end).max(self.begins);
            }
            if let Some(index) = found {
                self.left.unset(index);
                return Some(index);
            }
        }
        None
    }

    /// The next one, by its index in the manifest; none where only those are handed out that readers need.
    pub(super) fn next(&mut self, store: &Store, manifest: &Manifest) -> Option<usize> {
        if self.is_on_demand {
            return None;
        }
        loop {
            let index = *self.indices.get(self.taken)?;
            if self.ahead_bytes < AHEAD_BYTES / 2 {
                store.will_need(&self.ask(manifest));
            }
            self.taken += 1;
            self.ahead_bytes = self.ahead_bytes.saturating_sub(len_bytes(manifest, index));
            if self.left.unset(index) {
                return Some(index);
            }
        }
    }

    /// What the disk is to be asked for now.
    fn ask(&mut self, manifest: &Manifest) -> Vec<ChunkHash> {
        let mut hashes = Vec::new();
        while self.ahead_bytes < AHEAD_BYTES
            && let Some(index) = self.indices.get(self.asked)
        {
            hashes.push(manifest.chunks()[*index].hash);
            self.ahead_bytes += len_bytes(manifest, *index);
            self.asked += 1;
        }
        hashes
    }
}

fn len_bytes(manifest: &Manifest, index: usize) -> u64 {
    u64::from(manifest.chunks()[index].len_bytes)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use casnode_cas::{ImportOptions, import_reader};

    use super::*;

    #[test]
    fn each_is_handed_out_once_and_asked_for_before() {
        let store = Store::in_memory().unwrap();
        let bytes = vec![7; 100 << 20];
        let options = ImportOptions::default();
        let mut go_on = |_, _| ControlFlow::Continue(());
        let size = Some(bytes.len() as u64);
        let imported = import_reader(&store, &mut &bytes[..], size, &options, &mut go_on);
        let manifest = imported.unwrap().manifest;
        let mut here = HaveBitmap::new(manifest.chunks().len());
        (0..here.len()).filter(|i| i % 7 != 3).for_each(|i| {
            here.set(i);
        });
        let mut taken = HaveBitmap::new(here.len());
        (0..50).for_each(|i| {
            taken.set(i);
        });
        let mut local = Local::new(&here, &taken, false);
        let mut seen = Vec::new();
        while let Some(index) = local.next(&store, &manifest) {
            seen.push(index);
            assert!(local.asked >= seen.len());
            let most = AHEAD_BYTES + len_bytes(&manifest, index);
            assert!(local.ahead_bytes <= most);
        }
        let wanted: Vec<usize> = here.iter_ones().filter(|i| *i >= 50).collect();
        assert_eq!(seen, wanted);
        assert_eq!((local.ahead_bytes, local.asked), (0, wanted.len()));
    }
}

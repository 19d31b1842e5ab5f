//! Neighbouring entries of the index in one value of the database.
//!
//! sled 0.34 holds some 11 entries a page, and keeps a few hundred bytes in memory for each page it has, read or
//! not; a million chunks would be ninety thousand of them. So a value is a *run*: entries that follow each other, with their keys. A run is
//! named by a key that is not behind its first, and reaches up to the name of the next. One that grows too long is cut;
//! one that is empty goes, and its part of the keys belongs to the run before. Runs are never joined, so an entry moves
//! only to a run behind the one it was in, and a scan that meets it twice knows.

use std::ops::{ControlFlow, Range};
use std::sync::{PoisonError, RwLock};

use super::index::{Found, Index, Op, Visit};
use crate::error::IndexError;

/// A run that is longer is cut. Each change writes the run anew, so longer ones would cost more to write than they
/// save in memory.
pub(crate) const MAX_RUN_BYTES: usize = 1024;

/// Two thirds: after a cut there is room for what comes next.
const CUT_BYTES: usize = MAX_RUN_BYTES * 2 / 3;

/// Length of the key u16, length of the value u16.
const ENTRY_HEADER_BYTES: usize = 4;

/// Called with the place of a key among those that were asked for, and with the entry that was found.
pub(crate) type FoundUpTo<'a> = &'a mut dyn FnMut(usize, &[u8], &[u8]) -> Result<(), IndexError>;

/// An index that finds neighbours.
pub(crate) trait Ordered: Index {
    /// Finds for each of these keys, which are in order, the last entry whose key is not behind it; from the last to the
    /// first. What changes meanwhile may be missed, so nothing may where there is more than one key.
    fn last_up_to(&self, keys: &[&[u8]], found: FoundUpTo<'_>) -> Result<(), IndexError>;
}

/// An index whose entries lie in runs in another.
pub(crate) struct Runs<I> {
    below: I,
    /// Whoever changes runs reads them first, and whoever reads many keeps others from changing them.
    changing: RwLock<()>,
}

/// A run to be changed, and which of the changes are about it.
struct Touched {
    name: Vec<u8>,
    run: Vec<u8>,
    changes: Range<usize>,
}

impl<I: Ordered> Runs<I> {
    pub(crate) fn new(below: I) -> Self {
        Self {
            below,
            changing: RwLock::default(),
        }
    }

    /// The runs that these changes are about, which are in the order of their keys.
    fn touched(&self, changes: &[Op]) -> Result<Vec<Touched>, IndexError> {
        let keys: Vec<&[u8]> = changes.iter().map(|(key, _)| key.as_slice()).collect();
        let mut all: Vec<Touched> = Vec::new();
        self.below.last_up_to(&keys, &mut |at, name, run| {
            match all.last_mut().filter(|behind| behind.name == name) {
                Some(behind) => behind.changes.start = at,
                None => all.push(Touched {
                    name: name.to_vec(),
                    run: run.to_vec(),
                    changes: at..at + 1,
                }),
            }
            Ok(())
        })?;
        // Before the first run: what goes there is a run of its own.
        let before = all.last().map_or(keys.len(), |first| first.changes.start);
        if before > 0 {
            all.push(Touched {
                name: keys[0].to_vec(),
                run: Vec::new(),
                changes: 0..before,
            });
        }
        Ok(all)
    }
}

impl<I: Ordered> Index for Runs<I> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let mut value = None;
        self.below.last_up_to(&[key], &mut |_, _, run| {
            value = value_in(run, key)?.map(<[u8]>::to_vec);
            Ok(())
        })?;
        Ok(value)
    }

    fn get_ascending(&self, keys: &[&[u8]], found: Found<'_>) -> Result<(), IndexError> {
        let _unchanged = self.changing.read().unwrap_or_else(PoisonError::into_inner);
        self.below.last_up_to(
            keys,
            &mut |place, _, run| match value_in(run, keys[place])? {
                Some(value) => found(place, value),
                None => Ok(()),
            },
        )
    }

    fn apply(&self, mut ops: Vec<Op>) -> Result<(), IndexError> {
        let _one_at_a_time = self
            .changing
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Of several changes of one key the last counts; the sort keeps their order.
        ops.sort_by(|(one, _), (other, _)| one.cmp(other));
        ops.reverse();
        ops.dedup_by(|(one, _), (other, _)| one == other);
        ops.reverse();
        let mut below = Vec::with_capacity(ops.len());
        for touched in self.touched(&ops)? {
            let changes = &ops[touched.changes];
            write_runs(touched.name, &merged(&touched.run, changes)?, &mut below);
        }
        self.below.apply(below)
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), IndexError> {
        let mut start = from.to_vec();
        self.below.last_up_to(&[from], &mut |_, name, _| {
            start = name.to_vec();
            Ok(())
        })?;
        let mut last: Option<Vec<u8>> = None;
        self.below.scan_from(&[], &start, &mut |_, run| {
            for entry in entries(run) {
                let (key, value) = entry?;
                if key < from || last.as_deref().is_some_and(|last| key <= last) {
                    continue;
                }
                if !key.starts_with(prefix) || visit(key, value)? == ControlFlow::Break(()) {
                    return Ok(ControlFlow::Break(()));
                }
                let last = last.get_or_insert_default();
                last.clear();
                last.extend_from_slice(key);
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn sync(&self) -> Result<(), IndexError> {
        self.below.sync()
    }

    fn disk_bytes(&self) -> u64 {
        self.below.disk_bytes()
    }
}

type Entry<'a> = (&'a [u8], &'a [u8]);

/// The value of a key in a run.
fn value_in<'a>(run: &'a [u8], key: &[u8]) -> Result<Option<&'a [u8]>, IndexError> {
    for entry in entries(run) {
        let (found, value) = entry?;
        if found == key {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The entries of a run; ends behind the first that cannot be.
fn entries(run: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, IndexError>> {
    let mut rest = run;
    let mut before: Option<&[u8]> = None;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = take_entry(&mut rest).filter(|(key, _)| before.is_none_or(|b| b < *key));
        match entry {
            Some((key, _)) => before = Some(key),
            None => rest = &[],
        }
        Some(entry.ok_or(IndexError::Malformed))
    })
}

fn take_entry<'a>(rest: &mut &'a [u8]) -> Option<Entry<'a>> {
    let (header, behind) = rest.split_first_chunk::<ENTRY_HEADER_BYTES>()?;
    let [a, b, c, d] = *header;
    let key_bytes = usize::from(u16::from_le_bytes([a, b]));
    let value_bytes = usize::from(u16::from_le_bytes([c, d]));
    let (key, behind) = behind.split_at_checked(key_bytes)?;
    let (value, behind) = behind.split_at_checked(value_bytes)?;
    *rest = behind;
    Some((key, value))
}

/// The entries of a run after these changes; both are in the order of the keys.
fn merged<'a>(run: &'a [u8], changes: &'a [Op]) -> Result<Vec<Entry<'a>>, IndexError> {
    let mut all = Vec::new();
    let mut changes = changes.iter().peekable();
    let put = |all: &mut Vec<Entry<'a>>, (key, value): &'a Op| {
        all.extend(value.as_deref().map(|value| (key.as_slice(), value)));
    };
    for entry in entries(run) {
        let entry = entry?;
        while let Some(change) = changes.next_if(|(key, _)| key.as_slice() < entry.0) {
            put(&mut all, change);
        }
        match changes.next_if(|(key, _)| key == entry.0) {
            Some(change) => put(&mut all, change),
            None => all.push(entry),
        }
    }
    changes.for_each(|change| put(&mut all, change));
    Ok(all)
}

fn entry_bytes((key, value): &Entry<'_>) -> usize {
    ENTRY_HEADER_BYTES + key.len() + value.len()
}

/// Adds to `ops` what makes `entries` of the run of that name.
fn write_runs(name: Vec<u8>, entries: &[Entry<'_>], ops: &mut Vec<Op>) {
    let bytes: usize = entries.iter().map(entry_bytes).sum();
    let piece_bytes = match bytes {
        ..=MAX_RUN_BYTES => bytes,
        _ => bytes / bytes.div_ceil(CUT_BYTES),
    };
    let (mut name, mut run) = (Some(name), Vec::with_capacity(bytes.min(MAX_RUN_BYTES)));
    for entry in entries {
        let (key, value) = entry;
        if !run.is_empty() && run.len() + entry_bytes(entry) > piece_bytes {
            ops.extend(
                name.take()
                    .map(|name| (name, Some(std::mem::take(&mut run)))),
            );
        }
        name.get_or_insert_with(|| key.to_vec());
        // No key and no value is that long: see `MAX_VALUE_BYTES`.
        for part in [key, value] {
            let len = u16::try_from(part.len()).unwrap_or(u16::MAX);
            run.extend_from_slice(&len.to_le_bytes());
        }
        run.extend_from_slice(key);
        run.extend_from_slice(value);
    }
    ops.extend(name.map(|name| (name, (!run.is_empty()).then_some(run))));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::store::memory::MemoryIndex;

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn scanned(index: &dyn Index, prefix: &[u8], from: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        let visit = &mut |key: &[u8], value: &[u8]| {
            found.push((key.to_vec(), value.to_vec()));
            Ok(ControlFlow::Continue(()))
        };
        index.scan_from(prefix, from, visit).unwrap();
        found
    }

    fn op() -> impl Strategy<Value = Op> {
        // Few letters, so that keys meet; some values are longer than a run.
        let key = proptest::collection::vec(0u8..4, 0..6);
        let value = prop_oneof![
            4 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Some),
            1 => (0usize..5000).prop_map(|len| Some(vec![7; len])),
            3 => Just(None),
        ];
        (key, value)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn runs_are_as_a_map(batches in proptest::collection::vec(proptest::collection::vec(op(), 1..60), 1..20)) {
            let index = Runs::new(MemoryIndex::default());
            let mut model = Model::new();
            for batch in batches {
                for (key, value) in &batch {
                    match value {
                        Some(value) => model.insert(key.clone(), value.clone()),
                        None => model.remove(key),
                    };
                }
                let mut asked: Vec<_> = batch.iter().map(|(key, _)| key.clone()).collect();
                asked.sort();
                index.apply(batch).unwrap();
                let keys: Vec<&[u8]> = asked.iter().map(Vec::as_slice).collect();
                let mut values = vec![None; keys.len()];
                let found = &mut |place: usize, value: &[u8]| {
                    values[place] = Some(value.to_vec());
                    Ok(())
                };
                index.get_ascending(&keys, found).unwrap();
                for (key, value) in asked.iter().zip(values) {
                    prop_assert_eq!(value.as_ref(), model.get(key));
                }
                for key in asked {
                    prop_assert_eq!(index.get(&key).unwrap(), model.get(&key).cloned());
                    let expected: Vec<_> = model.range(key.clone()..).map(|(k, v)| (k.clone(), v.clone())).collect();
                    prop_assert_eq!(scanned(&index, b"", &key), expected);
                }
                let expected: Vec<_> = model.iter().filter(|(key, _)| key.starts_with(&[1, 2])).collect();
                let found = scanned(&index, &[1, 2], &[1, 2]);
                prop_assert_eq!(found.iter().map(|(k, v)| (k, v)).collect::<Vec<_>>(), expected);
            }
            let below = scanned(&index.below, b"", b"");
            for (name, run) in &below {
                let of_run: Vec<_> = entries(run).map(Result::unwrap).collect();
                prop_assert!(of_run[0].0 >= name.as_slice());
                prop_assert!(of_run.len() == 1 || run.len() <= MAX_RUN_BYTES);
            }
        }
    }

    #[test]
    fn many_entries_are_few_runs_and_removing_them_leaves_none() {
        let index = Runs::new(MemoryIndex::default());
        let key = |n: u32| blake3::hash(&n.to_le_bytes()).as_bytes().to_vec();
        for n in (0..6_400).step_by(64) {
            let ops = (n..n + 64).map(|n| (key(n), Some(vec![1; 21])));
            index.apply(ops.collect()).unwrap();
        }
        let runs = scanned(&index.below, b"", b"").len();
        assert!((6_400 / 18..6_400 / 8).contains(&runs), "{runs}");
        let ops = (0..6_400).map(|n| (key(n), None));
        index.apply(ops.collect()).unwrap();
        assert!(scanned(&index.below, b"", b"").is_empty());
    }

    #[test]
    fn a_scan_meets_each_entry_once_while_runs_are_cut() {
        let index = Runs::new(MemoryIndex::default());
        let put = |n: u8, more: u8| -> Op { (vec![n, more], Some(vec![n; 20])) };
        index.apply((0..200).map(|n| put(n, 0)).collect()).unwrap();
        let mut met = Vec::new();
        let visit = &mut |key: &[u8], _: &[u8]| {
            met.push(key.to_vec());
            // Each cuts the run that is being visited, sooner or later.
            index.apply((1..9).map(|more| put(key[0], more)).collect())?;
            Ok(ControlFlow::Continue(()))
        };
        index.scan(&[], visit).unwrap();
        assert!(met.is_sorted_by(|one, other| one < other));
        assert!((0..200).all(|n| met.contains(&vec![n, 0])));
    }

    #[test]
    fn a_damaged_run_is_said_to_be_one() {
        let whole = {
            let mut ops = Vec::new();
            write_runs(b"a".to_vec(), &[(b"a", b"one"), (b"b", b"two")], &mut ops);
            ops.pop().unwrap().1.unwrap()
        };
        assert_eq!(whole, b"\x01\0\x03\0aone\x01\0\x03\0btwo");
        let swapped = [&whole[8..], &whole[..8]].concat();
        let torn = whole[..whole.len() - 1].to_vec();
        let long = [&[0xff; 4], &whole[4..]].concat();
        for damaged in [swapped, torn, long] {
            let below = MemoryIndex::default();
            below.apply(vec![(b"a".to_vec(), Some(damaged))]).unwrap();
            let index = Runs::new(below);
            let visit = &mut |_: &[u8], _: &[u8]| Ok(ControlFlow::Continue(()));
            assert!(index.scan(&[], visit).unwrap_err().is_corruption());
            index.get(b"c").unwrap_err();
            index.apply(vec![(b"c".to_vec(), None)]).unwrap_err();
        }
    }
}

//! Random operations against a model, with power cuts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::directory::{EntryKind, Listing};

/// Small packs, so that every case has several.
pub(super) const PACK_BYTES: u64 = 131_072;

#[derive(Clone, Debug)]
pub(super) enum Action {
    Put(u8),
    Commit,
    AddFile(u8),
    /// The bits say which small files, each a chunk that is a file, too.
    AddSmall(u16),
    RemoveSmall(u8),
    BeginPartial(u8),
    CompletePartial(u8),
    Remove(u8),
    /// The bits say which small files are stored for directories.
    AddMembers(u16),
    /// Stores and enters directory `n`, whether what it lists is here or not.
    PutDir(u8),
    RemoveDir(u8),
    /// As when the power goes after the entry of directory `n`, before what only it kept.
    RemoveDirOnly(u8),
    Drop(u8),
    DropOrphans,
    /// The bits say which chunks are proven.
    ForgetForged(u8, u8),
    SyncIndex,
    /// Rewrites every pack, or all but the last.
    Compact {
        all: bool,
    },
    Pin(u8, bool),
    /// Sets a limit that is this many KiB under what is used, collects, and takes it away again.
    Squeeze(u16),
    /// Everything synced survives, and this many index batches on top; the packs keep or lose what was
    /// only written.
    PowerCut {
        extra_batches: usize,
        keep_unsynced: bool,
    },
    LoseIndex,
    Reopen,
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0u8..12).prop_map(Action::Put),
        3 => Just(Action::Commit),
        4 => (0u8..6).prop_map(Action::AddFile),
        3 => (0u16..4096).prop_map(Action::AddSmall),
        2 => (0u8..12).prop_map(Action::RemoveSmall),
        2 => (0u8..6).prop_map(Action::BeginPartial),
        2 => (0u8..6).prop_map(Action::CompletePartial),
        3 => (0u8..6).prop_map(Action::Remove),
        2 => (0u16..4096).prop_map(Action::AddMembers),
        3 => (0u8..DIRS).prop_map(Action::PutDir),
        2 => (0u8..DIRS).prop_map(Action::RemoveDir),
        1 => (0u8..DIRS).prop_map(Action::RemoveDirOnly),
        1 => (0u8..12).prop_map(Action::Drop),
        1 => Just(Action::DropOrphans),
        2 => (0u8..6, 0u8..16).prop_map(|(n, keep)| Action::ForgetForged(n, keep)),
        1 => Just(Action::SyncIndex),
        2 => any::<bool>().prop_map(|all| Action::Compact { all }),
        1 => (0u8..6, any::<bool>()).prop_map(|(n, pinned)| Action::Pin(n, pinned)),
        1 => (0u16..400).prop_map(Action::Squeeze),
        2 => (0usize..6, any::<bool>())
            .prop_map(|(extra_batches, keep_unsynced)| Action::PowerCut { extra_batches, keep_unsynced }),
        1 => Just(Action::LoseIndex),
        1 => Just(Action::Reopen),
    ]
}

/// Chunk `n`; every third is small enough to be inline.
fn chunk(n: u8) -> Vec<u8> {
    bytes_of(u64::from(n), if n.is_multiple_of(3) { 500 } else { CHUNK })
}

/// File `n` has chunks `n`, `n + 3`, `n + 6` of the large kind, and a short last one.
fn file(n: u8) -> (Vec<u8>, Manifest) {
    let large = [1u8, 2, 4, 5, 7, 8, 10, 11];
    let pick = |by: u8| chunk(large[usize::from(n + by) % large.len()]);
    let bytes = [pick(0), pick(3), pick(3), chunk(0)].concat();
    let manifest = manifest_of(SMALL_CHUNKS, &bytes);
    (bytes, manifest)
}

/// Chunk `n` as a file of its own.
fn small(n: u8) -> (Vec<u8>, Manifest) {
    let bytes = chunk(n);
    let params = Chunking::Fixed.params(Some(bytes.len() as u64));
    let manifest = manifest_of(params, &bytes);
    (bytes, manifest)
}

const DIRS: u8 = 4;

/// The files that directory `n` lists: each other one shares some with it, and the last lists another
/// directory.
fn listed(n: u8) -> Vec<Address> {
    match n {
        0 => vec![
            small(0).1.address(),
            small(1).1.address(),
            file(0).1.address(),
        ],
        1 => vec![small(1).1.address(), small(2).1.address()],
        2 => (0..12).step_by(2).map(|n| small(n).1.address()).collect(),
        _ => vec![small(3).1.address(), dir(0).1.address()],
    }
}

/// Directory `n`, whose listing is one chunk.
fn dir(n: u8) -> (Vec<u8>, Manifest) {
    let mut builder = Listing::builder();
    for (at, address) in listed(n).into_iter().enumerate() {
        let kind = EntryKind::File {
            address,
            bytes: 1,
            executable: n == 0,
        };
        builder.push(&format!("d/{at}"), kind).unwrap();
    }
    let bytes = builder.finish().unwrap().encode();
    let manifest = manifest_of(SMALL_CHUNKS, &bytes);
    (bytes, manifest)
}

fn every_file() -> impl Iterator<Item = (Vec<u8>, Manifest)> {
    (0..6)
        .map(file)
        .chain((0..12).map(small))
        .chain((0..DIRS).map(dir))
}

pub(super) struct Harness {
    pub(super) index: Arc<MemoryIndex>,
    pub(super) medium: Arc<MemoryMedium>,
    store: Store,
    /// Acknowledged and not removed since.
    chunks: BTreeSet<ChunkHash>,
    files: BTreeMap<Address, FileState>,
    /// What unfinished downloads and remnants protect.
    wanted: BTreeMap<Address, BTreeSet<ChunkHash>>,
    /// Put and not acknowledged.
    loose: BTreeSet<ChunkHash>,
    pinned: BTreeSet<Address>,
    /// Files with a claim of their own.
    own: BTreeSet<Address>,
    dirs: BTreeSet<u8>,
}

impl Harness {
    pub(super) fn new() -> Self {
        let (index, medium) = Default::default();
        let mut harness = Self {
            store: Store::in_memory().unwrap(),
            index,
            medium,
            chunks: BTreeSet::new(),
            files: BTreeMap::new(),
            wanted: BTreeMap::new(),
            loose: BTreeSet::new(),
            pinned: BTreeSet::new(),
            own: BTreeSet::new(),
            dirs: BTreeSet::new(),
        };
        harness.reopen();
        harness
    }

    pub(super) fn reopen(&mut self) {
        self.store = Store::over(self.index.clone(), self.medium.clone(), PACK_BYTES).unwrap();
    }

    fn acknowledge(&mut self) {
        self.chunks.append(&mut self.loose);
    }

    fn forget(&mut self, removed: &Removed) {
        for hash in &removed.freed_chunks {
            assert!(self.chunks.remove(hash), "freed a chunk that was not there");
            let wanted = self.wanted.values().any(|chunks| chunks.contains(hash));
            assert!(!wanted, "freed a chunk that a download wants");
        }
    }

    pub(super) fn run(&mut self, action: &Action) {
        match action {
            Action::Put(n) => {
                let hash = put(&self.store, &chunk(*n));
                if !self.chunks.contains(&hash) {
                    self.loose.insert(hash);
                }
            }
            Action::Commit => {
                self.store.commit().unwrap();
                self.acknowledge();
            }
            Action::AddFile(n) => self.add_file(*n),
            Action::BeginPartial(n) => {
                let (_, manifest) = file(*n);
                self.store
                    .begin_partial(&manifest, None, Claim::Own)
                    .unwrap();
                let address = manifest.address();
                if self.files.get(&address) != Some(&FileState::Complete) {
                    self.files.insert(address, FileState::Partial);
                    self.wanted.insert(address, self.chunks_of(&manifest));
                }
                self.own.insert(address);
                self.store.commit().unwrap();
                self.acknowledge();
            }
            Action::CompletePartial(n) => self.complete(*n),
            Action::AddSmall(bits) => self.add_small(*bits, Claim::Pinned),
            Action::AddMembers(bits) => self.add_small(*bits, Claim::Member),
            Action::PutDir(n) => self.put_dir(*n),
            Action::RemoveDir(n) => self.remove(&dir(*n).1.address()),
            Action::RemoveDirOnly(n) => self.remove_dir_only(*n),
            Action::Remove(n) => self.remove(&file(*n).1.address()),
            Action::RemoveSmall(n) => self.remove(&small(*n).1.address()),
            Action::Drop(n) => {
                let hash = ChunkHash::of(&chunk(*n));
                let removed = self.store.drop_unreferenced(&[hash]).unwrap();
                self.acknowledge();
                self.forget(&removed);
            }
            Action::DropOrphans => {
                let removed = self.store.drop_orphans().unwrap();
                self.acknowledge();
                self.sweep(&removed);
                self.forget(&removed);
            }
            Action::ForgetForged(n, keep) => self.forget_forged(*n, *keep),
            Action::SyncIndex => self.index.sync().unwrap(),
            Action::Compact { all } => self.compact(*all),
            Action::Pin(n, pinned) => {
                let address = file(*n).1.address();
                let entry = self.store.set_pinned(&address, *pinned).unwrap();
                assert_eq!(entry.is_some(), self.files.contains_key(&address));
                if entry.is_some() {
                    self.acknowledge_pin(address, *pinned);
                    self.acknowledge_if_flushed();
                }
            }
            Action::Squeeze(kib) => self.squeeze(u64::from(*kib) << 10),
            Action::PowerCut {
                extra_batches,
                keep_unsynced,
            } => {
                self.index = Arc::new(self.index.power_cut(*extra_batches));
                self.medium = Arc::new(self.medium.power_cut(*keep_unsynced));
                self.after_crash();
            }
            Action::LoseIndex => {
                self.index = Arc::default();
                self.after_crash();
            }
            Action::Reopen => {
                self.after_crash();
            }
        }
    }

    fn add_file(&mut self, n: u8) {
        let (bytes, manifest) = file(n);
        let whole = self
            .chunks_of(&manifest)
            .is_subset(&(&self.chunks | &self.loose));
        if whole {
            self.store.add_file(&manifest, None, Claim::Pinned).unwrap();
        } else {
            assert!(self.store.add_file(&manifest, None, Claim::Pinned).is_err());
            put_chunks(&self.store, &bytes, &manifest);
            self.store.add_file(&manifest, None, Claim::Pinned).unwrap();
        }
        self.loose.extend(self.chunks_of(&manifest));
        self.acknowledge();
        self.files.insert(manifest.address(), FileState::Complete);
        self.wanted.remove(&manifest.address());
        self.pinned.insert(manifest.address());
        self.own.insert(manifest.address());
    }

    fn add_small(&mut self, bits: u16, claim: Claim) {
        let chosen: Vec<u8> = (0..12).filter(|n| bits & (1 << n) != 0).collect();
        let small_file = |n: &u8| SmallFile {
            address: small(*n).1.address(),
            bytes: chunk(*n).into(),
            name: None,
        };
        let files: Vec<SmallFile> = chosen.iter().map(small_file).collect();
        let added = self.store.add_small_files(&files, claim).unwrap();
        assert_eq!(added.len(), files.len());
        for (file, AddedFile { entry, .. }) in files.iter().zip(added) {
            assert_eq!(
                (entry.address, entry.state),
                (file.address, FileState::Complete)
            );
            self.files.insert(file.address, FileState::Complete);
            if claim == Claim::Pinned {
                self.pinned.insert(file.address);
                self.own.insert(file.address);
            }
            self.loose.insert(ChunkHash::of(&file.bytes));
        }
        self.acknowledge_if_flushed();
    }

    fn put_dir(&mut self, n: u8) {
        let (bytes, manifest) = dir(n);
        put_chunks(&self.store, &bytes, &manifest);
        self.store.add_file(&manifest, None, Claim::Member).unwrap();
        let entered = self
            .store
            .enter_directory(&manifest.address(), Claim::Own)
            .unwrap();
        let complete = |address: &&Address| self.files.get(address) == Some(&FileState::Complete);
        let listed = listed(n);
        let missing = listed.len() - listed.iter().filter(complete).count();
        assert_eq!(
            (entered.members, entered.missing),
            (listed.len() as u64, missing as u64)
        );
        self.files.insert(manifest.address(), FileState::Complete);
        self.own.insert(manifest.address());
        self.dirs.insert(n);
        self.loose.extend(self.chunks_of(&manifest));
        self.acknowledge();
    }

    fn is_kept(&self, address: &Address) -> bool {
        self.dirs.iter().any(|n| listed(*n).contains(address))
    }

    /// What the model has of a directory that goes, its entry included, unless another one lists it.
    fn forget_dir(&mut self, address: &Address) -> BTreeSet<Address> {
        let gone = (0..DIRS).find(|n| dir(*n).1.address() == *address);
        let was_entered = gone.is_some_and(|n| self.dirs.remove(&n));
        let mut members = BTreeSet::new();
        if was_entered {
            members.extend(gone.into_iter().flat_map(listed));
            members.retain(|member| {
                let is_here = self.files.contains_key(member);
                is_here && !self.own.contains(member) && !self.is_kept(member)
            });
        }
        members
    }

    /// No member without a directory is left.
    fn sweep(&mut self, removed: &Removed) {
        let gone: BTreeSet<Address> = removed.files.iter().copied().collect();
        let files = self.files.keys().copied();
        let left = files.filter(|file| !self.own.contains(file) && !self.is_kept(file));
        assert_eq!(gone, left.collect());
        for address in gone {
            self.files.remove(&address);
            self.wanted.remove(&address);
        }
    }

    fn remove_dir_only(&mut self, n: u8) {
        let address = dir(n).1.address();
        let Some(old) = self.store.core.file_value(&address).unwrap() else {
            return;
        };
        if !self.dirs.contains(&n) || self.is_kept(&address) {
            return;
        }
        self.acknowledge_if_flushed();
        let mut committed = lock(&self.store.core.commit);
        let left = self.store.core.remove_entries(&mut committed, vec![old]);
        drop(committed);
        let removed = self.store.core.finish_removal(left.unwrap()).unwrap();
        self.forget_dir(&address);
        self.files.remove(&address);
        self.own.remove(&address);
        self.pinned.remove(&address);
        self.forget(&removed);
    }

    fn remove(&mut self, address: &Address) {
        let is_kept = self.is_kept(address);
        let is_here = self.files.contains_key(address);
        let removed = match self.store.remove_file(address) {
            Err(StoreError::IsMember { .. }) => {
                assert!(is_here && is_kept && !self.own.contains(address));
                self.acknowledge_if_flushed();
                return;
            }
            removed => removed.unwrap(),
        };
        assert_eq!(removed.is_some(), is_here);
        let Some(removed) = removed else {
            return;
        };
        self.acknowledge();
        self.own.remove(address);
        self.pinned.remove(address);
        let mut gone = self.forget_dir(address);
        if is_kept {
            assert!(removed.kept_by.is_some());
        } else {
            gone.insert(*address);
        }
        assert_eq!(removed.files.iter().copied().collect::<BTreeSet<_>>(), gone);
        for address in gone {
            self.files.remove(&address);
            self.wanted.remove(&address);
        }
        self.forget(&removed);
    }

    fn acknowledge_pin(&mut self, address: Address, pinned: bool) {
        if pinned {
            self.pinned.insert(address);
            self.own.insert(address);
        } else {
            self.pinned.remove(&address);
        }
    }

    /// A call that may or may not have committed: ask the store.
    fn acknowledge_if_flushed(&mut self) {
        self.store.commit().unwrap();
        self.acknowledge();
    }

    fn compact(&mut self, all: bool) {
        if all {
            self.store.core.packs.seal_active();
        }
        for id in self.store.core.packs.ids().unwrap() {
            if !self.store.core.packs.is_active(id) {
                let ended = self
                    .store
                    .core
                    .compact(id, &mut |_| ControlFlow::Continue(()));
                assert!(ended.unwrap().is_continue());
            }
        }
        self.acknowledge_if_flushed();
        recovery::check_index(self.index.as_ref()).unwrap();
    }

    fn squeeze(&mut self, by_bytes: u64) {
        self.run(&Action::DropOrphans);
        let limit = self.store.disk_bytes().saturating_sub(by_bytes).max(1);
        self.store.set_max_bytes(Some(limit)).unwrap();
        let report = self.store.gc(&mut |_| ControlFlow::Continue(())).unwrap();
        let gone = self.store.take_evicted();
        assert_eq!(gone.len(), report.evicted.len());
        for evicted in gone {
            assert!(
                !self.pinned.contains(&evicted.address),
                "a pinned file went"
            );
            assert!(
                !self.is_kept(&evicted.address),
                "a member went before its directory"
            );
            let mut gone = self.forget_dir(&evicted.address);
            assert_eq!(
                evicted.members.iter().copied().collect::<BTreeSet<_>>(),
                gone
            );
            gone.insert(evicted.address);
            for address in gone {
                assert!(self.files.remove(&address).is_some());
                self.own.remove(&address);
                self.wanted.remove(&address);
            }
            self.forget(&Removed {
                freed_chunks: evicted.freed_chunks,
                freed_bytes: evicted.freed_bytes,
                ..Removed::default()
            });
        }
        // Chunks that only a damaged or dropped entry listed may have gone as orphans.
        let chunks = std::mem::take(&mut self.chunks);
        self.chunks = chunks
            .into_iter()
            .filter(|hash| self.store.has(hash).unwrap())
            .collect();
        if report.disk_bytes_after > limit {
            let may_go = self
                .files
                .keys()
                .any(|address| !self.pinned.contains(address) && !self.is_kept(address));
            assert!(!may_go, "over the limit, and a file that may go is there");
        }
        self.store.set_max_bytes(None).unwrap();
    }

    fn forget_forged(&mut self, n: u8, bits: u8) {
        let (_, manifest) = file(n);
        let address = manifest.address();
        let mut keep = HaveBitmap::new(manifest.chunks().len());
        (0..keep.len())
            .filter(|index| bits & (1 << index) != 0)
            .for_each(|index| {
                keep.set(index);
            });
        self.acknowledge();
        let proven = keep.iter_ones().map(|index| manifest.chunks()[index].hash);
        let kept: BTreeSet<ChunkHash> = proven.filter(|hash| self.chunks.contains(hash)).collect();
        if self.files.get(&address) == Some(&FileState::Partial) {
            if kept.is_empty() {
                self.files.remove(&address);
                self.wanted.remove(&address);
                self.pinned.remove(&address);
                self.own.remove(&address);
            } else {
                self.files.insert(address, FileState::Remnant);
                self.wanted.insert(address, kept);
            }
        }
        let removed = self.store.forget_forged(&manifest, &keep).unwrap();
        self.forget(&removed);
        let gone = self.chunks_of(&manifest);
        let gone = gone.into_iter().filter(|hash| !self.chunks.contains(hash));
        for hash in gone {
            assert!(!self.store.has(&hash).unwrap());
        }
    }

    fn complete(&mut self, n: u8) {
        let (_, manifest) = file(n);
        let present = self
            .chunks_of(&manifest)
            .is_subset(&(&self.chunks | &self.loose));
        let state = self.files.get(&manifest.address());
        let known = state.is_some_and(|state| *state != FileState::Remnant);
        let result = self.store.complete_partial(&manifest.address(), Claim::Own);
        assert_eq!(result.is_ok(), known && present, "{result:?}");
        if result.is_ok() {
            self.acknowledge();
            self.own.insert(manifest.address());
            self.files.insert(manifest.address(), FileState::Complete);
            self.wanted.remove(&manifest.address());
        }
    }

    fn chunks_of(&self, manifest: &Manifest) -> BTreeSet<ChunkHash> {
        manifest.chunks().iter().map(|chunk| chunk.hash).collect()
    }

    /// What was not acknowledged may or may not have survived; both are right.
    fn after_crash(&mut self) {
        self.reopen();
        for hash in std::mem::take(&mut self.loose) {
            if self.store.has(&hash).unwrap() {
                self.chunks.insert(hash);
            }
        }
        recovery::check_index(self.index.as_ref()).unwrap();
    }

    pub(super) fn check(&self) {
        for n in 0..12 {
            let (bytes, hash) = (chunk(n), ChunkHash::of(&chunk(n)));
            let expected = self.chunks.contains(&hash) || self.loose.contains(&hash);
            let found = self.store.get(&hash).unwrap();
            // Removal may be late after a crash (references too high), never early.
            assert!(found.is_some() >= expected, "chunk {n} is lost");
            assert!(found.is_none_or(|found| found == bytes));
        }
        let files: BTreeMap<Address, FileState> = self
            .store
            .files()
            .unwrap()
            .iter()
            .map(|file| (file.address, file.state))
            .collect();
        assert_eq!(files, self.files);
        for file in self.store.files().unwrap() {
            assert_eq!(file.is_own(), self.own.contains(&file.address));
            assert_eq!(file.is_pinned(), self.pinned.contains(&file.address));
            let keepers =
                (0..DIRS).filter(|n| self.dirs.contains(n) && listed(*n).contains(&file.address));
            let found = self.store.directories_of(&file.address, 99).unwrap();
            assert_eq!(found.len(), keepers.count());
            let is_dir =
                (0..DIRS).any(|n| self.dirs.contains(&n) && dir(n).1.address() == file.address);
            assert_eq!(file.directory, is_dir);
        }
        for n in 0..12 {
            let hash = ChunkHash::of(&chunk(n));
            let Some(entry) = self.store.core.indexed(&hash).unwrap() else {
                continue;
            };
            let complete = every_file()
                .map(|(_, manifest)| manifest)
                .filter(|manifest| {
                    self.files.get(&manifest.address()) == Some(&FileState::Complete)
                });
            let listing = complete.filter(|manifest| self.chunks_of(manifest).contains(&hash));
            assert_eq!(
                entry.refs as usize,
                listing.count(),
                "references of chunk {n}"
            );
        }
        for (n, (bytes, manifest)) in every_file().enumerate() {
            if self.files.get(&manifest.address()) == Some(&FileState::Complete) {
                assert!(
                    read_file(&self.store, &manifest.address()) == Some(bytes),
                    "file {n}"
                );
            }
        }
    }
}

/// 200 cases, or as many as `CASNODE_MODEL_CASES` says.
fn cases() -> u32 {
    let cases = std::env::var("CASNODE_MODEL_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(200)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn nothing_acknowledged_is_ever_lost(actions in prop::collection::vec(any_action(), 1..60)) {
        let mut harness = Harness::new();
        for action in &actions {
            harness.run(action);
        }
        harness.check();
        harness.run(&Action::LoseIndex);
        harness.check();
        // The last one lists the first.
        (0..DIRS).rev().for_each(|n| harness.run(&Action::RemoveDir(n)));
        (0..6).for_each(|n| harness.run(&Action::Remove(n)));
        (0..12).for_each(|n| harness.run(&Action::RemoveSmall(n)));
        harness.run(&Action::DropOrphans);
        prop_assert_eq!(harness.store.stats().unwrap().chunks, 0, "something leaked");
    }
}

#[test]
fn counts_are_exact_after_a_rebuild() {
    let mut harness = Harness::new();
    (0..6).for_each(|n| harness.run(&Action::AddFile(n)));
    harness.run(&Action::Remove(2));
    harness.run(&Action::LoseIndex);
    for n in [0, 1, 3, 4, 5] {
        harness.run(&Action::Remove(n));
    }
    assert_eq!(harness.store.stats().unwrap().chunks, 0);
}

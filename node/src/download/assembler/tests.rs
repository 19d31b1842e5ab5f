//! The assembler without a network: chunks in, a file out.

mod late;

use std::ops::ControlFlow;

use casnode_cas::{
    Address, Assembly, ChunkRef, Chunking, Claim, ImportOptions, ManifestError, OutputOptions,
    ProofBuilder, StoreConfig, import_reader,
};

use super::{
    super::{
        begin::{Begun, begin},
        lent,
        place::Place,
    },
    *,
};

const CHUNK: usize = 256 << 10;

/// Bytes that differ from chunk to chunk.
fn content(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut reader = generator(seed);
    bytes.iter_mut().for_each(|b| *b = reader());
    bytes
}

/// A small generator: no two 256 KiB windows of it are alike.
fn generator(seed: u8) -> impl FnMut() -> u8 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(seed);
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24).to_le_bytes()[0]
    }
}

fn manifest_of(bytes: &[u8], chunking: Chunking) -> Manifest {
    let store = Store::in_memory().unwrap();
    let options = ImportOptions {
        chunking,
        ..ImportOptions::default()
    };
    let size = Some(bytes.len() as u64);
    let imported = import_reader(&store, &mut &bytes[..], size, &options, &mut |_, _| {
        ControlFlow::Continue(())
    });
    imported.unwrap().manifest
}

/// What a run ended with.
#[derive(Debug)]
struct Ran {
    last: EngineEvent,
    stored: usize,
    local: usize,
    lost: usize,
    twins: usize,
    rejected: usize,
    duplicates: usize,
    store: Store,
    /// Chunks that are in the output alone stay readable with it.
    lent: Option<Arc<Lent>>,
}

/// Where an assembler works.
struct Setup<'a> {
    store: Store,
    target: Option<&'a std::path::Path>,
    place: Place,
    is_proven: bool,
}

impl<'a> Setup<'a> {
    fn new(target: Option<&'a std::path::Path>) -> Self {
        Self {
            store: Store::in_memory().unwrap(),
            target,
            place: Place::Store,
            is_proven: false,
        }
    }

    /// What arrives is kept in the output alone.
    fn in_output(target: &'a std::path::Path) -> Self {
        Self {
            place: Place::No,
            ..Self::new(Some(target))
        }
    }
}

fn turn() -> Arc<Turn> {
    let turn = Arc::new(tokio::sync::Mutex::new(())).try_lock_owned();
    Arc::new(turn.unwrap())
}

/// Feeds chunks in this order to an assembler with an empty store and an output at `target`.
fn assemble(
    manifest: &Manifest,
    jobs: Vec<(u32, Vec<u8>)>,
    target: Option<&std::path::Path>,
) -> Ran {
    assemble_with(Setup::new(target), manifest, jobs)
}

fn assemble_with(setup: Setup, manifest: &Manifest, jobs: Vec<(u32, Vec<u8>)>) -> Ran {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = setup.store;
    let manifest = Arc::new(manifest.clone());
    let output = setup.target.map(|path| {
        let mut options = OutputOptions::default();
        options.resume = !setup.place.is_in_store();
        Assembly::create(path, &manifest.address(), manifest.size_bytes(), &options).unwrap()
    });
    let stay = (setup.place, Claim::Own);
    let begun = begin(&store, &manifest, None, stay, false, output).unwrap();
    let Begun {
        here,
        output,
        copies,
        ..
    } = begun;
    let is_stores = output.as_ref().is_some_and(Output::is_stores);
    let kept_outside = output
        .as_ref()
        .filter(|_| is_stores || !setup.place.is_in_store());
    let lent = kept_outside.map(|o| {
        let stay = match is_stores {
            true => lent::Stay::WithTheStore,
            false => lent::Stay::No,
        };
        Lent::until(
            store.clone(),
            o.written().file().clone(),
            stay,
            tokio_util::sync::CancellationToken::new(),
        )
    });
    let (events, mut queue) = mpsc::channel(4096);
    let (job_tx, job_rx) = mpsc::channel(JOB_QUEUE);
    let assembler = Assembler {
        store: store.clone(),
        manifest: manifest.clone(),
        output,
        named: None,
        behind: None,
        lent: lent.clone(),
        is_proven: setup.is_proven,
        live: Arc::new(LiveHave::new(manifest.clone())),
        events,
        runtime: runtime.handle().clone(),
        needs: watch::Sender::new(Vec::new()).subscribe(),
        is_on_demand: false,
        is_directory_told: false,
        keeps_listing: false,
        copies,
        twins: twins(&manifest),
        _turn: turn(),
    };
    // What is here is looked at only while more may come.
    let comes_to_an_end = (0..manifest.chunk_count())
        .all(|index| here.get(index as usize) || jobs.iter().any(|job| job.0 == index));
    let worker = std::thread::spawn(move || assembler.run(&here, job_rx));
    for (index, bytes) in jobs {
        let job = Job {
            peer: PeerSlot(0),
            index,
            bytes: bytes.into(),
            _held: None,
        };
        if runtime.block_on(job_tx.send(job)).is_err() {
            break; // it has ended already
        }
    }
    let open = comes_to_an_end.then(|| job_tx.clone());
    drop(job_tx);
    worker.join().unwrap();
    drop(open);
    let mut ran = Ran {
        last: EngineEvent::OrphansDone,
        stored: 0,
        local: 0,
        lost: 0,
        twins: 0,
        rejected: 0,
        duplicates: 0,
        store,
        lent,
    };
    while let Ok(event) = queue.try_recv() {
        match event {
            EngineEvent::Stored { .. } => ran.stored += 1,
            EngineEvent::Local { .. } => ran.local += 1,
            EngineEvent::Lost { .. } => ran.lost += 1,
            EngineEvent::Twin { .. } => ran.twins += 1,
            EngineEvent::Rejected { .. } => ran.rejected += 1,
            EngineEvent::Duplicate { .. } => ran.duplicates += 1,
            event => ran.last = event,
        }
    }
    ran
}

fn chunks(manifest: &Manifest, bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    (0..manifest.chunk_count())
        .map(|i| {
            let range = manifest.chunk_range(i as usize);
            let (from, to) = (
                usize::try_from(range.start).unwrap(),
                usize::try_from(range.end).unwrap(),
            );
            (i, bytes[from..to].to_vec())
        })
        .collect()
}

#[test]
fn chunks_in_any_order_make_the_file_with_either_chunker() {
    for chunking in [Chunking::Fixed, Chunking::FastCdc] {
        let bytes = content(9 * CHUNK + 77, 1);
        let manifest = manifest_of(&bytes, chunking);
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let mut jobs = chunks(&manifest, &bytes);
        jobs.reverse();
        jobs.insert(1, jobs[0].clone());
        let ran = assemble(&manifest, jobs, Some(&target));
        assert!(matches!(ran.last, EngineEvent::Assembled), "{ran:?}");
        assert_eq!((ran.stored, ran.duplicates), (manifest.chunks().len(), 1));
        assert!(std::fs::read(&target).unwrap() == bytes);
    }
}

#[test]
fn an_empty_file_needs_no_chunks() {
    let manifest = manifest_of(b"", Chunking::Fixed);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let ran = assemble(&manifest, Vec::new(), Some(&target));
    assert!(matches!(ran.last, EngineEvent::Assembled), "{ran:?}");
    assert_eq!(std::fs::read(&target).unwrap(), b"");
}

#[test]
fn an_equal_chunk_is_taken_once_for_all_its_places() {
    let mut bytes = content(CHUNK, 2);
    bytes.extend(vec![0; 5 * CHUNK]);
    bytes.extend(content(100, 3));
    let manifest = manifest_of(&bytes, Chunking::Fixed);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let all = chunks(&manifest, &bytes);
    let jobs = vec![all[3].clone(), all[0].clone(), all[6].clone()];
    let ran = assemble(&manifest, jobs, Some(&target));
    assert!(matches!(ran.last, EngineEvent::Assembled), "{ran:?}");
    assert_eq!((ran.stored, ran.twins), (3, 4));
    assert!(std::fs::read(&target).unwrap() == bytes);
}

#[test]
fn wrong_bytes_are_rejected_and_never_reach_the_output() {
    let bytes = content(3 * CHUNK, 4);
    let manifest = manifest_of(&bytes, Chunking::Fixed);
    let mut jobs = chunks(&manifest, &bytes);
    let right = jobs.clone();
    jobs[1].1[5] ^= 1;
    jobs.truncate(2);
    jobs.extend(right);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let ran = assemble(&manifest, jobs, Some(&target));
    assert!(matches!(ran.last, EngineEvent::Assembled), "{ran:?}");
    assert_eq!(ran.rejected, 1);
    assert!(std::fs::read(&target).unwrap() == bytes);
}

/// The true proof tree of `bytes` over a chunk list of `other`.
fn forge(bytes: &[u8], other: &[u8]) -> Result<Manifest, ManifestError> {
    let truth = manifest_of(bytes, Chunking::Fixed);
    let lie = manifest_of(other, Chunking::Fixed);
    let mut proof = ProofBuilder::new();
    proof.update(bytes);
    let list: Vec<ChunkRef> = lie.chunks().to_vec();
    Manifest::new(truth.params(), list, proof.finish())
}

#[test]
fn a_forged_manifest_is_found_out_and_what_is_proven_is_told() {
    let bytes = content(6 * CHUNK, 5);
    let mut other = bytes.clone();
    other[4 * CHUNK] ^= 1;
    let forged = forge(&bytes, &other).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let ran = assemble(&forged, chunks(&forged, &other), Some(&target));
    let EngineEvent::Forged { proven } = &ran.last else {
        panic!("{ran:?}")
    };
    assert_eq!(proven.iter_ones().collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(!target.exists(), "nothing unproven is renamed into place");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "the temporary file is gone"
    );
    let removed = ran.store.forget_forged(&forged, proven).unwrap();
    assert!(!removed.freed_chunks.is_empty());
    let truth = manifest_of(&bytes, Chunking::Fixed);
    ran.store.begin_partial(&truth, None, Claim::Own).unwrap();
    let have = ran.store.have(&truth).unwrap();
    assert_eq!(
        have.iter_ones().collect::<Vec<_>>(),
        [0, 1, 2, 3],
        "proven chunks are not fetched again"
    );
}

#[test]
fn what_was_fetched_before_a_stop_is_in_the_store() {
    let bytes = content(4 * CHUNK, 6);
    let manifest = manifest_of(&bytes, Chunking::Fixed);
    let mut jobs = chunks(&manifest, &bytes);
    jobs.truncate(3);
    let ran = assemble(&manifest, jobs, None);
    assert!(!matches!(ran.last, EngineEvent::Assembled));
    assert_eq!(ran.store.have(&manifest).unwrap().count(), 3);
    assert_eq!(
        ran.store.file(&Address::of(&bytes)).unwrap().unwrap().state,
        casnode_cas::FileState::Partial
    );
}

/// What is written to a file of the store is gone on with wherever its output goes.
#[test]
fn a_download_into_the_store_is_written_once_and_goes_on_elsewhere() {
    for chunking in [Chunking::Fixed, Chunking::FastCdc] {
        let bytes = content(9 * CHUNK + 77, 13);
        let manifest = manifest_of(&bytes, chunking);
        let address = manifest.address();
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(&dir.path().join("data"), StoreConfig::default()).unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let store = open();
        // As a file system that shares blocks has it begun.
        let begun = store.begin_unfinished(&address, manifest.size_bytes());
        begun.unwrap().unwrap().write_at(0, b"!").unwrap();
        let setup = |store: &Store, target| Setup {
            store: store.clone(),
            ..Setup::new(target)
        };
        let all = chunks(&manifest, &bytes);
        let half = all.len() / 2;
        let ran = assemble_with(setup(&store, Some(&first)), &manifest, all[..half].to_vec());
        assert!(!matches!(ran.last, EngineEvent::Assembled), "{ran:?}");
        assert_eq!(ran.stored, half);
        drop(ran);
        assert_eq!(store.have(&manifest).unwrap().count(), half, "all know it");
        assert_eq!(stored_bytes(&store), 0, "it is in no pack");
        drop(store);
        let store = open();
        assert_eq!(store.have(&manifest).unwrap().count(), half);
        let ran = assemble_with(
            setup(&store, Some(&second)),
            &manifest,
            all[half..].to_vec(),
        );
        assert!(matches!(ran.last, EngineEvent::Assembled), "{ran:?}");
        assert_eq!((ran.local, ran.stored), (half, all.len() - half), "{ran:?}");
        assert!(std::fs::read(&second).unwrap() == bytes);
        assert!(!first.exists());
        let entry = store
            .add_unfinished(&manifest, None, Claim::Pinned)
            .unwrap();
        assert!(entry.is_some_and(|e| e.is_pinned() && e.source.is_some()));
        drop(ran);
        std::fs::remove_file(&second).unwrap();
        assert!(!store.has_unfinished(&address));
        for chunk in manifest.chunks() {
            assert!(!store.is_lent(&chunk.hash).unwrap());
            assert!(store.get(&chunk.hash).unwrap().is_some());
        }
    }
}

#[test]
fn what_was_begun_in_the_store_serves_an_output_that_is_kept_alone() {
    let bytes = content(4 * CHUNK, 14);
    let manifest = manifest_of(&bytes, Chunking::Fixed);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("data"), StoreConfig::default()).unwrap();
    let begun = store.begin_unfinished(&manifest.address(), manifest.size_bytes());
    drop(begun.unwrap());
    let all = chunks(&manifest, &bytes);
    let begun = store.begin_unfinished(&manifest.address(), manifest.size_bytes());
    begun.unwrap().unwrap().write_at(0, b"!").unwrap();
    let setup = Setup {
        store: store.clone(),
        ..Setup::new(None)
    };
    let ran = assemble_with(setup, &manifest, all[..3].to_vec());
    assert_eq!(ran.stored, 3, "{ran:?}");
    let target = dir.path().join("out");
    let setup = Setup {
        store: store.clone(),
        ..Setup::in_output(&target)
    };
    let ran = assemble_with(setup, &manifest, all[3..].to_vec());
    assert!(matches!(ran.last, EngineEvent::Assembled), "{ran:?}");
    assert_eq!((ran.local, ran.stored), (3, 1), "{ran:?}");
    assert!(std::fs::read(&target).unwrap() == bytes);
    store.remove_file(&manifest.address()).unwrap();
    assert!(!store.has_unfinished(&manifest.address()));
    assert_eq!(
        store.have(&manifest).unwrap().count(),
        1,
        "but for the output's"
    );
}

/// Bytes that the store itself holds.
fn stored_bytes(store: &Store) -> u64 {
    store.stats().unwrap().stored_bytes
}

#[test]
fn what_is_kept_in_the_output_alone_is_readable_as_long_as_it_is_lent() {
    for chunking in [Chunking::Fixed, Chunking::FastCdc] {
        let bytes = content(9 * CHUNK + 77, 7);
        let manifest = manifest_of(&bytes, chunking);
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let mut jobs = chunks(&manifest, &bytes);
        jobs.reverse();
        let mut ran = assemble_with(Setup::in_output(&target), &manifest, jobs);
        assert!(matches!(ran.last, EngineEvent::Assembled), "{ran:?}");
        assert!(std::fs::read(&target).unwrap() == bytes);
        assert_eq!(stored_bytes(&ran.store), 0);
        for (index, expected) in chunks(&manifest, &bytes) {
            let hash = manifest.chunks()[index as usize].hash;
            assert!(ran.store.has(&hash).unwrap());
            assert!(ran.store.get(&hash).unwrap().unwrap() == expected);
        }
        ran.lent = None;
        assert_eq!(ran.store.have(&manifest).unwrap().count(), 0);
        let error = ran.store.complete_partial(&manifest.address(), Claim::Own);
        assert!(error.is_err(), "nothing of it is durable in the store");
    }
}

#[test]
fn an_output_that_was_broken_off_is_gone_on_with_and_what_is_wrong_in_it_is_lost() {
    let bytes = content(8 * CHUNK, 8);
    let manifest = manifest_of(&bytes, Chunking::Fixed);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let all = chunks(&manifest, &bytes);
    let first = assemble_with(Setup::in_output(&target), &manifest, all[..5].to_vec());
    assert!(!matches!(first.last, EngineEvent::Assembled));
    drop(first);
    let part = std::fs::read_dir(dir.path()).unwrap().next().unwrap();
    let part = std::fs::File::options()
        .write(true)
        .open(part.unwrap().path());
    std::os::unix::fs::FileExt::write_all_at(&part.unwrap(), b"?", 2 * CHUNK as u64).unwrap();
    let mut missing = vec![all[2].clone()];
    missing.extend(all[5..].to_vec());
    let second = assemble_with(Setup::in_output(&target), &manifest, missing);
    assert!(matches!(second.last, EngineEvent::Assembled), "{second:?}");
    assert_eq!((second.local, second.stored), (4, 4), "{second:?}");
    assert!(
        second.lost <= 1,
        "only what is not a hole is looked at: {second:?}"
    );
    assert_eq!(stored_bytes(&second.store), 0);
    assert!(std::fs::read(&target).unwrap() == bytes);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn chunks_of_the_store_are_copied_to_an_output_that_keeps_the_others() {
    let bytes = content(4 * CHUNK, 9);
    let manifest = manifest_of(&bytes, Chunking::Fixed);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let all = chunks(&manifest, &bytes);
    let setup = Setup::in_output(&target);
    for (index, bytes) in &all[..2] {
        let hash = manifest.chunks()[*index as usize].hash;
        setup.store.put(&hash, bytes).unwrap();
    }
    setup.store.commit().unwrap();
    let ran = assemble_with(setup, &manifest, all[2..].to_vec());
    assert!(matches!(ran.last, EngineEvent::Assembled), "{ran:?}");
    assert_eq!((ran.local, ran.stored), (2, 2));
    assert_eq!(stored_bytes(&ran.store), 2 * CHUNK as u64);
    assert!(std::fs::read(&target).unwrap() == bytes);
}

#[test]
fn what_is_proven_of_a_forged_manifest_is_found_again_in_the_output() {
    let bytes = content(6 * CHUNK, 10);
    let mut other = bytes.clone();
    other[4 * CHUNK] ^= 1;
    let forged = forge(&bytes, &other).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let mut ran = assemble_with(Setup::in_output(&target), &forged, chunks(&forged, &other));
    let EngineEvent::Forged { proven } = &ran.last else {
        panic!("{ran:?}")
    };
    ran.lent = None;
    ran.store.forget_forged(&forged, proven).unwrap();
    assert!(!target.exists());
    let truth = manifest_of(&bytes, Chunking::Fixed);
    let rest = chunks(&truth, &bytes)[4..].to_vec();
    let setup = Setup {
        store: ran.store.clone(),
        ..Setup::in_output(&target)
    };
    let ran = assemble_with(setup, &truth, rest);
    assert!(matches!(ran.last, EngineEvent::Assembled), "{ran:?}");
    assert_eq!((ran.local, ran.stored), (4, 2), "{ran:?}");
    assert!(std::fs::read(&target).unwrap() == bytes);
}

#[test]
fn a_chunk_that_another_download_lends_is_kept_all_the_same() {
    let bytes = content(2 * CHUNK, 11);
    let manifest = manifest_of(&bytes, Chunking::Fixed);
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join("theirs");
    std::fs::write(&theirs, &bytes).unwrap();
    let file = Arc::new(std::fs::File::open(&theirs).unwrap().into());
    let setup = Setup::new(None);
    let store = setup.store.clone();
    let over = tokio_util::sync::CancellationToken::new();
    let lent = Lent::until(store.clone(), file, lent::Stay::No, over);
    lent.lend(&manifest.chunks()[0], 0);
    let ran = assemble_with(setup, &manifest, chunks(&manifest, &bytes)[1..].to_vec());
    assert!(matches!(ran.last, EngineEvent::Assembled), "{ran:?}");
    assert_eq!((ran.local, ran.stored), (1, 1));
    drop(lent);
    store
        .complete_partial(&manifest.address(), Claim::Own)
        .unwrap();
}

#[test]
fn of_a_proven_file_only_what_is_missing_is_looked_at() {
    for chunking in [Chunking::Fixed, Chunking::FastCdc] {
        let bytes = content(12 * CHUNK, 12);
        let manifest = manifest_of(&bytes, chunking);
        let all = chunks(&manifest, &bytes);
        let missing = all.len() / 2;
        let setup = Setup {
            is_proven: true,
            ..Setup::new(None)
        };
        for (index, bytes) in all.iter().filter(|(i, _)| *i as usize != missing) {
            let hash = manifest.chunks()[*index as usize].hash;
            setup.store.put(&hash, bytes).unwrap();
        }
        let ran = assemble_with(setup, &manifest, vec![all[missing].clone()]);
        assert!(matches!(ran.last, EngineEvent::Assembled), "{ran:?}");
        assert_eq!((ran.local, ran.stored), (all.len() - 1, 1));
        let address = manifest.address();
        ran.store.complete_partial(&address, Claim::Own).unwrap();
    }
}

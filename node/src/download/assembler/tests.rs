//! The assembler without a network: chunks in, a file out.

use std::ops::ControlFlow;

use casnode_cas::{
    Address, ChunkRef, Chunking, ImportOptions, ManifestError, ProofBuilder, import_reader,
};

use super::*;

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
    twins: usize,
    rejected: usize,
    duplicates: usize,
    store: Store,
}

/// Feeds chunks in this order to an assembler with an empty store and an output at `target`.
fn assemble(
    manifest: &Manifest,
    jobs: Vec<(u32, Vec<u8>)>,
    target: Option<&std::path::Path>,
) -> Ran {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = Store::in_memory().unwrap();
    store.begin_partial(manifest, None).unwrap();
    let manifest = Arc::new(manifest.clone());
    let output = target.map(|path| {
        let options = casnode_cas::OutputOptions::default();
        Assembly::create(path, &manifest.address(), manifest.size_bytes(), &options).unwrap()
    });
    let (events, mut queue) = mpsc::channel(4096);
    let (job_tx, job_rx) = mpsc::channel(JOB_QUEUE);
    let turn = Arc::new(
        Arc::new(tokio::sync::Mutex::new(()))
            .try_lock_owned()
            .unwrap(),
    );
    let assembler = Assembler {
        store: store.clone(),
        manifest: manifest.clone(),
        output,
        live: Arc::new(LiveHave::new(manifest.clone())),
        events,
        runtime: runtime.handle().clone(),
        twins: twins(&manifest),
        _turn: turn,
    };
    let here = store.have(&manifest).unwrap();
    let worker = std::thread::spawn(move || assembler.run(&here, job_rx));
    for (index, bytes) in jobs {
        let job = Job {
            peer: PeerSlot(0),
            index,
            bytes: bytes.into(),
        };
        if runtime.block_on(job_tx.send(job)).is_err() {
            break; // it has ended already
        }
    }
    drop(job_tx);
    worker.join().unwrap();
    let mut ran = Ran {
        last: EngineEvent::OrphansDone,
        stored: 0,
        twins: 0,
        rejected: 0,
        duplicates: 0,
        store,
    };
    while let Ok(event) = queue.try_recv() {
        match event {
            EngineEvent::Stored { .. } => ran.stored += 1,
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
    ran.store.begin_partial(&truth, None).unwrap();
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

use std::sync::mpsc::sync_channel;

use proptest::prelude::*;

use super::*;
use crate::chunker::Chunking;
use crate::error::StoreError;
use crate::id::Address;
use crate::manifest::Manifest;
use crate::testing::{bytes_of, go_on};

/// Blocks are half a MiB at least: a few of these are several blocks, with a rest carried from each to the next.
const SMALL_CDC: ChunkerParams = ChunkerParams::FastCdc {
    min_bytes: 4096,
    avg_bytes: 16_384,
    max_bytes: 65_536,
};

/// No divisor of a block.
const ODD_FIXED: ChunkerParams = ChunkerParams::Fixed {
    chunk_bytes: 100_001,
};

fn any_params() -> impl Strategy<Value = ChunkerParams> {
    prop_oneof![
        Just(SMALL_CDC),
        Just(ODD_FIXED),
        Just(Chunking::Fixed.params(None)),
        Just(Chunking::FastCdc.params(None)),
    ]
}

/// Everything at once, one after the other.
fn naive_manifest(params: ChunkerParams, bytes: &[u8]) -> Manifest {
    let chunker = Chunker::new(params).unwrap();
    let (mut rest, mut chunks) = (bytes, Vec::new());
    while let Some(len) = chunker.cut(rest, true) {
        let (chunk, later) = rest.split_at(len);
        let len_bytes = u32::try_from(len).unwrap();
        let hash = ChunkHash::of(chunk);
        chunks.push(ChunkRef { hash, len_bytes });
        rest = later;
    }
    let mut proof = ProofBuilder::new();
    proof.update(bytes);
    Manifest::new(params, chunks, proof.finish()).unwrap()
}

/// Gives reads of the lengths in `reads`, again and again, with an interruption before each.
struct Choppy<'a> {
    rest: &'a [u8],
    reads: std::iter::Cycle<std::slice::Iter<'a, usize>>,
    interrupted: bool,
}

impl Read for Choppy<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let most = *self.reads.next().unwrap();
        let take = most.min(buf.len()).min(self.rest.len());
        let (now, later) = self.rest.split_at(take);
        buf[..take].copy_from_slice(now);
        self.rest = later;
        Ok(take)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_stages_together_make_what_one_would_make_alone(
        params in any_params(),
        seed in any::<u64>(),
        len in prop_oneof![0usize..3, 4000usize..400_000, 900_000usize..7_000_000],
        reads in prop::collection::vec(1usize..2_000_000, 1..6),
    ) {
        let bytes = bytes_of(seed, len);
        // Reads of a few bytes each would take all day for a long input.
        let reads: Vec<usize> = reads.iter().map(|read| *read.max(&(len / 1000))).collect();
        let mut reader = Choppy { rest: &bytes, reads: reads.iter().cycle(), interrupted: false };
        let mut given = Vec::new();
        let mut take = |chunk: ChunkRef, bytes: &[u8]| {
            assert_eq!(chunk.hash, ChunkHash::of(bytes));
            given.extend_from_slice(bytes);
            Ok(())
        };
        let cut = run(&mut reader, None, params, &mut go_on, &mut take).unwrap();
        prop_assert!(given == bytes);
        let manifest = Manifest::new(params, cut.chunks, cut.proof).unwrap();
        prop_assert_eq!(manifest, naive_manifest(params, &bytes));
    }
}

#[test]
fn a_lone_chunk_has_the_address_of_the_file() {
    for len in [1, 65_536, 262_144, 900_000] {
        let params = ChunkerParams::Fixed {
            chunk_bytes: 1 << 20,
        };
        let bytes = bytes_of(1, len);
        let mut ignore = |_: ChunkRef, _: &[u8]| Ok(());
        let cut = run(&mut &bytes[..], None, params, &mut go_on, &mut ignore).unwrap();
        assert_eq!(cut.chunks.len(), 1);
        assert_eq!(cut.chunks[0].hash, ChunkHash::of(&bytes));
        assert_eq!(cut.proof.root(), *Address::of(&bytes).as_bytes());
    }
}

#[test]
fn the_error_of_the_sink_is_the_one_reported_wherever_it_comes() {
    let bytes = bytes_of(2, 20_000_000);
    for params in [SMALL_CDC, ODD_FIXED] {
        // The last one is behind more bytes than there are blocks.
        for at in [0, 1, 100, 190] {
            let mut given = 0;
            let mut fail = |_: ChunkRef, _: &[u8]| {
                given += 1;
                (given <= at)
                    .then_some(())
                    .ok_or(StoreError::WritesStopped.into())
            };
            let failed = run(&mut &bytes[..], None, params, &mut go_on, &mut fail);
            let error = failed.err().unwrap();
            let expected = matches!(error, ImportError::Store(StoreError::WritesStopped));
            assert!(expected, "after {at}: {error}");
            assert_eq!(given, at + 1, "nothing is given after an error");
        }
    }
}

#[test]
fn the_error_of_the_reader_is_reported_after_what_came_before_it() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::Error::other("unplugged"));
            }
            self.0.read(buf)
        }
    }
    let bytes = bytes_of(3, 8_000_000);
    for len in [0, 1, 1 << 20, 8_000_000] {
        let mut given = 0;
        let mut take = |chunk: ChunkRef, _: &[u8]| {
            given += chunk.len_bytes as usize;
            Ok(())
        };
        let mut reader = Failing(&bytes[..len]);
        let failed = run(&mut reader, None, SMALL_CDC, &mut go_on, &mut take);
        let error = failed.err().unwrap();
        assert!(matches!(&error, ImportError::Read(source) if source.to_string() == "unplugged"));
        assert!(given <= len);
    }
}

#[test]
fn a_cancellation_is_heard_at_every_step() {
    let bytes = bytes_of(4, 5_000_000);
    let mut all_steps = 0;
    let mut count = |_, _| {
        all_steps += 1;
        ControlFlow::Continue(())
    };
    let mut ignore = |_: ChunkRef, _: &[u8]| Ok(());
    run(&mut &bytes[..], None, ODD_FIXED, &mut count, &mut ignore).unwrap();
    assert_eq!(all_steps, 1 + 50, "the beginning and each chunk");
    for at in 1..=all_steps {
        let mut steps = 0;
        let mut stop = |_, _| {
            steps += 1;
            match steps < at {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        };
        let cancelled = run(&mut &bytes[..], None, ODD_FIXED, &mut stop, &mut ignore);
        assert!(matches!(cancelled, Err(ImportError::Cancelled)));
        assert_eq!(steps, at, "not asked again");
    }
}

#[test]
fn a_cancellation_is_heard_while_the_sink_is_stuck() {
    let bytes = bytes_of(5, 40_000_000);
    let (release, released) = sync_channel::<()>(1);
    let mut stuck = move |_: ChunkRef, _: &[u8]| {
        // An error once the other side is gone: then it is not stuck any more.
        let _ = released.recv();
        Ok(())
    };
    let (mut last, mut release) = (None, Some(release));
    let mut stop = |done: u64, _| {
        // Told twice of the same bytes: no block is free.
        if last.replace(done) == Some(done) {
            release = None;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    let mut reader = &bytes[..];
    let params = Chunking::Fixed.params(None);
    let error = run(&mut reader, None, params, &mut stop, &mut stuck).err();
    assert!(matches!(error, Some(ImportError::Cancelled)));
    assert!(!reader.is_empty(), "the memory has a bound");
}

#[test]
#[should_panic(expected = "the sink is broken")]
fn a_panic_of_the_sink_is_not_swallowed() {
    let bytes = bytes_of(6, 4_000_000);
    let mut panic = |_: ChunkRef, _: &[u8]| panic!("the sink is broken");
    let _ = run(&mut &bytes[..], None, ODD_FIXED, &mut go_on, &mut panic);
}

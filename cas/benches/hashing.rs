//! The two hashes that an import computes of every byte, alone and together.

use casnode_cas::{ChunkHash, ProofBuilder};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};

const INPUT_BYTES: usize = 32 << 20;

/// A chunk of each kind: on the proof tree's grid, off it, and the smallest.
const CHUNK_BYTES: [usize; 3] = [256 << 10, 300_001, 16 << 10];

fn main() {
    divan::main();
}

fn incompressible() -> Vec<u8> {
    let mut bytes = vec![0; INPUT_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

#[divan::bench(args = CHUNK_BYTES, sample_count = 20)]
fn chunk_hashes(bencher: Bencher<'_, '_>, chunk_bytes: usize) {
    let bytes = incompressible();
    bencher
        .counter(BytesCount::new(INPUT_BYTES))
        .bench_local(|| {
            for chunk in bytes.chunks(chunk_bytes) {
                black_box(ChunkHash::of(chunk));
            }
        });
}

#[divan::bench(args = CHUNK_BYTES, sample_count = 20)]
fn proof_tree(bencher: Bencher<'_, '_>, chunk_bytes: usize) {
    let bytes = incompressible();
    bencher
        .counter(BytesCount::new(INPUT_BYTES))
        .bench_local(|| {
            let mut proof = ProofBuilder::new();
            bytes
                .chunks(chunk_bytes)
                .for_each(|chunk| proof.update(chunk));
            proof.finish()
        });
}

#[divan::bench(args = CHUNK_BYTES, sample_count = 20)]
fn both(bencher: Bencher<'_, '_>, chunk_bytes: usize) {
    let bytes = incompressible();
    bencher
        .counter(BytesCount::new(INPUT_BYTES))
        .bench_local(|| {
            let mut proof = ProofBuilder::new();
            for chunk in bytes.chunks(chunk_bytes) {
                proof.update(chunk);
                black_box(ChunkHash::of(chunk));
            }
            proof.finish()
        });
}

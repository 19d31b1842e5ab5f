//! How fast boundaries are found, per core. The `fastcdc` crate's own scan is there to compare.

use casnode_cas::{Chunker, ChunkerParams, Chunking};
use divan::Bencher;
use divan::counter::BytesCount;
use fastcdc::v2020::{FastCDC, Normalization};

const INPUT_BYTES: usize = 32 << 20;

fn main() {
    divan::main();
}

fn incompressible() -> Vec<u8> {
    let mut bytes = vec![0; INPUT_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn cut_all(chunker: &Chunker, bytes: &[u8]) -> usize {
    let (mut rest, mut chunks) = (bytes, 0);
    while let Some(len) = chunker.cut(rest, true) {
        rest = &rest[len..];
        chunks += 1;
    }
    chunks
}

#[divan::bench(args = [Chunking::Fixed, Chunking::FastCdc], sample_count = 20)]
fn cut(bencher: Bencher<'_, '_>, chunking: Chunking) {
    let bytes = incompressible();
    let Some(chunker) = Chunker::new(chunking.params(None)) else {
        return;
    };
    bencher
        .counter(BytesCount::new(INPUT_BYTES))
        .bench_local(|| cut_all(&chunker, &bytes));
}

#[divan::bench(sample_count = 20)]
fn cut_by_the_fastcdc_crate(bencher: Bencher<'_, '_>) {
    let bytes = incompressible();
    let ChunkerParams::FastCdc {
        min_bytes,
        avg_bytes,
        max_bytes,
    } = Chunking::FastCdc.params(None)
    else {
        return;
    };
    let [min, avg, max] = [min_bytes, avg_bytes, max_bytes].map(|bytes| bytes as usize);
    bencher
        .counter(BytesCount::new(INPUT_BYTES))
        .bench_local(|| FastCDC::with_level(&bytes, min, avg, max, Normalization::Level2).count());
}

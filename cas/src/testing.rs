//! What tests of several modules need.

use std::ops::ControlFlow;

/// Bytes that repeat nowhere, and that only this seed gives.
pub(crate) fn bytes_of(seed: u64, len: usize) -> Vec<u8> {
    bytes_from(&seed.to_le_bytes(), len)
}

/// The same for a seed of any bytes.
pub(crate) fn bytes_from(seed: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(seed)
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Progress that stops nothing.
pub(crate) fn go_on(_: u64, _: Option<u64>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

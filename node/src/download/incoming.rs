//! Memory for what arrives.

use casnode_cas::Manifest;

use crate::budget::{Held, Share};

/// Memory for what the peers of one download send. All downloads have it together. One that gets none of it, as the peers
/// of others take their time, has room for its largest chunk beside that, so that each goes on whatever others do.
#[derive(Debug, Clone)]
pub(super) struct IncomingRoom {
    all: Share,
    own: Share,
}

impl IncomingRoom {
    /// Of a download of this manifest; `all` is everybody's.
    pub(super) fn new(all: Share, manifest: &Manifest) -> Self {
        let lengths = manifest.chunks().iter().map(|chunk| chunk.len_bytes);
        let own = Share::of(lengths.max().unwrap_or(0).into());
        Self { all, own }
    }

    /// Waits until there is room.
    pub(super) async fn hold(&self, bytes: usize) -> Option<Held> {
        tokio::select! {
            biased;
            held = self.all.hold(bytes) => held,
            held = self.own.hold(bytes) => held,
        }
    }
}

#[cfg(test)]
mod tests {
    use casnode_cas::{ChunkHash, ChunkRef, ChunkerParams, ProofBuilder};
    use futures::FutureExt;

    use super::*;

    fn of_one_chunk(bytes: &[u8]) -> Manifest {
        let mut proof = ProofBuilder::new();
        proof.update(bytes);
        let chunk = ChunkRef {
            hash: ChunkHash::of(bytes),
            len_bytes: u32::try_from(bytes.len()).unwrap(),
        };
        let params = ChunkerParams::Fixed { chunk_bytes: 65536 };
        Manifest::new(params, vec![chunk], proof.finish()).unwrap()
    }

    #[test]
    fn a_download_goes_on_when_others_hold_everything() {
        let manifest = of_one_chunk(&[7; 100]);
        let all = Share::of(1000);
        let [first, second] = [(); 2].map(|()| IncomingRoom::new(all.clone(), &manifest));
        let now = |room: &IncomingRoom| room.hold(100).now_or_never().flatten();
        // Peers that send nothing of what they began.
        let held: Vec<_> = std::iter::from_fn(|| now(&first)).collect();
        assert_eq!(held.len(), 11, "ten of all, and one of its own");
        let one = now(&second).expect("it has had nothing");
        assert!(
            now(&second).is_none(),
            "a chunk is at most a download's own"
        );
        drop(one);
        assert!(now(&second).is_some());
        drop(held);
        assert!(now(&first).is_some());
    }
}

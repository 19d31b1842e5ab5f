//! How many streams the other side of a connection may have open.

use std::sync::Arc;

/// Streams of one connection that the other side opened and that are open. On each it may send 256 KiB (yamux) before anybody
/// here has read a byte: memory that is nobody's share. An honest peer has 32 of the DHT open at most, and a dozen others.
const MAX_OPEN: usize = 64;

/// The places of one connection.
#[derive(Debug, Default)]
pub(super) struct Places(Arc<()>);

/// A stream's place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _counts: Arc<()>,
}

impl Places {
    /// A place for one more stream, if there is one.
    pub(super) fn take(&self) -> Option<Place> {
        // One is held here.
        (Arc::strong_count(&self.0) <= MAX_OPEN).then(|| Place {
            _counts: self.0.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_and_they_come_back() {
        let places = Places::default();
        let mut taken: Vec<Place> = std::iter::from_fn(|| places.take()).collect();
        assert_eq!(taken.len(), MAX_OPEN);
        taken.pop();
        assert!(places.take().is_some());
    }
}

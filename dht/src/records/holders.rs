//! Who provides one key.

/// A peer that provides a key, and until when (Unix seconds).
#[derive(Clone, Copy)]
pub(super) struct Holder {
    pub(super) peer: u32,
    pub(super) expires: u32,
}

/// Most keys have one provider: that one needs no allocation.
pub(super) enum Holders {
    One(Holder),
    Many(Vec<Holder>),
}

impl Holders {
    pub(super) fn as_slice(&self) -> &[Holder] {
        match self {
            Self::One(holder) => std::slice::from_ref(holder),
            Self::Many(holders) => holders,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Holder] {
        match self {
            Self::One(holder) => std::slice::from_mut(holder),
            Self::Many(holders) => holders,
        }
    }

    pub(super) fn push(&mut self, holder: Holder) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, holder]),
            Self::Many(holders) => holders.push(holder),
        }
    }

    /// Keeps what `keep` says and returns the rest; `None` in the first place when nothing is left.
    pub(super) fn split(self, keep: impl Fn(&Holder) -> bool) -> (Option<Self>, Vec<Holder>) {
        let all = match self {
            Self::One(holder) => vec![holder],
            Self::Many(holders) => holders,
        };
        let (mut kept, gone): (Vec<_>, Vec<_>) = all.into_iter().partition(keep);
        let kept = match kept.len() {
            0 => None,
            1 => kept.pop().map(Self::One),
            _ => Some(Self::Many(kept)),
        };
        (kept, gone)
    }
}

//! How an output is written.

/// How an output comes to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputOptions {
    /// Whether a file may be replaced (or a symbolic link, not what it points to).
    pub force: bool,
    /// Permission bits of a new file, already reduced by the mask of whoever asked for it; bits beyond
    /// `0o777` are ignored. `None`: `0o666` reduced by this process's mask.
    pub mode: Option<u32>,
    /// Whether an unfinished output stays under its temporary name, and whether one that was left there
    /// is gone on with. What is in it must be verified before it is believed.
    pub resume: bool,
    /// Whether a large output is written around the page cache, where the file system can do that: it is
    /// unless told otherwise.
    pub direct_io: bool,
    /// Whether its bytes come by [`Assembly::take_over`](super::Assembly::take_over) from a file that occupies their space already.
    pub shares: bool,
}

impl Default for OutputOptions {
    fn default() -> Self {
        Self::new(false, None)
    }
}

impl OutputOptions {
    /// Without the others, which may be set.
    #[must_use]
    pub fn new(force: bool, mode: Option<u32>) -> Self {
        Self {
            force,
            mode,
            resume: false,
            direct_io: true,
            shares: false,
        }
    }

    /// The same with [`OutputOptions::resume`].
    #[must_use]
    pub fn resuming(self) -> Self {
        Self {
            resume: true,
            ..self
        }
    }
}

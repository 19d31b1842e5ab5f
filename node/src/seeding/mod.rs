//! For how long what was fetched is served to others.

/// For how long a fetched file is served.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum SeedPolicy {
    /// Not at all once it is whole.
    None,
    /// As long as this process runs.
    UntilExit,
    /// For this long after it was whole.
    For(std::time::Duration),
    /// Until this many times its size was sent.
    Ratio(f64),
    /// As long as it is here.
    #[default]
    Forever,
}

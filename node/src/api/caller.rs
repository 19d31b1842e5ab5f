//! What a node takes over from the process that calls it.

/// What a node takes over from the process that calls it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Its umask: outputs get the permissions that it would have given them. `None`: the node's own.
    pub(crate) umask: Option<u32>,
}

impl Caller {
    /// This process.
    pub(crate) fn this() -> Self {
        Self {
            umask: Some(casnode_cas::own_umask()),
        }
    }
}

//! An error as a caller sees it.

use std::io;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What kind of failure it was; each has its own exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Anything without a kind of its own.
    Failure,
    /// The request itself is wrong.
    Usage,
    /// Nobody has it.
    NotFound,
    /// A time limit passed.
    TimedOut,
    /// Bytes were wrong and no right ones could be had.
    Integrity,
    /// The disk is full.
    NoSpace,
    /// Some of it was fetched and kept; the next `get` goes on.
    Partial,
    /// Another process owns the data directory, or what is asked for cannot be done while the file is in use.
    Busy,
    /// The person or a signal stopped it.
    Interrupted,
}

impl ErrorKind {
    /// What kind it is when this machine does not read or write something.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Self {
        match casnode_cas::io_is_no_space(error) {
            true => Self::NoSpace,
            false => Self::Failure,
        }
    }
}

/// An error for a person: what happened, why, what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{what}: {why}")]
pub struct ApiError {
    /// What kind.
    pub kind: ErrorKind,
    /// What happened.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do next; may be empty where nothing helps.
    pub next: String,
}

impl ApiError {
    /// An error of `kind` with its three parts.
    pub fn new(
        kind: ErrorKind,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            what: what.into(),
            why: why.into(),
            next: next.into(),
        }
    }
}

//! Making the index of a store anew. Nobody may have the store open, so no node runs.

use std::path::Path;

use crate::api::{ApiError, ErrorKind, RebuildReport};

/// Makes the index of the store in `data_dir` anew from its packs; the old one is put aside.
///
/// # Errors
/// `Busy` when another process owns the data directory, `NotFound` when there is no store in it.
pub async fn rebuild_index(data_dir: &Path) -> Result<RebuildReport, ApiError> {
    Err(ApiError::new(
        ErrorKind::Failure,
        format!("the index of {} was not rebuilt", data_dir.display()),
        "this version of casnode does not do it",
        "",
    ))
}

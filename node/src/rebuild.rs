//! Making the index of a store anew. Nobody may have the store open, so no node runs.

use std::path::Path;

use casnode_cas::{Rebuilt, Store, StoreError};

use crate::{
    api::{ApiError, ErrorKind, RebuildReport},
    client::busy,
    errors,
    tasks::blocking,
};

/// Makes the index of the store in `data_dir` anew from its packs; the old one is put aside.
///
/// # Errors
/// `Busy` when another process owns the data directory, `NotFound` when there is no store in it; else what the disk
/// says.
pub async fn rebuild_index(data_dir: &Path) -> Result<RebuildReport, ApiError> {
    let what = format!("the index of {} was not rebuilt", data_dir.display());
    if !Store::exists(data_dir) {
        return Err(ApiError::new(
            ErrorKind::NotFound,
            what,
            "there is no store in that folder",
            "name the data directory with --data-dir",
        ));
    }
    let dir = data_dir.to_owned();
    let rebuilt = blocking(move || Store::rebuild_index(&dir))
        .await
        .map_err(errors::panicked)?;
    match rebuilt {
        Ok(rebuilt) => Ok(report(rebuilt)),
        Err(StoreError::Locked { pid, .. }) => Err(busy(data_dir, pid)),
        Err(error) => Err(errors::store(&what, &error)),
    }
}

fn report(rebuilt: Rebuilt) -> RebuildReport {
    RebuildReport {
        packs: rebuilt.packs,
        chunks: rebuilt.chunks,
        files: rebuilt.files,
        bad_records: rebuilt.bad_records,
        aside: rebuilt.aside.map(|path| path.display().to_string()),
    }
}

//! What the output of a download is called: its metadata record says so, and that may take longer than the first chunks.

use std::{path::Path, time::Duration};

use casnode_cas::Manifest;

use super::{
    super::{
        output::Found,
        place::{Place, choose_place},
    },
    Attempt, End,
};
use crate::{api::ApiError, errors, tasks::blocking};

/// How long a fetched manifest, or a finished output, waits for the metadata record.
pub(super) const NAME_PATIENCE: Duration = Duration::from_secs(3);

impl Attempt<'_> {
    /// The name of the file, as far as it is known.
    pub(super) async fn name(&self) -> Option<String> {
        let published = self.job.record.as_ref().and_then(|r| r.name());
        match self.job.told_name.as_deref().or(published) {
            Some(name) => Some(name.to_owned()),
            None => self.job.node.known_name(&self.job.address).await,
        }
    }

    /// Where the file is kept, when this is its output.
    pub(super) async fn choose_place(
        &self,
        manifest: &Manifest,
        path: Option<&Path>,
    ) -> Result<Place, ApiError> {
        let (store, stay) = (self.job.node.store.clone(), self.job.stay);
        let (address, size_bytes) = (self.job.address, manifest.size_bytes());
        let path = path.map(Path::to_owned);
        let decided =
            blocking(move || choose_place(&store, stay, &address, size_bytes, path.as_deref()))
                .await;
        let decided = decided.map_err(errors::panicked)?;
        decided.map_err(|e| errors::store("the store could not be read", &e))
    }

    /// True when the download may begin although its metadata record, which has the name of the output, is still being
    /// looked up. An output that is to be found again when it is broken off needs its name at once.
    pub(super) async fn may_be_named_late(&self, manifest: &Manifest) -> Result<bool, ApiError> {
        let Some((path, _)) = self.job.target.resolve(None, &self.job.address) else {
            return Ok(false);
        };
        let is_there = std::fs::symlink_metadata(&path).is_ok();
        Ok(!is_there
            && self
                .choose_place(manifest, Some(&path))
                .await?
                .is_in_store())
    }

    /// Whether the file is at the place of its output already.
    pub(super) async fn is_there(
        &self,
        path: &Path,
        force: bool,
        size_bytes: Option<u64>,
    ) -> Result<bool, ApiError> {
        let found = self.job.inspection(size_bytes).of(path, force).await?;
        Ok(found == Found::Same)
    }

    /// True when the output has no name yet.
    pub(super) fn is_unnamed(&self) -> bool {
        self.running.as_ref().is_some_and(|r| r.tell_name.is_some())
    }

    /// The name of the output is known now, or is not waited for any more.
    pub(super) async fn name_output(&mut self) -> Result<Option<End>, ApiError> {
        let name = self.name().await;
        let target = self.job.target.resolve(name.as_deref(), &self.job.address);
        let Some((path, force)) = target else {
            return Ok(None);
        };
        let running = self.running.as_ref();
        let size_bytes = running.map(|r| r.manifest.size_bytes());
        if self.is_there(&path, force, size_bytes).await? {
            return Ok(Some(End::Unchanged { path }));
        }
        if let Some(r) = &mut self.running
            && let Some(tell) = r.tell_name.take()
        {
            r.path = Some(path.clone());
            let _ = tell.send(path); // an assembler that is gone has told why
        }
        Ok(None)
    }

    /// The same when the record was waited for long enough.
    pub(super) async fn name_in_the_end(&mut self) -> Result<Option<End>, ApiError> {
        if self.is_unnamed() && self.search.began.elapsed() >= NAME_PATIENCE {
            return self.name_output().await;
        }
        Ok(None)
    }
}

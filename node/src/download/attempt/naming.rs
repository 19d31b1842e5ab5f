//! What the output of a download is called: its metadata record says so, and that may take longer than the first chunks.

use std::{path::PathBuf, time::Duration};

use super::{
    super::output::{Found, inspect},
    Attempt, End,
};
use crate::api::{ApiError, Keep};

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

    /// True when the download may begin although its metadata record, which has the name of the output, is still being
    /// looked up. An output that is to be found again when it is broken off needs its name at once.
    pub(super) fn may_be_named_late(&self) -> bool {
        let nothing_there = |path: PathBuf| std::fs::symlink_metadata(path).is_err();
        let place = self.job.target.resolve(None, &self.job.address);
        self.job.stay.keep == Keep::Store && place.is_some_and(|(path, _)| nothing_there(path))
    }

    /// True when the output has no name yet.
    pub(super) fn is_unnamed(&self) -> bool {
        self.running.as_ref().is_some_and(|r| r.place.is_some())
    }

    /// The name of the output is known now, or is not waited for any more.
    pub(super) async fn name_output(&mut self) -> Result<Option<End>, ApiError> {
        let name = self.name().await;
        let place = self.job.target.resolve(name.as_deref(), &self.job.address);
        let Some((path, force)) = place else {
            return Ok(None);
        };
        if inspect(&path, force, self.job.address).await? == Found::Same {
            return Ok(Some(End::Unchanged { path }));
        }
        if let Some(r) = &mut self.running
            && let Some(tell) = r.place.take()
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

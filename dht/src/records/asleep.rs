//! The schedule of a node that does not run.

use std::path::Path;

use super::disk::StoreError;
use super::{loading, system_clock};
use crate::announce::schedule::Schedule;
use crate::key::Point;
use crate::report::{KeysStatus, ProvideStatus};
use crate::{AnnounceStatus, AnnounceTimes, Key};

/// What a node that does not run has to announce.
pub struct SleepingSchedule(Schedule);

impl std::fmt::Debug for SleepingSchedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SleepingSchedule")
            .field("keys", &self.0.len())
            .finish()
    }
}

impl SleepingSchedule {
    /// Reads the schedule of a data directory on which no node runs; `None` where none ever ran. Blocking. The
    /// caller owns the data directory.
    ///
    /// # Errors
    /// When the record store cannot be read.
    pub fn open(data_dir: &Path) -> Result<Option<Self>, StoreError> {
        let dir = data_dir.join(crate::start::FOLDER);
        if !dir.is_dir() {
            return Ok(None);
        }
        // Whose it is decides only at which hour keys are renewed.
        let nobody = Point([0; 32]);
        let mut schedule = Schedule::new(&AnnounceTimes::default(), &nobody);
        loading::load_schedule(&dir, &mut schedule, system_clock()())?;
        Ok(Some(Self(schedule)))
    }

    /// How all keys stand.
    pub fn status(&mut self) -> ProvideStatus {
        ProvideStatus::of(self.0.totals(system_clock()()), &AnnounceTimes::default())
    }

    /// How some keys stand.
    pub fn keys_status(&mut self, keys: &[Key]) -> KeysStatus {
        self.0.status_of(keys, system_clock()())
    }
}

/// How far announcing has come in a data directory on which no node runs; `None` where none ever ran.
/// Blocking. The caller owns the data directory.
///
/// # Errors
/// When the record store cannot be read.
pub fn announce_status_of(data_dir: &Path) -> Result<Option<AnnounceStatus>, StoreError> {
    let schedule = SleepingSchedule::open(data_dir)?;
    Ok(schedule.map(|mut schedule| schedule.status().in_short()))
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::super::Records;
    use super::*;
    use crate::Limits;
    use crate::announce::schedule::Kind;

    #[tokio::test]
    async fn the_schedule_is_read_while_no_node_runs() {
        let data_dir = tempfile::tempdir().unwrap();
        assert_eq!(announce_status_of(data_dir.path()).unwrap(), None);
        let dir = data_dir.path().join(crate::start::FOLDER);
        let times = AnnounceTimes::default();
        let (me, limits) = (Keypair::generate_ed25519(), Limits::default());
        let records = Records::open(Some(&dir), &me, limits, &times, system_clock()).unwrap();
        let keys = [[1; 32], [2; 32], [3; 32]];
        records.schedule(&keys, Kind::Chunk).await.unwrap();
        let now = records.now();
        records.due().acknowledged([(keys[0], 1)], now);
        records.close().await.unwrap();
        drop(records);
        let status = announce_status_of(data_dir.path()).unwrap();
        let expected = AnnounceStatus {
            announced: 1,
            to_announce: 2,
        };
        assert_eq!(status, Some(expected));
    }
}

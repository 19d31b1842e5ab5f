//! The schedule of a node that does not run.

use std::path::Path;

use super::disk::{Disk, StoreError};
use super::layout::{self, Entry};
use super::system_clock;
use crate::announce::due::DueTable;
use crate::{AnnounceStatus, AnnounceTimes};

/// How far announcing has come in a data directory on which no node runs; `None` where none ever ran.
/// Blocking. The caller owns the data directory.
///
/// # Errors
/// When the record store cannot be read.
pub fn announce_status_of(data_dir: &Path) -> Result<Option<AnnounceStatus>, StoreError> {
    let dir = data_dir.join(crate::start::FOLDER);
    if !dir.is_dir() {
        return Ok(None);
    }
    let mut due = DueTable::new(&AnnounceTimes::default());
    Disk::open(&dir)?.load(|name, bytes| {
        if let Some(Entry::Due {
            key,
            kind,
            copies,
            last_ok,
        }) = layout::read(name, bytes)
        {
            due.load(key, kind, copies, last_ok);
        }
    })?;
    let (announced, to_announce) = due.status(system_clock()());
    Ok(Some(AnnounceStatus {
        announced,
        to_announce,
    }))
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::super::Records;
    use super::*;
    use crate::Limits;
    use crate::announce::due::Kind;

    #[tokio::test]
    async fn the_schedule_is_read_while_no_node_runs() {
        let data_dir = tempfile::tempdir().unwrap();
        assert_eq!(announce_status_of(data_dir.path()).unwrap(), None);
        let dir = data_dir.path().join(crate::start::FOLDER);
        let times = AnnounceTimes::default();
        let (me, limits) = (PeerId::random(), Limits::default());
        let records = Records::open(&dir, me, limits, &times, system_clock()).unwrap();
        let keys = [[1; 32], [2; 32], [3; 32]];
        records.schedule(&keys, Kind::Chunk).await.unwrap();
        let now = records.now();
        records.due().acknowledged([keys[0]], now);
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

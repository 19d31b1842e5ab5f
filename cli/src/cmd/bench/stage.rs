//! What every step works with: the folder, the original, the processes, and how one is measured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use casnode_node::api::ErrorKind;
use serde::de::DeserializeOwned;

use super::child::{Children, Pid};
use super::data;
use super::part::{Done, Listening, Part};
use super::samples::{Sample, Used};
use super::usage::with_peaks;
use crate::exit::{Failure, Result};

/// Name of the file that everything is done with.
pub(crate) const ORIGINAL: &str = "original";

/// Name of what is written of it.
pub(crate) const COPY: &str = "copy";

/// How long anything may take beside moving bytes.
const BASE_LIMIT: Duration = Duration::from_secs(120);

/// The slowest that bytes may move.
const LEAST_BYTES_PER_S: u64 = 2 << 20;

/// What every step works with.
pub(crate) struct Stage {
    /// Everything is in it.
    pub(crate) folder: PathBuf,
    /// BLAKE3 of the original, as this program computes it, without any node.
    pub(crate) address: String,
    /// Its length.
    pub(crate) size_bytes: u64,
    /// How often each step is done.
    pub(crate) runs: u8,
    /// All that run now.
    pub(crate) children: Children,
}

impl Stage {
    /// How long one step may take.
    pub(crate) fn limit(&self) -> Duration {
        BASE_LIMIT + Duration::from_secs(self.size_bytes / LEAST_BYTES_PER_S)
    }

    /// Does a part by itself.
    pub(crate) async fn part(&mut self, part: &Part) -> Result<(Sample, Done)> {
        let pid = self.start_part("part", part)?;
        let limit = self.limit();
        let (line, peaks) = with_peaks(&[pid], self.children.line(pid, limit)).await;
        let done: Done = understood(&line?)?;
        self.children.leave(pid).await;
        let sample = Sample {
            seconds: done.seconds,
            own: used(&done, peaks[0]),
            provider: None,
        };
        Ok((sample, done))
    }

    /// Has one plain program send the original to another one.
    pub(crate) async fn plain(&mut self, write: Option<Write>) -> Result<Sample> {
        let limit = self.limit();
        let receive = Part::Receive {
            output: write.map(|_| COPY.to_owned()),
            direct: write == Some(Write::Direct),
        };
        let receiver = self.start_part("receiver", &receive)?;
        let Listening { port } = understood(&self.children.line(receiver, limit).await?)?;
        let send = Part::Send {
            file: ORIGINAL.to_owned(),
            port,
        };
        let sender = self.start_part("sender", &send)?;
        let pids = [sender, receiver];
        let (line, peaks) = with_peaks(&pids, self.children.line(receiver, limit)).await;
        let received: Done = understood(&line?)?;
        let sent: Done = understood(&self.children.line(sender, limit).await?)?;
        self.children.leave_all().await;
        if let Some(address) = &received.address {
            self.check_address("the plain program's copy", address)?;
            self.remove(COPY)?;
        }
        Ok(Sample {
            seconds: received.seconds,
            own: used(&received, peaks[1]),
            provider: Some(used(&sent, peaks[0])),
        })
    }

    fn start_part(&mut self, name: &str, part: &Part) -> Result<Pid> {
        let text = serde_json::to_string(part).map_err(|error| {
            Failure::new(
                ErrorKind::Failure,
                "cannot write JSON",
                error.to_string(),
                "",
            )
        })?;
        self.children
            .start(&self.folder, name, ["bench-part", &text])
    }

    /// Refuses figures of wrong bytes.
    pub(crate) fn check_address(&self, what: &str, found: &str) -> Result<()> {
        if found == self.address {
            return Ok(());
        }
        Err(Failure::new(
            ErrorKind::Integrity,
            format!("{what} is wrong"),
            format!(
                "its BLAKE3 is {found}, and the original's is {}",
                self.address
            ),
            "this is a bug of casnode, or of this machine: please report it",
        ))
    }

    /// Hashes the copy with nothing of the nodes, and removes it.
    pub(crate) async fn check_copy(&self) -> Result<()> {
        let found = data::hash(self.folder.join(COPY)).await?;
        self.check_address("the copy", &found)?;
        self.remove(COPY)
    }

    /// Removes a file or a folder of ours.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let path = self.folder.join(name);
        let removed = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        removed.map_err(|error| Failure::io(format!("cannot remove {}", path.display()), &error))
    }

    /// Reads the original once, so that the system remembers it.
    pub(crate) async fn warm(&self) -> Result<()> {
        let found = data::hash(self.folder.join(ORIGINAL)).await?;
        self.check_address("the original", &found)
    }
}

/// How the plain program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// Through the page cache.
    Buffered,
    /// Around it.
    Direct,
}

/// Whether a folder takes direct writes.
pub(crate) async fn has_direct_writes(folder: &Path) -> bool {
    let folder = folder.to_owned();
    data::blocking(move || Ok(super::plain::has_direct_writes(&folder)))
        .await
        .unwrap_or(false)
}

fn used(done: &Done, peak_bytes: Option<u64>) -> Used {
    Used {
        cpu_s: Some(done.cpu_s),
        peak_bytes,
    }
}

/// Reads what a child says.
fn understood<T: DeserializeOwned>(line: &str) -> Result<T> {
    serde_json::from_str(line).map_err(|error| {
        Failure::new(
            ErrorKind::Failure,
            "a part of the bench said something else than what it was asked",
            error.to_string(),
            "this program may have been replaced meanwhile: run it again",
        )
    })
}

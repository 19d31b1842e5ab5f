//! The download that runs for readers alone: it fetches what they need, and ends when they have left.

use std::{sync::Arc, time::Duration};

use casnode_cas::Address;
use tokio_util::sync::CancellationToken;

use super::readers::Readers;
use crate::{
    api::{ApiError, ErrorKind, Event, events::EventSink},
    download::{self, GetOptions, Stay, Target, Terms},
    node::Node,
    tasks::blocking,
};

/// How long a download waits for another reader: whoever seeks leaves and comes back.
const GRACE: Duration = Duration::from_secs(5);

/// Sees to it that the file is being fetched for its readers.
pub(super) fn ensure(node: &Arc<Node>, address: Address, readers: &Arc<Readers>) {
    if readers.begin() {
        let run = Run {
            node: node.clone(),
            address,
            readers: readers.clone(),
            has_ended: false,
        };
        node.tasks.spawn("read", run.go_on());
    }
}

/// How a turn of the download ended.
enum End {
    /// Everything is here, or nothing more can be had.
    Ended(Option<ApiError>),
    /// Nobody reads any more.
    Left,
    /// A `get` of the whole file waits, which fetches for readers as well.
    Yields,
}

/// A download for readers.
struct Run {
    node: Arc<Node>,
    address: Address,
    readers: Arc<Readers>,
    has_ended: bool,
}

impl Run {
    async fn go_on(mut self) -> Result<(), std::convert::Infallible> {
        loop {
            self.readers.until_get_waits(false).await;
            match self.turn().await {
                End::Ended(failure) => {
                    self.has_ended = true;
                    self.readers.end(failure);
                    return Ok(());
                }
                End::Left if self.readers.end_if_left() => {
                    self.has_ended = true;
                    return Ok(());
                }
                End::Left | End::Yields => {}
            }
        }
    }

    /// To be read changes nothing of what keeps a file: what is here for a directory alone stays so.
    async fn stay(&self) -> Stay {
        let (store, address) = (self.node.store.clone(), self.address);
        let found = blocking(move || store.file(&address)).await;
        let file = found.ok().and_then(Result::ok).flatten();
        Stay {
            claim: file.map(|file| file.claim).unwrap_or_default(),
            ..Stay::default()
        }
    }

    async fn turn(&self) -> End {
        let stay = self.stay().await;
        let cancel = CancellationToken::new();
        let (events, mut queue) = EventSink::new();
        let options = GetOptions {
            address: self.address,
            target: Target::Readers,
            timeout: None,
            hints: self.readers.watch().borrow().hints().to_vec(),
            name: None,
            size_bytes: None,
            output: None,
            mode: None,
            stay,
            terms: Terms::default(),
        };
        let get = download::get(&self.node, options, events, cancel.clone());
        let tell = async {
            while let Some(event) = queue.recv().await {
                if let Event::Progress(progress) = event {
                    self.readers.told(progress);
                }
            }
        };
        let get = async { tokio::join!(get, tell).0 };
        tokio::pin!(get);
        let end = tokio::select! {
            outcome = &mut get => return End::Ended(outcome.err()),
            () = self.readers.until_left(GRACE) => End::Left,
            () = self.readers.until_get_waits(true) => End::Yields,
        };
        cancel.cancel();
        match get.await {
            Err(error) if error.kind == ErrorKind::Interrupted => end,
            outcome => End::Ended(outcome.err()),
        }
    }
}

impl Drop for Run {
    /// The node ends: nobody waits for what does not come any more.
    fn drop(&mut self) {
        if !self.has_ended {
            self.readers.end(Some(ApiError::new(
                ErrorKind::Interrupted,
                format!("{} was not read to its end", self.address),
                "the node is leaving",
                "the same call goes on with what was kept",
            )));
        }
    }
}

//! Streams of the exchange protocol, opened to a peer.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, timeout_at};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::Dht;
use crate::error::DhtError;
use crate::exchange::{self, ExchangeError, ReplyReceiver, Request, RequestSender};
use crate::net::is_refusal;

impl Dht {
    /// Opens an exchange stream to a peer, connecting first if need be, by these and other known addresses. Tried twice: a peer that is not where it
    /// should be is looked up in between.
    ///
    /// # Errors
    /// [`DhtError::Dial`], [`DhtError::Unsupported`], [`DhtError::Exchange`], [`DhtError::TimedOut`].
    pub async fn open_exchange(
        &self,
        peer: PeerId,
        addrs: &[Multiaddr],
        deadline: Duration,
    ) -> Result<(RequestSender, ReplyReceiver), DhtError> {
        self.open_exchange_with(peer, addrs, deadline, Vec::new)
            .await
    }

    /// The same, and asks at once what `first` says, with ids, when there is a connection: the requests go with the opening of
    /// the stream and cost no round trip more. `first` is called for each time that it is tried.
    ///
    /// # Errors
    /// As [`Dht::open_exchange`].
    pub async fn open_exchange_with(
        &self,
        peer: PeerId,
        addrs: &[Multiaddr],
        deadline: Duration,
        mut first: impl FnMut() -> Vec<(u32, Request)>,
    ) -> Result<(RequestSender, ReplyReceiver), DhtError> {
        let ends = Instant::now() + deadline;
        let mut last = DhtError::TimedOut(deadline);
        for _ in 0..2 {
            let attempt = async {
                let stream = self
                    .inner
                    .open_stream(peer, addrs, &self.inner.protocols.exchange)
                    .await?;
                let counters = Some(self.inner.counters.clone());
                let asked = exchange::ask_counted(stream.compat(), &first(), counters).await;
                asked.map_err(|source| match source {
                    ExchangeError::Io(error) if is_refusal(&error) => DhtError::Unsupported(peer),
                    source => DhtError::Exchange { peer, source },
                })
            };
            match timeout_at(ends, attempt).await {
                Err(_) => return Err(last),
                Ok(Ok(streams)) => return Ok(streams),
                Ok(Err(error)) if error.is_retryable() => last = error,
                Ok(Err(error)) => return Err(error),
            }
            if matches!(last, DhtError::Dial { .. }) {
                let _ = timeout_at(ends, self.inner.look_for_peer(peer)).await;
            }
        }
        Err(last)
    }
}

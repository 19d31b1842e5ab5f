//! Connections: who is accepted, how many at a time, and how long each may take to say what it wants.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
};

use super::{guard::LocalAddress, patience::Patient};
use crate::tasks::Tasks;

/// Connections to the socket at a time. A caller that follows its own call has two.
pub(crate) const MAX_SOCKET_CONNECTIONS: usize = 128;

/// Connections over TCP at a time.
pub(crate) const MAX_TCP_CONNECTIONS: usize = 256;

/// A caller that connects says what it wants within this time, and what it wants next.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);

/// Longest head of a request: a link and a few hundred peers to ask fit.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Bytes that a connection reads ahead.
const READ_AHEAD_BYTES: usize = 256 << 10;

/// After a caller could not be accepted (too many open files, mostly), the next one is tried after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A caller, and the address that it came to where it has one.
type Accepted<S> = io::Result<(S, Option<SocketAddr>)>;

/// Where callers come from.
pub(crate) trait Accept: Send {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next caller, and the address that it came to where it has one.
    fn accept(&mut self) -> impl Future<Output = Accepted<Self::Stream>> + Send;
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    /// The next caller of this user or of root. The mode of the socket lets nobody else in; this holds while it is
    /// being made, too.
    async fn accept(&mut self) -> Accepted<UnixStream> {
        loop {
            let (stream, _) = UnixListener::accept(self).await?;
            let caller = stream.peer_cred()?.uid();
            if caller == 0 || caller == rustix::process::geteuid().as_raw() {
                return Ok((stream, None));
            }
            tracing::warn!(user = caller, "a caller of another user was refused");
        }
    }
}

impl Accept for TcpListener {
    type Stream = Patient<TcpStream>;

    async fn accept(&mut self) -> Accepted<Self::Stream> {
        let (stream, _) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        Ok((Patient::new(stream), Some(local)))
    }
}

/// Serves callers until cancelled, so many at a time. One that cannot be accepted is no reason to refuse the next one.
pub(crate) async fn serve(
    mut listener: impl Accept,
    router: Router,
    max_connections: usize,
    tasks: Tasks,
) -> Result<(), Infallible> {
    let places = Arc::new(Semaphore::new(max_connections));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return Ok(());
        };
        let (stream, local) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a caller could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let router = router.clone();
        tasks.spawn("api connection", async move {
            let _place = place;
            if let Err(error) = connection(stream, local, router).await {
                tracing::debug!(%error, "a connection ended badly");
            }
            Ok::<_, Infallible>(())
        });
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    local: Option<SocketAddr>,
    router: Router,
) -> hyper::Result<()> {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        if let Some(local) = local {
            request.extensions_mut().insert(LocalAddress(local));
        }
        router.call(request)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(READ_AHEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

#[cfg(test)]
mod tests;

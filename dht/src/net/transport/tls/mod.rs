//! A connection in TLS 1.3: rustls shakes hands, and its keys are used here.
//!
//! rustls reads 4 KiB at a time, and has a fresh vector for each record in either direction, into which it copies before it
//! encrypts and after it has decrypted: that cost more than all encryption. It gives its keys away so that somebody else moves
//! the data (the kernel, as it was meant). Here they seal and open records from one buffer into the next. The same bytes
//! are on the wire.

mod cork;
mod handshake;
mod receiving;
mod record;
mod sending;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::io::{AsyncRead, AsyncWrite};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, CommonState, ServerConfig};

pub(crate) use self::cork::Cork;
use self::handshake::{Renew, Side};
use self::receiving::{Heard, Receiving};
use self::record::{Key, RecordError};
use self::sending::Sending;

/// After this many bytes it is the turn of those who read the streams: what came is still in the processor's cache then. Without an
/// end, all that a fast peer may send unread would be taken in first.
const TURN_BYTES: usize = 256 << 10;

/// A connection that is encrypted.
pub(super) struct Tls<C> {
    socket: C,
    receiving: Receiving,
    sending: Sending,
    renew: Box<dyn Renew>,
    /// Bytes that came since others had their turn.
    came_bytes: usize,
    cork: Arc<Cork>,
}

/// Shakes hands with a side that was dialled; `seen` looks at what it showed.
pub(super) async fn connect<C, T>(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    socket: C,
    seen: impl FnOnce(&CommonState) -> T,
) -> io::Result<(Tls<C>, T)>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let side = handshake::dialler(config, name).map_err(io::Error::other)?;
    shake(socket, side, seen).await
}

/// Shakes hands with a side that dialled.
pub(super) async fn accept<C, T>(
    config: Arc<ServerConfig>,
    socket: C,
    seen: impl FnOnce(&CommonState) -> T,
) -> io::Result<(Tls<C>, T)>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let side = handshake::listener(config).map_err(io::Error::other)?;
    shake(socket, side, seen).await
}

async fn shake<C, S, T>(
    mut socket: C,
    mut side: S,
    seen: impl FnOnce(&CommonState) -> T,
) -> io::Result<(Tls<C>, T)>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: Side,
{
    let ahead = handshake::shake(&mut socket, &mut side).await?;
    let seen = seen(side.state());
    let (secrets, renew) = side.end().map_err(io::Error::other)?;
    let tls = Tls {
        socket,
        receiving: Receiving::new(Key::new(secrets.rx).map_err(io::Error::other)?, &ahead),
        sending: Sending::new(Key::new(secrets.tx).map_err(io::Error::other)?),
        renew: Box::new(renew),
        came_bytes: 0,
        cork: Arc::default(),
    };
    Ok((tls, seen))
}

fn invalid(error: RecordError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<C> Tls<C> {
    /// What holds its flushes back.
    pub(super) fn cork(&self) -> Arc<Cork> {
        self.cork.clone()
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Tls<C> {
    /// Opens what is here.
    fn take(&mut self, bytes: &mut [u8]) -> Result<usize, RecordError> {
        loop {
            match self.receiving.take(bytes)? {
                (read, Heard::Nothing) => return Ok(read),
                (read, Heard::NewKey { is_asked }) => {
                    let next = self.renew.receiving().map_err(|_| RecordError::Keys)?;
                    self.receiving.renew(Key::new(next)?);
                    self.sending.owes_new_key |= is_asked;
                    if read > 0 {
                        return Ok(read);
                    }
                }
            }
        }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tls<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            let read = match this.take(bytes) {
                Ok(read) => read,
                Err(error) => {
                    // The other side is told why, if there is room for it at once.
                    this.sending.end(error.alert(), this.renew.as_mut());
                    let _ = this.sending.poll_all(&mut this.socket, cx);
                    return Poll::Ready(Err(invalid(error)));
                }
            };
            if read > 0 || bytes.is_empty() || this.receiving.is_over() {
                return Poll::Ready(Ok(read));
            }
            if this.came_bytes >= TURN_BYTES {
                this.came_bytes = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match this.receiving.poll_more(&mut this.socket, cx) {
                Poll::Ready(came) => this.came_bytes += came?,
                Poll::Pending => {
                    this.came_bytes = 0;
                    return Poll::Pending;
                }
            }
        }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tls<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.sending
            .poll_write(&mut this.socket, this.renew.as_mut(), cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = parts.iter().find(|part| !part.is_empty());
        self.poll_write(cx, first.map_or(&[], |part| part))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.cork.holds() {
            return Poll::Ready(Ok(()));
        }
        ready!(
            this.sending
                .poll_flush(&mut this.socket, this.renew.as_mut(), cx)
        )?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(
            this.sending
                .poll_close(&mut this.socket, this.renew.as_mut(), cx)
        )?;
        Pin::new(&mut this.socket).poll_close(cx)
    }
}

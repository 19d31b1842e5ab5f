//! Standard output as the target of `get -o -`.

use std::fs::File;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite, Stdout, stdout};

/// Ends standard output for its reader, although this process goes on: what is written there from now on is lost.
pub(crate) fn end_stdout() -> io::Result<()> {
    io::stdout().flush()?;
    let nowhere = File::options().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(nowhere)?)
}

/// Remembers that the reader of a pipe left: by then the error has become one of the node's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClosedFlag(Arc<AtomicBool>);

impl ClosedFlag {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Standard output that notes when its reader has left.
#[derive(Debug)]
pub(crate) struct StdoutPipe<W = Stdout> {
    inner: W,
    closed: ClosedFlag,
}

impl StdoutPipe {
    /// Standard output.
    pub(crate) fn new(closed: ClosedFlag) -> Self {
        Self {
            inner: stdout(),
            closed,
        }
    }
}

impl<W> StdoutPipe<W> {
    fn note<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &outcome
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            self.closed.set();
        }
        outcome
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for StdoutPipe<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.note(outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.note(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Tokio's does not wait for what it was given last: the process would end before that is written.
        ready!(self.as_mut().poll_flush(cx))?;
        let outcome = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.note(outcome)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn the_flag_is_set_when_the_reader_left_and_not_before() {
        let (writer, reader) = tokio::io::duplex(64);
        let closed = ClosedFlag::default();
        let mut pipe = StdoutPipe {
            inner: writer,
            closed: closed.clone(),
        };
        pipe.write_all(b"x").await.unwrap();
        assert!(!closed.is_set());
        drop(reader);
        pipe.write_all(b"x").await.unwrap_err();
        assert!(closed.is_set());
    }
}

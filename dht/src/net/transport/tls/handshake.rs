//! The handshake, which is all rustls', and what it leaves behind.

use std::io;
use std::sync::Arc;

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{
    ClientConfig, CommonState, ConnectionTrafficSecrets, Error, ExtractedSecrets, ServerConfig,
};

use super::record::{HEADER_BYTES, MAX_RECORD_BYTES};

/// What may wait to be taken as parts of the handshake, which is a certificate and little else.
const MAX_INCOMING_BYTES: usize = 64 << 10;

/// The next keys of a connection that stands.
pub(super) trait Renew: Send + Sync {
    fn sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error>;
    fn receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error>;
}

impl<D: Send + Sync> Renew for KernelConnection<D> {
    fn sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.update_tx_secret()
    }

    fn receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        self.update_rx_secret()
    }
}

/// One side of a handshake.
pub(super) trait Side: Sized {
    type Data: Send + Sync + 'static;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn state(&self) -> &CommonState;

    fn end(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error>;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }

    fn end(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error> {
        self.dangerous_into_kernel_connection()
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }

    fn end(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error> {
        self.dangerous_into_kernel_connection()
    }
}

/// The side that dials.
pub(super) fn dialler(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<UnbufferedClientConnection, Error> {
    UnbufferedClientConnection::new(config, name)
}

/// The side that is dialled.
pub(super) fn listener(config: Arc<ServerConfig>) -> Result<UnbufferedServerConnection, Error> {
    UnbufferedServerConnection::new(config)
}

/// What to do before rustls goes on.
enum Step {
    Go,
    Send,
    Receive,
    Done,
}

/// Shakes hands; returns what came along with the end of it, none of which rustls has seen. The caller has the deadline.
///
/// rustls is shown record after record, and none after the last one of the handshake. It would go on: an answer to a change of
/// the key, and the beginning of a message, stay in it when it gives its keys away.
pub(super) async fn shake<C, S>(socket: &mut C, side: &mut S) -> io::Result<Vec<u8>>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: Side,
{
    let mut incoming = Vec::new();
    // How much of it is whole records that rustls is shown.
    let mut shown = 0;
    let mut outgoing = Vec::new();
    loop {
        let status = side.process(&mut incoming[..shown]);
        let (step, used) = step(status, &mut outgoing);
        let used = used.min(shown);
        incoming.drain(..used);
        shown -= used;
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                // Why is told, if it can be. What is not done with must be shown to rustls again.
                let status = side.process(&mut incoming[..shown]);
                if let Ok(ConnectionState::EncodeTlsData(mut alert)) = status.state {
                    let _ = encode(&mut outgoing, |room| alert.encode(room));
                }
                let _ = socket.write_all(&outgoing).await;
                let _ = socket.flush().await;
                return Err(error);
            }
        };
        match step {
            Step::Go => {}
            Step::Send => send(socket, &mut outgoing).await?,
            Step::Done if !side.state().is_handshaking() => {
                send(socket, &mut outgoing).await?;
                return match shown {
                    0 => Ok(incoming),
                    _ => Err(endless()),
                };
            }
            // A side may send before the other one has shown who it is.
            Step::Receive | Step::Done => {
                send(socket, &mut outgoing).await?;
                shown += loop {
                    match first_record_len(&incoming[shown..]) {
                        Some(len) => break len,
                        None => receive(socket, &mut incoming).await?,
                    }
                };
            }
        }
    }
}

/// The length of the record that these bytes begin with, if all of it is here.
fn first_record_len(bytes: &[u8]) -> Option<usize> {
    let [_, _, _, high, low] = *bytes.first_chunk::<HEADER_BYTES>()?;
    let len = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    (len <= bytes.len()).then_some(len)
}

fn endless() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the handshake does not end")
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What is next, and how many bytes of the incoming ones are done with.
fn step<D>(
    status: UnbufferedStatus<'_, '_, D>,
    outgoing: &mut Vec<u8>,
) -> (io::Result<Step>, usize) {
    let UnbufferedStatus {
        discard: used,
        state,
        ..
    } = status;
    let step = match state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            encode(outgoing, |room| data.encode(room)).map(|()| Step::Go)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Send)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Receive),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Done),
        // Data and a goodbye come after the handshake, and early data is not taken.
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        Err(error) => Err(invalid(error)),
    };
    (step, used)
}

/// Appends what rustls has to send.
fn encode(
    outgoing: &mut Vec<u8>,
    mut part: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> io::Result<()> {
    let (from, mut room) = (outgoing.len(), 1024);
    loop {
        outgoing.resize(from + room, 0);
        match part(&mut outgoing[from..]) {
            Ok(len) => {
                outgoing.truncate(from + len);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) if needed.required_size > room => {
                room = needed.required_size;
            }
            Err(error) => return Err(invalid(error)),
        }
    }
}

async fn send<C: AsyncWrite + Unpin>(socket: &mut C, outgoing: &mut Vec<u8>) -> io::Result<()> {
    if !outgoing.is_empty() {
        socket.write_all(outgoing).await?;
        outgoing.clear();
        socket.flush().await?;
    }
    Ok(())
}

async fn receive<C: AsyncRead + Unpin>(socket: &mut C, incoming: &mut Vec<u8>) -> io::Result<()> {
    let from = incoming.len();
    if from >= MAX_INCOMING_BYTES {
        return Err(endless());
    }
    incoming.resize(from + MAX_RECORD_BYTES, 0);
    let read = socket.read(&mut incoming[from..]).await?;
    incoming.truncate(from + read);
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

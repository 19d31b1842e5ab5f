//! Streams of this node's own protocols: opened on demand, and taken from others.
//!
//! An opening always gets its answer: a stream, or why there is none. A stream that others open waits in a
//! bounded queue until somebody takes it; when that is full it is refused, and counted.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::{AsyncRead, AsyncWrite};
use libp2p::Stream as Raw;

use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandlerEvent, DialUpgradeError, FullyNegotiatedInbound,
    FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::{mpsc, oneshot};

use crate::counters::Counters;
use crate::net::addrs::{self, Transport};

/// Streams of one protocol, opened by others, that wait to be taken.
const MAX_WAITING: usize = 64;
/// Openings on one connection that wait or are being negotiated. More are refused.
const MAX_OPENING: usize = 64;
/// Openings that wait for the swarm to hand them to their connection.
const MAX_ORDERS: usize = 1024;

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Nobody of that name is connected, or not any more.
    #[error("not connected")]
    NotConnected,
    /// The other side does not speak the protocol.
    #[error("the peer does not speak the protocol")]
    Unsupported,
    /// Too many streams are being opened.
    #[error("too many streams are being opened")]
    Busy,
    /// The other side did not answer in time, or the connection broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// How many streams there are with each peer.
#[derive(Debug, Default)]
struct InUse(Mutex<HashMap<PeerId, usize>>);

impl InUse {
    fn change(&self, peer: PeerId, change: impl FnOnce(usize) -> usize) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(peer).or_default();
        *count = change(*count);
        if *count == 0 {
            all.remove(&peer);
        }
    }

    fn has(&self, peer: &PeerId) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.contains_key(peer)
    }
}

/// A stream. While it lives its connection counts as used.
#[derive(Debug)]
pub(crate) struct Stream {
    raw: Raw,
    peer: PeerId,
    in_use: Arc<InUse>,
}

impl Stream {
    fn new(raw: Raw, peer: PeerId, in_use: &Arc<InUse>) -> Self {
        in_use.change(peer, |count| count + 1);
        let in_use = in_use.clone();
        Self { raw, peer, in_use }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.in_use
            .change(self.peer, |count| count.saturating_sub(1));
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.raw).poll_read(cx, bytes)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.raw).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.raw).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.raw).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.raw).poll_close(cx)
    }
}

/// Streams that others open for one protocol.
pub(crate) type Incoming = mpsc::Receiver<(PeerId, Stream)>;

/// One stream to be opened.
#[derive(Debug)]
pub(crate) struct Opening {
    protocol: StreamProtocol,
    /// Taken when it is answered.
    answer: Option<oneshot::Sender<Result<Stream, OpenError>>>,
}

impl Opening {
    fn end(mut self, result: Result<Stream, OpenError>) {
        self.answer(result);
    }

    fn answer(&mut self, result: Result<Stream, OpenError>) {
        if let Some(answer) = self.answer.take() {
            // Whoever asked may have given up.
            let _ = answer.send(result);
        }
    }
}

impl Drop for Opening {
    /// Its connection has gone, and the opening with it.
    fn drop(&mut self) {
        self.answer(Err(OpenError::NotConnected));
    }
}

/// Who takes the streams of which protocol.
struct Takers {
    protocols: Vec<(StreamProtocol, mpsc::Sender<(PeerId, Stream)>)>,
    counters: Arc<Counters>,
    in_use: Arc<InUse>,
}

/// The behaviour.
pub(super) struct Streams {
    takers: Arc<Takers>,
    /// The connections with each peer and what they run over, oldest first.
    connections: HashMap<PeerId, Vec<(ConnectionId, Option<Transport>)>>,
    orders: VecDeque<(PeerId, ConnectionId, Opening)>,
    waker: Option<Waker>,
}

impl Streams {
    /// Takes streams of these protocols; returns where each protocol's come out.
    pub(super) fn new<const N: usize>(
        protocols: [StreamProtocol; N],
        counters: Arc<Counters>,
    ) -> (Self, [Incoming; N]) {
        let mut takers = Vec::with_capacity(N);
        let incoming = protocols.map(|protocol| {
            let (sender, receiver) = mpsc::channel(MAX_WAITING);
            takers.push((protocol, sender));
            receiver
        });
        let streams = Self {
            takers: Arc::new(Takers {
                protocols: takers,
                counters,
                in_use: Arc::default(),
            }),
            connections: HashMap::new(),
            orders: VecDeque::new(),
            waker: None,
        };
        (streams, incoming)
    }

    /// Opens a stream on a connection that stands: over TCP if there is one, for bulk data costs a third there.
    pub(super) fn open(
        &mut self,
        peer: PeerId,
        protocol: StreamProtocol,
        answer: oneshot::Sender<Result<Stream, OpenError>>,
    ) {
        let answer = Some(answer);
        let opening = Opening { protocol, answer };
        let Some(connection) = self.best_connection(&peer) else {
            return opening.end(Err(OpenError::NotConnected));
        };
        if self.orders.len() >= MAX_ORDERS {
            return opening.end(Err(OpenError::Busy));
        }
        self.orders.push_back((peer, connection, opening));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether there is any stream with this peer.
    pub(super) fn is_used(&self, peer: &PeerId) -> bool {
        self.takers.in_use.has(peer)
    }

    fn best_connection(&self, peer: &PeerId) -> Option<ConnectionId> {
        let all = self.connections.get(peer)?;
        let tcp = all.iter().find(|(_, over)| *over == Some(Transport::Tcp));
        tcp.or(all.first()).map(|(id, _)| *id)
    }

    fn handler(&mut self, id: ConnectionId, peer: PeerId, remote: &Multiaddr) -> Handler {
        let connections = self.connections.entry(peer).or_default();
        connections.push((id, addrs::transport(remote)));
        Handler {
            peer,
            takers: self.takers.clone(),
            waiting: VecDeque::new(),
            negotiating: 0,
            waker: None,
        }
    }

    fn over(&mut self, peer: &PeerId, id: ConnectionId) {
        if let Some(connections) = self.connections.get_mut(peer) {
            connections.retain(|(other, _)| *other != id);
            if connections.is_empty() {
                self.connections.remove(peer);
            }
        }
        self.orders.retain(|(_, connection, _)| *connection != id);
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(id, peer, remote))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(id, peer, remote))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionClosed(closed) => {
                self.over(&closed.peer_id, closed.connection_id);
            }
            // Another protocol may refuse a connection after this one was asked.
            FromSwarm::DialFailure(failed) => {
                if let Some(peer) = failed.peer_id {
                    self.over(&peer, failed.connection_id);
                }
            }
            FromSwarm::ListenFailure(failed) => {
                if let Some(peer) = failed.peer_id {
                    self.over(&peer, failed.connection_id);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, id, event)) = self.orders.pop_front() {
            return Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(id),
                event,
            });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// One connection's streams.
pub(super) struct Handler {
    peer: PeerId,
    takers: Arc<Takers>,
    waiting: VecDeque<Opening>,
    negotiating: usize,
    waker: Option<Waker>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Opening;
    type ToBehaviour = Infallible;
    type InboundProtocol = Speak;
    type OutboundProtocol = Speak;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opening;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        let names = self.takers.protocols.iter();
        let names = names.map(|(name, _)| name.clone()).collect();
        SubstreamProtocol::new(Speak(names), ())
    }

    fn connection_keep_alive(&self) -> bool {
        !self.waiting.is_empty() || self.negotiating > 0
    }

    fn on_behaviour_event(&mut self, opening: Self::FromBehaviour) {
        if self.waiting.len() + self.negotiating >= MAX_OPENING {
            return opening.end(Err(OpenError::Busy));
        }
        self.waiting.push_back(opening);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Opening, Self::ToBehaviour>> {
        if let Some(opening) = self.waiting.pop_front() {
            self.negotiating += 1;
            let speak = Speak(vec![opening.protocol.clone()]);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(speak, opening),
            });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), Opening>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, name),
                ..
            }) => self.taken(stream, &name),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _),
                info,
            }) => {
                self.negotiating -= 1;
                let in_use = &self.takers.in_use;
                info.end(Ok(Stream::new(stream, self.peer, in_use)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.negotiating -= 1;
                info.end(Err(match error {
                    StreamUpgradeError::Timeout => {
                        OpenError::Io(std::io::ErrorKind::TimedOut.into())
                    }
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    StreamUpgradeError::Io(error) => OpenError::Io(error),
                    StreamUpgradeError::Apply(never) => match never {},
                }));
            }
            _ => {}
        }
    }
}

impl Handler {
    /// Another peer has opened a stream.
    fn taken(&self, stream: Raw, name: &StreamProtocol) {
        let mut takers = self.takers.protocols.iter();
        let taker = takers.find(|(protocol, _)| protocol == name);
        let Some((_, taker)) = taker else { return };
        let stream = Stream::new(stream, self.peer, &self.takers.in_use);
        if taker.try_send((self.peer, stream)).is_err() {
            self.takers.counters.refused_streams.add(1);
            tracing::debug!(peer = %self.peer, %name, "nobody takes a stream: refused");
        }
    }
}

/// Settles which protocol a stream speaks, and does nothing more.
pub(super) struct Speak(Vec<StreamProtocol>);

impl UpgradeInfo for Speak {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Raw> for Speak {
    type Output = (Raw, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Raw, name: Self::Info) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

impl OutboundUpgrade<Raw> for Speak {
    type Output = (Raw, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, stream: Raw, name: Self::Info) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

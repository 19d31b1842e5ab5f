//! The place where simulated nodes find each other, and the transport of one node in it.
//!
//! Addresses are libp2p's `/memory/<n>`. Nothing is encrypted: a handshake costs the round trips and the
//! bytes of TCP and TLS 1.3, but who somebody is, is taken on trust.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use casnode_dht::{Multiaddr, PeerId, lab};
use futures::future::{BoxFuture, FutureExt};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::line::{End, Quality, Traffic, line};

/// What each side of a handshake sends: about the size of TLS 1.3's messages with libp2p's certificates.
const HELLO_BYTES: usize = 1_000;
/// How long who dials waits for a machine that does not answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that wait for a node to take them, as a listening socket has them; more are refused.
const MAX_ARRIVALS: usize = 1_024;

type Muxed = (PeerId, StreamMuxerBox);

struct Place {
    arrivals: mpsc::Sender<(u64, End)>,
    traffic: Arc<Traffic>,
}

/// Where the nodes of one simulation are.
#[derive(Clone)]
pub struct Air {
    pub quality: Quality,
    /// Whether dialling a machine that is gone takes [`DIAL_TIMEOUT`] instead of one round trip.
    pub gone_is_silent: bool,
    places: Arc<Mutex<HashMap<u64, Place>>>,
}

impl Air {
    pub fn new(quality: Quality, gone_is_silent: bool) -> Self {
        Self {
            quality,
            gone_is_silent,
            places: Arc::default(),
        }
    }

    fn places(&self) -> MutexGuard<'_, HashMap<u64, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transport of a node.
    pub fn transport(&self, me: PeerId, traffic: Arc<Traffic>) -> Boxed<Muxed> {
        Aerial {
            air: self.clone(),
            me,
            traffic,
            listeners: Vec::new(),
            events: VecDeque::new(),
        }
        .boxed()
    }

    async fn dial(self, me: PeerId, traffic: Arc<Traffic>, port: u64) -> io::Result<Muxed> {
        traffic.dialled();
        let rtt = self.quality.rtt;
        let before = self.quality.handshake_rtts.saturating_sub(1);
        if !rtt.is_zero() {
            sleep(rtt * before).await;
        }
        let end = {
            let places = self.places();
            places.get(&port).and_then(|place| {
                let (here, there) = line(self.quality, traffic, place.traffic.clone());
                place.arrivals.try_send((port, there)).ok().map(|()| here)
            })
        };
        let Some(end) = end else {
            let wait = if self.gone_is_silent {
                DIAL_TIMEOUT
            } else {
                rtt
            };
            sleep(wait).await;
            let kind = match self.gone_is_silent {
                true => io::ErrorKind::TimedOut,
                false => io::ErrorKind::ConnectionRefused,
            };
            return Err(kind.into());
        };
        greet(end, me, true).await
    }
}

/// Both sides say who they are.
async fn greet(mut end: End, me: PeerId, dialled: bool) -> io::Result<Muxed> {
    let mut hello = [0u8; HELLO_BYTES];
    let id = me.to_bytes();
    hello[0] = u8::try_from(id.len()).unwrap_or(0);
    hello[1..=id.len()].copy_from_slice(&id);
    if dialled {
        end.write_all(&hello).await?;
    }
    let mut theirs = [0u8; HELLO_BYTES];
    end.read_exact(&mut theirs).await?;
    if !dialled {
        end.write_all(&hello).await?;
    }
    let id = &theirs[1..=usize::from(theirs[0])];
    let peer = PeerId::from_bytes(id).map_err(io::Error::other)?;
    Ok((peer, lab::multiplexed(end, dialled)))
}

struct Listener {
    id: ListenerId,
    port: u64,
    arrivals: mpsc::Receiver<(u64, End)>,
}

/// The transport of one node.
struct Aerial {
    air: Air,
    me: PeerId,
    traffic: Arc<Traffic>,
    listeners: Vec<Listener>,
    events: VecDeque<TransportEvent<BoxFuture<'static, io::Result<Muxed>>, io::Error>>,
}

/// The number of an address.
pub fn port(addr: &Multiaddr) -> Option<u64> {
    match addr.iter().next()? {
        Protocol::Memory(port) => Some(port),
        _ => None,
    }
}

impl Transport for Aerial {
    type Output = Muxed;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Muxed>>;
    type Dial = BoxFuture<'static, io::Result<Muxed>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        let Some(port) = port(&addr) else {
            return Err(TransportError::MultiaddrNotSupported(addr));
        };
        let (sender, arrivals) = mpsc::channel(MAX_ARRIVALS);
        let place = Place {
            arrivals: sender,
            traffic: self.traffic.clone(),
        };
        if self.air.places().insert(port, place).is_some() {
            return Err(TransportError::Other(io::ErrorKind::AddrInUse.into()));
        }
        self.listeners.push(Listener { id, port, arrivals });
        self.events.push_back(TransportEvent::NewAddress {
            listener_id: id,
            listen_addr: addr,
        });
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let before = self.listeners.len();
        self.listeners.retain(|listener| {
            if listener.id == id {
                self.air.places().remove(&listener.port);
            }
            listener.id != id
        });
        self.listeners.len() < before
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(port) = port(&addr) else {
            return Err(TransportError::MultiaddrNotSupported(addr));
        };
        let air = self.air.clone();
        Ok(air.dial(self.me, self.traffic.clone(), port).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        let me = self.me;
        for listener in &mut self.listeners {
            if let Poll::Ready(Some((port, end))) = listener.arrivals.poll_recv(cx) {
                let local_addr = Multiaddr::empty().with(Protocol::Memory(port));
                let from = rand::random::<u64>() | 1 << 63;
                return Poll::Ready(TransportEvent::Incoming {
                    listener_id: listener.id,
                    upgrade: greet(end, me, false).boxed(),
                    local_addr,
                    send_back_addr: Multiaddr::empty().with(Protocol::Memory(from)),
                });
            }
        }
        Poll::Pending
    }
}

impl Drop for Aerial {
    fn drop(&mut self) {
        for listener in &self.listeners {
            self.air.places().remove(&listener.port);
        }
    }
}

//! TCP and QUIC, always encrypted.

mod cipher;
mod multiplex;
pub(super) mod named;
mod security;
mod tcp;
mod tls;
mod upgrade;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use hickory_resolver::config::NameServerConfig;
use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, PeerId, dns, quic};

pub use self::cipher::{Cipher, CipherPreference};
pub(crate) use self::multiplex::Multiplexed;
use self::named::only_named;
use self::security::Security;
pub(crate) use self::security::secured;
use self::upgrade::HANDSHAKE;
pub(crate) use self::upgrade::is_refusal;
use crate::bandwidth::Line;
use crate::config::DhtConfig;

/// How long QUIC waits when an address is dialled, so that TCP, if it works, comes first: it needs more
/// round trips to be established, but a third of the CPU time per byte afterwards.
const QUIC_DELAY: Duration = Duration::from_millis(150);

/// What one stream over QUIC may make this node buffer: 1 Gbit/s over 130 ms.
const QUIC_STREAM_BYTES: u32 = 16 << 20;
/// The same for a connection: a quarter of what one over TCP may.
const QUIC_CONNECTION_BYTES: u32 = 64 << 20;

type Muxed = (PeerId, StreamMuxerBox);
type Error = Box<dyn std::error::Error + Send + Sync>;

/// All transports of a node, with names (`/dns…`, `/dnsaddr`) resolved by the system's settings or where the
/// configuration says. One dial follows at most 32 answers and tries at most 16 addresses.
/// All that goes over them goes through the line.
pub(crate) fn build(config: &DhtConfig, line: &Arc<Line>) -> Result<Boxed<Muxed>, Error> {
    if let Some(server) = config.dns_server {
        let mut there = NameServerConfig::udp_and_tcp(server.ip());
        for connection in &mut there.connections {
            connection.port = server.port();
        }
        let resolver = dns::ResolverConfig::from_name_servers(vec![there]);
        let options = dns::ResolverOpts::default();
        let named = dns::tokio::Transport::custom(by_number(config, line)?, resolver, options);
        return Ok(named.boxed());
    }
    match dns::tokio::Transport::system(by_number(config, line)?) {
        Ok(named) => Ok(named.boxed()),
        Err(error) => {
            tracing::warn!(%error, "no name resolution: addresses with names will not work");
            by_number(config, line)
        }
    }
}

fn by_number(config: &DhtConfig, line: &Arc<Line>) -> Result<Boxed<Muxed>, Error> {
    let security = Security::new(&config.keypair, config.cipher)?;
    let tcp = tcp::transport(security, config.limits.connection_window_bytes);
    let tcp = TransportTimeout::new(tcp, HANDSHAKE);
    let (over_tcp, over_quic) = (line.clone(), line.clone());
    let tcp = tcp.map(move |(peer, muxer), point| {
        let cipher = muxer.cipher();
        let muxer = over_tcp.meter(peer, point.get_remote_address(), cipher, muxer);
        (peer, StreamMuxerBox::new(muxer))
    });
    let mut windows = quic::Config::new(&config.keypair);
    windows.max_stream_data = QUIC_STREAM_BYTES;
    windows.max_connection_data = QUIC_CONNECTION_BYTES;
    let quic = quic::tokio::Transport::new(windows);
    let quic = quic.map(move |(peer, muxer), point| {
        let cipher = Some(Cipher::Quic);
        let muxer = over_quic.meter(peer, point.get_remote_address(), cipher, muxer);
        (peer, StreamMuxerBox::new(muxer))
    });
    let either = Delayed(quic.boxed()).or_transport(tcp);
    let either = either.map(|either, _| either.into_inner());
    // Below the names: each address of a name is one of its own.
    let named = either.boxed().and_then(only_named);
    // The error alone, not which of the two it was: what is looked for in it would not be found there.
    let named = named.map_err(|error| error.into_inner());
    Ok(named.boxed())
}

/// A transport whose dials start late.
struct Delayed(Boxed<Muxed>);

impl Transport for Delayed {
    type Output = Muxed;
    type Error = io::Error;
    type ListenerUpgrade = <Boxed<Muxed> as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Muxed>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.0.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let dial = self.0.dial(addr, opts)?;
        Ok(async move {
            tokio::time::sleep(QUIC_DELAY).await;
            dial.await
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

//! TCP connections, from the dial to streams with a known peer.
//!
//! Where a dialler offers two ways to secure a connection, settling on one costs a round trip. Here it offers TLS alone, the name
//! and the first bytes of the handshake together, and dials once more where the other side has only Noise.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use libp2p::core::Transport;
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent};
use libp2p::{Multiaddr, PeerId, tcp};

use super::security::{Protocol, Security};
use super::upgrade::{UpgradeError, Upgraded, upgrade};

type Output = (PeerId, Upgraded<tcp::tokio::TcpStream>);

/// There is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
}

/// TCP, secured, with a window of `window_bytes` for all streams of a connection together.
pub(super) fn transport(
    security: Security,
    window_bytes: usize,
) -> impl Transport<Output = Output, Error = Error, Dial: Send, ListenerUpgrade: Send> + Send + Unpin
{
    let tls = offering(Protocol::Tls, security.clone(), window_bytes);
    let noise = move || offering(Protocol::Noise, security.clone(), window_bytes);
    OrElse { tls, noise }
}

/// A transport that offers this alone when it dials, and takes all there is from others.
fn offering(
    offered: Protocol,
    security: Security,
    window_bytes: usize,
) -> impl Transport<Output = Output, Error = Error, Dial: Send, ListenerUpgrade: Send> + Send + Unpin
{
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let upgraded = tcp.and_then(move |socket, point| {
        upgrade(socket, point, security, offered, window_bytes).boxed()
    });
    upgraded.map_err(|error| error.either(Error::Socket, Error::Upgrade))
}

/// Dials by TLS, and where that is refused by Noise.
struct OrElse<T, F> {
    tls: T,
    /// Makes a transport that listens nowhere, so that it can dial and nothing else.
    noise: F,
}

impl<T, F, N> Transport for OrElse<T, F>
where
    T: Transport<Output = Output, Error = Error, Dial: Send + 'static> + Unpin,
    N: Transport<Output = Output, Error = Error, Dial: Send + 'static>,
    F: Fn() -> N + Clone + Send + Unpin + 'static,
{
    type Output = Output;
    type Error = Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<Output, Error>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.tls.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.tls.remove_listener(id)
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let dial = self.tls.dial(addr.clone(), opts)?;
        let noise = self.noise.clone();
        Ok(async move {
            match dial.await {
                Err(Error::Upgrade(error)) if error.is_refusal() => {}
                outcome => return outcome,
            }
            tracing::debug!(%addr, "it has no TLS: dialled once more, with Noise");
            let port_use = PortUse::New;
            let dial = noise().dial(addr, DialOpts { port_use, ..opts });
            let dial = dial.map_err(|error| match error {
                TransportError::Other(error) => error,
                TransportError::MultiaddrNotSupported(_) => {
                    io::Error::from(io::ErrorKind::Unsupported).into()
                }
            });
            dial?.await
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.tls).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;
    use libp2p::core::Endpoint;
    use libp2p::core::upgrade::Version;
    use libp2p::identity::Keypair;
    use libp2p::{noise, tls, yamux};

    use super::super::cipher::{Cipher, CipherPreference};
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A listener of libp2p's own making, which takes connections on a task; where it is, and who.
    async fn shipped(with_tls: bool) -> (Multiaddr, PeerId) {
        let keypair = Keypair::generate_ed25519();
        let tcp = tcp::tokio::Transport::default().upgrade(Version::V1);
        let yamux = yamux::Config::default();
        let mut listener = match with_tls {
            true => {
                let tls = tls::Config::new(&keypair).unwrap();
                tcp.authenticate(tls).multiplex(yamux).boxed()
            }
            false => {
                let noise = noise::Config::new(&keypair).unwrap();
                tcp.authenticate(noise).multiplex(yamux).boxed()
            }
        };
        let any = "/ip4/127.0.0.1/tcp/0".parse().unwrap();
        listener.listen_on(ListenerId::next(), any).unwrap();
        let addr = match listener.select_next_some().await {
            TransportEvent::NewAddress { listen_addr, .. } => listen_addr,
            other => panic!("{other:?}"),
        };
        tokio::spawn(async move {
            loop {
                if let TransportEvent::Incoming { upgrade, .. } = listener.select_next_some().await
                {
                    tokio::spawn(upgrade);
                }
            }
        });
        (addr, keypair.public().to_peer_id())
    }

    #[tokio::test]
    async fn what_has_one_of_the_two_is_reached() {
        let security = Security::new(&Keypair::generate_ed25519(), CipherPreference::Aes).unwrap();
        let mut ours = transport(security, 0);
        let opts = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        for with_tls in [true, false] {
            let (addr, peer) = shipped(with_tls).await;
            let dial = ours.dial(addr, opts).unwrap();
            let (reached, muxer) = tokio::time::timeout(LONG, dial).await.unwrap().unwrap();
            assert_eq!(reached, peer);
            assert_eq!(muxer.cipher() == Some(Cipher::Noise), !with_tls);
        }
    }
}

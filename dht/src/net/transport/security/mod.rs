//! How TCP connections are secured: TLS 1.3 if the other side has it, else Noise.
//!
//! libp2p's TLS prefers ChaCha20, whose cost is most of the cost of bulk data. This one, which says the same
//! on the wire, prefers what the configuration does: see [`CipherPreference`]. It also never writes session
//! keys to `SSLKEYLOGFILE`.

mod certificate;

use std::io::{self, IoSlice};
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::Either;
use futures::io::{AsyncRead, AsyncWrite};
use libp2p::core::Endpoint;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::identity::Keypair;
use libp2p::{PeerId, noise, tls};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, CommonState, ServerConfig};

use self::certificate::PeerCertificate;
use super::cipher::{Cipher, CipherPreference};
use super::tls::{self as records, Cork, Tls};

/// The application protocol TLS names: none is negotiated early.
const ALPN: &[u8] = b"libp2p";

/// A connection could not be secured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum SecurityError {
    #[error("certificate could not be made")]
    Generate(#[from] tls::certificate::GenError),
    #[error("the other side's certificate is not one of libp2p")]
    Certificate(#[from] tls::certificate::ParseError),
    #[error("TLS configuration")]
    Config(#[from] rustls::Error),
    #[error("TLS handshake")]
    Tls(#[source] std::io::Error),
    #[error("the other side showed no certificate")]
    NoCertificate,
    #[error("Noise handshake")]
    Noise(#[from] noise::Error),
}

impl SecurityError {
    /// The connection's own error, where it was that.
    pub(super) fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Tls(error) | Self::Noise(noise::Error::Io(error)) => Some(error),
            _ => None,
        }
    }
}

/// A connection that is secured, and what with.
pub(crate) struct Secured<C> {
    stream: Either<Tls<C>, noise::Output<C>>,
    cipher: Cipher,
    cork: Arc<Cork>,
}

impl<C> Secured<C> {
    fn tls(stream: Tls<C>, cipher: Cipher) -> Self {
        Self {
            cork: stream.cork(),
            stream: Either::Left(stream),
            cipher,
        }
    }

    fn noise(stream: noise::Output<C>) -> Self {
        Self {
            stream: Either::Right(stream),
            cipher: Cipher::Noise,
            cork: Arc::default(),
        }
    }

    /// What holds its flushes back, where something can.
    pub(super) fn cork(&self) -> Arc<Cork> {
        self.cork.clone()
    }

    pub(super) fn cipher(&self) -> Cipher {
        self.cipher
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secured<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, bytes)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secured<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// Secures connections.
#[derive(Clone)]
pub(super) struct Security {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    noise: noise::Config,
}

/// What the two sides may agree on, in the order of preference of the one that dials.
#[derive(Clone, Copy, Debug)]
pub(super) enum Protocol {
    Tls,
    Noise,
}

impl Protocol {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::Tls, Self::Noise];

    fn name(self) -> &'static str {
        match self {
            Self::Tls => "/tls/1.0.0",
            Self::Noise => "/noise",
        }
    }
}

impl AsRef<str> for Protocol {
    fn as_ref(&self) -> &str {
        self.name()
    }
}

impl Security {
    pub(super) fn new(keypair: &Keypair, cipher: CipherPreference) -> Result<Self, SecurityError> {
        Ok(Self {
            client: Arc::new(client_config(keypair, cipher)?),
            server: Arc::new(server_config(keypair, cipher)?),
            noise: noise::Config::new(keypair)?,
        })
    }

    /// Secures a connection with what was agreed on, as the side of it that this one is; returns who is at the other end.
    pub(super) async fn secure<C>(
        self,
        socket: C,
        protocol: Protocol,
        side: Endpoint,
    ) -> Result<(PeerId, Secured<C>), SecurityError>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        match protocol {
            Protocol::Tls => {
                let shaken = match side {
                    Endpoint::Dialer => {
                        // An IP address keeps the server name out of the handshake, as libp2p wants.
                        let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
                        records::connect(self.client, name, socket, seen).await
                    }
                    Endpoint::Listener => records::accept(self.server, socket, seen).await,
                };
                let (stream, seen) = shaken.map_err(SecurityError::Tls)?;
                let (peer, cipher) = seen?;
                Ok((peer, Secured::tls(stream, cipher)))
            }
            Protocol::Noise => {
                let name = protocol.name();
                let (peer, stream) = match side {
                    Endpoint::Dialer => self.noise.upgrade_outbound(socket, name).await?,
                    Endpoint::Listener => self.noise.upgrade_inbound(socket, name).await?,
                };
                Ok((peer, Secured::noise(stream)))
            }
        }
    }
}

// libp2p's own configurations are made for their certificates, which cannot be had otherwise.

pub(super) fn client_config(
    keypair: &Keypair,
    cipher: CipherPreference,
) -> Result<ClientConfig, SecurityError> {
    let theirs = tls::make_client_config(keypair, None)?;
    let mut config = ClientConfig::builder_with_provider(provider(cipher))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PeerCertificate))
        .with_client_cert_resolver(theirs.client_auth_cert_resolver);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_secret_extraction = true; // see `tls`
    // Tickets are not kept: all servers have the same name, so they would mostly be another's.
    config.resumption = Resumption::disabled();
    Ok(config)
}

pub(super) fn server_config(
    keypair: &Keypair,
    cipher: CipherPreference,
) -> Result<ServerConfig, SecurityError> {
    let theirs = tls::make_server_config(keypair)?;
    let mut config = ServerConfig::builder_with_provider(provider(cipher))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(PeerCertificate))
        .with_cert_resolver(theirs.cert_resolver);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.ignore_client_order = cipher.insists();
    config.enable_secret_extraction = true; // see `tls`
    Ok(config)
}

fn provider(cipher: CipherPreference) -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    provider.cipher_suites = cipher.suites();
    Arc::new(provider)
}

/// Who is at the other end, by its certificate, which the handshake has verified; and the cipher that was agreed on.
fn seen(state: &CommonState) -> Result<(PeerId, Cipher), SecurityError> {
    let certificates = state.peer_certificates().unwrap_or_default();
    let [certificate] = certificates else {
        return Err(SecurityError::NoCertificate);
    };
    let peer = tls::certificate::parse(certificate)?.peer_id();
    Ok((peer, Cipher::of_tls(state.negotiated_cipher_suite())))
}

/// One side of a connection, encrypted by one protocol or the other: for benchmarks.
pub(crate) async fn secured<C>(
    socket: C,
    keypair: &Keypair,
    cipher: CipherPreference,
    noise: bool,
    dialled: bool,
) -> io::Result<Secured<C>>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let protocol = if noise {
        Protocol::Noise
    } else {
        Protocol::Tls
    };
    let security = Security::new(keypair, cipher).map_err(io::Error::other)?;
    let side = match dialled {
        true => Endpoint::Dialer,
        false => Endpoint::Listener,
    };
    let secured = security.secure(socket, protocol, side).await;
    Ok(secured.map_err(io::Error::other)?.1)
}

#[cfg(test)]
mod tests {
    use super::super::cipher::has_aes;
    use super::*;
    use tokio_util::compat::TokioAsyncReadCompatExt;

    use CipherPreference::{Aes, Auto, ChaCha20};

    fn side(keypair: &Keypair, cipher: CipherPreference) -> Security {
        Security::new(keypair, cipher).unwrap()
    }

    /// A handshake between two sides in memory; returns who each says the other is, and the cipher, on which both agree.
    async fn shake(
        dialer: Security,
        listener: Security,
        protocol: Protocol,
    ) -> (PeerId, PeerId, Cipher) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (out, inn) = tokio::join!(
            dialer.secure(near.compat(), protocol, Endpoint::Dialer),
            listener.secure(far.compat(), protocol, Endpoint::Listener),
        );
        let ((far_peer, near), (near_peer, far)) = (out.unwrap(), inn.unwrap());
        assert_eq!(near.cipher(), far.cipher());
        (far_peer, near_peer, near.cipher())
    }

    #[tokio::test]
    async fn both_sides_know_each_other_and_the_cipher_is_the_one_that_is_preferred() {
        let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let ids = (b.public().to_peer_id(), a.public().to_peer_id());
        let fast = match has_aes() {
            true => Cipher::TlsAes128,
            false => Cipher::TlsChaCha20,
        };
        for (dialer, listener, expected) in [
            (Auto, Auto, fast),
            (Aes, Auto, Cipher::TlsAes128),
            (ChaCha20, Auto, Cipher::TlsChaCha20),
            (Auto, Aes, Cipher::TlsAes128),
            (Auto, ChaCha20, Cipher::TlsChaCha20),
            (Aes, ChaCha20, Cipher::TlsChaCha20),
            (ChaCha20, Aes, Cipher::TlsAes128),
        ] {
            let (near, far) = (side(&a, dialer), side(&b, listener));
            let (far_peer, near_peer, cipher) = shake(near, far, Protocol::Tls).await;
            assert_eq!((far_peer, near_peer), ids);
            assert_eq!(cipher, expected, "{dialer:?} to {listener:?}");
        }
        let (near, far) = (side(&a, Auto), side(&b, Auto));
        let (far_peer, near_peer, cipher) = shake(near, far, Protocol::Noise).await;
        assert_eq!((far_peer, near_peer), ids);
        assert_eq!(cipher, Cipher::Noise);
    }

    #[tokio::test]
    async fn it_talks_to_libp2p_as_shipped() {
        let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (near, far) = tokio::io::duplex(1 << 16);
        let shipped = tls::Config::new(&b).unwrap();
        let ours = side(&a, Auto);
        let (out, inn) = tokio::join!(
            ours.clone()
                .secure(near.compat(), Protocol::Tls, Endpoint::Dialer),
            shipped.clone().upgrade_inbound(far.compat(), "/tls/1.0.0"),
        );
        assert_eq!(out.unwrap().0, b.public().to_peer_id());
        assert_eq!(inn.unwrap().0, a.public().to_peer_id());
        let (near, far) = tokio::io::duplex(1 << 16);
        let (out, inn) = tokio::join!(
            shipped.upgrade_outbound(near.compat(), "/tls/1.0.0"),
            ours.secure(far.compat(), Protocol::Tls, Endpoint::Listener),
        );
        assert_eq!(out.unwrap().0, a.public().to_peer_id());
        assert_eq!(inn.unwrap().0, b.public().to_peer_id());
    }
}

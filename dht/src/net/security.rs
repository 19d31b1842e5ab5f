//! How TCP connections are secured: TLS 1.3 if the other side has it, else Noise.
//!
//! libp2p's TLS prefers ChaCha20, whose cost is most of the cost of bulk data. Where the processor has
//! AES instructions this one, which says the same on the wire, prefers AES-GCM: servers follow the
//! order of the side that dials. It also never writes session keys to `SSLKEYLOGFILE`.

use std::net::Ipv4Addr;
use std::sync::Arc;

use futures::future::{BoxFuture, Either, FutureExt};
use futures::io::{AsyncRead, AsyncWrite};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p::identity::Keypair;
use libp2p::tls::certificate;
use libp2p::{PeerId, noise, tls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, NoKeyLog, ServerConfig,
    SignatureScheme, SupportedCipherSuite,
};

/// The application protocol TLS names: none is negotiated early.
const ALPN: &[u8] = b"libp2p";

/// A connection could not be secured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum SecurityError {
    #[error("certificate could not be made")]
    Generate(#[from] certificate::GenError),
    #[error("the other side's certificate is not one of libp2p")]
    Certificate(#[from] certificate::ParseError),
    #[error("TLS configuration")]
    Config(#[from] rustls::Error),
    #[error("TLS handshake")]
    Tls(#[source] std::io::Error),
    #[error("the other side showed no certificate")]
    NoCertificate,
    #[error("Noise handshake")]
    Noise(#[from] noise::Error),
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

impl AsRef<str> for Protocol {
    fn as_ref(&self) -> &str {
        match self {
            Self::Tls => "/tls/1.0.0",
            Self::Noise => "/noise",
        }
    }
}

impl Security {
    pub(super) fn new(keypair: &Keypair) -> Result<Self, SecurityError> {
        let mut server = tls::make_server_config(keypair)?;
        server.key_log = Arc::new(NoKeyLog);
        Ok(Self {
            client: Arc::new(client_config(keypair)?),
            server: Arc::new(server),
            noise: noise::Config::new(keypair)?,
        })
    }
}

fn client_config(keypair: &Keypair) -> Result<ClientConfig, SecurityError> {
    // Theirs is made for its certificate, which cannot be had otherwise.
    let theirs = tls::make_client_config(keypair, None)?;
    let mut provider = default_provider();
    provider.cipher_suites = cipher_suites(has_aes()).to_vec();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PeerCertificate))
        .with_client_cert_resolver(theirs.client_auth_cert_resolver);
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn cipher_suites(aes: bool) -> [SupportedCipherSuite; 3] {
    let aes_128 = cipher_suite::TLS13_AES_128_GCM_SHA256;
    let aes_256 = cipher_suite::TLS13_AES_256_GCM_SHA384;
    let chacha = cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    match aes {
        true => [aes_128, aes_256, chacha],
        false => [chacha, aes_128, aes_256],
    }
}

/// Whether the processor computes AES by itself.
fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    return std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[allow(
        unreachable_code,
        reason = "where neither is compiled in, this is the answer"
    )]
    false
}

/// Accepts what libp2p prescribes: one self-signed certificate that carries the peer's key and its
/// signature. Which peer it is, is checked by whoever wanted a certain one.
#[derive(Debug)]
struct PeerCertificate;

impl PeerCertificate {
    fn refused(_: impl std::error::Error) -> rustls::Error {
        rustls::Error::InvalidCertificate(CertificateError::BadEncoding)
    }
}

impl ServerCertVerifier for PeerCertificate {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !others.is_empty() {
            return Err(rustls::Error::General("more than one certificate".into()));
        }
        certificate::parse(certificate).map_err(Self::refused)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let certificate = certificate::parse(certificate).map_err(Self::refused)?;
        certificate
            .verify_signature(signed.scheme, message, signed.signature())
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadSignature))?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ED25519,
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
        ]
    }
}

/// Who is at the other end, by its certificate, which the handshake has verified.
fn peer_of(state: &CommonState) -> Result<PeerId, SecurityError> {
    let certificates = state.peer_certificates().unwrap_or_default();
    let [certificate] = certificates else {
        return Err(SecurityError::NoCertificate);
    };
    Ok(certificate::parse(certificate)?.peer_id())
}

impl UpgradeInfo for Security {
    type Info = Protocol;
    type InfoIter = [Protocol; 2];

    fn protocol_info(&self) -> Self::InfoIter {
        [Protocol::Tls, Protocol::Noise]
    }
}

impl<C> InboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Either<TlsStream<C>, noise::Output<C>>);
    type Error = SecurityError;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, protocol: Protocol) -> Self::Future {
        async move {
            match protocol {
                Protocol::Tls => {
                    let accepted = TlsAcceptor::from(self.server).accept(socket).await;
                    let stream = accepted.map_err(SecurityError::Tls)?;
                    let peer = peer_of(stream.get_ref().1)?;
                    Ok((peer, Either::Left(stream.into())))
                }
                Protocol::Noise => {
                    let upgraded = self.noise.upgrade_inbound(socket, Protocol::Noise.name());
                    let (peer, stream) = upgraded.await?;
                    Ok((peer, Either::Right(stream)))
                }
            }
        }
        .boxed()
    }
}

impl<C> OutboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Either<TlsStream<C>, noise::Output<C>>);
    type Error = SecurityError;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: C, protocol: Protocol) -> Self::Future {
        async move {
            match protocol {
                Protocol::Tls => {
                    // An IP address keeps the server name out of the handshake, as libp2p wants.
                    let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
                    let connected = TlsConnector::from(self.client).connect(name, socket).await;
                    let stream = connected.map_err(SecurityError::Tls)?;
                    let peer = peer_of(stream.get_ref().1)?;
                    Ok((peer, Either::Left(stream.into())))
                }
                Protocol::Noise => {
                    let upgraded = self.noise.upgrade_outbound(socket, Protocol::Noise.name());
                    let (peer, stream) = upgraded.await?;
                    Ok((peer, Either::Right(stream)))
                }
            }
        }
        .boxed()
    }
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Tls => "/tls/1.0.0",
            Self::Noise => "/noise",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::compat::TokioAsyncReadCompatExt;

    type Side = Security;

    /// A handshake between two sides in memory; returns who each says the other is, and the cipher.
    async fn shake(dialer: Side, listener: Side, protocol: Protocol) -> (PeerId, PeerId, String) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (out, inn) = tokio::join!(
            dialer.upgrade_outbound(near.compat(), protocol),
            listener.upgrade_inbound(far.compat(), protocol),
        );
        let ((far_peer, stream), (near_peer, _)) = (out.unwrap(), inn.unwrap());
        let cipher = match &stream {
            Either::Left(stream) => {
                format!(
                    "{:?}",
                    stream
                        .get_ref()
                        .1
                        .negotiated_cipher_suite()
                        .unwrap()
                        .suite()
                )
            }
            Either::Right(_) => "Noise".into(),
        };
        (far_peer, near_peer, cipher)
    }

    #[tokio::test]
    async fn both_sides_know_each_other_and_aes_is_used_where_it_is_fast() {
        let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let sides = || (Security::new(&a).unwrap(), Security::new(&b).unwrap());
        let ids = (b.public().to_peer_id(), a.public().to_peer_id());
        let (near, far) = sides();
        let (far_peer, near_peer, cipher) = shake(near, far, Protocol::Tls).await;
        assert_eq!((far_peer, near_peer), ids);
        assert_eq!(cipher.contains("AES_128_GCM"), has_aes());
        let (near, far) = sides();
        let (far_peer, near_peer, cipher) = shake(near, far, Protocol::Noise).await;
        assert_eq!((far_peer, near_peer), ids);
        assert_eq!(cipher, "Noise");
    }

    #[tokio::test]
    async fn it_talks_to_libp2p_as_shipped() {
        let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (near, far) = tokio::io::duplex(1 << 16);
        let shipped = tls::Config::new(&b).unwrap();
        let ours = Security::new(&a).unwrap();
        let (out, inn) = tokio::join!(
            ours.clone().upgrade_outbound(near.compat(), Protocol::Tls),
            shipped.clone().upgrade_inbound(far.compat(), "/tls/1.0.0"),
        );
        assert_eq!(out.unwrap().0, b.public().to_peer_id());
        assert_eq!(inn.unwrap().0, a.public().to_peer_id());
        let (near, far) = tokio::io::duplex(1 << 16);
        let (out, inn) = tokio::join!(
            shipped.upgrade_outbound(near.compat(), "/tls/1.0.0"),
            ours.upgrade_inbound(far.compat(), Protocol::Tls),
        );
        assert_eq!(out.unwrap().0, a.public().to_peer_id());
        assert_eq!(inn.unwrap().0, b.public().to_peer_id());
    }
}

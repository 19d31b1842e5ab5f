//! Which cipher connections are encrypted with: what is wanted, and what was agreed.

use std::fmt;

use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::{CipherSuite, SupportedCipherSuite};

/// Which cipher this node wants for its TCP connections. It is a preference: whoever has only another one can still be
/// talked to, over QUIC libp2p decides, and between two nodes that insist on different ones the one that was dialled does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CipherPreference {
    /// AES where the processor computes it by itself, else ChaCha20. Whoever dials decides.
    #[default]
    Auto,
    /// AES, whatever the processor.
    Aes,
    /// ChaCha20, whatever the processor.
    ChaCha20,
}

impl CipherPreference {
    /// TLS's cipher suites, the best first.
    pub(super) fn suites(self) -> Vec<SupportedCipherSuite> {
        let aes_128 = cipher_suite::TLS13_AES_128_GCM_SHA256;
        let aes_256 = cipher_suite::TLS13_AES_256_GCM_SHA384;
        let chacha = cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
        let aes_first = match self {
            Self::Auto => has_aes(),
            Self::Aes => true,
            Self::ChaCha20 => false,
        };
        match aes_first {
            true => vec![aes_128, aes_256, chacha],
            false => vec![chacha, aes_128, aes_256],
        }
    }

    /// Whether the order is kept even if the side that dials has another.
    pub(super) fn insists(self) -> bool {
        self != Self::Auto
    }
}

/// Whether the processor computes AES by itself.
pub(super) fn has_aes() -> bool {
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

/// What a connection is encrypted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cipher {
    /// TLS 1.3 with AES-128-GCM.
    TlsAes128,
    /// TLS 1.3 with AES-256-GCM.
    TlsAes256,
    /// TLS 1.3 with ChaCha20-Poly1305.
    TlsChaCha20,
    /// TLS 1.3 with a cipher that has no name here.
    TlsOther,
    /// Noise, for peers without TLS. libp2p's always has ChaCha20-Poly1305.
    Noise,
    /// QUIC's own TLS 1.3; libp2p does not say with which cipher.
    Quic,
}

impl Cipher {
    /// What TLS has agreed on.
    pub(super) fn of_tls(suite: Option<SupportedCipherSuite>) -> Self {
        match suite.map(|suite| suite.suite()) {
            Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => Self::TlsAes128,
            Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => Self::TlsAes256,
            Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => Self::TlsChaCha20,
            _ => Self::TlsOther,
        }
    }

    /// Its name, for people and programs: `tls13-aes-128-gcm` and the like.
    pub fn name(self) -> &'static str {
        match self {
            Self::TlsAes128 => "tls13-aes-128-gcm",
            Self::TlsAes256 => "tls13-aes-256-gcm",
            Self::TlsChaCha20 => "tls13-chacha20-poly1305",
            Self::TlsOther => "tls13",
            Self::Noise => "noise-chacha20-poly1305",
            Self::Quic => "quic-tls13",
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

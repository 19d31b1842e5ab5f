//! The signed envelope of a value record: who published it, and when.
//!
//! Without it, whoever holds a value could keep it alive for ever, and nobody could tell whose it is. The
//! value itself is checked by the content layer; here it is opaque.
//!
//! ```text
//! version u8 | publisher [32] | published at u64 LE | signature [64] | value
//! ```

use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};

use crate::Key;

/// What an envelope may add to the largest value, in bytes: room for other kinds of keys some day.
pub(crate) const MAX_OVERHEAD_BYTES: usize = 256;
/// How long after its publication a value is good.
pub(crate) const MAX_AGE_SECS: u32 = 48 * 3600;
/// How far ahead a publication may lie: clocks differ.
const MAX_AHEAD_SECS: u32 = 3600;

/// The version byte.
const VERSION: u8 = 1;
/// What is signed begins with this, so that the signature is good for nothing else.
const DOMAIN: &[u8] = b"casnode value record 1\0";

const PUBLISHER_AT: usize = 1;
const PUBLISHED_AT: usize = PUBLISHER_AT + 32;
const SIGNATURE_AT: usize = PUBLISHED_AT + 8;
/// Where the value begins.
const VALUE_AT: usize = SIGNATURE_AT + 64;

/// Why an envelope is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum EnvelopeError {
    #[error("{0} bytes are too many")]
    TooLong(usize),
    #[error("shorter than an envelope")]
    TooShort,
    #[error("unknown version {0}")]
    Version(u8),
    #[error("published too long ago")]
    Stale,
    #[error("published in the future")]
    Ahead,
    #[error("no public key")]
    Publisher,
    #[error("the signature does not fit")]
    Signature,
}

/// What an envelope says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Published<'a> {
    /// The public key of whoever signed it.
    key: &'a [u8; 32],
    /// When, in Unix seconds.
    pub(crate) published_at: u32,
    /// The value.
    pub(crate) value: &'a [u8],
}

impl Published<'_> {
    /// Who signed it; `None` when that is no key. To find that out takes as long as ten other envelopes.
    pub(crate) fn publisher(&self) -> Option<PeerId> {
        let key = ed25519::PublicKey::try_from_bytes(self.key).ok()?;
        Some(PublicKey::from(key).to_peer_id())
    }

    /// Until when the value is good, in Unix seconds.
    pub(crate) fn expires(&self) -> u32 {
        self.published_at.saturating_add(MAX_AGE_SECS)
    }
}

/// The envelope of a value that is kept and was not sent yet, without a signature: it is so old that whoever sends it seals
/// it anew. `None` as for [`seal`].
pub(crate) fn unsigned(keypair: &Keypair, value: &[u8]) -> Option<Vec<u8>> {
    let publisher = keypair.public().try_into_ed25519().ok()?;
    Some(assemble(
        &publisher,
        [0; 8],
        &[0; VALUE_AT - SIGNATURE_AT],
        value,
    ))
}

/// Puts a value into an envelope; `None` when the key is not of Ed25519, as all keys of nodes are.
pub(crate) fn seal(keypair: &Keypair, key: &Key, value: &[u8], now: u32) -> Option<Vec<u8>> {
    let publisher = keypair.public().try_into_ed25519().ok()?;
    let published_at = u64::from(now).to_le_bytes();
    let signature = keypair.sign(&message(key, published_at, value)).ok()?;
    Some(assemble(&publisher, published_at, &signature, value))
}

fn assemble(
    publisher: &ed25519::PublicKey,
    published_at: [u8; 8],
    signature: &[u8],
    value: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(VALUE_AT + value.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&publisher.to_bytes());
    bytes.extend_from_slice(&published_at);
    bytes.extend_from_slice(signature);
    bytes.extend_from_slice(value);
    bytes
}

/// Opens an envelope that came from another node: size first, then shape, then time, then the signature.
pub(crate) fn open<'a>(
    key: &Key,
    bytes: &'a [u8],
    now: u32,
    max_value_bytes: usize,
) -> Result<Published<'a>, EnvelopeError> {
    if bytes.len() > VALUE_AT.saturating_add(max_value_bytes) {
        return Err(EnvelopeError::TooLong(bytes.len()));
    }
    let published = read(bytes)?;
    if published.expires() <= now {
        return Err(EnvelopeError::Stale);
    }
    if published.published_at > now.saturating_add(MAX_AHEAD_SECS) {
        return Err(EnvelopeError::Ahead);
    }
    let publisher = ed25519::PublicKey::try_from_bytes(published.key);
    let publisher = publisher.map_err(|_| EnvelopeError::Publisher)?;
    let time = u64::from(published.published_at).to_le_bytes();
    let signature = bytes.get(SIGNATURE_AT..VALUE_AT).unwrap_or_default();
    match publisher.verify(&message(key, time, published.value), signature) {
        true => Ok(published),
        false => Err(EnvelopeError::Signature),
    }
}

/// Reads an envelope that has been opened before.
pub(crate) fn read(bytes: &[u8]) -> Result<Published<'_>, EnvelopeError> {
    match bytes.first() {
        Some(&VERSION) => {}
        Some(&version) => return Err(EnvelopeError::Version(version)),
        None => return Err(EnvelopeError::TooShort),
    }
    let (header, value) = bytes
        .split_first_chunk::<VALUE_AT>()
        .ok_or(EnvelopeError::TooShort)?;
    let key = header[PUBLISHER_AT..PUBLISHED_AT].try_into();
    let time = header[PUBLISHED_AT..SIGNATURE_AT].try_into();
    let time = time.map_or(u64::MAX, u64::from_le_bytes);
    let published_at = u32::try_from(time).map_err(|_| EnvelopeError::Ahead)?;
    Ok(Published {
        key: key.map_err(|_| EnvelopeError::Publisher)?,
        published_at,
        value,
    })
}

/// Whether two envelopes name one publisher.
pub(crate) fn same_publisher(a: &[u8], b: &[u8]) -> bool {
    let publisher = PUBLISHER_AT..PUBLISHED_AT;
    a.get(publisher.clone()) == b.get(publisher)
}

fn message(key: &Key, published_at: [u8; 8], value: &[u8]) -> Vec<u8> {
    [DOMAIN, key, &published_at, value].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 2_000_000_000;
    const KEY: Key = [5; 32];
    const MAX: usize = 8192;

    fn keypair(n: u8) -> Keypair {
        Keypair::ed25519_from_bytes([n; 32]).unwrap()
    }

    fn sealed() -> Vec<u8> {
        seal(&keypair(1), &KEY, b"value", NOW).unwrap()
    }

    #[test]
    fn what_is_sealed_opens() {
        let bytes = sealed();
        let published = open(&KEY, &bytes, NOW, MAX).unwrap();
        let publisher = keypair(1).public().to_peer_id();
        assert_eq!(published.publisher(), Some(publisher));
        assert_eq!(
            (published.published_at, published.value),
            (NOW, &b"value"[..])
        );
        assert!(bytes.len() - 5 <= MAX_OVERHEAD_BYTES);
        let empty = seal(&keypair(1), &KEY, b"", NOW).unwrap();
        assert_eq!(open(&KEY, &empty, NOW, 0).unwrap().value, b"");
    }

    #[test]
    fn the_bytes_are_pinned() {
        let bytes = sealed();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, PINNED);
    }

    /// The key of 32 bytes of 1, the record key of 32 bytes of 5, at 2,000,000,000, "value".
    const PINNED: &str = "\
        018a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c0094357700000000\
        dc3db78be6dd85da9e9413f8ae337308ad632d5bfa55bcd50951dec5c37b39552a2694bac4f5d4f4ba\
        48a1646c7900ddb11516ac069d91d78a64caf27d9a660576616c7565";

    #[test]
    fn no_byte_can_be_changed() {
        let bytes = sealed();
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            assert!(open(&KEY, &forged, NOW, MAX).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_forged_signature_and_another_key_are_refused() {
        let mut forged = sealed();
        forged[SIGNATURE_AT..VALUE_AT].fill(0);
        let refused = Err(EnvelopeError::Signature);
        assert_eq!(open(&KEY, &forged, NOW, MAX), refused);
        assert_eq!(open(&[6; 32], &sealed(), NOW, MAX), refused);
        // Another's name on one's own work.
        let mut claimed = sealed();
        let other = keypair(2).public().try_into_ed25519().unwrap().to_bytes();
        claimed[PUBLISHER_AT..PUBLISHED_AT].copy_from_slice(&other);
        assert_eq!(open(&KEY, &claimed, NOW, MAX), refused);
    }

    #[test]
    fn a_value_is_good_for_48_hours_and_may_be_an_hour_ahead() {
        let at = |now| open(&KEY, &sealed(), now, MAX).map(|found| found.published_at);
        assert_eq!(at(NOW + MAX_AGE_SECS - 1), Ok(NOW));
        assert_eq!(at(NOW + MAX_AGE_SECS), Err(EnvelopeError::Stale));
        assert_eq!(at(NOW - 3600), Ok(NOW));
        assert_eq!(at(NOW - 3601), Err(EnvelopeError::Ahead));
        let mut never = sealed();
        never[PUBLISHED_AT..SIGNATURE_AT].fill(0xff);
        assert_eq!(open(&KEY, &never, NOW, MAX), Err(EnvelopeError::Ahead));
    }

    #[test]
    fn size_and_shape_come_first() {
        let bytes = sealed();
        for len in 0..VALUE_AT {
            let cut = open(&KEY, &bytes[..len], NOW, MAX);
            assert_eq!(cut, Err(EnvelopeError::TooShort), "{len} bytes");
        }
        let long = EnvelopeError::TooLong(bytes.len());
        assert_eq!(open(&KEY, &bytes, NOW, 4), Err(long));
        assert!(open(&KEY, &bytes, NOW, 5).is_ok());
        assert_eq!(
            open(&KEY, &[9; 200], NOW, MAX),
            Err(EnvelopeError::Version(9))
        );
    }
}

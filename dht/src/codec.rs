//! The one place that names `bincode`.
//!
//! Every encoding has a version byte in front, a size limit, no trailing bytes, and one form only:
//! integers have a fixed width, little endian, so that a value cannot be written in two ways.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
pub(crate) use bincode::{BorrowDecode, Decode, Encode};

/// The version byte of everything this crate encodes today.
pub(crate) const VERSION: u8 = 1;

/// The largest body this module reads or writes, in bytes: a one-MiB manifest part and its header,
/// the largest body there is beside raw chunk bytes.
pub(crate) const MAX_ENCODED_BYTES: usize = (1 << 20) + 64;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_ENCODED_BYTES>> =
    bincode::config::standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit::<MAX_ENCODED_BYTES>();

/// Bytes that are not an encoding of what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Nothing there, not even a version byte.
    #[error("no bytes")]
    Empty,
    /// Longer than anything valid.
    #[error("{0} bytes are too many")]
    TooLong(usize),
    /// Written by a newer version of the format.
    #[error("unknown version {0}")]
    Version(u8),
    /// The bytes do not have the shape.
    #[error("malformed")]
    Malformed(#[source] bincode::error::DecodeError),
    /// The value cannot be encoded.
    #[error("cannot be encoded")]
    Unencodable(#[source] bincode::error::EncodeError),
    /// More bytes than the value needs.
    #[error("{0} bytes left over")]
    Trailing(usize),
}

/// Encodes `value` behind the version byte.
pub(crate) fn encode<T: Encode>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![VERSION];
    bincode::encode_into_std_write(value, &mut bytes, CONFIG).map_err(CodecError::Unencodable)?;
    Ok(bytes)
}

/// Decodes a value that owns its parts.
pub(crate) fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let body = body(bytes)?;
    let (value, used) = bincode::decode_from_slice(body, CONFIG).map_err(CodecError::Malformed)?;
    all_used(value, used, body)
}

/// Decodes a value that borrows byte strings from `bytes`.
pub(crate) fn decode_borrowed<'a, T: BorrowDecode<'a, ()>>(
    bytes: &'a [u8],
) -> Result<T, CodecError> {
    let body = body(bytes)?;
    let (value, used) =
        bincode::borrow_decode_from_slice(body, CONFIG).map_err(CodecError::Malformed)?;
    all_used(value, used, body)
}

fn body(bytes: &[u8]) -> Result<&[u8], CodecError> {
    if bytes.len() > MAX_ENCODED_BYTES {
        return Err(CodecError::TooLong(bytes.len()));
    }
    match bytes.split_first() {
        None => Err(CodecError::Empty),
        Some((&VERSION, body)) => Ok(body),
        Some((&version, _)) => Err(CodecError::Version(version)),
    }
}

fn all_used<T>(value: T, used: usize, body: &[u8]) -> Result<T, CodecError> {
    match body.len() - used {
        0 => Ok(value),
        left => Err(CodecError::Trailing(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Sample = (u32, Vec<[u8; 32]>, Option<u64>);

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() { *first = VERSION; }
            if let Ok(value) = decode::<Sample>(&bytes) {
                prop_assert_eq!(encode(&value).unwrap(), bytes);
            }
        }

        #[test]
        fn round_trip(a: u32, b in proptest::collection::vec(any::<[u8; 32]>(), 0..9), c: Option<u64>) {
            let bytes = encode(&(a, &b, c)).unwrap();
            prop_assert_eq!(decode::<Sample>(&bytes).unwrap(), (a, b, c));
            prop_assert!(decode::<Sample>(&bytes[..bytes.len() - 1]).is_err());
            let mut longer = bytes.clone();
            longer.push(0);
            prop_assert!(matches!(decode::<Sample>(&longer), Err(CodecError::Trailing(1))));
        }
    }

    #[test]
    fn a_hostile_length_is_refused() {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(
            decode::<Vec<u8>>(&bytes),
            Err(CodecError::Malformed(_))
        ));
    }

    #[test]
    fn an_unknown_version_is_named() {
        assert!(matches!(decode::<u8>(&[9, 1]), Err(CodecError::Version(9))));
        assert!(matches!(decode::<u8>(&[]), Err(CodecError::Empty)));
    }
}

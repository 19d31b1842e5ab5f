//! The one place that names `bincode`.
//!
//! Every encoded value is a version byte followed by bincode's standard encoding (little-endian, variable
//! length integers). Decoding borrows from the input, so a hostile length prefix allocates nothing; it
//! accepts one encoding of each value only: nothing may trail, and what was decoded must encode to the
//! very same bytes, since hashes are taken over the bytes received.

use bincode::enc::write::Writer;
use bincode::error::EncodeError;
pub(crate) use bincode::{BorrowDecode, Encode};

/// Why bytes are not an encoded value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// More bytes than a value of this type may have.
    #[error("{found} bytes where at most {limit} are allowed")]
    TooLarge {
        /// Bytes given.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// No bytes at all.
    #[error("no bytes")]
    Empty,
    /// A version this program does not know.
    #[error("format version {found} is not known here (this program knows {known})")]
    Version {
        /// The version byte found.
        found: u8,
        /// The version byte expected.
        known: u8,
    },
    /// The bytes end early or hold an impossible value.
    #[error("malformed or cut short")]
    Malformed,
    /// A complete value is followed by more bytes.
    #[error("{0} bytes follow the end")]
    Trailing(usize),
    /// The value has another, shorter encoding.
    #[error("not the canonical encoding")]
    NotCanonical,
}

/// Encodes `value` behind `version`.
pub(crate) fn encode<T: Encode>(version: u8, value: &T) -> Vec<u8> {
    let mut out = vec![version];
    append(&mut out, value);
    out
}

/// Encodes `value` behind what is in `out`.
pub(crate) fn append<T: Encode>(out: &mut Vec<u8>, value: &T) {
    write(&mut VecWriter(out), value);
}

/// Bytes of `value`, encoded.
pub(crate) fn encoded_len<T: Encode>(value: &T) -> usize {
    let mut counter = CountWriter(0);
    write(&mut counter, value);
    counter.0
}

fn write<T: Encode>(out: &mut impl Writer, value: &T) {
    // Our types have no fallible Encode and the writers are memory: there is nothing that could fail.
    let encoded = bincode::encode_into_writer(value, out, bincode::config::standard());
    debug_assert!(encoded.is_ok(), "encoding to memory: {encoded:?}");
}

/// Decodes a value of at most `LIMIT` bytes, version byte included.
pub(crate) fn decode<'a, T, const LIMIT: usize>(
    version: u8,
    bytes: &'a [u8],
) -> Result<T, CodecError>
where
    T: Encode + BorrowDecode<'a, ()>,
{
    if bytes.len() > LIMIT {
        return Err(CodecError::TooLarge {
            found: bytes.len(),
            limit: LIMIT,
        });
    }
    let (&found, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if found != version {
        return Err(CodecError::Version {
            found,
            known: version,
        });
    }
    let (value, rest) = decode_first::<T, LIMIT>(body)?;
    if !rest.is_empty() {
        return Err(CodecError::Trailing(rest.len()));
    }
    Ok(value)
}

/// Decodes the value of at most `LIMIT` bytes that `bytes` begin with; returns it and what is behind it.
pub(crate) fn decode_first<'a, T, const LIMIT: usize>(
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), CodecError>
where
    T: Encode + BorrowDecode<'a, ()>,
{
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let (value, consumed): (T, usize) =
        bincode::borrow_decode_from_slice(bytes, config).map_err(|_| CodecError::Malformed)?;
    let (own, rest) = (bytes.split_at_checked(consumed)).ok_or(CodecError::Malformed)?;
    let mut same = CompareWriter { rest: own };
    let encoded = bincode::encode_into_writer(&value, &mut same, bincode::config::standard());
    if encoded.is_err() || !same.rest.is_empty() {
        return Err(CodecError::NotCanonical);
    }
    Ok((value, rest))
}

struct VecWriter<'a>(&'a mut Vec<u8>);

impl Writer for VecWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

struct CountWriter(usize);

impl Writer for CountWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(())
    }
}

/// Accepts exactly the bytes it was made with.
struct CompareWriter<'a> {
    rest: &'a [u8],
}

impl Writer for CompareWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.rest = self
            .rest
            .strip_prefix(bytes)
            .ok_or(EncodeError::UnexpectedEnd)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, bincode::Encode, bincode::BorrowDecode)]
    struct Sample<'a> {
        number: u64,
        bytes: &'a [u8],
        name: Option<&'a str>,
    }

    fn decoded(bytes: &[u8]) -> Result<Sample<'_>, CodecError> {
        decode::<Sample<'_>, 64>(7, bytes)
    }

    #[test]
    fn round_trip_and_every_truncation_is_refused() {
        let sample = Sample {
            number: 300,
            bytes: b"abc",
            name: Some("n"),
        };
        let bytes = encode(7, &sample);
        assert_eq!(bytes, [7, 251, 44, 1, 3, b'a', b'b', b'c', 1, 1, b'n']);
        assert_eq!(decoded(&bytes).unwrap(), sample);
        for end in 0..bytes.len() {
            assert!(decoded(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn each_kind_of_bad_bytes_has_its_error() {
        assert_eq!(decoded(&[]), Err(CodecError::Empty));
        assert_eq!(
            decoded(&[8, 0, 0, 0]),
            Err(CodecError::Version { found: 8, known: 7 })
        );
        assert_eq!(decoded(&[7, 0, 0, 0, 9]), Err(CodecError::Trailing(1)));
        assert_eq!(
            decoded(&[7; 65]),
            Err(CodecError::TooLarge {
                found: 65,
                limit: 64
            })
        );
        // 5 spelt with three bytes.
        assert_eq!(
            decoded(&[7, 251, 5, 0, 0, 0]),
            Err(CodecError::NotCanonical)
        );
        // A slice of 2^40 bytes.
        let hostile = [7, 0, 253, 0, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(decoded(&hostile), Err(CodecError::Malformed));
    }
}

//! Requests and replies of the exchange, and their bodies.

use crate::codec::{BorrowDecode, Decode, Encode};
use bytes::Bytes;

use super::ExchangeError;
use super::frame::Frame;
use crate::Key;
use crate::codec;

/// The largest part of a manifest in one reply, in bytes.
pub const MAX_MANIFEST_PART_BYTES: usize = 1 << 20;
/// The largest chunk in one reply, in bytes.
pub const MAX_CHUNK_BYTES: usize = 4 << 20;
/// The most chunks a have-bitmap may speak of.
pub const MAX_HAVE_CHUNKS: u32 = 1 << 20;

/// First frame of the accepting side: it has taken the stream and speaks this protocol.
pub(super) const KIND_HELLO: u8 = 0x80;

const KIND_REQUEST_MANIFEST: u8 = 0x01;
const KIND_REQUEST_HAVE: u8 = 0x02;
const KIND_REQUEST_CHUNK: u8 = 0x03;
const KIND_REQUEST_CANCEL: u8 = 0x04;
const KIND_REPLY_MANIFEST: u8 = 0x81;
const KIND_REPLY_HAVE: u8 = 0x82;
const KIND_REPLY_CHUNK: u8 = 0x83;
const KIND_REPLY_NOT_FOUND: u8 = 0x84;
const KIND_REPLY_BUSY: u8 = 0x85;

/// What the asking side sends. Every request but `Cancel` gets one reply with the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// A part of the encoded manifest of the file with this address, from this byte on.
    Manifest {
        /// Address of the file.
        address: Key,
        /// First byte wanted.
        offset: u64,
    },
    /// Which chunks of a manifest the peer has.
    Have {
        /// Id of the manifest (the hash of its encoding).
        manifest: Key,
        /// How many of its chunks the asker knows the peer to have: the peer may hold the answer
        /// back until the number is another.
        seen: u32,
    },
    /// The bytes of a chunk.
    Chunk {
        /// Hash of the chunk.
        hash: Key,
    },
    /// The reply to an earlier request is not needed any more. Gets no reply itself.
    Cancel {
        /// Id of that request.
        target: u32,
    },
}

/// What the serving side sends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// A part of an encoded manifest.
    Manifest {
        /// Length of the whole encoded manifest.
        total_bytes: u64,
        /// The part, at most [`MAX_MANIFEST_PART_BYTES`].
        bytes: Bytes,
    },
    /// Which chunks the peer has.
    Have {
        /// Number of chunks of the manifest, at most [`MAX_HAVE_CHUNKS`].
        chunks: u32,
        /// One bit a chunk, rounded up to whole bytes.
        bits: Bytes,
    },
    /// The bytes of a chunk, at most [`MAX_CHUNK_BYTES`].
    Chunk(Bytes),
    /// The peer does not have what was asked for.
    NotFound,
    /// The peer has it but will not send it now.
    Busy {
        /// When to ask again, in milliseconds.
        retry_after_ms: u32,
    },
}

#[derive(Encode, Decode)]
struct ManifestRequest {
    address: Key,
    offset: u64,
}

#[derive(Encode, Decode)]
struct HaveRequest {
    manifest: Key,
    seen: u32,
}

#[derive(Encode, BorrowDecode)]
struct ManifestReply<'a> {
    total_bytes: u64,
    bytes: &'a [u8],
}

#[derive(Encode, BorrowDecode)]
struct HaveReply<'a> {
    chunks: u32,
    bits: &'a [u8],
}

/// The kind and body of a request.
pub(super) fn encode_request(request: &Request) -> Result<(u8, Bytes), ExchangeError> {
    let (kind, body) = match request {
        &Request::Manifest { address, offset } => (
            KIND_REQUEST_MANIFEST,
            codec::encode(&ManifestRequest { address, offset }),
        ),
        &Request::Have { manifest, seen } => (
            KIND_REQUEST_HAVE,
            codec::encode(&HaveRequest { manifest, seen }),
        ),
        Request::Chunk { hash } => (KIND_REQUEST_CHUNK, codec::encode(hash)),
        Request::Cancel { target } => (KIND_REQUEST_CANCEL, codec::encode(target)),
    };
    Ok((kind, body?.into()))
}

/// A request from a received frame.
pub(super) fn decode_request(frame: &Frame) -> Result<Request, ExchangeError> {
    let body = &frame.body[..];
    match frame.kind {
        KIND_REQUEST_MANIFEST => {
            let ManifestRequest { address, offset } = codec::decode(body)?;
            Ok(Request::Manifest { address, offset })
        }
        KIND_REQUEST_HAVE => {
            let HaveRequest { manifest, seen } = codec::decode(body)?;
            Ok(Request::Have { manifest, seen })
        }
        KIND_REQUEST_CHUNK => Ok(Request::Chunk {
            hash: codec::decode(body)?,
        }),
        KIND_REQUEST_CANCEL => Ok(Request::Cancel {
            target: codec::decode(body)?,
        }),
        kind => Err(ExchangeError::UnknownKind(kind)),
    }
}

/// The kind and body of a reply. Refuses to send what the other side would refuse to read.
pub(super) fn encode_reply(reply: &Reply) -> Result<(u8, Bytes), ExchangeError> {
    let (kind, body) = match reply {
        Reply::Manifest { total_bytes, bytes } => {
            at_most(bytes.len(), MAX_MANIFEST_PART_BYTES)?;
            let body = codec::encode(&ManifestReply {
                total_bytes: *total_bytes,
                bytes,
            });
            (KIND_REPLY_MANIFEST, body?.into())
        }
        Reply::Have { chunks, bits } => {
            check_have(*chunks, bits)?;
            let body = codec::encode(&HaveReply {
                chunks: *chunks,
                bits,
            });
            (KIND_REPLY_HAVE, body?.into())
        }
        Reply::Chunk(bytes) => {
            at_most(bytes.len(), MAX_CHUNK_BYTES)?;
            (KIND_REPLY_CHUNK, bytes.clone())
        }
        Reply::NotFound => (KIND_REPLY_NOT_FOUND, Bytes::new()),
        Reply::Busy { retry_after_ms } => (KIND_REPLY_BUSY, codec::encode(retry_after_ms)?.into()),
    };
    Ok((kind, body))
}

/// A reply from a received frame. Byte strings share the frame's memory.
pub(super) fn decode_reply(frame: &Frame) -> Result<Reply, ExchangeError> {
    let body = &frame.body;
    match frame.kind {
        KIND_REPLY_MANIFEST => {
            let ManifestReply { total_bytes, bytes } = codec::decode_borrowed(body)?;
            at_most(bytes.len(), MAX_MANIFEST_PART_BYTES)?;
            let bytes = body.slice_ref(bytes);
            Ok(Reply::Manifest { total_bytes, bytes })
        }
        KIND_REPLY_HAVE => {
            let HaveReply { chunks, bits } = codec::decode_borrowed(body)?;
            check_have(chunks, bits)?;
            let bits = body.slice_ref(bits);
            Ok(Reply::Have { chunks, bits })
        }
        KIND_REPLY_CHUNK => {
            at_most(body.len(), MAX_CHUNK_BYTES)?;
            Ok(Reply::Chunk(body.clone()))
        }
        KIND_REPLY_NOT_FOUND if body.is_empty() => Ok(Reply::NotFound),
        KIND_REPLY_NOT_FOUND => Err(ExchangeError::BadBody { kind: frame.kind }),
        KIND_REPLY_BUSY => Ok(Reply::Busy {
            retry_after_ms: codec::decode(body)?,
        }),
        kind => Err(ExchangeError::UnknownKind(kind)),
    }
}

fn at_most(len: usize, max: usize) -> Result<(), ExchangeError> {
    if len > max {
        return Err(ExchangeError::TooLarge { len, max });
    }
    Ok(())
}

fn check_have(chunks: u32, bits: &[u8]) -> Result<(), ExchangeError> {
    let whole_bytes = usize::try_from(chunks.div_ceil(8)).unwrap_or(usize::MAX);
    if chunks > MAX_HAVE_CHUNKS || bits.len() != whole_bytes {
        return Err(ExchangeError::BadBody {
            kind: KIND_REPLY_HAVE,
        });
    }
    Ok(())
}

//! Requests and replies of the exchange, and their bodies.

use crate::codec::{BorrowDecode, Decode, Encode};
use bytes::Bytes;

use super::frame::Frame;
use super::{ExchangeError, FileReply, files};
use crate::Key;
use crate::codec;

/// The largest part of a manifest in one reply, in bytes.
pub const MAX_MANIFEST_PART_BYTES: usize = 1 << 20;
/// The largest chunk in one reply, in bytes.
pub const MAX_CHUNK_BYTES: usize = 4 << 20;
/// The most bytes of a file whose chunks a [`Request::Begin`] may ask for.
pub const MAX_EARLY_BYTES: u32 = 256 << 10;
/// The most chunks a have-bitmap may speak of.
pub const MAX_HAVE_CHUNKS: u32 = 1 << 20;
/// The most chunks that one [`Request::Got`] or [`Reply::Got`] may tell of.
pub const MAX_GOT: usize = 1024;
/// The most peers in one [`Reply::Peers`].
pub const MAX_SWARM_PEERS: usize = 32;
/// The most addresses of each of them, and the longest, in bytes.
pub const MAX_SWARM_ADDRS: usize = 4;
/// See [`MAX_SWARM_ADDRS`].
pub const MAX_SWARM_ADDR_BYTES: usize = 128;
/// No body of what is told unasked is longer, nor one that refuses a chunk, in bytes.
pub const MAX_TOLD_BYTES: usize = 24 << 10;

/// First frame of the accepting side: it has taken the stream and speaks this protocol.
pub(super) const KIND_HELLO: u8 = 0x80;

const KIND_REQUEST_MANIFEST: u8 = 0x01;
const KIND_REQUEST_JOIN: u8 = 0x02;
const KIND_REQUEST_CHUNK: u8 = 0x03;
const KIND_REQUEST_CANCEL: u8 = 0x04;
const KIND_REQUEST_INTEREST: u8 = 0x05;
const KIND_REQUEST_GOT: u8 = 0x06;
const KIND_REQUEST_FILES: u8 = 0x07;
const KIND_REQUEST_BEGIN: u8 = 0x08;
const KIND_REPLY_MANIFEST: u8 = 0x81;
const KIND_REPLY_HAVE: u8 = 0x82;
const KIND_REPLY_CHUNK: u8 = 0x83;
const KIND_REPLY_NOT_FOUND: u8 = 0x84;
const KIND_REPLY_BUSY: u8 = 0x85;
const KIND_REPLY_CHOKED: u8 = 0x86;
const KIND_REPLY_FILES: u8 = 0x87;
const KIND_TELL_GOT: u8 = 0x90;
const KIND_TELL_CHOKE: u8 = 0x91;
const KIND_TELL_UNCHOKE: u8 = 0x92;
const KIND_TELL_PEERS: u8 = 0x93;

/// What the asking side sends. `Manifest`, `Join`, `Chunk` and `Files` get one reply with the same id, `Begin` several, the
/// others none.
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
    /// Joins the swarm of a manifest, once on a stream: what the asker has of it, and the question what the other side
    /// has, which from then on also tells what it gets, whether it serves the asker, and whom else it knows.
    Join {
        /// Id of the manifest (the hash of its encoding).
        manifest: Key,
        /// Number of chunks of the manifest, at most [`MAX_HAVE_CHUNKS`].
        chunks: u32,
        /// What the asker has: one bit a chunk, rounded up to whole bytes. Bits beyond are 0.
        bits: Bytes,
    },
    /// The bytes of a chunk.
    Chunk {
        /// Its place in the manifest that was joined.
        index: u32,
        /// Hash of the chunk.
        hash: Key,
    },
    /// The reply to an earlier request is not needed any more.
    Cancel {
        /// Id of that request.
        target: u32,
    },
    /// Whether the other side has anything that the asker wants. Not so before it says so.
    Interest(bool),
    /// The asker has these chunks now, too; 1 to [`MAX_GOT`] of them.
    Got {
        /// Their places in the manifest.
        indices: Vec<u32>,
    },
    /// The bytes of small files, whatever was joined; 1 to [`MAX_FILES`](super::MAX_FILES) of them.
    Files {
        /// Their addresses.
        addresses: Vec<Key>,
    },
    /// Everything that a download begins with, in one: `Manifest` from its first byte on, with this id. If the reply is the
    /// whole manifest, also the `Join` of it by one who has nothing, with the next id, and with those that follow a `Chunk`
    /// for each chunk that begins in the first bytes of the file. Each gets its reply.
    Begin {
        /// Address of the file.
        address: Key,
        /// How many bytes, at most [`MAX_EARLY_BYTES`].
        early_bytes: u32,
    },
}

/// What the serving side sends. Choked is the state before a first `Unchoke`; what is asked then is answered `Choked`.
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
    /// To `Join`: which chunks the peer has.
    Have {
        /// Number of chunks of the manifest, at most [`MAX_HAVE_CHUNKS`].
        chunks: u32,
        /// One bit a chunk, rounded up to whole bytes. Bits beyond are 0.
        bits: Bytes,
    },
    /// The bytes of a chunk, at most [`MAX_CHUNK_BYTES`].
    Chunk(Bytes),
    /// The first files of those asked for, in their order: at least one, and as many as a reply holds. The others are to be
    /// asked for again.
    Files(Vec<FileReply>),
    /// The peer does not have what was asked for.
    NotFound,
    /// The peer has it but will not send it now.
    Busy {
        /// When to ask again, in milliseconds.
        retry_after_ms: u32,
    },
    /// The asker is choked: it is to ask again when it is unchoked.
    Choked,
    /// Unasked, with id 0: the peer has these chunks now, too; 1 to [`MAX_GOT`] of them.
    Got {
        /// Their places in the manifest.
        indices: Vec<u32>,
    },
    /// Unasked, with id 0: chunks are not sent from now on.
    Choke,
    /// Unasked, with id 0: chunks are sent from now on.
    Unchoke,
    /// Unasked, with id 0: others of this swarm; 1 to [`MAX_SWARM_PEERS`] of them.
    Peers(Vec<SwarmPeer>),
}

/// Another peer of a swarm, as somebody tells of it. The bytes are not checked further than their lengths.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SwarmPeer {
    /// Its peer id, as a multihash of at most [`MAX_SWARM_ADDR_BYTES`]; not empty.
    pub peer: Vec<u8>,
    /// Its multiaddrs, at most [`MAX_SWARM_ADDRS`] of at most [`MAX_SWARM_ADDR_BYTES`] each.
    pub addrs: Vec<Vec<u8>>,
}

#[derive(Encode, Decode)]
struct ManifestRequest {
    address: Key,
    offset: u64,
}

#[derive(Encode, Decode)]
struct BeginRequest {
    address: Key,
    early_bytes: u32,
}

#[derive(Encode, BorrowDecode)]
struct JoinRequest<'a> {
    manifest: Key,
    chunks: u32,
    bits: &'a [u8],
}

#[derive(Encode, Decode)]
struct ChunkRequest {
    index: u32,
    hash: Key,
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
        Request::Join {
            manifest,
            chunks,
            bits,
        } => {
            check_have(KIND_REQUEST_JOIN, *chunks, bits)?;
            let join = JoinRequest {
                manifest: *manifest,
                chunks: *chunks,
                bits,
            };
            (KIND_REQUEST_JOIN, codec::encode(&join))
        }
        &Request::Chunk { index, hash } => (
            KIND_REQUEST_CHUNK,
            codec::encode(&ChunkRequest { index, hash }),
        ),
        Request::Cancel { target } => (KIND_REQUEST_CANCEL, codec::encode(target)),
        Request::Interest(wants) => (KIND_REQUEST_INTEREST, codec::encode(wants)),
        Request::Got { indices } => {
            check_got(KIND_REQUEST_GOT, indices)?;
            (KIND_REQUEST_GOT, codec::encode(indices))
        }
        Request::Files { addresses } => {
            let body = files::encode_request(KIND_REQUEST_FILES, addresses)?;
            (KIND_REQUEST_FILES, Ok(body))
        }
        &Request::Begin {
            address,
            early_bytes,
        } => {
            good(KIND_REQUEST_BEGIN, early_bytes <= MAX_EARLY_BYTES)?;
            let begin = BeginRequest {
                address,
                early_bytes,
            };
            (KIND_REQUEST_BEGIN, codec::encode(&begin))
        }
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
        KIND_REQUEST_JOIN => {
            let JoinRequest {
                manifest,
                chunks,
                bits,
            } = codec::decode_borrowed(body)?;
            check_have(frame.kind, chunks, bits)?;
            let bits = frame.body.slice_ref(bits);
            Ok(Request::Join {
                manifest,
                chunks,
                bits,
            })
        }
        KIND_REQUEST_CHUNK => {
            let ChunkRequest { index, hash } = codec::decode(body)?;
            Ok(Request::Chunk { index, hash })
        }
        KIND_REQUEST_INTEREST => Ok(Request::Interest(codec::decode(body)?)),
        KIND_REQUEST_GOT => Ok(Request::Got {
            indices: decode_got(frame)?,
        }),
        KIND_REQUEST_FILES => Ok(Request::Files {
            addresses: files::decode_request(frame)?,
        }),
        KIND_REQUEST_BEGIN => {
            let BeginRequest {
                address,
                early_bytes,
            } = codec::decode(body)?;
            good(frame.kind, early_bytes <= MAX_EARLY_BYTES)?;
            Ok(Request::Begin {
                address,
                early_bytes,
            })
        }
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
            check_have(KIND_REPLY_HAVE, *chunks, bits)?;
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
        Reply::Files(files) => {
            let body = files::encode_reply(KIND_REPLY_FILES, files)?;
            (KIND_REPLY_FILES, body.into())
        }
        Reply::NotFound => (KIND_REPLY_NOT_FOUND, Bytes::new()),
        Reply::Busy { retry_after_ms } => (KIND_REPLY_BUSY, codec::encode(retry_after_ms)?.into()),
        Reply::Choked => (KIND_REPLY_CHOKED, Bytes::new()),
        Reply::Got { indices } => {
            check_got(KIND_TELL_GOT, indices)?;
            (KIND_TELL_GOT, codec::encode(indices)?.into())
        }
        Reply::Choke => (KIND_TELL_CHOKE, Bytes::new()),
        Reply::Unchoke => (KIND_TELL_UNCHOKE, Bytes::new()),
        Reply::Peers(peers) => {
            check_peers(peers)?;
            (KIND_TELL_PEERS, codec::encode(peers)?.into())
        }
    };
    Ok((kind, body))
}

/// Replies have the id of their request, and what is unasked has none.
pub(super) fn check_id(kind: u8, id: u32) -> Result<(), ExchangeError> {
    let is_unasked = matches!(
        kind,
        KIND_TELL_GOT | KIND_TELL_CHOKE | KIND_TELL_UNCHOKE | KIND_TELL_PEERS
    );
    good(kind, !is_unasked || id == 0)
}

/// A reply from a received frame. Byte strings share the frame's memory.
pub(super) fn decode_reply(frame: &Frame) -> Result<Reply, ExchangeError> {
    check_id(frame.kind, frame.id)?;
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
            check_have(frame.kind, chunks, bits)?;
            let bits = body.slice_ref(bits);
            Ok(Reply::Have { chunks, bits })
        }
        KIND_REPLY_CHUNK => {
            at_most(body.len(), MAX_CHUNK_BYTES)?;
            Ok(Reply::Chunk(body.clone()))
        }
        KIND_REPLY_FILES => Ok(Reply::Files(files::decode_reply(frame)?)),
        KIND_REPLY_NOT_FOUND => empty(frame, Reply::NotFound),
        KIND_REPLY_CHOKED => empty(frame, Reply::Choked),
        KIND_TELL_CHOKE => empty(frame, Reply::Choke),
        KIND_TELL_UNCHOKE => empty(frame, Reply::Unchoke),
        KIND_TELL_GOT => Ok(Reply::Got {
            indices: decode_got(frame)?,
        }),
        KIND_TELL_PEERS => {
            check_count(frame, MAX_SWARM_PEERS)?;
            let peers: Vec<SwarmPeer> = codec::decode(body)?;
            check_peers(&peers)?;
            Ok(Reply::Peers(peers))
        }
        KIND_REPLY_BUSY => Ok(Reply::Busy {
            retry_after_ms: codec::decode(body)?,
        }),
        kind => Err(ExchangeError::UnknownKind(kind)),
    }
}

pub(super) fn at_most(len: usize, max: usize) -> Result<(), ExchangeError> {
    if len > max {
        return Err(ExchangeError::TooLarge { len, max });
    }
    Ok(())
}

fn empty(frame: &Frame, reply: Reply) -> Result<Reply, ExchangeError> {
    match frame.body.is_empty() {
        true => Ok(reply),
        false => Err(ExchangeError::BadBody { kind: frame.kind }),
    }
}

/// A bitmap has the length that its chunks need, and says nothing of chunks that are not there.
fn check_have(kind: u8, chunks: u32, bits: &[u8]) -> Result<(), ExchangeError> {
    let whole_bytes = usize::try_from(chunks.div_ceil(8)).unwrap_or(usize::MAX);
    let beyond = match (bits.last(), chunks % 8) {
        // The first chunk is the highest bit.
        (Some(last), used) if used > 0 => last << used,
        _ => 0,
    };
    good(
        kind,
        chunks <= MAX_HAVE_CHUNKS && bits.len() == whole_bytes && beyond == 0,
    )
}

fn decode_got(frame: &Frame) -> Result<Vec<u32>, ExchangeError> {
    check_count(frame, MAX_GOT)?;
    let indices: Vec<u32> = codec::decode(&frame.body)?;
    check_got(frame.kind, &indices)?;
    Ok(indices)
}

/// Looks at the length of a list before there is memory for it. What is too short for one fails later.
pub(super) fn check_count(frame: &Frame, max: usize) -> Result<(), ExchangeError> {
    let count = frame.body.get(1..9).and_then(|bytes| bytes.try_into().ok());
    let count = count.map_or(0, u64::from_le_bytes);
    good(frame.kind, count <= max as u64)
}

fn check_got(kind: u8, indices: &[u32]) -> Result<(), ExchangeError> {
    let known = |index: &u32| *index < MAX_HAVE_CHUNKS;
    good(
        kind,
        (1..=MAX_GOT).contains(&indices.len()) && indices.iter().all(known),
    )
}

fn check_peers(peers: &[SwarmPeer]) -> Result<(), ExchangeError> {
    let short = |bytes: &Vec<u8>| bytes.len() <= MAX_SWARM_ADDR_BYTES;
    let bounded = |p: &SwarmPeer| {
        !p.peer.is_empty()
            && short(&p.peer)
            && p.addrs.len() <= MAX_SWARM_ADDRS
            && p.addrs.iter().all(short)
    };
    good(
        KIND_TELL_PEERS,
        (1..=MAX_SWARM_PEERS).contains(&peers.len()) && peers.iter().all(bounded),
    )
}

pub(super) fn good(kind: u8, is_good: bool) -> Result<(), ExchangeError> {
    match is_good {
        true => Ok(()),
        false => Err(ExchangeError::BadBody { kind }),
    }
}

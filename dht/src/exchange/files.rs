//! Many small files in one message: their addresses in a request, their bytes in a reply.

use bytes::Bytes;

use super::ExchangeError;
use super::frame::Frame;
use super::message::{at_most, check_count, good};
use crate::Key;
use crate::codec::{self, BorrowDecode, Encode};

/// The most files in one [`Request::Files`](super::Request::Files).
pub const MAX_FILES: usize = 256;
/// The largest file in a [`Reply::Files`](super::Reply::Files), in bytes.
pub const MAX_FILE_BYTES: usize = 64 << 10;
/// The most bytes that [`FileReply::wire_bytes`] of one reply may add up to.
pub const MAX_FILES_REPLY_BYTES: usize = 1 << 20;

/// What is said of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileReply {
    /// The peer does not have it, or does not serve it.
    NotHere,
    /// The peer has it, and it is to be fetched as a file is: by its manifest and chunks.
    Larger,
    /// All its bytes, at most [`MAX_FILE_BYTES`].
    Whole(Bytes),
}

impl FileReply {
    /// What it takes in a reply, in bytes.
    pub fn wire_bytes(&self) -> usize {
        match self {
            Self::NotHere | Self::Larger => 4,
            Self::Whole(bytes) => 12 + bytes.len(),
        }
    }
}

/// [`FileReply`] as it is encoded.
#[derive(Encode, BorrowDecode)]
enum Part<'a> {
    NotHere,
    Larger,
    Whole(&'a [u8]),
}

pub(super) fn encode_request(kind: u8, addresses: &[Key]) -> Result<Vec<u8>, ExchangeError> {
    good(kind, is_count(addresses.len()))?;
    Ok(codec::encode(&addresses)?)
}

pub(super) fn decode_request(frame: &Frame) -> Result<Vec<Key>, ExchangeError> {
    check_count(frame, MAX_FILES)?;
    let addresses: Vec<Key> = codec::decode(&frame.body)?;
    good(frame.kind, is_count(addresses.len()))?;
    Ok(addresses)
}

pub(super) fn encode_reply(kind: u8, files: &[FileReply]) -> Result<Vec<u8>, ExchangeError> {
    good(kind, is_count(files.len()))?;
    let wire_bytes = files.iter().map(FileReply::wire_bytes).sum();
    at_most(wire_bytes, MAX_FILES_REPLY_BYTES)?;
    let mut parts = Vec::with_capacity(files.len());
    for file in files {
        parts.push(match file {
            FileReply::NotHere => Part::NotHere,
            FileReply::Larger => Part::Larger,
            FileReply::Whole(bytes) => {
                at_most(bytes.len(), MAX_FILE_BYTES)?;
                Part::Whole(bytes)
            }
        });
    }
    Ok(codec::encode(&parts)?)
}

/// The bytes of the files share the frame's memory.
pub(super) fn decode_reply(frame: &Frame) -> Result<Vec<FileReply>, ExchangeError> {
    check_count(frame, MAX_FILES)?;
    let parts: Vec<Part<'_>> = codec::decode_borrowed(&frame.body)?;
    good(frame.kind, is_count(parts.len()))?;
    let mut files = Vec::with_capacity(parts.len());
    for part in parts {
        files.push(match part {
            Part::NotHere => FileReply::NotHere,
            Part::Larger => FileReply::Larger,
            Part::Whole(bytes) => {
                at_most(bytes.len(), MAX_FILE_BYTES)?;
                FileReply::Whole(frame.body.slice_ref(bytes))
            }
        });
    }
    Ok(files)
}

fn is_count(count: usize) -> bool {
    (1..=MAX_FILES).contains(&count)
}

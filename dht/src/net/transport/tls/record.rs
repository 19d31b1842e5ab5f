//! Records of TLS 1.3 (RFC 8446, 5) after the handshake, sealed and opened on their way from one buffer to another: to
//! encrypt is to copy, and no other copy is made.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;

/// Kind, version and length.
pub(super) const HEADER_BYTES: usize = 5;
/// What shows that nobody changed a record. The same for all three ciphers.
const TAG_BYTES: usize = 16;
/// The most that one record carries.
pub(super) const MAX_CONTENT_BYTES: usize = 1 << 14;
/// The most that may follow a header: content, its kind, padding and tag.
const MAX_BODY_BYTES: usize = MAX_CONTENT_BYTES + 256;
/// The largest record there is.
pub(super) const MAX_RECORD_BYTES: usize = HEADER_BYTES + MAX_BODY_BYTES;
/// What a record has beside its content: header, kind, tag.
pub(super) const OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;
/// After this many records a key of AES-GCM is used up (RFC 8446, 5.5, has 2^24.5). ChaCha20's is not before the numbers are.
const MAX_GCM_RECORDS: u64 = 1 << 24;

/// What a record carries. On the wire all look like data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Alert,
    Handshake,
    Data,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::Data => 23,
        }
    }
}

/// The other side broke the protocol, or somebody changed what it sent; or this side cannot go on. The connection is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    #[error("a TLS record that is none of encrypted data")]
    NotEncrypted,
    #[error("a TLS record of {0} bytes")]
    Length(usize),
    #[error("a TLS record that was changed on its way")]
    Changed,
    #[error("a TLS record of no known kind")]
    Kind,
    #[error("a TLS message that has no place here")]
    Message,
    #[error("the other side ended TLS with alert {0}")]
    Alert(u8),
    #[error("TLS has no more keys")]
    Keys,
}

impl RecordError {
    /// How TLS calls it to the other side.
    pub(super) fn alert(self) -> Option<u8> {
        match self {
            Self::NotEncrypted | Self::Kind | Self::Message => Some(10),
            Self::Length(_) => Some(22),
            Self::Changed => Some(20),
            Self::Keys => Some(80),
            Self::Alert(_) => None,
        }
    }
}

/// One direction's key, and how many records it was used for.
pub(super) struct Key {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    number: u64,
    max_number: u64,
}

impl Key {
    /// The key that rustls has agreed on, and the number of the next record.
    pub(super) fn new(
        (number, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, RecordError> {
        let (algorithm, key, iv, max_number) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => {
                (&AES_128_GCM, key, iv, MAX_GCM_RECORDS)
            }
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => {
                (&AES_256_GCM, key, iv, MAX_GCM_RECORDS)
            }
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&CHACHA20_POLY1305, key, iv, u64::MAX)
            }
            _ => return Err(RecordError::Keys),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| RecordError::Keys)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().try_into().map_err(|_| RecordError::Keys)?,
            number,
            max_number,
        })
    }

    /// Whether it must be replaced before it seals much more: a few records are left for saying so.
    pub(super) fn is_used_up(&self) -> bool {
        self.number >= self.max_number - 8
    }

    /// The nonce of the next record. None is ever given twice: the number goes up before anything is done with it, and ends.
    fn nonce(&mut self) -> Result<Nonce, RecordError> {
        let number = self.number;
        self.number = number.checked_add(1).ok_or(RecordError::Keys)?;
        let mut nonce = self.iv;
        for (byte, of_number) in nonce[NONCE_LEN - 8..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= of_number;
        }
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Writes a record with at most [`MAX_CONTENT_BYTES`] to the beginning of `room`; returns its length.
    pub(super) fn seal(
        &mut self,
        kind: Kind,
        content: &[u8],
        room: &mut [u8],
    ) -> Result<usize, RecordError> {
        let body_len = content.len() + 1 + TAG_BYTES;
        let header = header_of(body_len)?;
        if self.number >= self.max_number {
            return Err(RecordError::Keys);
        }
        let nonce = self.nonce()?;
        let record = room.get_mut(..HEADER_BYTES + body_len);
        let record = record.ok_or(RecordError::Length(body_len))?;
        let (place, body) = record.split_at_mut(HEADER_BYTES);
        place.copy_from_slice(&header);
        let (body, end) = body.split_at_mut(content.len());
        let kind = [kind.number()];
        self.key
            .seal_out_of_place_scatter(nonce, Aad::from(header), content, body, &kind, end)
            .map_err(|_| RecordError::Keys)?;
        Ok(HEADER_BYTES + body_len)
    }

    /// Opens the record into the beginning of `room`, of which [`Sealed::content_room`] is needed; what it carries, and how
    /// much of that is content. Nothing in `room` means anything after an error.
    pub(super) fn open(
        &mut self,
        sealed: &Sealed<'_>,
        room: &mut [u8],
    ) -> Result<(Kind, usize), RecordError> {
        let nonce = self.nonce()?;
        let (content, tag) = sealed.body.split_at(sealed.content_room());
        let room = room.get_mut(..content.len());
        let room = room.ok_or(RecordError::Length(content.len()))?;
        self.key
            .open_separate_gather(nonce, Aad::from(sealed.header), content, tag, room)
            .map_err(|_| RecordError::Changed)?;
        inner(room)
    }

    /// The same where the record is, which is all of `record`: its content then follows its header.
    pub(super) fn open_in_place(
        &mut self,
        record: &mut [u8],
    ) -> Result<(Kind, usize), RecordError> {
        let nonce = self.nonce()?;
        let split = record.split_first_chunk_mut::<HEADER_BYTES>();
        let (header, body) = split.ok_or(RecordError::Length(0))?;
        let opened = self
            .key
            .open_in_place(nonce, Aad::from(&*header), body)
            .map_err(|_| RecordError::Changed)?;
        inner(opened)
    }
}

fn header_of(body_len: usize) -> Result<[u8; HEADER_BYTES], RecordError> {
    if body_len > MAX_CONTENT_BYTES + 1 + TAG_BYTES {
        return Err(RecordError::Length(body_len));
    }
    let [.., high, low] = body_len.to_be_bytes();
    Ok([Kind::Data.number(), 3, 3, high, low])
}

/// What is in an opened record: its kind is the last byte that is not zero, and what follows is padding.
pub(super) fn inner(opened: &[u8]) -> Result<(Kind, usize), RecordError> {
    if opened.len() > MAX_CONTENT_BYTES + 1 {
        return Err(RecordError::Length(opened.len()));
    }
    let end = opened.iter().rposition(|byte| *byte != 0);
    let end = end.ok_or(RecordError::Kind)?;
    let kind = match opened[end] {
        21 => Kind::Alert,
        22 => Kind::Handshake,
        23 => Kind::Data,
        _ => return Err(RecordError::Kind),
    };
    Ok((kind, end))
}

/// A whole record that was received.
pub(super) struct Sealed<'b> {
    header: [u8; HEADER_BYTES],
    body: &'b [u8],
}

impl<'b> Sealed<'b> {
    /// The record that these bytes begin with; `None` when not all of it is here. A length that no record has is refused before
    /// its bytes are waited for.
    pub(super) fn first_of(bytes: &'b [u8]) -> Result<Option<Self>, RecordError> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [kind, version, _, high, low] = *header;
        if kind != Kind::Data.number() || version != 3 {
            return Err(RecordError::NotEncrypted);
        }
        let len = usize::from(u16::from_be_bytes([high, low]));
        if !(TAG_BYTES + 1..=MAX_BODY_BYTES).contains(&len) {
            return Err(RecordError::Length(len));
        }
        Ok(rest.get(..len).map(|body| Self {
            header: *header,
            body,
        }))
    }

    pub(super) fn len(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// How much room opening it takes: content, kind and padding.
    pub(super) fn content_room(&self) -> usize {
        self.body.len() - TAG_BYTES
    }
}

#[cfg(test)]
impl Key {
    pub(super) fn use_up_after(&mut self, records: u64) {
        self.max_number = records;
    }
}

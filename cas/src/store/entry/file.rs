//! File entries: what the store knows of a file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Fields, push_location};
use crate::codec::{self, BorrowDecode, Encode};
use crate::error::IndexError;
use crate::id::{Address, HASH_BYTES, ManifestId};
use crate::name::MAX_NAME_BYTES;
use crate::store::pack::Location;

/// Version byte of an encoded file entry.
const FILE_VERSION: u8 = 3;

/// The version before, without claim and directory: still read.
const FILE_VERSION_2: u8 = 2;

/// Longest path of a source.
pub(crate) const MAX_PATH_BYTES: usize = 4096;

/// No encoded file entry is larger: name, path and some fixed fields.
pub(crate) const MAX_FILE_ENTRY_BYTES: usize = MAX_NAME_BYTES + MAX_PATH_BYTES + 256;

/// Whether all of a file is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, BorrowDecode)]
#[non_exhaustive]
pub enum FileState {
    /// All its chunks were stored.
    Complete,
    /// A download that has not finished, or a file kept in place that changed or vanished.
    Partial,
    /// What is left of a download whose manifest was forged: chunks that are the file's own, and no
    /// manifest. Another manifest makes it [`FileState::Partial`] again.
    Remnant,
}

/// What claim a file has to stay, beside the directories that list it. A stronger one takes the place of a
/// weaker one, and never the other way round.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, BorrowDecode,
)]
pub enum Claim {
    /// None: it was stored or fetched for a directory, and goes when no directory lists it any more.
    Member,
    /// Stored or fetched by itself: it goes only to make room, or when it is removed.
    #[default]
    Own,
    /// Kept whatever the garbage collector and quota say.
    Pinned,
}

impl Claim {
    /// The claim of a file that was stored or fetched by itself.
    #[must_use]
    pub fn own(pinned: bool) -> Self {
        if pinned { Claim::Pinned } else { Claim::Own }
    }
}

/// How a file's bytes are kept outside the packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, BorrowDecode)]
#[non_exhaustive]
pub enum SourceKind {
    /// They stay in the user's own file.
    InPlace,
    /// In a clone that the store made where the file system shares blocks.
    Clone,
}

/// Whether a source is what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, BorrowDecode)]
#[non_exhaustive]
pub enum SourceState {
    /// As far as is known.
    Intact,
    /// It has other bytes, size, time or inode than it had.
    Changed,
    /// There is no such file any more.
    Missing,
}

/// A file outside the packs that holds a file's chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileSource {
    /// Whose it is.
    pub kind: SourceKind,
    /// Where it is, absolute.
    pub path: PathBuf,
    /// Whether it is what it was.
    pub state: SourceState,
    pub(crate) file: SourceFile,
}

/// What a source must still be to be believed without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(crate) struct SourceFile {
    /// Its number in this store; none is used twice.
    pub(crate) id: u32,
    pub(crate) size_bytes: u64,
    /// Nanoseconds since 1970.
    pub(crate) mtime_ns: i64,
    pub(crate) inode: u64,
}

/// What the store knows of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileEntry {
    /// BLAKE3 of the file.
    pub address: Address,
    /// The name it was stored under.
    pub name: Option<String>,
    /// Its size.
    pub size_bytes: u64,
    /// Chunks in its manifest; distinct chunks that are kept, for a remnant.
    pub chunk_count: u32,
    /// Its manifest; for a remnant, the id of its chunk list, which is not a manifest.
    pub manifest: ManifestId,
    /// When it was first stored, by the clock of this machine.
    pub stored_unix_ms: u64,
    /// When it was last used, as far as was noted; never before it was stored.
    pub last_used_unix_ms: u64,
    /// What keeps it, beside the directories that list it.
    pub claim: Claim,
    /// It was entered as a directory: its bytes list the members that it keeps.
    pub directory: bool,
    /// Whether all of it is here.
    pub state: FileState,
    /// Where its bytes are, when they are not in the packs.
    pub source: Option<FileSource>,
}

#[derive(Encode, BorrowDecode)]
struct WireFile<'a> {
    address: [u8; HASH_BYTES],
    manifest: [u8; HASH_BYTES],
    size_bytes: u64,
    chunk_count: u32,
    stored_unix_ms: u64,
    claim: Claim,
    directory: bool,
    state: FileState,
    name: Option<&'a str>,
    source: Option<WireSource<'a>>,
}

#[derive(Encode, BorrowDecode)]
struct WireFile2<'a> {
    address: [u8; HASH_BYTES],
    manifest: [u8; HASH_BYTES],
    size_bytes: u64,
    chunk_count: u32,
    stored_unix_ms: u64,
    pinned: bool,
    state: FileState,
    name: Option<&'a str>,
    source: Option<WireSource<'a>>,
}

impl<'a> From<WireFile2<'a>> for WireFile<'a> {
    fn from(old: WireFile2<'a>) -> Self {
        Self {
            address: old.address,
            manifest: old.manifest,
            size_bytes: old.size_bytes,
            chunk_count: old.chunk_count,
            stored_unix_ms: old.stored_unix_ms,
            claim: Claim::own(old.pinned),
            directory: false,
            state: old.state,
            name: old.name,
            source: old.source,
        }
    }
}

#[derive(Encode, BorrowDecode)]
struct WireSource<'a> {
    kind: SourceKind,
    state: SourceState,
    file: SourceFile,
    path: &'a [u8],
}

impl FileEntry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let source = self.source.as_ref().map(|source| WireSource {
            kind: source.kind,
            state: source.state,
            file: source.file,
            path: source.path.as_os_str().as_bytes(),
        });
        let wire = WireFile {
            address: *self.address.as_bytes(),
            manifest: *self.manifest.as_bytes(),
            size_bytes: self.size_bytes,
            chunk_count: self.chunk_count,
            stored_unix_ms: self.stored_unix_ms,
            claim: self.claim,
            directory: self.directory,
            state: self.state,
            name: self.name.as_deref(),
            source,
        };
        codec::encode(FILE_VERSION, &wire)
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, IndexError> {
        let wire = if value.first() == Some(&FILE_VERSION_2) {
            let old = codec::decode::<WireFile2<'_>, MAX_FILE_ENTRY_BYTES>(FILE_VERSION_2, value);
            old.map(WireFile::from)
        } else {
            codec::decode::<_, MAX_FILE_ENTRY_BYTES>(FILE_VERSION, value)
        };
        let wire = wire.map_err(|_| IndexError::Malformed)?;
        let source = wire.source.map(|source| FileSource {
            kind: source.kind,
            path: Path::new(OsStr::from_bytes(source.path)).to_owned(),
            state: source.state,
            file: source.file,
        });
        Ok(Self {
            address: Address::from_bytes(wire.address),
            name: wire.name.map(str::to_owned),
            size_bytes: wire.size_bytes,
            chunk_count: wire.chunk_count,
            manifest: ManifestId::from_bytes(wire.manifest),
            stored_unix_ms: wire.stored_unix_ms,
            last_used_unix_ms: wire.stored_unix_ms,
            claim: wire.claim,
            directory: wire.directory,
            state: wire.state,
            source,
        })
    }

    /// Whether it is pinned by itself. A pinned directory pins its members, too.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.claim == Claim::Pinned
    }

    /// Whether it was stored or fetched by itself, and not for a directory alone.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.claim >= Claim::Own
    }

    /// Whether its chunks are in the user's own file.
    pub(crate) fn is_in_place(&self) -> bool {
        let kind = self.source.as_ref().map(|source| source.kind);
        self.intact_source().is_some() && kind == Some(SourceKind::InPlace)
    }

    /// The number of the source that its chunks are read from.
    pub(crate) fn intact_source(&self) -> Option<u32> {
        let intact = |source: &&FileSource| source.state == SourceState::Intact;
        self.source.as_ref().filter(intact).map(|s| s.file.id)
    }
}

/// A file entry in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileValue {
    /// Its newest record.
    pub(crate) at: Location,
    pub(crate) entry: FileEntry,
}

impl FileValue {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = Vec::new();
        push_location(&mut value, self.at);
        value.extend_from_slice(&self.entry.encode());
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(value);
        let at = fields.location()?;
        let entry = FileEntry::decode(fields.0)?;
        Ok(Self { at, entry })
    }
}

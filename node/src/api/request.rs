//! What a client may ask.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DhtMode, DoctorKind, LimitsChange, ListedFile, TreeOutput};
#[cfg(doc)]
use super::{MAX_STORE_PATHS, Response};
use super::{path::JsonPath, tree::JsonTreeOutput};
use crate::choke::SwarmMode;

/// How a file is cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
#[serde(rename_all = "lowercase")]
pub enum ChunkerName {
    /// Equal lengths: 256 KiB up to 64 GiB, doubling beyond.
    Fixed,
    /// Boundaries chosen by content, so that an edit moves few of them.
    #[default]
    FastCdc,
}

/// Where the bytes to store come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// A file that the node reads by itself; the path is absolute. (`OsString`: paths need not be UTF-8.)
    File(#[serde(with = "super::path")] OsString),
    /// The byte stream that accompanies the call.
    Stream,
}

/// Where the bytes to store come from.
// How `Source` is described: its own path type has no schema.
#[derive(ToSchema)]
#[schema(as = Source)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "its schema is what is wanted")]
enum JsonSource {
    /// A file that the node reads by itself; the path is absolute.
    File(JsonPath),
    /// The byte stream that accompanies the call.
    Stream,
}

/// Where fetched bytes go. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Output {
    /// This very file.
    File {
        /// The file to make.
        #[serde(with = "super::path")]
        #[schema(value_type = JsonPath)]
        path: OsString,
        /// Replace what is there.
        #[serde(default)]
        force: bool,
    },
    /// A file in this folder, named by the metadata record's hint, else by the address.
    Folder {
        /// The folder to make it in.
        #[serde(with = "super::path")]
        #[schema(value_type = JsonPath)]
        path: OsString,
        /// Replace what is there.
        #[serde(default)]
        force: bool,
    },
    /// The byte stream that accompanies the call, in order, each byte proven before it leaves.
    Stream,
    /// Nowhere: it is fetched into the store, and no file is made.
    Nowhere,
}

/// What stays here of a file that was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The output itself, as with [`Keep::InPlace`], where it is a file of 16 MiB or more on the store's own file system, a copy
    /// would take space (no blocks are shared there), and nothing pins it. Else its chunks in the store. What is here already
    /// stays where it is.
    #[default]
    Auto,
    /// Its chunks, in the store, also where it was kept in place before.
    Copy,
    /// The output itself: the store refers to it and holds no copy.
    InPlace,
    /// Nothing but the output.
    No,
}

/// What is stored is kept, unless something else is said.
fn yes() -> bool {
    true
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Store a file and publish it.
    Store {
        /// Where its bytes come from.
        #[schema(value_type = JsonSource)]
        source: Source,
        /// The name hint to publish; the file's own name when absent.
        name: Option<String>,
        /// How to cut it.
        #[serde(default)]
        chunker: ChunkerName,
        /// Keep it whatever is collected or has to make room.
        #[serde(default = "yes")]
        pinned: bool,
        /// Refer to the file where it is and hold no copy; of [`Source::File`] only.
        #[serde(default)]
        in_place: bool,
    },
    /// Store files and publish them; the small ones among them are entered and announced together.
    StoreMany {
        /// Absolute paths, at most [`MAX_STORE_PATHS`]; each file's own name is published.
        #[serde(with = "super::path::list")]
        #[schema(value_type = Vec<JsonPath>)]
        paths: Vec<OsString>,
        /// How to cut them.
        #[serde(default)]
        chunker: ChunkerName,
        /// Keep them whatever is collected or has to make room.
        #[serde(default = "yes")]
        pinned: bool,
    },
    /// Store a folder with everything beneath it as a directory, and publish it.
    StoreTree {
        /// The folder; absolute. A link to a folder is followed, links beneath it are stored as they are.
        #[serde(with = "super::path")]
        #[schema(value_type = JsonPath)]
        path: OsString,
        /// The name hint to publish; the folder's own name when absent.
        name: Option<String>,
        /// Globs: only what matches one of these is stored; everything when there are none. One with a `/` is matched on the whole
        /// path from the folder on, one without on the last name of it; `*` and `?` stand for no `/`, `**` does. What matches a
        /// folder counts for everything beneath it. At most [`super::MAX_GLOBS`].
        #[serde(default)]
        include: Vec<String>,
        /// Globs: what matches one of these is not stored, whatever else it matches. At most [`super::MAX_GLOBS`].
        #[serde(default)]
        exclude: Vec<String>,
        /// How to cut its files.
        #[serde(default)]
        chunker: ChunkerName,
        /// Keep it whatever is collected or has to make room.
        #[serde(default = "yes")]
        pinned: bool,
    },
    /// Fetch a file by its address. Where that is a directory, [`Response::Directory`] says so, and nothing is written.
    Get {
        /// 64 hex digits.
        address: String,
        /// Where its bytes go.
        output: Output,
        /// Give up after this long; by default, after the phases' own limits.
        timeout_ms: Option<u64>,
        /// Multiaddrs of peers to ask first, with or without `/p2p/…`.
        #[serde(default)]
        peers: Vec<String>,
        /// What stays here; [`Keep::InPlace`] and [`Keep::No`] need a file as output.
        #[serde(default)]
        keep: Keep,
        /// Keep it whatever is collected or has to make room.
        #[serde(default)]
        pin: bool,
        /// For how long it is served once it is whole: `none`, `until-exit`, a span like `30m`, `ratio=1.5` or `forever`;
        /// absent: as the daemon was told, and `none` without one.
        seed: Option<String>,
        /// Whether the peers of its swarm owe each other anything; absent: as the node was told.
        swarm: Option<SwarmMode>,
    },
    /// Write a range of a file to the byte stream that accompanies the call, in order, each byte proven before it leaves.
    /// What is not here is fetched, and no more of the file than that takes.
    Cat {
        /// 64 hex digits.
        address: String,
        /// Where the file is in the directory of that address; empty for the file of that address.
        #[serde(default)]
        path: String,
        /// Where the range begins; at most the file's length.
        #[serde(default)]
        offset_bytes: u64,
        /// How long it is; up to the end of the file when absent.
        length_bytes: Option<u64>,
        /// Give up after this long; by default, after the phases' own limits.
        timeout_ms: Option<u64>,
        /// Multiaddrs of peers to ask first, with or without `/p2p/…`.
        #[serde(default)]
        peers: Vec<String>,
    },
    /// Fetch many files into a folder. That some cannot be had is told in the report, and is no error of the call.
    GetMany {
        /// At most [`super::MAX_LISTED_FILES`], their paths of at most [`super::MAX_LISTED_PATH_BYTES`] in all.
        files: Vec<ListedFile>,
        /// The folder that their paths are in; absolute, and made if need be.
        #[serde(with = "super::path")]
        #[schema(value_type = JsonPath)]
        folder: OsString,
        /// Replace what is there.
        #[serde(default)]
        force: bool,
        /// Give up after this long; by default, after the phases' own limits.
        timeout_ms: Option<u64>,
        /// Multiaddrs of peers to ask first, with or without `/p2p/…`.
        #[serde(default)]
        peers: Vec<String>,
        /// What stays here; not [`Keep::InPlace`].
        #[serde(default)]
        keep: Keep,
        /// Keep them whatever is collected or has to make room.
        #[serde(default)]
        pin: bool,
        /// As of [`Request::Get`].
        seed: Option<String>,
    },
    /// Fetch a directory, or a part of it. That some of it cannot be had is told in the report, and is no error of the call. For a
    /// single file the response is that of [`Request::Get`].
    GetTree {
        /// 64 hex digits.
        address: String,
        /// A file or folder in it; empty for all of it.
        #[serde(default)]
        path: String,
        /// What of that is fetched, as of [`Request::StoreTree`]: by the paths in the directory.
        #[serde(default)]
        include: Vec<String>,
        /// What of that is not fetched.
        #[serde(default)]
        exclude: Vec<String>,
        /// Where it goes.
        #[schema(value_type = JsonTreeOutput)]
        output: TreeOutput,
        /// Replace files and links that are there.
        #[serde(default)]
        force: bool,
        /// Give up after this long; by default, after the phases' own limits.
        timeout_ms: Option<u64>,
        /// Multiaddrs of peers to ask first, with or without `/p2p/…`.
        #[serde(default)]
        peers: Vec<String>,
        /// What stays here; not [`Keep::InPlace`].
        #[serde(default)]
        keep: Keep,
        /// Keep it whatever is collected or has to make room.
        #[serde(default)]
        pin: bool,
        /// As of [`Request::Get`].
        seed: Option<String>,
    },
    /// List what is in a directory; its listing is fetched if need be.
    LsTree {
        /// 64 hex digits.
        address: String,
        /// A file or folder in it; empty for all of it.
        #[serde(default)]
        path: String,
        /// Everything beneath, instead of one level with its folders.
        #[serde(default)]
        recursive: bool,
        /// Entries to leave out: those of the pages before.
        #[serde(default)]
        skip: u64,
        /// Give up after this long; by default, after the phases' own limits.
        timeout_ms: Option<u64>,
        /// Multiaddrs of peers to ask first, with or without `/p2p/…`.
        #[serde(default)]
        peers: Vec<String>,
    },
    /// Serve a file until its seeding is over. Whoever calls is not told before, and leaves when it wants.
    Linger {
        /// 64 hex digits.
        address: String,
    },
    /// List the files and directories that were stored or fetched by themselves.
    Ls,
    /// List everything that is here: the files of directories, too.
    LsAll,
    /// One file's facts.
    Stat {
        /// 64 hex digits.
        address: String,
    },
    /// Remove a file and the chunks that only it used.
    Rm {
        /// 64 hex digits.
        address: String,
    },
    /// Keep a file whatever is collected or has to make room.
    PinAdd {
        /// 64 hex digits.
        address: String,
    },
    /// Let a file go when room is needed.
    PinRm {
        /// 64 hex digits.
        address: String,
    },
    /// List the pinned files.
    PinLs,
    /// Give back the space of what nothing needs.
    Gc {
        /// Say what would be done, and do nothing.
        #[serde(default)]
        dry_run: bool,
    },
    /// What files occupy.
    Du {
        /// 64 hex digits; every file when absent.
        address: Option<String>,
    },
    /// Read everything and check it against its hashes.
    Verify {
        /// 64 hex digits; everything when absent.
        address: Option<String>,
        /// Fetch what is damaged or missing from the network.
        #[serde(default)]
        repair: bool,
    },
    /// Who has a file or a chunk, by the DHT.
    Providers {
        /// 64 hex digits: an address or a chunk hash.
        key: String,
        /// Give up after this long.
        timeout_ms: Option<u64>,
    },
    /// What stands between this node and a file: goes the way of a `get`, and keeps nothing.
    Why {
        /// 64 hex digits, or a link.
        address: String,
        /// End after this long.
        timeout_ms: Option<u64>,
        /// Multiaddrs of peers to ask as well, with or without `/p2p/…`.
        #[serde(default)]
        peers: Vec<String>,
    },
    /// What may be wrong with this node, and what to do about it.
    Doctor {
        /// This alone; absent: all that a daemon can tell.
        only: Option<DoctorKind>,
    },
    /// How announcing stands.
    ProvideStatus {
        /// 64 hex digits; everything when absent.
        address: Option<String>,
    },
    /// Announce again, now.
    ProvideNow {
        /// 64 hex digits; everything when absent.
        address: Option<String>,
        /// Wait until it is done.
        #[serde(default)]
        wait: bool,
        /// Wait no longer than this.
        timeout_ms: Option<u64>,
    },
    /// The peers closest to a key.
    DhtLookup {
        /// 64 hex digits.
        key: String,
        /// Give up after this long.
        timeout_ms: Option<u64>,
    },
    /// What the DHT holds under a key.
    DhtGet {
        /// 64 hex digits.
        key: String,
        /// Give up after this long.
        timeout_ms: Option<u64>,
    },
    /// Put a record of made-up content, and read it back.
    DhtPutTest {
        /// Give up after this long.
        timeout_ms: Option<u64>,
    },
    /// Say, or change, which part in the DHT this node takes.
    DhtMode {
        /// From now until the daemon ends; absent: only say.
        mode: Option<DhtMode>,
    },
    /// Say, or change, how much is sent and taken at most.
    Limits {
        /// From now until the daemon ends; absent: only say.
        change: Option<LimitsChange>,
    },
    /// Numbers for a monitoring system.
    Metrics,
    /// This node's own state.
    Status,
    /// A file's swarm.
    SwarmStatus {
        /// 64 hex digits.
        address: String,
    },
    /// The peers it is connected to.
    Peers,
}

//! `casnode bench-part`: one piece of work in a process of its own, so that its processor time and memory are its own.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use casnode_node::api::{ChunkerName, ErrorKind};
use casnode_node::bench::{self, Cache, Lap, Stopwatch};
use serde::{Deserialize, Serialize};

use super::plain::{self, Sink};
use crate::exit::{Failure, Result};
use crate::output::{json_line, write_out};

/// What is hashed at a time by [`Part::Hash`]: it stays in the processor's cache.
const HASH_BYTES: usize = 256 << 10;

/// A piece of work. Names are of files in the current folder.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "kebab-case")]
pub(crate) enum Part {
    /// Hashes so many bytes in memory.
    Hash {
        /// How many.
        bytes: u64,
    },
    /// Cuts a file and hashes its chunks.
    Scan {
        /// Which file.
        file: String,
        /// How it is cut.
        chunker: ChunkerName,
    },
    /// Stores a file in a new store.
    Store {
        /// Which file.
        file: String,
        /// The store's folder.
        store: String,
        /// How it is cut.
        chunker: ChunkerName,
    },
    /// Reads a stored file.
    Read {
        /// The store's folder.
        store: String,
        /// The file's address.
        address: String,
        /// Whether what the system remembers is dropped before.
        cold: bool,
    },
    /// Sends a file to a port.
    Send {
        /// Which file.
        file: String,
        /// Where to.
        port: u16,
    },
    /// Says a port, and takes what is sent there.
    Receive {
        /// The file to make; none: the bytes are dropped.
        output: Option<String>,
        /// Whether it is written around the page cache.
        direct: bool,
    },
}

/// What a receiver says first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    /// Where it listens on the loopback.
    pub(crate) port: u16,
}

/// What a part says when it is done.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Wall time of the work alone.
    pub(crate) seconds: f64,
    /// Processor time of the work alone.
    pub(crate) cpu_s: f64,
    /// The address of the bytes, where they were hashed.
    pub(crate) address: Option<String>,
    /// Bytes that came from a disk, where that is known.
    pub(crate) disk_bytes: Option<u64>,
}

impl From<Lap> for Done {
    fn from(lap: Lap) -> Self {
        Self {
            seconds: lap.seconds,
            cpu_s: lap.cpu_s,
            ..Self::default()
        }
    }
}

/// Does a part, says what it took, and stays until whoever started it has looked at it.
pub(crate) fn run(part: &str) -> Result<()> {
    let part = serde_json::from_str(part).map_err(|error| {
        Failure::new(
            ErrorKind::Usage,
            "this is no part of a bench",
            error.to_string(),
            "run `casnode bench`, which starts its parts by itself",
        )
    })?;
    // Whoever started this may be gone at any time; then nobody wants what it does.
    let orphaned = std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(0);
    });
    let done = work(&part)?;
    write_out(&json_line(&done)?)?;
    let _ = orphaned.join();
    Ok(())
}

fn work(part: &Part) -> Result<Done> {
    match part {
        Part::Hash { bytes } => Ok(hash(*bytes).into()),
        Part::Scan { file, chunker } => Ok(bench::scan(Path::new(file), *chunker)?.into()),
        Part::Store {
            file,
            store,
            chunker,
        } => {
            let (lap, address) = bench::store(Path::new(file), Path::new(store), *chunker)?;
            Ok(Done {
                address: Some(address),
                ..lap.into()
            })
        }
        Part::Read {
            store,
            address,
            cold,
        } => {
            let cache = if *cold { Cache::Cold } else { Cache::Warm };
            let (lap, disk_bytes) = bench::read(Path::new(store), address, cache)?;
            Ok(Done {
                disk_bytes,
                ..lap.into()
            })
        }
        Part::Send { file, port } => {
            let lap = plain::send(Path::new(file), *port);
            Ok(lap
                .map_err(|error| Failure::io("the file could not be sent", &error))?
                .into())
        }
        Part::Receive { output, direct } => receive(output.as_deref(), *direct),
    }
}

fn hash(bytes: u64) -> Lap {
    let piece = vec![0x5a; HASH_BYTES];
    let mut hasher = blake3::Hasher::new();
    let watch = Stopwatch::start();
    while hasher.count() < bytes {
        let left = usize::try_from(bytes - hasher.count()).unwrap_or(usize::MAX);
        hasher.update(&piece[..left.min(HASH_BYTES)]);
    }
    std::hint::black_box(hasher.finalize());
    watch.stop()
}

fn receive(output: Option<&str>, direct: bool) -> Result<Done> {
    let io = |error: io::Error| Failure::io("the bytes could not be taken", &error);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io)?;
    let port = listener.local_addr().map_err(io)?.port();
    write_out(&json_line(&Listening { port })?)?;
    let sink = match (output, direct) {
        (None, _) => Sink::Nowhere,
        (Some(path), false) => Sink::Buffered(Path::new(path)),
        (Some(path), true) => Sink::Direct(Path::new(path)),
    };
    let (lap, address) = plain::receive(&listener, sink).map_err(io)?;
    Ok(Done {
        address,
        ..lap.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_survives_the_command_line() {
        let part = Part::Store {
            file: "original".to_owned(),
            store: "store".to_owned(),
            chunker: ChunkerName::FastCdc,
        };
        let text = serde_json::to_string(&part).unwrap();
        assert_eq!(serde_json::from_str::<Part>(&text).unwrap(), part);
    }

    #[test]
    fn what_is_no_part_is_wrong_usage() {
        assert_eq!(run("{}").unwrap_err().code(), 2);
    }

    #[test]
    fn any_number_of_bytes_is_hashed() {
        for bytes in [0, 1, 300_000] {
            assert!(hash(bytes).seconds >= 0.0);
        }
    }
}

//! How `casnode bench` is told what to measure.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use crate::size;

/// Of `casnode bench`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Needs up to four times SIZE in DIR, which it removes in the end, and no network but the loopback. Compare \
                  figures of one machine, and of one size: docs/PERFORMANCE.md says what each row is."
)]
pub(crate) struct BenchArgs {
    /// How much is stored and fetched in each step
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size::parse_size)]
    pub(crate) size: u64,
    /// Where to work [default: beside the data directory, else the temporary folder (TMPDIR)]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How often each step is done; medians are shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    pub(crate) runs: u8,
    /// Only these steps
    #[arg(long, value_name = "STEP", value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<Step>,
}

/// Of `casnode bench-part`, by which a bench starts what it measures.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchPartArgs {
    /// What to do, as JSON
    pub(crate) part: String,
}

/// One row of a bench, in the order in which they are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// BLAKE3 of bytes in memory, one thread
    Hash,
    /// Cut at equal lengths and hash, nothing stored
    ChunkFixed,
    /// Cut by content and hash, nothing stored
    ChunkFastcdc,
    /// Store a file in the page cache, cut at equal lengths; durable
    StoreFixed,
    /// Store a file in the page cache, cut by content; durable
    StoreFastcdc,
    /// Read and verify a stored file, from memory
    Read,
    /// Read and verify a stored file, from the disk
    ReadCold,
    /// A plain program: TCP on the loopback, the bytes are dropped
    Tcp,
    /// A plain program: TCP on the loopback, BLAKE3, one write
    Floor,
    /// One provider, one downloader, file to file, kept in the store: TCP, AES
    TransferTcpAes,
    /// The same with ChaCha20
    TransferTcpChacha20,
    /// The same over QUIC
    TransferQuic,
    /// Over TCP, and nothing but the output is kept
    TransferNoKeep,
    /// Eight providers at once
    #[value(name = "transfer-8-peers")]
    #[serde(rename = "transfer-8-peers")]
    TransferEightPeers,
}

impl Step {
    /// Its name, as typed and in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::ChunkFixed => "chunk-fixed",
            Self::ChunkFastcdc => "chunk-fastcdc",
            Self::StoreFixed => "store-fixed",
            Self::StoreFastcdc => "store-fastcdc",
            Self::Read => "read",
            Self::ReadCold => "read-cold",
            Self::Tcp => "tcp",
            Self::Floor => "floor",
            Self::TransferTcpAes => "transfer-tcp-aes",
            Self::TransferTcpChacha20 => "transfer-tcp-chacha20",
            Self::TransferQuic => "transfer-quic",
            Self::TransferNoKeep => "transfer-no-keep",
            Self::TransferEightPeers => "transfer-8-peers",
        }
    }

    /// Whether nodes take part.
    pub(crate) fn is_transfer(self) -> bool {
        self >= Self::TransferTcpAes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_one_name_everywhere() {
        for step in Step::value_variants() {
            let typed = step.to_possible_value().unwrap();
            assert_eq!(typed.get_name(), step.name());
            let json = serde_json::to_string(step).unwrap();
            assert_eq!(json, format!("\"{}\"", step.name()));
            assert_eq!(step.is_transfer(), step.name().starts_with("transfer"));
        }
    }
}

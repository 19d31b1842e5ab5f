//! The steps, one after another.

use casnode_node::api::{ChunkerName, Keep};

use super::data::PROVIDERS;
use super::part::Part;
use super::samples::{Sample, median, rounded, row};
use super::stage::{ORIGINAL, Stage, Write, has_direct_writes};
use super::transfer::{Line, Peer};
use crate::args::Step;
use crate::exit::Result;
use crate::output::bench::BenchRow;

/// Name of the folder of a store that no node has.
const STORE: &str = "store";

/// Of the bytes that are read from the disk when nothing of a file was remembered: less means that some was.
const COLD_SHARE: f64 = 0.9;

/// What later rows are compared with.
#[derive(Debug, Default)]
pub(crate) struct Ratios {
    floor_mb_per_s: Option<f64>,
}

impl Stage {
    /// Does a step, so often as was asked for.
    pub(crate) async fn step(&mut self, step: Step, ratios: &mut Ratios) -> Result<BenchRow> {
        let mut row = match step {
            Step::Hash => {
                let bytes = self.size_bytes;
                self.parts(step, &Part::Hash { bytes }).await?
            }
            Step::ChunkFixed => self.scan(step, ChunkerName::Fixed).await?,
            Step::ChunkFastcdc => self.scan(step, ChunkerName::FastCdc).await?,
            Step::StoreFixed => self.store(step, ChunkerName::Fixed).await?,
            Step::StoreFastcdc => self.store(step, ChunkerName::FastCdc).await?,
            Step::Read => self.read(step, false).await?,
            Step::ReadCold => self.read(step, true).await?,
            Step::Tcp => self.tcp(step).await?,
            Step::Floor => self.floor(step).await?,
            Step::TransferTcpAes => {
                self.transfer(step, Line::tcp(Some("aes")), Keep::Copy)
                    .await?
            }
            Step::TransferTcpChacha20 => {
                self.transfer(step, Line::tcp(Some("chacha20")), Keep::Copy)
                    .await?
            }
            Step::TransferQuic => self.transfer(step, Line::quic(), Keep::Copy).await?,
            Step::TransferNoKeep => self.transfer(step, Line::tcp(None), Keep::No).await?,
            Step::TransferEightPeers => self.eight_peers(step).await?,
        };
        if step == Step::Floor {
            ratios.floor_mb_per_s = Some(row.mb_per_s);
        }
        if step.is_transfer() {
            row.of_floor = ratios
                .floor_mb_per_s
                .filter(|&floor| floor > 0.0)
                .map(|floor| rounded(row.mb_per_s / floor));
        }
        Ok(row)
    }

    /// The same part in one process after another.
    async fn parts(&mut self, step: Step, part: &Part) -> Result<BenchRow> {
        let mut samples = Vec::new();
        for _ in 0..self.runs {
            samples.push(self.part(part).await?.0);
        }
        Ok(row(step.name(), self.size_bytes, &samples))
    }

    async fn scan(&mut self, step: Step, chunker: ChunkerName) -> Result<BenchRow> {
        self.warm().await?;
        let file = ORIGINAL.to_owned();
        self.parts(step, &Part::Scan { file, chunker }).await
    }

    async fn store(&mut self, step: Step, chunker: ChunkerName) -> Result<BenchRow> {
        self.warm().await?;
        let mut samples = Vec::new();
        for _ in 0..self.runs {
            samples.push(self.store_once(chunker).await?);
            self.remove(STORE)?;
        }
        Ok(row(step.name(), self.size_bytes, &samples))
    }

    async fn store_once(&mut self, chunker: ChunkerName) -> Result<Sample> {
        let part = Part::Store {
            file: ORIGINAL.to_owned(),
            store: STORE.to_owned(),
            chunker,
        };
        let (sample, done) = self.part(&part).await?;
        let address = done.address.unwrap_or_default();
        self.check_address("the address that store gave", &address)?;
        Ok(sample)
    }

    async fn read(&mut self, step: Step, cold: bool) -> Result<BenchRow> {
        self.store_once(ChunkerName::FastCdc).await?;
        let part = Part::Read {
            store: STORE.to_owned(),
            address: self.address.clone(),
            cold,
        };
        let mut samples = Vec::new();
        let mut from_disk = Some(u64::MAX);
        for _ in 0..self.runs {
            let (sample, done) = self.part(&part).await?;
            samples.push(sample);
            from_disk = from_disk
                .zip(done.disk_bytes)
                .map(|(least, one)| least.min(one));
        }
        self.remove(STORE)?;
        let mut row = row(step.name(), self.size_bytes, &samples);
        if cold {
            row.note = cold_note(from_disk, self.size_bytes);
        }
        Ok(row)
    }

    async fn tcp(&mut self, step: Step) -> Result<BenchRow> {
        self.warm().await?;
        let mut samples = Vec::new();
        for _ in 0..self.runs {
            samples.push(self.plain(None).await?);
        }
        Ok(row(step.name(), self.size_bytes, &samples))
    }

    /// Written in both ways in turn; the quicker one is the row.
    async fn floor(&mut self, step: Step) -> Result<BenchRow> {
        self.warm().await?;
        let has_direct = has_direct_writes(&self.folder).await;
        let (mut buffered, mut direct) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            buffered.push(self.plain(Some(Write::Buffered)).await?);
            if has_direct {
                direct.push(self.plain(Some(Write::Direct)).await?);
            }
        }
        let seconds = |samples: &[Sample]| {
            let seconds: Vec<f64> = samples.iter().map(|sample| sample.seconds).collect();
            median(&seconds).unwrap_or(f64::INFINITY)
        };
        let (samples, how) = if seconds(&direct) < seconds(&buffered) {
            (direct, "around")
        } else {
            (buffered, "through")
        };
        let mut row = row(step.name(), self.size_bytes, &samples);
        row.note = Some(format!("written {how} the page cache"));
        Ok(row)
    }

    async fn transfer(&mut self, step: Step, line: Line, keep: Keep) -> Result<BenchRow> {
        let provider = self.provider("provider".to_owned(), line, false).await?;
        let providers = [provider];
        let samples = self.fetches(line, &providers, keep).await?;
        for provider in providers {
            self.end(provider).await?;
        }
        Ok(row(step.name(), self.size_bytes, &samples))
    }

    /// Providers that refer to the original, one alone before all of them.
    async fn eight_peers(&mut self, step: Step) -> Result<BenchRow> {
        let line = Line::tcp(None);
        let mut costs = Vec::new();
        let mut last = Vec::new();
        for how_many in [1, PROVIDERS] {
            let mut providers: Vec<Peer> = Vec::new();
            for number in 1..=how_many {
                let name = format!("provider-{number}");
                providers.push(self.provider(name, line, true).await?);
            }
            last = self.fetches(line, &providers, Keep::Copy).await?;
            for provider in providers {
                self.end(provider).await?;
            }
            costs.push(row(step.name(), self.size_bytes, &last).cpu_s_per_gib);
        }
        let mut row = row(step.name(), self.size_bytes, &last);
        row.cpu_over_one_peer = match costs.as_slice() {
            [Some(one), Some(eight)] if *one > 0.0 => Some(rounded(eight / one)),
            _ => None,
        };
        Ok(row)
    }

    async fn fetches(&mut self, line: Line, providers: &[Peer], keep: Keep) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for _ in 0..self.runs {
            samples.push(self.fetch(line, providers, keep).await?);
        }
        Ok(samples)
    }
}

/// Whether a cold read was one.
fn cold_note(from_disk_bytes: Option<u64>, size_bytes: u64) -> Option<String> {
    match from_disk_bytes {
        None => Some("the system does not tell whether it read from the disk".to_owned()),
        Some(bytes) if (bytes as f64) < size_bytes as f64 * COLD_SHARE => {
            Some("not cold: the system would not forget the file".to_owned())
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_was_not_cold_says_so() {
        assert_eq!(cold_note(Some(100), 100), None);
        assert_eq!(cold_note(Some(90), 100), None);
        assert!(cold_note(Some(89), 100).unwrap().contains("not cold"));
        assert!(cold_note(None, 100).unwrap().contains("does not tell"));
    }
}

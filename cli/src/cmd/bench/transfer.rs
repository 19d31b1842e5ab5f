//! Nodes that serve and fetch, each a process of its own, on the loopback alone.

use std::path::PathBuf;
use std::time::Instant;

use casnode_node::api::{
    ChunkerName, ErrorKind, Keep, Output, Request, Response, Source, StatusReport,
};
use casnode_node::{Client, Streams};

use super::child::Pid;
use super::samples::{Sample, Used};
use super::stage::{COPY, ORIGINAL, Stage};
use super::usage::{cpu_s, with_peaks};
use crate::exit::{Failure, Result};
use crate::session::unexpected;

/// The network of a bench: machines of one owner, who owe each other nothing.
const NETWORK: &str = "bench";

/// How the nodes of a step talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where they listen.
    pub(crate) listen: &'static str,
    /// What `--cipher` says; none: what they choose themselves.
    pub(crate) cipher: Option<&'static str>,
}

impl Line {
    /// TCP, encrypted with this.
    pub(crate) fn tcp(cipher: Option<&'static str>) -> Self {
        Self {
            listen: "/ip4/127.0.0.1/tcp/0",
            cipher,
        }
    }

    /// QUIC.
    pub(crate) fn quic() -> Self {
        Self {
            listen: "/ip4/127.0.0.1/udp/0/quic-v1",
            cipher: None,
        }
    }
}

/// A daemon.
#[derive(Debug)]
pub(crate) struct Peer {
    name: String,
    pid: Pid,
    data_dir: PathBuf,
    status: StatusReport,
}

impl Stage {
    /// Starts a daemon that knows nobody.
    async fn peer(&mut self, name: String, line: Line) -> Result<Peer> {
        let data_dir = self.folder.join(&name);
        let mut words: Vec<&str> = vec![
            "daemon",
            "--json",
            "--quiet",
            "--until-eof",
            "--no-mdns",
            "--http",
            "off",
            "--profile",
            "lab",
            "--network",
            NETWORK,
            // Nobody holds records: announcing to each other would be measured as well.
            "--dht-mode",
            "client",
            // The check of stored bytes in the background has nothing to do with what is measured.
            "--scrub-rate",
            "off",
            "--data-dir",
            &name,
            "--listen",
            line.listen,
        ];
        if let Some(cipher) = line.cipher {
            words.extend(["--cipher", cipher]);
        }
        // Its log is beside its folder, which it wants to make itself.
        let pid = self.children.start(&self.folder, &name, &words)?;
        let said = self.children.line(pid, self.limit()).await?;
        let status = serde_json::from_str(&said).map_err(|error| {
            Failure::new(
                ErrorKind::Failure,
                format!("{name} did not say that it listens"),
                error.to_string(),
                "",
            )
        })?;
        Ok(Peer {
            name,
            pid,
            data_dir,
            status,
        })
    }

    /// Starts a daemon that has the original: a copy in its store, or the original in its place.
    pub(crate) async fn provider(
        &mut self,
        name: String,
        line: Line,
        in_place: bool,
    ) -> Result<Peer> {
        let peer = self.peer(name, line).await?;
        let store = Request::Store {
            source: Source::File(self.folder.join(ORIGINAL).into_os_string()),
            name: None,
            chunker: ChunkerName::FastCdc,
            pinned: true,
            in_place,
        };
        let Response::Store(report) = self.call(&peer, store).await? else {
            return Err(unexpected());
        };
        self.check_address("the address that store printed", &report.address)?;
        // The store writes around the page cache: the first reader would wait for the disk, and the next not.
        let verify = Request::Verify {
            address: Some(report.address),
            repair: false,
        };
        self.call(&peer, verify).await?;
        Ok(peer)
    }

    /// Fetches the file with a new daemon, and removes all it has.
    pub(crate) async fn fetch(
        &mut self,
        line: Line,
        providers: &[Peer],
        keep: Keep,
    ) -> Result<Sample> {
        let downloader = self.peer("downloader".to_owned(), line).await?;
        let mut pids: Vec<Pid> = providers.iter().map(|peer| peer.pid).collect();
        pids.push(downloader.pid);
        let get = Request::Get {
            address: self.address.clone(),
            output: Output::File {
                path: self.folder.join(COPY).into_os_string(),
                force: false,
            },
            timeout_ms: u64::try_from(self.limit().as_millis()).ok(),
            peers: providers
                .iter()
                .filter_map(|peer| peer.status.listen.first().cloned())
                .collect(),
            keep,
            pin: false,
            seed: None,
            swarm: None,
        };
        let before: Vec<Option<f64>> = pids.iter().map(|&pid| cpu_s(pid)).collect();
        let begun = Instant::now();
        let (response, peaks) = with_peaks(&pids, self.call(&downloader, get)).await;
        let seconds = begun.elapsed().as_secs_f64();
        let used: Vec<Used> = pids
            .iter()
            .zip(before)
            .zip(peaks)
            .map(|((&pid, before), peak_bytes)| Used {
                cpu_s: cpu_s(pid).zip(before).map(|(after, before)| after - before),
                peak_bytes,
            })
            .collect();
        let Response::Get(report) = response? else {
            return Err(unexpected());
        };
        if report.fetched_bytes < self.size_bytes {
            return Err(Failure::new(
                ErrorKind::Failure,
                "the downloader did not fetch the whole file",
                format!("{} bytes came from peers", report.fetched_bytes),
                "this is a bug of casnode: please report it",
            ));
        }
        self.end(downloader).await?;
        self.check_copy().await?;
        let (own, others) = used.split_last().ok_or_else(unexpected)?;
        Ok(Sample {
            seconds,
            own: *own,
            provider: Some(together(others)),
        })
    }

    /// Ends a daemon, and removes all it has.
    pub(crate) async fn end(&mut self, peer: Peer) -> Result<()> {
        self.children.leave(peer.pid).await;
        self.remove(&peer.name)
    }

    /// Makes one call to a daemon.
    async fn call(&self, peer: &Peer, request: Request) -> Result<Response> {
        let call = async {
            let client = Client::connect(&peer.data_dir).await?.ok_or_else(|| {
                Failure::new(
                    ErrorKind::Failure,
                    format!("{} does not answer", peer.name),
                    "its process has ended",
                    "",
                )
            })?;
            let outcome = client.call(request, Streams::default(), &mut |_| {}).await;
            client.close().await;
            Ok(outcome?)
        };
        let late = |_| {
            Failure::new(
                ErrorKind::TimedOut,
                format!("{} takes too long", peer.name),
                format!("it was given {} s", self.limit().as_secs()),
                "try a smaller --size, or another folder with --dir",
            )
        };
        tokio::time::timeout(self.limit(), call)
            .await
            .map_err(late)?
    }
}

/// What several used: the processor time of all, the memory of the largest.
fn together(all: &[Used]) -> Used {
    Used {
        cpu_s: all.iter().map(|one| one.cpu_s).sum(),
        peak_bytes: all.iter().filter_map(|one| one.peak_bytes).max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_have_the_time_of_all_and_the_memory_of_the_largest() {
        let one = |cpu_s, peak_bytes| Used { cpu_s, peak_bytes };
        let all = [one(Some(1.0), Some(5)), one(Some(0.5), Some(9))];
        assert_eq!(together(&all), one(Some(1.5), Some(9)));
        let some = [one(Some(1.0), None), one(None, Some(9))];
        assert_eq!(together(&some), one(None, Some(9)));
    }
}

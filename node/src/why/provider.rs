//! One provider: whether it is there, what it says of the file, and whether a part of it is right.

use std::time::{Duration, Instant};

use casnode_cas::{Address, HaveBitmap, Manifest};
use casnode_dht::{Dht, DhtError, Multiaddr, PeerId, Protocol};
use rand::seq::IteratorRandom;

use super::{trace::step, verdict::Asked};
use crate::{
    api::{WhyKind, WhyOutcome, WhyStep},
    clock,
    download::{Probe, Sample, SessionEnd},
    errors,
};

/// Addresses of a provider that are dialled, and how long each may take.
const MAX_DIALS: usize = 4;
const DIAL_DEADLINE: Duration = Duration::from_secs(5);

/// How long a manifest may take here; a large one takes longer than anybody wants to know why.
const MANIFEST_DEADLINE: Duration = Duration::from_secs(20);

/// How long the turn of this node is waited for, and the chunks.
const CHUNK_PATIENCE: Duration = Duration::from_secs(15);

/// What came of asking one provider.
pub(super) struct Answer {
    pub(super) asked: Asked,
    /// The file's length, by a manifest whose bytes proved right.
    pub(super) size_bytes: Option<u64>,
    pub(super) steps: Vec<WhyStep>,
}

/// Asks a provider as a download would.
pub(super) async fn ask(
    dht: &Dht,
    address: Address,
    peer: PeerId,
    addrs: Vec<Multiaddr>,
    ends: Instant,
) -> Answer {
    let mut provider = Provider {
        peer,
        ends,
        steps: Vec::new(),
        size_bytes: None,
    };
    let asked = match provider.dial(dht, &addrs).await {
        Ok(()) => provider.talk(dht, address, addrs).await,
        Err(asked) => asked,
    };
    Answer {
        asked,
        size_bytes: provider.size_bytes,
        steps: provider.steps,
    }
}

struct Provider {
    peer: PeerId,
    ends: Instant,
    steps: Vec<WhyStep>,
    size_bytes: Option<u64>,
}

impl Provider {
    fn step(
        &mut self,
        kind: WhyKind,
        outcome: WhyOutcome,
        what: impl Into<String>,
        began: Instant,
    ) {
        let step = step(kind, outcome, Some(self.peer), what, began.elapsed());
        self.steps.push(step);
    }

    /// Dials its addresses one after the other, until it answers at one.
    async fn dial(&mut self, dht: &Dht, addrs: &[Multiaddr]) -> Result<(), Asked> {
        let began = clock::now();
        if let Some(seen) = dht.traffic_of(&self.peer) {
            let what = format!("connected already, by {} at {}", seen.transport, seen.addr);
            self.step(WhyKind::Dial, WhyOutcome::Ok, what, began);
            return Ok(());
        }
        if addrs.is_empty() {
            let what = "nobody knows an address of it";
            self.step(WhyKind::Dial, WhyOutcome::Failed, what, began);
            return Err(Asked::Unreachable);
        }
        let mut failed = Asked::Unreachable;
        for addr in addrs.iter().take(MAX_DIALS) {
            let began = clock::now();
            let named = match addr.iter().last() {
                Some(Protocol::P2p(_)) => addr.clone(),
                _ => addr.clone().with(Protocol::P2p(self.peer)),
            };
            match dht.dial(named, DIAL_DEADLINE).await {
                Ok(_) => {
                    let seen = dht.traffic_of(&self.peer);
                    let by = seen.map_or("", |seen| seen.transport);
                    self.step(
                        WhyKind::Dial,
                        WhyOutcome::Ok,
                        format!("{addr}: connected by {by}"),
                        began,
                    );
                    return Ok(());
                }
                Err(error) => {
                    let why = dial_failure(&error);
                    if why.is_somebody_else {
                        failed = Asked::SomebodyElse;
                    }
                    let what = format!("{addr}: {}", why.told);
                    self.step(WhyKind::Dial, WhyOutcome::Failed, what, began);
                }
            }
        }
        Err(failed)
    }

    /// Asks for the manifest and for a chunk.
    async fn talk(&mut self, dht: &Dht, address: Address, addrs: Vec<Multiaddr>) -> Asked {
        let began = clock::now();
        let opened = Probe::open(dht, self.peer, addrs, address).await;
        let mut probe = match opened {
            Ok(probe) => probe,
            Err(end) => return self.ended(WhyKind::Dial, &end, began),
        };
        let began = clock::now();
        let told = tokio::time::timeout(MANIFEST_DEADLINE, probe.manifest()).await;
        let manifest = match told.unwrap_or(Err(SessionEnd::Silent)) {
            Ok(manifest) => manifest,
            Err(end) => return self.ended(WhyKind::Manifest, &end, began),
        };
        let (chunks, bytes) = (manifest.chunk_count(), manifest.size_bytes());
        let what = format!("{chunks} chunks, {bytes} bytes; it merges to the address");
        self.step(WhyKind::Manifest, WhyOutcome::Ok, what, began);
        self.size_bytes = Some(bytes);
        let began = clock::now();
        match self.sample(&mut probe, &manifest).await {
            Ok((index, sample)) => self.sampled(index, sample, began),
            Err(end) => self.ended(WhyKind::Chunk, &end, began),
        }
    }

    /// A chunk of those that it has, at random; `None` when it says that it has none.
    async fn sample(
        &self,
        probe: &mut Probe,
        manifest: &Manifest,
    ) -> Result<(usize, Option<Sample>), SessionEnd> {
        if manifest.chunks().is_empty() {
            return Ok((0, Some(Sample::Proven)));
        }
        let have: HaveBitmap = probe.have(manifest).await?;
        let chosen = have.iter_ones().choose(&mut rand::rng());
        let Some(index) = chosen else {
            return Ok((0, None));
        };
        let until = self.ends.min(clock::now() + CHUNK_PATIENCE);
        let sample = probe.sample(manifest, &have, index, until).await?;
        Ok((index, Some(sample)))
    }

    fn sampled(&mut self, index: usize, sample: Option<Sample>, began: Instant) -> Asked {
        let (asked, outcome, what) = match sample {
            None => (
                Asked::Lacks,
                WhyOutcome::Failed,
                "it has none of the chunks",
            ),
            Some(Sample::Proven) => (
                Asked::Gives,
                WhyOutcome::Ok,
                "right, and proven against the address",
            ),
            Some(Sample::Right) => (Asked::Gives, WhyOutcome::Ok, "right"),
            Some(Sample::WrongBytes) => (Asked::Lies, WhyOutcome::Failed, "wrong bytes"),
            Some(Sample::Forged) => (
                Asked::Lies,
                WhyOutcome::Failed,
                "as its manifest says, and not the file's: the manifest is forged",
            ),
            Some(Sample::NotThere) => (
                Asked::Lacks,
                WhyOutcome::Failed,
                "it does not have what it says it has",
            ),
            Some(Sample::Choked) => (
                Asked::Chokes,
                WhyOutcome::Failed,
                "no turn for this node: it serves others first",
            ),
        };
        if asked == Asked::Lies {
            self.size_bytes = None; // nothing that it says is believed
        }
        self.step(
            WhyKind::Chunk,
            outcome,
            format!("chunk {index}: {what}"),
            began,
        );
        asked
    }

    /// The talk broke off.
    fn ended(&mut self, kind: WhyKind, end: &SessionEnd, began: Instant) -> Asked {
        self.step(kind, WhyOutcome::Failed, errors::brief(end), began);
        match end {
            SessionEnd::NotHere | SessionEnd::Lied => Asked::Lacks,
            SessionEnd::BadManifest(_) => Asked::Lies,
            SessionEnd::Silent | SessionEnd::Unreachable(DhtError::TimedOut(_)) => Asked::Silent,
            SessionEnd::Unreachable(DhtError::Dial { .. }) => Asked::Unreachable,
            _ => Asked::Broken,
        }
    }
}

/// Why a dial failed, in a few words.
struct DialFailure {
    told: String,
    is_somebody_else: bool,
}

fn dial_failure(error: &DhtError) -> DialFailure {
    let all = errors::chain(error);
    let has = |part: &str| all.contains(part);
    let is_somebody_else = has("another peer answers there") || has("Unexpected peer ID");
    let told = match error {
        DhtError::TimedOut(after) => format!("no answer within {} s", after.as_secs()),
        DhtError::Banned(_) => "this node refuses it for a while: it lied".to_owned(),
        _ if is_somebody_else => "another peer answers there".to_owned(),
        _ if has("Connection refused") => "refused: nobody listens there".to_owned(),
        _ if has("Timeout") || has("timed out") => "no answer".to_owned(),
        _ if has("unreachable") => "there is no way there from here".to_owned(),
        _ => errors::brief(error),
    };
    DialFailure {
        told,
        is_somebody_else,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn failed_dials_are_told_in_a_few_words() {
        let dial = |text: &str| DhtError::Dial {
            target: "12D3".to_owned(),
            source: Box::new(io::Error::other(text.to_owned())),
        };
        let cases = [
            (
                dial("x: Connection refused (os error 111)"),
                "refused: nobody listens there",
            ),
            (
                dial("another peer answers there: 12D3"),
                "another peer answers there",
            ),
            (
                dial("Network is unreachable (os error 101)"),
                "there is no way there from here",
            ),
            (dial("Timeout has been reached"), "no answer"),
            (
                DhtError::TimedOut(Duration::from_secs(5)),
                "no answer within 5 s",
            ),
        ];
        for (error, told) in cases {
            assert_eq!(dial_failure(&error).told, told, "{error:?}");
        }
        assert!(
            dial_failure(&dial("something else"))
                .told
                .contains("something else")
        );
    }
}

//! `dht lookup`, `get`, `put-test` and `mode`: looking at the DHT itself.

use std::{sync::Arc, time::Duration};

use casnode_cas::{
    Address, ChunkHash, ChunkRef, Chunking, FileKind, FileRecord, Manifest, ManifestError,
    ProofBuilder,
};
use casnode_dht::{Dht, DhtError, Mode, RecordFound};

use super::{
    files::chunker_text,
    network::{find, joined},
    provide::millis,
};
use crate::{
    api::{
        ApiError, ClosePeer, DhtGetReport, DhtLookupReport, DhtMode, DhtModeReport,
        DhtPutTestReport, ErrorKind, Outcome, RecordReport, Response,
    },
    clock, errors,
    node::{self, Node},
};

/// One lookup by hand ends after this.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(20);
/// Putting and reading back takes three of them.
const PUT_TEST_DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of a put-test's file: enough to be nobody else's.
const TEST_FILE_BYTES: u32 = 32;

/// A network with its first peer, and the time that is left.
struct Ready<'a> {
    dht: &'a Dht,
    left: Duration,
    limit: Duration,
}

impl<'a> Ready<'a> {
    /// Waits for a first peer. With none there is nobody to ask, and the answer would be about nothing.
    async fn of(node: &'a Node, what: String, limit: Duration) -> Result<Self, ApiError> {
        let dht = joined(node, &what)?;
        let ends = clock::now() + limit;
        let patience = node.network_patience().min(limit);
        if dht.connected_within(patience).await == 0 {
            return Err(errors::alone(ErrorKind::NotFound, what, node));
        }
        let left = ends.saturating_duration_since(clock::now());
        Ok(Self { dht, left, limit })
    }

    fn failed(&self, what: String, error: &DhtError) -> ApiError {
        match error {
            DhtError::TimedOut(_) => timed_out(what, self.limit, ""),
            other => ApiError::new(
                ErrorKind::Failure,
                what,
                errors::chain(other),
                "look at the daemon's log, and try again",
            ),
        }
    }
}

fn timed_out(what: String, limit: Duration, more: &str) -> ApiError {
    ApiError::new(
        ErrorKind::TimedOut,
        what,
        format!("it took longer than {} s{more}", limit.as_secs()),
        "try again with a longer --timeout",
    )
}

/// The peers closest to a key.
pub(super) async fn lookup(node: &Arc<Node>, key: &str, timeout_ms: Option<u64>) -> Outcome {
    let key: ChunkHash = super::parse("a key", key)?;
    let what = || format!("the peers closest to {key} could not be looked up");
    let limit = timeout_ms.map_or(LOOKUP_DEADLINE, Duration::from_millis);
    let ready = Ready::of(node, what(), limit).await?;
    let found = ready.dht.lookup(*key.as_bytes(), ready.left).await;
    let found = found.map_err(|error| ready.failed(what(), &error))?;
    let peers = found.peers.iter().map(|(peer, addrs, bits)| ClosePeer {
        peer: peer.to_string(),
        shared_bits: *bits,
        addrs: addrs.iter().map(ToString::to_string).collect(),
    });
    Ok(Response::DhtLookup(DhtLookupReport {
        key: key.to_string(),
        peers: peers.collect(),
        asked_peers: found.asked_peers,
        complete: found.complete,
        took_ms: millis(found.took),
    }))
}

/// What the DHT holds under a key: the value record and the providers. One of them is enough.
pub(super) async fn get(node: &Arc<Node>, key: &str, timeout_ms: Option<u64>) -> Outcome {
    let key: ChunkHash = super::parse("a key", key)?;
    let what = format!("the DHT has nothing under {key}");
    let limit = timeout_ms.map_or(LOOKUP_DEADLINE, Duration::from_millis);
    let ready = Ready::of(node, what.clone(), limit).await?;
    let began = clock::now();
    let (record, found) = tokio::join!(
        ready.dht.get_record(*key.as_bytes(), ready.left),
        find(ready.dht, *key.as_bytes(), ready.left)
    );
    let record = record.map_err(|error| ready.failed(what.clone(), &error))?;
    let asked_peers = record.asked_peers.saturating_add(found.asked_peers);
    let report = DhtGetReport {
        key: key.to_string(),
        record: decoded(&key, &record),
        providers: found.providers,
        asked_peers,
        took_ms: millis(began.elapsed()),
    };
    if report.record.is_some() || !report.providers.is_empty() {
        return Ok(Response::DhtGet(report));
    }
    let asked = errors::count(asked_peers.into(), "peer");
    if found.timed_out {
        return Err(timed_out(what, ready.limit, &format!("; {asked} asked")));
    }
    Err(ApiError::new(
        ErrorKind::NotFound,
        what,
        format!("{asked} asked, and none has a value or a provider of it"),
        "check the key; what was stored a moment ago may take a second to be known",
    ))
}

/// A value as the file's record that it is. The network has checked it already.
fn decoded(key: &ChunkHash, found: &RecordFound) -> Option<RecordReport> {
    let value = found.value.as_ref()?;
    let address = Address::from_bytes(*key.as_bytes());
    let record = FileRecord::decode_for(&address, value).ok()?;
    Some(RecordReport {
        record_bytes: value.len() as u64,
        bytes: record.size_bytes(),
        kind: match record.kind() {
            FileKind::File => "file".to_owned(),
            _ => "unknown".to_owned(),
        },
        chunker: chunker_text(record.params()),
        chunks: record.chunk_count(),
        name: record.name().map(str::to_owned),
        has_manifest: record.manifest().is_some(),
        publisher: found.publisher.map(|peer| peer.to_string()),
        published_unix_ms: found.published_at.map(|secs| secs * 1_000),
    })
}

/// Puts the record of a file that was made up, and reads it back.
pub(super) async fn put_test(node: &Arc<Node>, timeout_ms: Option<u64>) -> Outcome {
    let what = || "no record could be put to the DHT and read back".to_owned();
    let limit = timeout_ms.map_or(PUT_TEST_DEADLINE, Duration::from_millis);
    let ready = Ready::of(node, what(), limit).await?;
    let bytes: [u8; TEST_FILE_BYTES as usize] = rand::random();
    let manifest = one_chunk(&bytes).map_err(|error| {
        ApiError::new(
            ErrorKind::Failure,
            what(),
            errors::chain(&error),
            "this is a bug: please report it with what you did",
        )
    })?;
    let address = manifest.address();
    let value = FileRecord::for_manifest(&manifest, None).encode();
    let put = ready.dht.put_test(*address.as_bytes(), value, ready.left);
    let put = put.await.map_err(|error| ready.failed(what(), &error))?;
    Ok(Response::DhtPutTest(DhtPutTestReport {
        key: address.to_string(),
        closest_peers: put.closest,
        provider_copies: put.provider_copies,
        value_copies: put.value_copies,
        provider_read: put.provider_read,
        value_read: put.value_read,
        lookup_ms: millis(put.lookup_took),
        put_ms: millis(put.put_took),
        read_ms: millis(put.read_took),
        ok: put.value_read && put.provider_read > 0,
    }))
}

/// The manifest of a file of one chunk.
fn one_chunk(bytes: &[u8; TEST_FILE_BYTES as usize]) -> Result<Manifest, ManifestError> {
    let mut proof = ProofBuilder::new();
    proof.update(bytes);
    let params = Chunking::Fixed.params(Some(TEST_FILE_BYTES.into()));
    let chunk = ChunkRef {
        hash: ChunkHash::of(bytes),
        len_bytes: TEST_FILE_BYTES,
    };
    Manifest::new(params, vec![chunk], proof.finish())
}

/// Says, or changes, which part in the DHT this node takes.
pub(super) async fn mode(node: &Arc<Node>, wanted: Option<DhtMode>) -> Outcome {
    let dht = joined(node, "this node takes no part in the DHT")?;
    if let Some(wanted) = wanted {
        dht.set_mode(node::mode(wanted)).await;
        node.set_mode(wanted);
        tracing::info!(mode = ?wanted, "the part in the DHT was changed");
    }
    Ok(Response::DhtMode(DhtModeReport {
        mode: node.mode(),
        serving: is_serving(dht),
    }))
}

/// Whether a node holds records for others now.
pub(crate) fn is_serving(dht: &Dht) -> bool {
    dht.mode() == Mode::Server
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_record_is_true_for_its_key() {
        let manifest = one_chunk(&[7; TEST_FILE_BYTES as usize]).unwrap();
        let key = *manifest.address().as_bytes();
        assert_eq!(
            key,
            *ChunkHash::of(&[7; TEST_FILE_BYTES as usize]).as_bytes()
        );
        let value = FileRecord::for_manifest(&manifest, None).encode();
        let found = RecordFound {
            value: Some(value),
            asked_peers: 1,
            ..RecordFound::default()
        };
        let report = decoded(&ChunkHash::from_bytes(key), &found).unwrap();
        assert_eq!((report.bytes, report.chunks), (32, 1));
        assert_eq!(report.kind, "file");
        assert!(report.chunker.starts_with("fixed"), "{}", report.chunker);
        assert!(decoded(&ChunkHash::from_bytes([1; 32]), &found).is_none());
    }
}

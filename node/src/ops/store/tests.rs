//! What becomes of a `store` whose caller, or whose node, ends in the middle.

use std::{
    path::Path,
    pin::Pin,
    sync::mpsc,
    task::{Context, Poll},
};

use tokio::{io::ReadBuf, sync::Notify};

use super::*;
use crate::{
    api::{Caller, Outcome, Request, Response},
    config::{NetworkConfig, NodeConfig},
};

/// Input of a few chunks.
const CONTENT_BYTES: usize = 1_000_000;

/// Gives zeros; tells when they were read, and then has no end.
struct Endless {
    left_bytes: usize,
    read: Arc<Notify>,
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left_bytes == 0 {
            self.read.notify_one();
            return Poll::Pending;
        }
        let n = self.left_bytes.min(out.remaining());
        out.initialize_unfilled_to(n).fill(0);
        out.advance(n);
        self.left_bytes -= n;
        Poll::Ready(Ok(()))
    }
}

/// Gives zeros and ends. Its drop, which is the end of the import, says so and waits.
struct Held {
    left_bytes: usize,
    complete: Arc<Notify>,
    gate: mpsc::Receiver<()>,
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = self.left_bytes.min(out.remaining());
        out.initialize_unfilled_to(n).fill(0);
        out.advance(n);
        self.left_bytes -= n;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.complete.notify_one();
        let _ = self.gate.recv();
    }
}

async fn start(data_dir: &Path, networked: bool) -> Arc<Node> {
    let network = NetworkConfig {
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        ..NetworkConfig::default()
    };
    let config = NodeConfig {
        data_dir: data_dir.to_owned(),
        network: networked.then_some(network),
        serve_dht: networked,
        ..NodeConfig::default()
    };
    Node::start(config).await.unwrap()
}

async fn call(node: Arc<Node>, input: impl AsyncRead + Send + Unpin + 'static) -> Outcome {
    let request = Request::Store {
        source: Source::Stream,
        name: None,
        chunker: ChunkerName::Fixed,
        pinned: true,
        in_place: false,
    };
    let streams = Streams {
        input: Some(Box::new(input)),
        output: None,
    };
    let (events, mut queue) = EventSink::new();
    let call = node.execute(
        request,
        Caller::default(),
        streams,
        events,
        CancellationToken::new(),
    );
    let listen = async { while queue.recv().await.is_some() {} };
    tokio::join!(call, listen).0
}

fn stored(node: &Node) -> (u64, u64) {
    let stats = node.store.stats().unwrap();
    (stats.files, stats.chunks)
}

#[tokio::test]
async fn a_caller_who_leaves_in_the_middle_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), false).await;
    let read = Arc::new(Notify::new());
    let input = Endless {
        left_bytes: CONTENT_BYTES,
        read: read.clone(),
    };
    tokio::select! {
        outcome = call(node.clone(), input) => panic!("{outcome:?}"),
        () = read.notified() => {}
    }
    node.tasks.finish().await;
    assert_eq!(stored(&node), (0, 0));
}

#[tokio::test]
async fn a_node_that_ends_waits_for_the_import_to_give_back_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), false).await;
    let read = Arc::new(Notify::new());
    let input = Endless {
        left_bytes: CONTENT_BYTES,
        read: read.clone(),
    };
    let end = async {
        read.notified().await;
        node.tasks.finish().await;
        assert_eq!(stored(&node), (0, 0));
    };
    let (outcome, ()) = tokio::join!(call(node.clone(), input), end);
    assert_eq!(outcome.unwrap_err().kind, ErrorKind::Interrupted);
}

#[tokio::test]
async fn a_complete_import_is_published_when_its_caller_has_left() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), true).await;
    let complete = Arc::new(Notify::new());
    let (open, gate) = mpsc::sync_channel::<()>(0);
    let input = Held {
        left_bytes: CONTENT_BYTES,
        complete: complete.clone(),
        gate,
    };
    tokio::select! {
        outcome = call(node.clone(), input) => panic!("{outcome:?}"),
        () = complete.notified() => {}
    }
    drop(open);
    let files = node.store.files().unwrap();
    assert_eq!(files.len(), 1);
    let dht = node.dht.clone().unwrap();
    let address = *files[0].address.as_bytes();
    let chunk = *node
        .store
        .manifest(&files[0].address)
        .unwrap()
        .unwrap()
        .chunks()[0]
        .hash
        .as_bytes();
    let published = async {
        loop {
            let keys = dht.scheduled_keys();
            if keys.contains(&address) && keys.contains(&chunk) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(180), published)
        .await
        .expect("the file never entered the schedule");
    node.shutdown().await;
}

#[tokio::test]
async fn a_caller_who_waits_hears_what_was_stored() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path(), false).await;
    let Response::Store(report) = call(node.clone(), &[7u8; 1000][..]).await.unwrap() else {
        panic!("not a store report")
    };
    assert_eq!(
        (report.bytes, report.chunks, report.new_chunks),
        (1000, 1, 1)
    );
    assert_eq!(report.announced_to, 0);
}

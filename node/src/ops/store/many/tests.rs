use std::{collections::HashSet, path::Path};

use super::*;
use crate::{
    api::{Caller, Request, Response},
    config::{NetworkConfig, NodeConfig},
};

async fn start(data_dir: &Path, bootstrap: Vec<String>) -> Arc<Node> {
    let network = NetworkConfig {
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        bootstrap,
        mdns: false,
        ..NetworkConfig::default()
    };
    let config = NodeConfig {
        data_dir: data_dir.to_owned(),
        network: Some(network),
        serve_dht: true,
        ..NodeConfig::default()
    };
    Node::start(config).await.unwrap()
}

async fn call(node: &Arc<Node>, request: Request) -> Result<Response, ApiError> {
    let (events, mut queue) = EventSink::new();
    let cancel = CancellationToken::new();
    let call = node.execute(
        request,
        Caller::default(),
        Streams::default(),
        events,
        cancel,
    );
    let listen = async { while queue.recv().await.is_some() {} };
    tokio::join!(call, listen).0
}

async fn store_all(node: &Arc<Node>, paths: Vec<OsString>) -> Outcomes {
    let request = Request::StoreMany {
        paths,
        chunker: ChunkerName::FastCdc,
        pinned: true,
    };
    match call(node, request).await.unwrap() {
        Response::StoreMany { outcomes } => outcomes,
        other => panic!("{other:?}"),
    }
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> OsString {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.into_os_string()
}

#[tokio::test]
async fn every_path_has_its_outcome_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(&dir.path().join("data"), Vec::new()).await;
    let paths = vec![
        write(dir.path(), "a", b"the first"),
        dir.path().join("none").into_os_string(),
        write(dir.path(), "large", &vec![5; 300_000]),
        write(dir.path(), "again", b"the first"),
        write(dir.path(), "empty", b""),
    ];
    let outcomes = store_all(&node, paths).await;
    let [first, none, large, again, empty] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    let first = first.as_ref().unwrap();
    assert_eq!((first.bytes, first.new_bytes, first.chunks), (9, 9, 1));
    assert!(none.as_ref().unwrap_err().what.contains("none"));
    assert_eq!(large.as_ref().unwrap().bytes, 300_000);
    let again = again.as_ref().unwrap();
    assert_eq!((again.new_bytes, again.saved_bytes), (0, 9));
    assert_eq!(again.address, first.address);
    let empty = empty.as_ref().unwrap();
    assert_eq!((empty.bytes, empty.chunks, empty.new_chunks), (0, 0, 0));
    assert_eq!(node.store.stats().unwrap().files, 3);
    let request = Request::StoreMany {
        paths: vec![OsString::from("/a"); MAX_STORE_PATHS + 1],
        chunker: ChunkerName::FastCdc,
        pinned: true,
    };
    assert_eq!(
        call(&node, request).await.unwrap_err().kind,
        ErrorKind::Usage
    );
    node.shutdown().await;
}

#[tokio::test]
async fn many_files_are_found_by_address_from_another_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(&dir.path().join("data"), Vec::new()).await;
    let paths = (0..40).map(|n: u32| write(dir.path(), &n.to_string(), &n.to_le_bytes()));
    let outcomes = store_all(&node, paths.collect()).await;
    let addresses: Vec<String> = outcomes.into_iter().map(|o| o.unwrap().address).collect();
    let dht = node.dht.clone().unwrap();
    let scheduled: HashSet<[u8; 32]> = dht.scheduled_keys().into_iter().collect();
    for address in &addresses {
        let address: casnode_cas::Address = address.parse().unwrap();
        assert!(scheduled.contains(address.as_bytes()));
    }
    let bootstrap = dht.listen_addrs().await;
    let bootstrap = bootstrap.iter().map(ToString::to_string);
    let other = start(&dir.path().join("other"), bootstrap.collect()).await;
    for (n, address) in addresses.into_iter().enumerate().step_by(13) {
        let path = dir.path().join(format!("out {n}"));
        let get = Request::Get {
            address,
            output: crate::api::Output::File {
                path: path.clone().into_os_string(),
                force: false,
            },
            timeout_ms: Some(120_000),
            peers: Vec::new(),
            keep: crate::api::Keep::Auto,
            pin: false,
            seed: None,
            swarm: None,
        };
        call(&other, get).await.unwrap();
        assert_eq!(
            std::fs::read(path).unwrap(),
            u32::try_from(n).unwrap().to_le_bytes()
        );
    }
    other.shutdown().await;
    node.shutdown().await;
}

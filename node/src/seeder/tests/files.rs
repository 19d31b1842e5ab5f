//! Many small files in one message.

use casnode_cas::Address;
use casnode_dht::exchange::{FileReply, MAX_FILE_BYTES};

use super::{super::desk::MAX_FILES_WAITING, *};

const JOIN: u32 = 99;

/// A store with files of these lengths.
fn with_files(lens: &[u32]) -> (Server, Store, Vec<Address>) {
    let store = Store::in_memory().unwrap();
    let import = |len: &u32| import_bytes(&store, *len).address;
    let addresses = lens.iter().map(import).collect();
    (Server::new(&store), store, addresses)
}

fn files(addresses: &[Address]) -> Request {
    Request::Files {
        addresses: addresses.iter().map(|a| *a.as_bytes()).collect(),
    }
}

fn join_a_list() -> Request {
    Request::Join {
        manifest: [5; 32],
        chunks: 0,
        bits: Bytes::new(),
    }
}

fn given(reply: Reply) -> Vec<FileReply> {
    match reply {
        Reply::Files(files) => files,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn files_are_sent_whole_to_whoever_asks_together_with_the_join() {
    let (server, store, mut addresses) = with_files(&[10, 0, 65_536, 65_537, 700_000]);
    addresses.push(Address::of(b"nowhere"));
    let mut peer = server.open(WIDE).await;
    peer.send(JOIN, join_a_list()).await;
    peer.send(1, files(&addresses)).await;
    assert_eq!(peer.answer().await, (JOIN, Reply::NotFound));
    let (id, reply) = peer.answer().await;
    assert_eq!(id, 1);
    assert_eq!(peer.told, [Reply::Unchoke]);
    let given = given(reply);
    for (at, len) in [(0, 10), (1, 0), (2, MAX_FILE_BYTES)] {
        let FileReply::Whole(bytes) = &given[at] else {
            panic!("{at}")
        };
        assert_eq!((bytes.len(), Address::of(bytes)), (len, addresses[at]));
    }
    let rest = [FileReply::Larger, FileReply::Larger, FileReply::NotHere];
    assert_eq!(given[3..], rest);
    let counters = server.seeder.swarms.counters();
    assert_eq!(counters.sent_bytes.load(Relaxed), 10 + 65_536);
    assert_eq!(server.seeding.uploaded_bytes(&addresses[2]), 65_536);
    // What is removed is not served.
    store.remove_file(&addresses[0]).unwrap().unwrap();
    let reply = peer.ask(2, files(&addresses[..1])).await;
    assert_eq!(reply, Reply::Files(vec![FileReply::NotHere]));
}

#[tokio::test]
async fn a_reply_ends_where_it_is_full() {
    let lens: Vec<u32> = (0..20).map(|n| 65_000 + n).collect();
    let (server, _store, addresses) = with_files(&lens);
    let mut peer = server.open(4 << 20).await;
    peer.send(JOIN, join_a_list()).await;
    assert_eq!(peer.answer().await, (JOIN, Reply::NotFound));
    let first = given(peer.ask(1, files(&addresses)).await);
    assert_eq!(first.len(), 16);
    let rest = given(peer.ask(2, files(&addresses[16..])).await);
    assert_eq!(rest.len(), 4);
    assert!(rest.iter().all(|file| matches!(file, FileReply::Whole(_))));
}

#[tokio::test]
async fn nobody_is_sent_files_who_is_choked_or_has_not_joined() {
    let (server, _store, addresses) = with_files(&[10]);
    let mut peer = server.open(WIDE).await;
    assert_eq!(peer.ask(1, files(&addresses)).await, Reply::Choked);
    peer.send(JOIN, join_a_list()).await;
    assert_eq!(peer.answer().await, (JOIN, Reply::NotFound));
    while peer.news().await != Reply::Unchoke {}
    server.seeder.swarms.choke_all();
    while peer.news().await != Reply::Choke {}
    assert_eq!(peer.ask(2, files(&addresses)).await, Reply::Choked);
    assert_eq!(server.seeder.swarms.counters().sent_bytes.load(Relaxed), 0);
}

#[tokio::test]
async fn whoever_takes_nothing_has_few_lists_waiting() {
    let (server, _store, addresses) = with_files(&[65_000]);
    // Nothing fits the pipe, and nobody reads it.
    let mut peer = server.open(512).await;
    peer.send(JOIN, join_a_list()).await;
    assert_eq!(peer.answer().await, (JOIN, Reply::NotFound));
    while peer.news().await != Reply::Unchoke {}
    let asking = async {
        for id in 1.. {
            let asked = peer.ask.send(id, &files(&addresses)).await;
            if asked.is_err() || id as usize > 8 * MAX_FILES_WAITING {
                std::future::pending::<()>().await;
            }
        }
    };
    let end = tokio::select! {
        () = asking => None,
        end = timeout(LONG, peer.end.recv()) => end.expect("it goes on"),
    };
    assert!(matches!(end, Some(Err(End::Breach(_)))));
}

#[tokio::test]
async fn what_is_served_no_more_is_not_sent() {
    let (server, _store, addresses) = with_files(&[10]);
    let over = crate::seeding::SeedPolicy::None;
    server
        .seeding
        .set(addresses[0], over, 10, clock::unix_s())
        .unwrap();
    let mut peer = server.open(WIDE).await;
    peer.send(JOIN, join_a_list()).await;
    assert_eq!(peer.answer().await, (JOIN, Reply::NotFound));
    let reply = peer.ask(1, files(&addresses)).await;
    assert_eq!(reply, Reply::Files(vec![FileReply::NotHere]));
}

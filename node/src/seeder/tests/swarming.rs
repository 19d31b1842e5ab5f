//! A stream joins, is choked and unchoked, and hears of others.

use super::*;
use crate::seeding::SeedPolicy;

#[tokio::test]
async fn a_file_is_served_whole() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.open(WIDE).await;
    let request = Request::Manifest {
        address: *manifest.address().as_bytes(),
        offset: 0,
    };
    let Reply::Manifest { total_bytes, bytes } = peer.ask(1, request).await else {
        panic!("no manifest")
    };
    assert_eq!(
        (&bytes, total_bytes),
        (manifest.encode(), bytes.len() as u64)
    );
    let nothing = HaveBitmap::new(manifest.chunks().len());
    let Reply::Have { chunks, bits } = peer.join(&manifest, &nothing).await else {
        panic!("no bitmap")
    };
    assert_eq!(chunks, manifest.chunk_count());
    let have = HaveBitmap::from_wire(&bits, chunks as usize).unwrap();
    assert!(have.is_complete());
    assert_eq!(peer.news().await, Reply::Unchoke);
    for index in 0..chunks {
        let Reply::Chunk(bytes) = peer.fetch(&manifest, index).await else {
            panic!("no chunk")
        };
        let hash = casnode_cas::ChunkHash::of(&bytes);
        assert_eq!(hash, manifest.chunks()[index as usize].hash);
    }
    let unknown = Request::Chunk {
        index: 0,
        hash: [9; 32],
    };
    assert_eq!(peer.ask(99, unknown).await, Reply::NotFound);
    let sent = server.seeder.swarms.report(manifest.id()).up_bytes;
    assert_eq!(sent, manifest.size_bytes());
}

#[tokio::test]
async fn a_begin_brings_the_manifest_what_is_here_and_the_first_chunks() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.open(WIDE).await;
    peer.send(7, begin(&manifest, 1)).await;
    let (id, reply) = peer.answer().await;
    let total_bytes = manifest.encode().len() as u64;
    let bytes = manifest.encode().clone();
    assert_eq!((id, reply), (7, Reply::Manifest { total_bytes, bytes }));
    let (id, reply) = peer.answer().await;
    assert!(id == 8 && matches!(reply, Reply::Have { .. }), "{reply:?}");
    assert_eq!(peer.news().await, Reply::Unchoke);
    let (id, reply) = peer.answer().await;
    let Reply::Chunk(bytes) = reply else {
        panic!("{reply:?}")
    };
    let hash = casnode_cas::ChunkHash::of(&bytes);
    assert_eq!((id, hash), (9, manifest.chunks()[0].hash));
    // Nothing more was asked for, and the peer is a member.
    assert!(matches!(peer.fetch(&manifest, 1).await, Reply::Chunk(_)));
}

#[tokio::test]
async fn a_begin_for_what_is_not_here_has_one_answer_and_joins_nothing() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.open(WIDE).await;
    let unknown = Request::Begin {
        address: [9; 32],
        early_bytes: 1,
    };
    assert_eq!(peer.ask(7, unknown).await, Reply::NotFound);
    let nothing = HaveBitmap::new(manifest.chunks().len());
    let reply = peer.join(&manifest, &nothing).await;
    assert!(matches!(reply, Reply::Have { .. }), "{reply:?}");
}

#[tokio::test]
async fn nothing_is_sent_before_a_join() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.open(WIDE).await;
    assert_eq!(peer.fetch(&manifest, 0).await, Reply::Choked);
    let counters = server.seeder.swarms.counters();
    assert_eq!(counters.choked_requests.load(Relaxed), 1);
}

#[tokio::test]
async fn the_first_is_unchoked_together_with_the_answer_to_its_join() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.open(WIDE).await;
    let nothing = HaveBitmap::new(manifest.chunks().len());
    peer.join(&manifest, &nothing).await;
    // No word of the peer is waited for.
    assert_eq!(peer.news().await, Reply::Unchoke);
}

#[tokio::test]
async fn a_peer_that_has_everything_wants_nothing_until_it_says_so() {
    let (server, manifest) = Server::with_file();
    let mut everything = HaveBitmap::new(manifest.chunks().len());
    (0..everything.len()).for_each(|i| {
        everything.set(i);
    });
    server.start_choker();
    let mut peer = server.open(WIDE).await;
    peer.join(&manifest, &everything).await;
    assert_eq!(peer.fetch(&manifest, 0).await, Reply::Choked);
    assert!(peer.told.is_empty());
    peer.send(0, Request::Interest(true)).await;
    assert_eq!(peer.news().await, Reply::Unchoke);
}

#[tokio::test]
async fn a_file_that_is_not_here_can_be_joined_for_its_chunks() {
    let (server, manifest) = Server::with_file();
    let other = Store::in_memory().unwrap();
    let bytes: Vec<u8> = vec![7; 300_000];
    let mut progress = |_, _| std::ops::ControlFlow::Continue(());
    let options = ImportOptions::default();
    let unknown = import_reader(&other, &mut &bytes[..], None, &options, &mut progress);
    let unknown = unknown.unwrap().manifest;
    let mut peer = server.open(WIDE).await;
    let nothing = HaveBitmap::new(unknown.chunks().len());
    assert_eq!(peer.join(&unknown, &nothing).await, Reply::NotFound);
    assert_eq!(peer.news().await, Reply::Unchoke);
    let reply = peer.ask(5, chunk(&manifest, 0)).await;
    assert!(matches!(reply, Reply::Chunk(_)));
}

#[tokio::test]
async fn what_waits_is_answered_choked_when_the_turn_is_over() {
    let (server, manifest) = Server::with_file();
    // A pipe that holds no chunk: the first is being written while the others wait.
    let mut peer = server.open(1024).await;
    let nothing = HaveBitmap::new(manifest.chunks().len());
    peer.join(&manifest, &nothing).await;
    assert_eq!(peer.news().await, Reply::Unchoke);
    for id in 1..=40 {
        peer.send(id, chunk(&manifest, 0)).await;
    }
    let (id, first) = peer.heard().await;
    assert!(id == 1 && matches!(first, Reply::Chunk(_)));
    server.seeder.swarms.choke_all();
    let mut answered = vec![id];
    // The one that was being written comes yet.
    let next = loop {
        match peer.heard().await {
            (id, Reply::Chunk(_)) => answered.push(id),
            other => break other,
        }
    };
    assert_eq!(next, (0, Reply::Choke), "it hears why first");
    assert!(answered.len() <= 2, "{answered:?}");
    while answered.len() < 40 {
        let (id, reply) = peer.heard().await;
        assert_eq!(reply, Reply::Choked);
        answered.push(id);
    }
    let expected: Vec<u32> = (1..=40).collect();
    assert_eq!(answered, expected, "each has one answer, in their order");
}

#[tokio::test]
async fn who_leaves_makes_room_for_who_waits() {
    let (server, manifest) = Server::with_file();
    server.start_choker();
    let mut peers = server.crowd(&manifest, 40).await;
    let mut waiting = Vec::new();
    for mut peer in std::mem::take(&mut peers) {
        match peer.fetch(&manifest, 0).await {
            Reply::Chunk(_) => peers.push(peer),
            Reply::Choked => waiting.push(peer),
            other => panic!("{other:?}"),
        }
    }
    assert!(!peers.is_empty() && !waiting.is_empty());
    drop(peers);
    let mut first = waiting.remove(0);
    while first.news().await != Reply::Unchoke {}
    assert!(matches!(first.fetch(&manifest, 1).await, Reply::Chunk(_)));
}

#[tokio::test(start_paused = true)]
async fn those_who_join_hear_of_each_other() {
    let (server, manifest) = Server::with_file();
    let swarms = server.seeder.swarms.clone();
    server.tasks.spawn(
        "introduce",
        swarm::introduce(swarms, server.seeder.book.clone()),
    );
    let mut first = server.join(&manifest).await;
    let mut second = server.join(&manifest).await;
    assert_eq!(others(&mut second).await, [first.id]);
    assert_eq!(others(&mut first).await, [second.id]);
    let third = server.join(&manifest).await;
    assert_eq!(others(&mut first).await, [third.id], "only who is new");
}

#[tokio::test(start_paused = true)]
async fn who_is_still_fetching_tells_what_comes_in_batches() {
    let manifest = import_bytes(&Store::in_memory().unwrap(), 4 << 20).manifest;
    let server = Server::new(&Store::in_memory().unwrap());
    let (live, _running) = server.downloads.pretend(&manifest);
    live.believe();
    live.set(2);
    let mut peer = server.open(WIDE).await;
    let nothing = HaveBitmap::new(manifest.chunks().len());
    let Reply::Have { chunks, bits } = peer.join(&manifest, &nothing).await else {
        panic!("no bitmap")
    };
    let have = HaveBitmap::from_wire(&bits, chunks as usize).unwrap();
    assert_eq!(have.iter_ones().collect::<Vec<_>>(), [2]);
    assert_eq!(peer.news().await, Reply::Unchoke);
    live.set(0);
    assert_eq!(peer.news().await, Reply::Got { indices: vec![0] });
    let began = clock::now();
    live.set(3);
    live.set(1);
    let indices = vec![3, 1];
    assert_eq!(peer.news().await, Reply::Got { indices });
    assert!(clock::now() - began >= Duration::from_millis(90));
}

#[tokio::test]
async fn a_sole_seed_tells_each_of_other_chunks_until_all_are_out() {
    let store = Store::in_memory().unwrap();
    let manifest = import_bytes(&store, 20 << 20).manifest;
    let server = Server::new(&store);
    let count = manifest.chunks().len();
    let mut peers = Vec::new();
    for _ in 0..3 {
        let mut peer = server.open(4 << 20).await;
        let reply = peer.join(&manifest, &HaveBitmap::new(count)).await;
        let Reply::Have { chunks, bits } = reply else {
            panic!("no bitmap")
        };
        let told = HaveBitmap::from_wire(&bits, chunks as usize).unwrap();
        peers.push((peer, told));
    }
    let [first, second, third] = peers.as_slice() else {
        panic!()
    };
    assert!(first.1.is_complete(), "it was alone");
    assert!(!second.1.is_complete() && second.1.count() > 0);
    assert!(second.1.iter_ones().all(|index| !third.1.get(index)));
    assert_eq!(server.seeder.swarms.census().super_seeded, 1);
    // They take what they are told of, and in the end everybody knows everything.
    for (peer, told) in peers.iter_mut().skip(1) {
        let mut open: Vec<usize> = told.iter_ones().collect();
        loop {
            while let Some(index) = open.pop() {
                let index = u32::try_from(index).unwrap();
                let reply = peer.fetch(&manifest, index).await;
                assert!(matches!(reply, Reply::Chunk(_)));
                let indices = vec![index];
                peer.send(0, Request::Got { indices }).await;
            }
            if told.is_complete() {
                break;
            }
            if let Reply::Got { indices } = peer.news().await {
                for index in indices {
                    assert!(told.set(index as usize), "{index} was told twice");
                    open.push(index as usize);
                }
            }
        }
    }
    assert_eq!(server.seeder.swarms.census().super_seeded, 0);
}

#[tokio::test]
async fn a_file_whose_seeding_is_over_is_not_served() {
    let (server, manifest) = Server::with_file();
    let (address, size_bytes) = (manifest.address(), manifest.size_bytes());
    let mut peer = server.join(&manifest).await;
    assert!(matches!(peer.fetch(&manifest, 0).await, Reply::Chunk(_)));
    let policy = SeedPolicy::None;
    server.seeding.set(address, policy, size_bytes, 1).unwrap();
    server.start_choker();
    // Who is served now hears of it as soon as that is looked at.
    while peer.fetch(&manifest, 0).await != Reply::NotFound {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut late = server.open(WIDE).await;
    let request = Request::Manifest {
        address: *address.as_bytes(),
        offset: 0,
    };
    assert_eq!(late.ask(1, request).await, Reply::NotFound);
    let nothing = HaveBitmap::new(manifest.chunks().len());
    assert_eq!(late.join(&manifest, &nothing).await, Reply::NotFound);
    assert_eq!(late.fetch(&manifest, 0).await, Reply::NotFound);
}

#[tokio::test]
async fn what_was_sent_is_counted_although_its_peer_has_left() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.join(&manifest).await;
    assert!(matches!(peer.fetch(&manifest, 0).await, Reply::Chunk(_)));
    drop(peer);
    server.start_choker();
    let sent = u64::from(manifest.chunks()[0].len_bytes);
    let counted = async {
        while server.seeding.uploaded_bytes(&manifest.address()) < sent {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, counted).await.unwrap();
    let counted = server.seeding.uploaded_bytes(&manifest.address());
    assert_eq!(counted, sent);
}

async fn others(peer: &mut Peer) -> Vec<PeerId> {
    loop {
        if let Reply::Peers(peers) = peer.news().await {
            let id = |p: &casnode_dht::exchange::SwarmPeer| PeerId::from_bytes(&p.peer).unwrap();
            assert!(peers.iter().all(|p| p.addrs.len() == 1));
            return peers.iter().map(id).collect();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_asked_while_it_was_choked_has_not_lost_its_interest() {
    let (server, manifest) = Server::with_file();
    let mut peers = server.crowd(&manifest, 40).await;
    let peer = peers.last_mut().unwrap();
    assert_eq!(peer.fetch(&manifest, 0).await, Reply::Choked);
    server.start_choker();
    tokio::time::sleep(Duration::from_secs(45)).await;
    let view = server.seeder.swarms.report(manifest.id());
    let interested = |id: PeerId| {
        let mut peers = view.peers.iter();
        let peer = peers.find(|peer| peer.peer == id).unwrap();
        peer.interested_in_us
    };
    assert!(interested(peers[39].id));
    assert!(!interested(peers[38].id), "it never asked");
}

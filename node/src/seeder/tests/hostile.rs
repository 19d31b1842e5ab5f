//! Peers that break the rules, crawl, or ask for too much: each is bounded, and others are served meanwhile.

use super::*;

/// Of virtual time.
const HOUR: Duration = Duration::from_secs(3600);

/// Another peer joins and is served.
async fn others_are_served(server: &Server, manifest: &Manifest) {
    let mut peer = server.join(manifest).await;
    while peer.news().await != Reply::Unchoke {}
    let reply = peer.fetch(manifest, 0).await;
    assert!(matches!(reply, Reply::Chunk(_)), "{reply:?}");
}

fn is_breach(end: &Result<(), End>) -> bool {
    matches!(end, Err(End::Breach(_)))
}

#[tokio::test]
async fn a_second_begin_or_one_without_room_for_its_ids_ends_the_stream() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.open(WIDE).await;
    peer.send(1, begin(&manifest, 0)).await;
    peer.send(3, begin(&manifest, 0)).await;
    assert!(is_breach(&peer.end().await));
    let mut peer = server.open(WIDE).await;
    peer.send(u32::MAX - 2, begin(&manifest, 1)).await;
    assert!(is_breach(&peer.end().await));
    others_are_served(&server, &manifest).await;
}

#[tokio::test]
async fn a_join_with_a_bitmap_of_another_length_ends_the_stream() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.open(WIDE).await;
    let too_long = HaveBitmap::new(manifest.chunks().len() + 1);
    peer.send(1, join(&manifest, &too_long)).await;
    assert!(is_breach(&peer.end().await));
    others_are_served(&server, &manifest).await;
}

#[tokio::test]
async fn a_second_join_ends_the_stream() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.join(&manifest).await;
    let nothing = HaveBitmap::new(manifest.chunks().len());
    peer.send(9, join(&manifest, &nothing)).await;
    assert!(is_breach(&peer.end().await));
    others_are_served(&server, &manifest).await;
}

#[tokio::test]
async fn news_of_a_chunk_that_there_is_not_ends_the_stream() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.join(&manifest).await;
    let last = manifest.chunk_count() - 1;
    let indices = vec![0, last];
    peer.send(0, Request::Got { indices }).await;
    assert!(matches!(peer.fetch(&manifest, 0).await, Reply::Chunk(_)));
    let view = server.seeder.swarms.report(manifest.id());
    assert_eq!(view.peers[0].have_chunks, Some(2));
    let indices = vec![0, last + 1];
    peer.send(0, Request::Got { indices }).await;
    assert!(is_breach(&peer.end().await));
    let view = server.seeder.swarms.report(manifest.id());
    assert!(view.peers.is_empty(), "it has left the swarm");
}

#[tokio::test]
async fn the_same_news_again_and_again_ends_the_stream() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.join(&manifest).await;
    let sending = async {
        loop {
            let indices = vec![0; 512];
            let got = Request::Got { indices };
            if peer.ask.send(0, &got).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let end = tokio::select! {
        () = sending => None,
        end = timeout(LONG, peer.end.recv()) => end.expect("it goes on and on"),
    };
    assert!(is_breach(&end.unwrap()));
    others_are_served(&server, &manifest).await;
}

#[tokio::test]
async fn a_manifest_without_end_is_not_given() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.open(WIDE).await;
    let request = Request::Manifest {
        address: *manifest.address().as_bytes(),
        offset: 0,
    };
    let most = 5 + (1 << 20) / manifest.encode().len();
    let mut given = 0;
    let end = loop {
        peer.send(7, request.clone()).await;
        match timeout(LONG, peer.hear.next()).await.expect("it hangs") {
            Ok(Some(_)) => given += 1,
            _ => break peer.end().await,
        }
        assert!(given <= most, "{given} times");
    };
    assert!(given >= 4 && is_breach(&end));
    others_are_served(&server, &manifest).await;
}

#[tokio::test]
async fn asking_on_and_on_while_choked_ends_the_stream() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.open(WIDE).await;
    for id in 1..=256 {
        assert_eq!(peer.ask(id, chunk(&manifest, 0)).await, Reply::Choked);
    }
    peer.send(257, chunk(&manifest, 0)).await;
    assert!(is_breach(&peer.end().await));
    let counters = server.seeder.swarms.counters();
    assert_eq!(counters.choked_requests.load(Relaxed), 257);
    others_are_served(&server, &manifest).await;
}

#[tokio::test]
async fn who_takes_back_what_is_read_for_it_again_and_again_is_let_go() {
    let (server, manifest) = Server::with_file();
    // Its pipe holds less than a chunk: while the first of these is on its way, the others are read.
    let mut peer = server.open(4 << 10).await;
    let nothing = HaveBitmap::new(manifest.chunks().len());
    peer.join(&manifest, &nothing).await;
    while peer.news().await != Reply::Unchoke {}
    let end = 'asking: loop {
        for id in 1..=8 {
            if peer.ask.send(id, &chunk(&manifest, 0)).await.is_err() {
                break 'asking peer.end().await;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        for target in 2..=8 {
            let _ = peer.ask.send(0, &Request::Cancel { target }).await;
        }
        match timeout(LONG, peer.hear.next()).await.expect("it hangs") {
            Ok(Some(_)) => {}
            _ => break peer.end().await,
        }
    };
    assert!(is_breach(&end), "{end:?}");
    others_are_served(&server, &manifest).await;
}

#[tokio::test]
async fn a_flood_of_interest_changes_nothing_for_others() {
    let (server, manifest) = Server::with_file();
    server.start_choker();
    let mut peer = server.join(&manifest).await;
    for i in 0..2000 {
        peer.send(0, Request::Interest(i % 2 == 0)).await;
    }
    others_are_served(&server, &manifest).await;
    peer.send(0, Request::Interest(true)).await;
    while peer.news().await != Reply::Unchoke {}
}

#[tokio::test]
async fn cancels_for_nothing_are_passed_over() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.join(&manifest).await;
    while peer.news().await != Reply::Unchoke {}
    for target in 0..5000 {
        peer.send(0, Request::Cancel { target }).await;
    }
    assert!(matches!(peer.fetch(&manifest, 0).await, Reply::Chunk(_)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_asks_and_never_reads_is_let_go() {
    let (server, manifest) = Server::with_file();
    let mut peer = server.open(2048).await;
    let nothing = HaveBitmap::new(manifest.chunks().len());
    peer.join(&manifest, &nothing).await;
    assert_eq!(peer.news().await, Reply::Unchoke);
    let (id, mut end) = (peer.id, peer.end);
    // More than the desk holds: its reader waits, too.
    let asking = async {
        for id in 1..=1000 {
            let _ = peer.ask.send(id, &chunk(&manifest, 0)).await;
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        () = asking => None,
        ended = timeout(HOUR, end.recv()) => ended.ok().flatten(),
    };
    assert!(matches!(ended, Some(Err(_))), "{ended:?}");
    let view = server.seeder.swarms.report(manifest.id());
    assert!(view.peers.iter().all(|p| p.peer != id));
    others_are_served(&server, &manifest).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_a_byte_a_second_is_let_go_while_others_are_served() {
    let (server, manifest) = Server::with_file();
    let (mut slow, mut end) = server.open_raw(&manifest).await;
    others_are_served(&server, &manifest).await;
    let crawling = async {
        loop {
            let _ = slow.read(&mut [0]).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let ended = tokio::select! {
        () = crawling => None,
        ended = timeout(HOUR, end.recv()) => ended.ok().flatten(),
    };
    assert!(matches!(ended, Some(Err(End::Stuck))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_let_go_later_when_it_has_joined() {
    let (server, manifest) = Server::with_file();
    let mut silent = server.open(WIDE).await;
    let mut joined = server.join(&manifest).await;
    let began = clock::now();
    assert!(matches!(silent.end_within(HOUR).await, Err(End::Idle(_))));
    assert_eq!((clock::now() - began).as_secs(), 120);
    assert!(matches!(joined.end_within(HOUR).await, Err(End::Idle(_))));
    assert_eq!((clock::now() - began).as_secs(), 2100);
}

#[tokio::test]
async fn when_all_places_are_taken_everybody_is_served_after_the_other() {
    let (server, manifest) = Server::with_file();
    server.start_choker();
    let peers = server.crowd(&manifest, 64).await;
    assert!(server.seeder.swarms.served() < 64);
    let (id, end) = (PeerId::random(), CancellationToken::new());
    assert!(server.places.take(id, end, clock::now()).is_none());
    let turns = peers.into_iter().map(|mut peer| async {
        while peer.news().await != Reply::Unchoke {}
        let reply = peer.fetch(&manifest, 0).await;
        assert!(matches!(reply, Reply::Chunk(_)), "{reply:?}");
        drop(peer); // its slot is free
    });
    futures::future::join_all(turns).await;
}

//! Peers in memory that answer as they like.

use casnode_dht::exchange::{ReplySender, RequestReceiver, ask_over, serve_over};
use tokio::{task::JoinHandle, time::timeout};

use super::{super::plan::Sought, *};

/// Longer than anything takes here, but for what hangs.
const LONG: Duration = Duration::from_secs(600);

fn bytes_of(n: usize) -> Bytes {
    format!("file {n}").into()
}

/// A list of so many files.
fn shared(count: usize) -> Arc<Shared> {
    let sought = |n| Sought {
        address: Address::of(&bytes_of(n)),
        is_small: false,
    };
    Arc::new(Shared::new(Plan::new((0..count).map(sought))))
}

struct Asking {
    peer: PeerId,
    /// How the conversation ends.
    end: JoinHandle<Result<(), End>>,
    came: mpsc::Receiver<(PeerId, Vec<Came>)>,
    requests: RequestReceiver,
    replies: ReplySender,
}

/// A peer is asked for a list; it has heard the join.
async fn asking(shared: &Arc<Shared>) -> Asking {
    let (here, there) = tokio::io::duplex(1 << 20);
    let (asker, server) = tokio::join!(ask_over(here), serve_over(there));
    let ((sender, receiver), (mut requests, replies)) = (asker.unwrap(), server.unwrap());
    let (to_us, came) = mpsc::channel(100);
    let (peer, shared) = (PeerId::random(), shared.clone());
    assert!(shared.plan().join(peer, shared.now()));
    let end = tokio::spawn(async move {
        let end = over(sender, receiver, peer, [7; 32], &shared, &to_us).await;
        let lied = end.as_ref().is_err_and(End::is_peer_fault);
        shared.plan().leave(&peer, lied);
        shared.tell();
        end
    });
    let (id, join) = requests.next().await.unwrap().unwrap();
    assert!(matches!(join, Request::Join { chunks: 0, .. }) && id == JOIN_ID);
    let told = requests.next().await.unwrap().unwrap();
    assert_eq!(told, (TOLD_ID, Request::Interest(true)));
    Asking {
        peer,
        end,
        came,
        requests,
        replies,
    }
}

impl Asking {
    async fn asked(&mut self) -> (u32, Vec<Key>) {
        let next = timeout(LONG, self.requests.next()).await.expect("it hangs");
        match next.unwrap().expect("the stream was closed") {
            (id, Request::Files { addresses }) => (id, addresses),
            other => panic!("{other:?}"),
        }
    }

    async fn reply(&mut self, id: u32, reply: Reply) {
        self.replies.send(id, &reply).await.unwrap();
    }

    async fn ends(self) -> Result<(), End> {
        timeout(LONG, self.end).await.expect("it hangs").unwrap()
    }
}

fn whole(from: usize, to: usize) -> Reply {
    Reply::Files((from..to).map(|n| FileReply::Whole(bytes_of(n))).collect())
}

#[tokio::test]
async fn the_first_request_does_not_wait_for_the_join_and_the_rest_is_asked_for_again() {
    let shared = shared(10);
    let mut peer = asking(&shared).await;
    // Nothing was said to it but the greeting.
    let (id, addresses) = peer.asked().await;
    assert_eq!(addresses.len(), 10);
    peer.reply(JOIN_ID, Reply::NotFound).await;
    peer.reply(0, Reply::Unchoke).await;
    peer.reply(id, whole(0, 4)).await;
    let (id, addresses) = peer.asked().await;
    assert_eq!(addresses[0], *Address::of(&bytes_of(4)).as_bytes());
    assert_eq!(addresses.len(), 6);
    peer.reply(id, whole(4, 10)).await;
    for (from, to) in [(0, 4), (4, 10)] {
        let (_, files) = peer.came.recv().await.unwrap();
        let places: Vec<usize> = files.iter().map(|file| file.place).collect();
        assert_eq!(places, (from..to).collect::<Vec<_>>());
        assert!(files.iter().all(|file| file.bytes == bytes_of(file.place)));
    }
    assert!(peer.ends().await.is_ok() && shared.is_over());
}

#[tokio::test]
async fn wrong_bytes_end_it_and_another_peer_is_asked() {
    let shared = shared(3);
    let mut liar = asking(&shared).await;
    let (id, _) = liar.asked().await;
    let lies = [bytes_of(0), "a lie".into(), bytes_of(2)];
    liar.reply(id, Reply::Files(lies.map(FileReply::Whole).to_vec()))
        .await;
    let peer = liar.peer;
    assert!(matches!(liar.ends().await, Err(End::Lied)));
    assert!(!shared.plan().join(peer, shared.now()), "it is banned");
    assert_eq!(shared.plan().open(), 3, "nothing of its reply is believed");
    let mut honest = asking(&shared).await;
    let (id, _) = honest.asked().await;
    honest.reply(id, whole(0, 3)).await;
    assert!(honest.ends().await.is_ok() && shared.is_over());
}

#[tokio::test]
async fn more_than_was_asked_for_or_what_was_not_is_a_breach() {
    let shared = shared(2);
    let mut peer = asking(&shared).await;
    let (id, _) = peer.asked().await;
    peer.reply(id, whole(0, 3)).await;
    assert!(matches!(peer.ends().await, Err(End::Protocol(_))));
    let mut peer = asking(&shared).await;
    let (id, _) = peer.asked().await;
    peer.reply(id + 1, whole(0, 2)).await;
    assert!(matches!(peer.ends().await, Err(End::Protocol(_))));
    let mut peer = asking(&shared).await;
    let (id, _) = peer.asked().await;
    peer.reply(id, Reply::Chunk(bytes_of(0))).await;
    assert!(matches!(peer.ends().await, Err(End::Protocol(_))));
    assert_eq!(shared.plan().open(), 2);
}

#[tokio::test]
async fn whoever_is_choked_waits_for_its_turn() {
    let shared = shared(2);
    let mut peer = asking(&shared).await;
    let (id, _) = peer.asked().await;
    peer.reply(JOIN_ID, Reply::NotFound).await;
    peer.reply(id, Reply::Choked).await;
    peer.reply(0, Reply::Unchoke).await;
    let (id, addresses) = peer.asked().await;
    assert_eq!(addresses.len(), 2);
    // Its turn ended, and began again before the request was refused: it asks again.
    peer.reply(0, Reply::Choke).await;
    peer.reply(0, Reply::Unchoke).await;
    peer.reply(id, Reply::Choked).await;
    let (id, _) = peer.asked().await;
    peer.reply(id, whole(0, 2)).await;
    assert!(peer.ends().await.is_ok() && shared.is_over());
}

#[tokio::test]
async fn whoever_refuses_what_it_said_it_would_send_is_left() {
    let shared = shared(2);
    let mut peer = asking(&shared).await;
    peer.reply(0, Reply::Unchoke).await;
    for _ in 0..=MAX_CONTRADICTIONS {
        let (id, _) = peer.asked().await;
        peer.reply(id, Reply::Choked).await;
    }
    // The first refusal may have been heard before the turn began.
    let last = timeout(LONG, peer.requests.next()).await.expect("it hangs");
    if let Ok(Some((id, _))) = last {
        peer.reply(id, Reply::Choked).await;
    }
    assert!(matches!(peer.ends().await, Err(End::Protocol(_))));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_is_left() {
    let shared = shared(2);
    let mut peer = asking(&shared).await;
    peer.asked().await;
    assert!(matches!(peer.ends().await, Err(End::Silent)));
}

//! A relay that makes a transfer slow enough to be in the middle of.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::Node;

/// How much is relayed at once.
const PIECE_BYTES: usize = 16 << 10;

/// How often a quiet relay looks whether it is to end.
const TICK: Duration = Duration::from_millis(50);

/// Relays TCP to a node; what the node sends passes at a bounded rate.
pub(crate) struct Proxy {
    /// The node's address by way of this relay.
    pub(crate) addr: String,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    bytes_per_second: AtomicU64,
    relayed: AtomicU64,
    ended: AtomicBool,
    /// When the next piece may pass.
    next: Mutex<Instant>,
}

impl Proxy {
    pub(crate) fn start(node: &Node, bytes_per_second: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            target: node.socket_addr(),
            bytes_per_second: AtomicU64::new(bytes_per_second),
            relayed: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            next: Mutex::new(Instant::now()),
        });
        listener.set_nonblocking(true).unwrap();
        let inner = shared.clone();
        thread::spawn(move || accept(&listener, &inner));
        Self {
            addr: format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", node.peer_id),
            shared,
        }
    }

    /// How many bytes the node has sent through.
    pub(crate) fn relayed_bytes(&self) -> u64 {
        self.shared.relayed.load(Ordering::Relaxed)
    }

    /// Lets a byte a second pass.
    pub(crate) fn crawl(&self) {
        self.shared.bytes_per_second.store(1, Ordering::Relaxed);
    }

    /// Lets nothing pass any more while connections stay up.
    pub(crate) fn stall(&self) {
        self.shared.bytes_per_second.store(0, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.ended.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((near, _)) => {
                near.set_nonblocking(false).unwrap();
                let shared = shared.clone();
                thread::spawn(move || relay(near, &shared));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(5))
            }
            Err(_) => return,
        }
    }
}

fn relay(near: TcpStream, shared: &Arc<Shared>) {
    let Ok(far) = TcpStream::connect(shared.target) else {
        return;
    };
    let (near_again, far_again) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    let up = shared.clone();
    thread::spawn(move || pump(near_again, far_again, &up, false));
    pump(far, near, shared, true);
}

fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared, slowed: bool) {
    from.set_read_timeout(Some(TICK)).unwrap();
    let mut piece = vec![0; PIECE_BYTES];
    while !shared.ended.load(Ordering::Relaxed) {
        let at_once = if slowed {
            shared.at_once()
        } else {
            PIECE_BYTES
        };
        let read = match from.read(&mut piece[..at_once]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => break,
        };
        if slowed {
            shared.wait_for_turn(read as u64);
        }
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
        if slowed {
            shared.relayed.fetch_add(read as u64, Ordering::Relaxed);
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

impl Shared {
    /// How much is relayed at once: about what passes in a second, if that is little.
    fn at_once(&self) -> usize {
        let rate = self.bytes_per_second.load(Ordering::Relaxed);
        usize::try_from(rate).unwrap().clamp(1, PIECE_BYTES)
    }

    fn wait_for_turn(&self, bytes: u64) {
        while self.bytes_per_second.load(Ordering::Relaxed) == 0
            && !self.ended.load(Ordering::Relaxed)
        {
            thread::sleep(TICK);
        }
        let rate = self.bytes_per_second.load(Ordering::Relaxed).max(1);
        let turn = {
            let mut next = self.next.lock().unwrap();
            let turn = (*next).max(Instant::now());
            *next = turn + Duration::from_secs_f64(bytes as f64 / rate as f64);
            turn
        };
        thread::sleep(turn.saturating_duration_since(Instant::now()));
    }
}

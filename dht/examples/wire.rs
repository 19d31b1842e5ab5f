//! What the way of a chunk over the network costs: chunks from memory through the parts of a node, over loopback, both
//! ends in this process.
//!
//! `cargo run --release -p casnode-dht --example wire -- [--mib 2048] [--chunk-kib 256] [--connections 1] [WAY…]`
//!
//! Ways: `tcp` (the system's), `tls` (AES, no multiplexer), `tls-frames` (that with exchange frames),
//! `noise` (multiplexer and frames), and whole nodes: `aes`, `chacha20`, `quic`.

use std::error::Error;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use casnode_dht::lab::{multiplexed, secured};
use casnode_dht::{
    CipherPreference, Dht, DhtConfig, IncomingStreams, Key, Keypair, Reply, ReplyReceiver,
    ReplySender, exchange, start,
};
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

type Failed = Box<dyn Error + Send + Sync>;

const WAYS: [&str; 7] = [
    "tcp",
    "tls",
    "tls-frames",
    "noise",
    "aes",
    "chacha20",
    "quic",
];
const LONG: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Load {
    chunks: usize,
    chunk: Bytes,
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let (mut mib, mut chunk_kib, mut connections) = (2048, 256, 1);
    let mut ways = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().unwrap_or_default().parse::<usize>();
        match arg.as_str() {
            "--mib" => mib = number()?,
            "--chunk-kib" => chunk_kib = number()?,
            "--connections" => connections = number()?,
            _ => ways.push(arg),
        }
    }
    if ways.is_empty() {
        ways = WAYS.map(str::to_owned).to_vec();
    }
    let chunks = mib * 1024 / chunk_kib / connections;
    let bytes: Vec<u8> = (0..=250).cycle().take(chunk_kib * 1024).collect();
    let load = Load {
        chunks,
        chunk: bytes.into(),
    };
    println!(
        "{:<12} {:>8} {:>12} {:>8}",
        "way", "MB/s", "CPU s/GiB", "system"
    );
    for way in ways {
        let mut pairs = Vec::new();
        for _ in 0..connections {
            pairs.push(pair(&way).await?);
        }
        let (began, cpu) = (Instant::now(), cpu_s());
        let mut flow = JoinSet::new();
        for pair in pairs {
            pair.run(&load, &mut flow);
        }
        while let Some(ended) = flow.join_next().await {
            ended??;
        }
        let (took, after) = (began.elapsed().as_secs_f64(), cpu_s());
        let bytes = (chunks * chunk_kib * 1024 * connections) as f64;
        let per_gib = f64::from(1 << 30) / bytes;
        println!(
            "{way:<12} {:>8.0} {:>12.2} {:>8.2}",
            bytes / took / 1e6,
            (after.0 - cpu.0) * per_gib,
            (after.1 - cpu.1) * per_gib
        );
    }
    Ok(())
}

/// Processor time of this process so far, and the system's part of it; in steps of 10 ms.
fn cpu_s() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|n| n.parse::<f64>().ok());
    let (user, system) = (ticks(12).unwrap_or(0.0), ticks(13).unwrap_or(0.0));
    ((user + system) / 100.0, system / 100.0)
}

type Bare = Pin<Box<dyn Duplex>>;
trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Duplex for S {}

/// Two ends with a connection between them.
enum Pair {
    Bare(Bare, Bare),
    Frames(ReplySender, ReplyReceiver, Vec<Box<dyn Send>>),
}

impl Pair {
    fn run(self, load: &Load, flow: &mut JoinSet<Result<(), Failed>>) {
        let (ours, theirs) = (load.clone(), load.clone());
        match self {
            Self::Bare(mut from, mut to) => {
                // An end that is closed with something unread resets the connection: it stays until all is there.
                let (done, all_there) = tokio::sync::oneshot::channel::<()>();
                flow.spawn(async move {
                    for _ in 0..ours.chunks {
                        from.write_all(&ours.chunk).await?;
                    }
                    from.flush().await?;
                    let _ = all_there.await;
                    Ok(())
                });
                flow.spawn(async move {
                    let mut place = vec![0; theirs.chunk.len()];
                    for _ in 0..theirs.chunks {
                        to.read_exact(&mut place).await?;
                    }
                    drop(done);
                    Ok(())
                });
            }
            Self::Frames(mut replies, mut answers, held) => {
                flow.spawn(async move {
                    for _ in 0..ours.chunks {
                        replies.send(1, &Reply::Chunk(ours.chunk.clone())).await?;
                    }
                    // Till the other end has all.
                    let _ = replies.close().await;
                    Ok(())
                });
                flow.spawn(async move {
                    for _ in 0..theirs.chunks {
                        match answers.next().await? {
                            Some((1, Reply::Chunk(bytes))) if bytes == theirs.chunk => {}
                            other => return Err(format!("not the chunk: {other:?}").into()),
                        }
                    }
                    drop(held);
                    Ok(())
                });
            }
        }
    }
}

async fn pair(way: &str) -> Result<Pair, Failed> {
    match way {
        "tcp" => {
            let (near, far) = sockets().await?;
            Ok(Pair::Bare(Box::pin(near.compat()), Box::pin(far.compat())))
        }
        "tls" => {
            let (near, far) = encrypted(false).await?;
            Ok(Pair::Bare(Box::pin(near), Box::pin(far)))
        }
        "tls-frames" => {
            let (near, far) = encrypted(false).await?;
            framed(near, far, vec![]).await
        }
        "noise" => {
            let (near, far) = encrypted(true).await?;
            let (near, far) = (multiplexed(near, true), multiplexed(far, false));
            let (mut opened, mut taken) = (None, None);
            let held: Vec<Box<dyn Send>> = vec![
                Box::new(drive(near, true, &mut opened)),
                Box::new(drive(far, false, &mut taken)),
            ];
            let (Some(opened), Some(taken)) = (opened, taken) else {
                return Err("no stream".into());
            };
            // The side that opened it speaks first: the other hears of it with the first byte.
            let taking =
                async { Ok::<_, Failed>(exchange::ask_over(taken.await?.compat()).await?) };
            let opened = opened.await?.compat();
            let serving = async { Ok::<_, Failed>(exchange::serve_over(opened).await?) };
            let ((asks, answers), (requests, replies)) = tokio::try_join!(taking, serving)?;
            let held = vec![Box::new((asks, requests, held)) as Box<dyn Send>];
            Ok(Pair::Frames(replies, answers, held))
        }
        "aes" => nodes(CipherPreference::Aes, "/ip4/127.0.0.1/tcp/0").await,
        "chacha20" => nodes(CipherPreference::ChaCha20, "/ip4/127.0.0.1/tcp/0").await,
        "quic" => nodes(CipherPreference::Auto, "/ip4/127.0.0.1/udp/0/quic-v1").await,
        other => Err(format!("no such way: {other}; there are {}", WAYS.join(", ")).into()),
    }
}

async fn sockets() -> Result<(TcpStream, TcpStream), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    let far = listener.accept().await?.0;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

async fn encrypted(noise: bool) -> Result<(impl Duplex + Unpin, impl Duplex + Unpin), Failed> {
    let (near, far) = sockets().await?;
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let aes = CipherPreference::Aes;
    Ok(tokio::try_join!(
        secured(near.compat(), &a, aes, noise, true),
        secured(far.compat(), &b, aes, noise, false),
    )?)
}

type Opening = tokio::sync::oneshot::Receiver<libp2p::core::muxing::SubstreamBox>;

/// Moves the streams of a connection in a task of its own, and hands out the first, which one side opens.
fn drive(mut muxer: StreamMuxerBox, opens: bool, first: &mut Option<Opening>) -> JoinSet<()> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    *first = Some(receiver);
    let mut sender = Some(sender);
    let mut tasks = JoinSet::new();
    tasks.spawn(std::future::poll_fn(move |cx| {
        if sender.is_some() {
            let opened = match opens {
                true => Pin::new(&mut muxer).poll_outbound(cx),
                false => Pin::new(&mut muxer).poll_inbound(cx),
            };
            match opened {
                std::task::Poll::Ready(Ok(stream)) => drop(sender.take().map(|s| s.send(stream))),
                std::task::Poll::Ready(Err(_)) => return std::task::Poll::Ready(()),
                std::task::Poll::Pending => {}
            }
        }
        Pin::new(&mut muxer).poll(cx).map(|_| ())
    }));
    tasks
}

async fn framed(
    near: impl Duplex + Unpin + 'static,
    far: impl Duplex + Unpin + 'static,
    held: Vec<Box<dyn Send>>,
) -> Result<Pair, Failed> {
    let ((asks, answers), (requests, replies)) = tokio::try_join!(
        exchange::ask_over(near.compat()),
        exchange::serve_over(far.compat()),
    )?;
    let mut held = held;
    held.push(Box::new((asks, requests)));
    Ok(Pair::Frames(replies, answers, held))
}

async fn node(cipher: CipherPreference, listen: &str) -> Result<(Dht, IncomingStreams), Failed> {
    let check = Arc::new(|_: &Key, _: &[u8]| true);
    let mut config = DhtConfig::new(Keypair::generate_ed25519(), Path::new(""), check);
    config.in_memory = true;
    config.cipher = cipher;
    config.listen = vec![listen.parse()?];
    Ok(start(config).await?)
}

async fn nodes(cipher: CipherPreference, listen: &str) -> Result<Pair, Failed> {
    let (provider, mut incoming) = node(cipher, listen).await?;
    let (taker, _streams) = node(cipher, listen).await?;
    let addr = provider.listen_addrs().await.remove(0);
    taker.dial(addr, LONG).await?;
    let open = taker.open_exchange(provider.local_peer_id(), &[], LONG);
    let (stream, taken) = tokio::join!(open, incoming.recv());
    let ((asks, answers), taken) = (stream?, taken.ok_or("no stream")?);
    let held: Vec<Box<dyn Send>> = vec![
        Box::new((provider, incoming)),
        Box::new((taker, _streams)),
        Box::new((asks, taken.requests)),
    ];
    Ok(Pair::Frames(taken.replies, answers, held))
}

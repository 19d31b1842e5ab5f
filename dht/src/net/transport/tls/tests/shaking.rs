//! Handshakes and data with rustls' own other side, and handshakes with noise.

use std::time::Duration;

use futures::io::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::identity::Keypair;
use libp2p::tls;
use proptest::prelude::*;
use rustls::pki_types::ServerName;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::super::super::cipher::CipherPreference;
use super::super::super::security::{client_config, server_config};
use super::super::record::Kind;
use super::super::*;
use super::{Noted, bytes, record};

const LONG: Duration = Duration::from_secs(60);

type Socket = Compat<tokio::io::DuplexStream>;

/// Both ends of a connection: this node's, and rustls'.
async fn with_rustls(cipher: CipherPreference, dials: bool) -> (Tls<Socket>, TlsStream<Socket>) {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (near, far) = tokio::io::duplex(100_000);
    let (near, far) = (near.compat(), far.compat());
    let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    let nothing = |_: &CommonState| ();
    if dials {
        let config = Arc::new(client_config(&a, cipher).unwrap());
        let theirs = TlsAcceptor::from(Arc::new(tls::make_server_config(&b).unwrap()));
        let (ours, theirs) = tokio::join!(connect(config, name, near, nothing), theirs.accept(far));
        return (ours.unwrap().0, theirs.unwrap().into());
    }
    let config = Arc::new(server_config(&a, cipher).unwrap());
    let theirs = TlsConnector::from(Arc::new(tls::make_client_config(&b, None).unwrap()));
    let (ours, theirs) = tokio::join!(accept(config, near, nothing), theirs.connect(name, far));
    (ours.unwrap().0, theirs.unwrap().into())
}

#[tokio::test]
async fn rustls_reads_what_is_written_here_and_the_other_way_round() {
    use CipherPreference::{Aes, ChaCha20};
    for (cipher, dials) in [
        (Aes, true),
        (Aes, false),
        (ChaCha20, true),
        (ChaCha20, false),
    ] {
        let (ours, mut theirs) = with_rustls(cipher, dials).await;
        let (mut reading, mut writing) = ours.split();
        let sent = bytes(2_000_000);
        let from_us = async {
            for part in sent.chunks(70_001) {
                writing.write_all(part).await.unwrap();
            }
            writing.close().await.unwrap();
        };
        let mut here = Vec::new();
        let to_us = async { reading.read_to_end(&mut here).await.unwrap() };
        let there = async {
            let mut got = vec![0; sent.len()];
            let (half, rest) = got.split_at_mut(sent.len() / 2);
            theirs.write_all(&sent[..999_999]).await.unwrap();
            theirs.read_exact(half).await.unwrap();
            // Both sides get new keys, as it is asked for.
            match &mut theirs {
                TlsStream::Client(stream) => stream.get_mut().1.refresh_traffic_keys(),
                TlsStream::Server(stream) => stream.get_mut().1.refresh_traffic_keys(),
            }
            .unwrap();
            theirs.write_all(&sent[999_999..]).await.unwrap();
            theirs.flush().await.unwrap();
            theirs.read_exact(rest).await.unwrap();
            assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0, "a goodbye");
            theirs.close().await.unwrap();
            got
        };
        let all = async { tokio::join!(from_us, to_us, there).2 };
        let got = tokio::time::timeout(LONG, all).await.unwrap();
        assert!(got == sent);
        assert!(here == sent);
    }
}

/// What a side that dials sends right after its handshake, and so with the last bytes of it: one part at once, then the other.
/// Returns what the dialled side reads of three bytes, and what the dialling one reads of its answer.
async fn followed(
    follows: impl FnOnce(&mut Key, &mut dyn Renew) -> (Vec<u8>, Vec<u8>),
) -> io::Result<([u8; 3], Vec<u8>)> {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (mut near, far) = tokio::io::duplex(100_000);
    let mut near = (&mut near).compat();
    let dials = async {
        let config = Arc::new(client_config(&a, CipherPreference::Aes).unwrap());
        let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        let mut side = handshake::dialler(config, name).unwrap();
        let ahead = handshake::shake(&mut near, &mut side).await.unwrap();
        let (secrets, mut renew) = side.end().unwrap();
        let mut key = Key::new(secrets.tx).unwrap();
        let (first, rest) = follows(&mut key, &mut renew);
        // There is room: the other side has no turn in between.
        near.write_all(&first).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        near.write_all(&rest).await.unwrap();
        let mut dialler = Tls {
            socket: near,
            receiving: Receiving::new(Key::new(secrets.rx).unwrap(), &ahead),
            sending: Sending::new(key),
            renew: Box::new(renew),
            came_bytes: 0,
            cork: Arc::default(),
        };
        let mut answer = Vec::new();
        let read = dialler.read_to_end(&mut answer).await;
        read.map(|_| answer)
    };
    let is_dialled = async {
        let config = Arc::new(server_config(&b, CipherPreference::Aes).unwrap());
        let (mut dialled, ()) = accept(config, far.compat(), |_| ()).await?;
        let mut got = [0; 3];
        dialled.read_exact(&mut got).await?;
        dialled.write_all(b"answer").await?;
        dialled.close().await?;
        Ok(got)
    };
    let both = async { tokio::join!(dials, is_dialled) };
    let (answer, got): (_, io::Result<_>) = tokio::time::timeout(LONG, both).await.unwrap();
    Ok((got?, answer?))
}

#[tokio::test]
async fn what_comes_along_with_the_end_of_the_handshake_is_heard_once() {
    let right = (*b"one", b"answer".to_vec());
    // Data, and the beginning of more.
    let data = followed(|key, _| {
        let mut first = record(key, Kind::Data, b"o");
        let mut rest = record(key, Kind::Data, b"ne");
        first.extend(rest.drain(..9));
        (first, rest)
    });
    assert_eq!(data.await.unwrap(), right);
    // Data and a goodbye: there is still somebody to be answered.
    let goodbye = followed(|key, _| {
        let mut first = record(key, Kind::Data, b"one");
        first.extend(record(key, Kind::Alert, &[1, 0]));
        (first, Vec::new())
    });
    assert_eq!(goodbye.await.unwrap(), right);
    // A new key, which is asked for of this side, too.
    let new_key = followed(|key, renew| {
        let mut first = record(key, Kind::Handshake, &[24, 0, 0, 1, 1]);
        *key = Key::new(renew.sending().unwrap()).unwrap();
        first.extend(record(key, Kind::Data, b"one"));
        (first, Vec::new())
    });
    assert_eq!(new_key.await.unwrap(), right);
    // The same in two parts, of which one comes along.
    let halves = followed(|key, renew| {
        let first = record(key, Kind::Handshake, &[24, 0, 0]);
        let mut rest = record(key, Kind::Handshake, &[1, 0]);
        *key = Key::new(renew.sending().unwrap()).unwrap();
        rest.extend(record(key, Kind::Data, b"one"));
        (first, rest)
    });
    assert_eq!(halves.await.unwrap(), right);
}

/// How a handshake with whoever sends these bytes, `at_once` at a time, and then closes ends; and what is told.
fn shaken(there: Vec<u8>, at_once: usize, dials: bool) -> (io::Result<()>, Vec<u8>) {
    let keypair = Keypair::generate_ed25519();
    let mut socket = Noted {
        there,
        at_once,
        ..Noted::default()
    };
    let shaking = async {
        if dials {
            let config = Arc::new(client_config(&keypair, CipherPreference::Aes).unwrap());
            let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
            let mut side = handshake::dialler(config, name).unwrap();
            return handshake::shake(&mut socket, &mut side).await.map(|_| ());
        }
        let config = Arc::new(server_config(&keypair, CipherPreference::Aes).unwrap());
        let mut side = handshake::listener(config).unwrap();
        handshake::shake(&mut socket, &mut side).await.map(|_| ())
    };
    let ended = futures::executor::block_on(shaking);
    (ended, socket.writes.concat())
}

#[test]
fn a_handshake_that_fails_is_told_and_one_that_is_cut_off_ends() {
    // A hello of the other side's kind.
    let (ended, told) = shaken(vec![22, 3, 1, 0, 4, 2, 0, 0, 0], 100, false);
    assert!(ended.is_err());
    assert_eq!(told.first(), Some(&21), "an alert: {told:?}");
    // A message of 128 KiB.
    assert!(
        shaken(vec![22, 3, 1, 0, 4, 1, 2, 3, 4], 100, false)
            .0
            .is_err()
    );
    assert!(shaken(Vec::new(), 100, false).0.is_err());
    // A message that never ends.
    let never = [22, 3, 1, 0, 4, 1, 0, 255, 255].into_iter();
    let never = never.chain([22, 3, 1, 0, 1, 0].repeat(200_000)).collect();
    assert!(shaken(never, 10_000, false).0.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_beginning_of_a_handshake_ends_without_a_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        (changes, cut) in (proptest::collection::vec((0..2000usize, any::<u8>()), 0..4), 0..2000usize),
        (at_once, dials) in (1..2000usize, any::<bool>()),
    ) {
        let (_, hello) = shaken(Vec::new(), usize::MAX, true);
        let mut bytes = hello.clone();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] ^= byte;
        }
        bytes.truncate(cut.max(1));
        bytes.extend(&noise);
        prop_assert!(shaken(bytes, at_once, dials).0.is_err());
        let record = [&[22, 3, 3, 0, 200][..], &noise].concat();
        prop_assert!(shaken(record, at_once, dials).0.is_err());
        prop_assert!(shaken(noise, at_once, dials).0.is_err());
    }
}

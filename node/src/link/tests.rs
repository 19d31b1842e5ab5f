use proptest::{collection::vec, prelude::*};

use super::*;

const ADDRESS: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
const PEER: &str =
    "/ip4/192.0.2.10/tcp/4101/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

fn link(query: &str) -> Result<Link, LinkError> {
    format!("casnode:{ADDRESS}{query}").parse()
}

#[test]
fn links_are_pinned() {
    let whole = Link {
        address: ADDRESS.parse().unwrap(),
        name: Some("Grüße & mehr=100%?.txt".to_owned()),
        size_bytes: Some(18_446_744_073_709_551_615),
        peers: vec![
            PEER.parse().unwrap(),
            "/dns4/node.example/udp/4101/quic-v1".parse().unwrap(),
        ],
    };
    let text = format!(
        "casnode:{ADDRESS}?n=Gr%C3%BC%C3%9Fe%20%26%20mehr%3D100%25%3F.txt&s=18446744073709551615\
         &p={PEER}&p=/dns4/node.example/udp/4101/quic-v1"
    );
    assert_eq!(whole.to_string(), text);
    assert_eq!(text.parse(), Ok(whole));
    let bare = Link::from(ADDRESS.parse::<Address>().unwrap());
    assert_eq!(bare.to_string(), format!("casnode:{ADDRESS}"));
    assert_eq!(link(""), Ok(bare.clone()));
    assert_eq!(ADDRESS.parse(), Ok(bare));
}

#[test]
fn what_is_written_otherwise_is_read_all_the_same() {
    let plain = link("?n=a%2Fb").unwrap_err();
    assert_eq!(plain, LinkError::Name, "a slash in a name, encoded or not");
    let upper: Link = format!("CASNODE:{}?s=007", ADDRESS.to_uppercase())
        .parse()
        .unwrap();
    assert_eq!(upper, link("?s=7").unwrap());
    let encoded = link("?p=%2Fip4%2F192.0.2.1%2Ftcp%2F1").unwrap();
    assert_eq!(encoded, link("?p=/ip4/192.0.2.1/tcp/1").unwrap());
    assert_eq!(link("?").unwrap(), link("").unwrap());
    assert_eq!(
        link("?n=a+b").unwrap().name(),
        Some("a+b"),
        "a plus is a plus"
    );
}

#[test]
fn unknown_keys_are_passed_over() {
    let read = link("?v=2&&N=x&nn=%zz&s=5&x").unwrap();
    assert_eq!((read.name(), read.size_bytes()), (None, Some(5)));
}

#[test]
fn wrong_values_are_named() {
    let cases = [
        ("?n=", LinkError::Name),
        ("?n=..", LinkError::Name),
        ("?n=a%00", LinkError::Name),
        ("?n=%ff", LinkError::Encoding { key: 'n' }),
        ("?n=%4", LinkError::Encoding { key: 'n' }),
        ("?n=100%", LinkError::Encoding { key: 'n' }),
        ("?n=a&n=a", LinkError::Twice { key: 'n' }),
        ("?s=", LinkError::Size),
        ("?s=-1", LinkError::Size),
        ("?s=%2b1", LinkError::Size),
        ("?s=18446744073709551616", LinkError::Size),
        ("?s=1&s=1", LinkError::Twice { key: 's' }),
    ];
    for (query, error) in cases {
        assert_eq!(link(query), Err(error), "{query}");
    }
    assert!(matches!(
        link("?p=192.0.2.1:4101"),
        Err(LinkError::Peer { .. })
    ));
    let peers = |n: usize| link(&format!("?{}", vec!["p=/ip4/192.0.2.1/tcp/1"; n].join("&")));
    assert_eq!(
        peers(MAX_LINK_PEERS).unwrap().peers().count(),
        MAX_LINK_PEERS
    );
    assert_eq!(peers(MAX_LINK_PEERS + 1), Err(LinkError::TooManyPeers));
}

#[test]
fn a_text_that_is_too_long_is_not_looked_at() {
    let at_most = MAX_LINK_BYTES - LINK_SCHEME.len() - ADDRESS.len() - "?x=".len();
    assert!(link(&format!("?x={}", "y".repeat(at_most))).is_ok());
    let found = MAX_LINK_BYTES + 1;
    let long = link(&format!("?x={}", "y".repeat(at_most + 1)));
    assert_eq!(long, Err(LinkError::TooLong { found }));
}

#[test]
fn a_link_made_here_names_addresses_that_others_can_dial() {
    let made = |listen: &[&str]| {
        let listen: Vec<String> = listen.iter().map(|addr| (*addr).to_owned()).collect();
        let link = Link::of(ADDRESS.parse().unwrap(), Some("../x"), 1, &listen);
        assert_eq!(
            link.name(),
            None,
            "a name that leads elsewhere is not passed on"
        );
        link.peers().map(ToString::to_string).collect::<Vec<_>>()
    };
    let (here, near, far) = (
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/10.0.0.1/tcp/1",
        "/ip6/2001:db8::1/tcp/1",
    );
    assert_eq!(made(&[here, "/ip4/0.0.0.0/tcp/1", near, far]), [far, near]);
    assert_eq!(
        made(&[here, "/ip6/::/tcp/1"]),
        [here],
        "where there is nothing else"
    );
    assert_eq!(made(&["nonsense"]), [""; 0]);
    assert_eq!(made(&vec![far; 100]).len(), MADE_PEERS);
}

#[test]
fn what_is_written_fits_what_is_read() {
    let long = format!("/dns4/{}/tcp/1", "n".repeat(250));
    let listen = vec![long; MADE_PEERS];
    let name = "%".repeat(255);
    let link = Link::of(ADDRESS.parse().unwrap(), Some(&name), u64::MAX, &listen);
    let text = link.to_string();
    assert!(text.len() <= MAX_LINK_BYTES, "{}", text.len());
    let read: Link = text.parse().unwrap();
    assert_eq!(
        (read.name(), read.size_bytes()),
        (Some(name.as_str()), Some(u64::MAX))
    );
    assert!(read.peers().count() > 0);
}

fn peer() -> impl Strategy<Value = Multiaddr> {
    (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| {
        let ip = std::net::Ipv4Addr::from(ip);
        format!("/ip4/{ip}/tcp/{port}").parse().unwrap()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        address: [u8; 32],
        name in "\\PC{1,60}",
        size_bytes: Option<u64>,
        peers in vec(peer(), 0..MAX_LINK_PEERS),
    ) {
        let name = safe_file_name(&name).map(str::to_owned);
        let link = Link { address: Address::from_bytes(address), name, size_bytes, peers };
        prop_assert_eq!(link.to_string().parse(), Ok(link));
    }

    #[test]
    fn whatever_comes_is_refused_or_harmless(query in "[nspx=&%?/0-9a-f.\u{0}-\u{ff}]{0,300}") {
        if let Ok(read) = link(&query) {
            let name = read.name().map(str::to_owned);
            prop_assert!(name.as_deref().is_none_or(|name| safe_file_name(name).is_some()));
            prop_assert!(read.peers().count() <= MAX_LINK_PEERS);
            prop_assert_eq!(read.to_string().parse(), Ok(read));
        }
    }

    #[test]
    fn any_text_is_read_without_harm(text in "\\PC*|casnode:.*|.{0,8}") {
        let _ = is_link(&text);
        if let Ok(read) = text.parse::<Link>() {
            prop_assert_eq!(read.to_string().parse(), Ok(read));
        }
    }
}

//! Multiaddrs, as typed. They stay text: only their shape is looked at here.

use casnode_node::check_multiaddr;

/// Reads the address of a peer.
pub(crate) fn parse_peer(text: &str) -> Result<String, String> {
    parse(text, |_| Ok(()))
}

/// Reads an address to listen on: of TCP or QUIC, there is nothing else.
pub(crate) fn parse_listen(text: &str) -> Result<String, String> {
    parse(text, |text| {
        if is_tcp_or_quic(text) {
            return Ok(());
        }
        Err(
            "a node listens on TCP and QUIC alone: write it like /ip4/0.0.0.0/tcp/4101 or \
             /ip4/0.0.0.0/udp/4101/quic-v1"
                .to_owned(),
        )
    })
}

/// An empty one is nothing: of a list that ends with a comma, for example.
fn parse(text: &str, check: impl Fn(&str) -> Result<(), String>) -> Result<String, String> {
    let text = text.trim();
    if !text.is_empty() {
        check_multiaddr(text).map_err(|why| {
            format!("it is not a multiaddr ({why}): write it like /ip4/192.0.2.10/tcp/4101")
        })?;
        check(text)?;
    }
    Ok(text.to_owned())
}

/// Whether the names in an address are those of a TCP or QUIC address: an IP address, then `tcp` and a port, or `udp`,
/// a port and `quic-v1`.
fn is_tcp_or_quic(addr: &str) -> bool {
    let parts: Vec<&str> = addr.split('/').collect();
    match parts.as_slice() {
        ["", "ip4" | "ip6", _, rest @ ..] | ["", "ip6zone", _, "ip6", _, rest @ ..] => matches!(
            rest,
            ["tcp", _]
                | ["tcp", _, "p2p", _]
                | ["udp", _, "quic-v1"]
                | ["udp", _, "quic-v1", "p2p", _]
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_tcp_nor_quic_is_refused() {
        for good in [
            "/ip4/127.0.0.1/tcp/0",
            "/ip6/::/udp/4101/quic-v1",
            "/ip6zone/eth0/ip6/fe80::1/tcp/1",
            " /ip4/0.0.0.0/tcp/4101 ",
            "",
        ] {
            assert_eq!(parse_listen(good).as_deref(), Ok(good.trim()));
        }
        for bad in [
            "/ip4/127.0.0.1/udp/4101",
            "/ip4/127.0.0.1/tcp/1/ws",
            "/ip4/127.0.0.1",
            "/unix/tmp",
            "/memory/1",
        ] {
            assert!(
                parse_listen(bad).unwrap_err().contains("TCP and QUIC"),
                "{bad}"
            );
        }
    }

    #[test]
    fn what_is_no_multiaddr_is_refused() {
        for bad in ["no address", "192.0.2.10:4101", "/ip4/300.0.0.1/tcp/1", "/"] {
            assert!(parse_peer(bad).is_err(), "{bad}");
            assert!(parse_listen(bad).is_err(), "{bad}");
        }
        assert!(parse_peer("/dnsaddr/node.example").is_ok());
    }
}

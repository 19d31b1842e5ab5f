//! Where the local API is served over TCP.

use std::net::SocketAddr;

use super::network::{Or, or_nothing};

/// Where the local API is served over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Http {
    /// Nowhere: it is on the socket alone.
    Off,
    /// Here.
    At(SocketAddr),
}

/// Reads it, where a variable may be empty.
pub(super) fn parse_or_nothing(text: &str) -> Result<Or<Http>, String> {
    or_nothing(text, parse)
}

fn parse(text: &str) -> Result<Http, String> {
    if text == "off" {
        return Ok(Http::Off);
    }
    let with_localhost = text.replacen("localhost:", "127.0.0.1:", 1);
    let address = with_localhost.parse().map(Http::At);
    address.map_err(|_| "write an IP address and a port, as 127.0.0.1:4180, or off".to_owned())
}

/// Reads a name by which a server may be called.
pub(super) fn parse_host(text: &str) -> Result<String, String> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if (1..=253).contains(&text.len()) && text.bytes().all(is_fine) {
        Ok(text.to_owned())
    } else {
        Err("write a host name alone, as node.example, without scheme and port".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_off_or_nothing() {
        let at = |text: &str| Ok(Or(Some(Http::At(text.parse().unwrap()))));
        assert_eq!(parse_or_nothing("off"), Ok(Or(Some(Http::Off))));
        assert_eq!(parse_or_nothing(""), Ok(Or(None)));
        assert_eq!(parse_or_nothing("[::1]:80"), at("[::1]:80"));
        assert_eq!(parse_or_nothing("localhost:0"), at("127.0.0.1:0"));
        for wrong in ["4180", ":4180", "127.0.0.1", "http://127.0.0.1:4180", "on"] {
            let error = parse_or_nothing(wrong).unwrap_err();
            assert!(error.contains("127.0.0.1:4180"), "{wrong}");
        }
    }

    #[test]
    fn a_host_is_a_name_alone() {
        assert!(parse_host("node.example").is_ok());
        for wrong in ["", "http://a", "a:80", "a/b", "*", "a b"] {
            assert!(parse_host(wrong).is_err(), "{wrong}");
        }
    }
}

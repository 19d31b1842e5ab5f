//! Links: an address with what helps to fetch it, in one word that can be sent to somebody.
//!
//! `casnode:<64 hex digits>?n=name&s=bytes&p=multiaddr…`, byte by byte in `docs/FORMATS.md`. Nothing in a link is
//! believed: the name is only ever one folder's, the length is compared with what is fetched, and peers are hints.

#[cfg(test)]
mod tests;

use std::{fmt, fmt::Write as _, net::IpAddr, str::FromStr};

use casnode_cas::{Address, HASH_HEX_DIGITS, ParseHashError, safe_file_name};
use casnode_dht::{Multiaddr, Protocol};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What every link begins with, in either case of letters.
pub const LINK_SCHEME: &str = "casnode:";

/// Bytes of the longest link.
pub const MAX_LINK_BYTES: usize = 4096;

/// Peers that a link may name.
pub const MAX_LINK_PEERS: usize = 16;

/// Peers that a link made here names: enough for two ways to four places, and few enough for a code that a camera reads.
const MADE_PEERS: usize = 8;

/// What a link has as it is; everything else is written as `%XX`.
const AS_IT_IS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b':');

/// An address, and what its sender knows of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    address: Address,
    name: Option<String>,
    size_bytes: Option<u64>,
    peers: Vec<Multiaddr>,
}

/// Why a text is no link and no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The text is longer than any link.
    #[error("it has {found} bytes, and a link has {MAX_LINK_BYTES} at most")]
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// What should be the address is none.
    #[error("{0}")]
    Address(#[from] ParseHashError),
    /// A `%` is not followed by two hex digits, or what they stand for is no UTF-8.
    #[error("{key}= is not percent-encoded UTF-8")]
    Encoding {
        /// Which value.
        key: char,
    },
    /// A value that there can be one of is there twice.
    #[error("{key}= is there twice")]
    Twice {
        /// Which value.
        key: char,
    },
    /// The name cannot be the name of a file in a folder.
    #[error(
        "n= is no name of a file: it is empty or too long, leads elsewhere, or shows as something else"
    )]
    Name,
    /// The length is no number of bytes.
    #[error("s= is no number of bytes")]
    Size,
    /// A peer's address is none.
    #[error("p= is no multiaddr: {why}")]
    Peer {
        /// What the parser says.
        why: String,
    },
    /// More peers than a link may name.
    #[error("it names more than {MAX_LINK_PEERS} peers")]
    TooManyPeers,
}

impl Link {
    /// A link to a file that is here. A name that cannot be one of a link is left out, and so are addresses that
    /// nobody else can dial, unless there are no others.
    pub fn of(address: Address, name: Option<&str>, size_bytes: u64, listen: &[String]) -> Self {
        Self {
            address,
            name: name.and_then(safe_file_name).map(str::to_owned),
            size_bytes: Some(size_bytes),
            peers: worth_telling(listen),
        }
    }

    /// What is linked to.
    pub fn address(&self) -> Address {
        self.address
    }

    /// What the file is called; the name of a file in a folder, without anything that leads elsewhere.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The file's length, as its sender says.
    pub fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }

    /// Where peers that may have it can be dialled.
    pub fn peers(&self) -> impl Iterator<Item = &Multiaddr> {
        self.peers.iter()
    }

    /// Reads `key=value` pairs.
    fn read(&mut self, query: &str) -> Result<(), LinkError> {
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "n" => {
                    let name = decode('n', value)?;
                    let name = safe_file_name(&name).ok_or(LinkError::Name)?;
                    once('n', &mut self.name, name.to_owned())?;
                }
                "s" => {
                    let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                    let bytes = value.parse().ok().filter(|_| is_number);
                    once('s', &mut self.size_bytes, bytes.ok_or(LinkError::Size)?)?;
                }
                "p" if self.peers.len() >= MAX_LINK_PEERS => return Err(LinkError::TooManyPeers),
                "p" => {
                    let peer = decode('p', value)?.parse::<Multiaddr>();
                    let refused = |why: String| LinkError::Peer { why };
                    self.peers
                        .push(peer.map_err(|error| refused(error.to_string()))?);
                }
                _ => {} // of a later version
            }
        }
        Ok(())
    }
}

/// True when the text means to be a link, right or wrong.
pub fn is_link(text: &str) -> bool {
    let scheme = text.get(..LINK_SCHEME.len());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(LINK_SCHEME))
}

impl FromStr for Link {
    type Err = LinkError;

    /// Reads a link, or an address alone.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        if text.len() > MAX_LINK_BYTES {
            return Err(LinkError::TooLong { found: text.len() });
        }
        let rest = match is_link(text) {
            true => &text[LINK_SCHEME.len()..],
            false => return Ok(Self::from(text.parse::<Address>()?)),
        };
        let (address, query) = match rest.split_once('?') {
            Some((address, query)) => (address, Some(query)),
            None => (rest, None),
        };
        let mut link = Self::from(address.parse::<Address>()?);
        if let Some(query) = query {
            link.read(query)?;
        }
        Ok(link)
    }
}

impl From<Address> for Link {
    fn from(address: Address) -> Self {
        Self {
            address,
            name: None,
            size_bytes: None,
            peers: Vec::new(),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let room = MAX_LINK_BYTES - LINK_SCHEME.len() - HASH_HEX_DIGITS;
        write!(f, "{LINK_SCHEME}{}{}", self.address, self.query(room))
    }
}

impl Link {
    /// The part behind the address; peers for whom there is no room are left out.
    fn query(&self, room: usize) -> String {
        let mut query = String::new();
        let mut add = |key: char, value: &str| {
            let mark = if query.is_empty() { '?' } else { '&' };
            let value = utf8_percent_encode(value, AS_IT_IS);
            let before = query.len();
            let _ = write!(query, "{mark}{key}={value}"); // writing to a string cannot fail
            if query.len() > room {
                query.truncate(before);
            }
        };
        if let Some(name) = &self.name {
            add('n', name);
        }
        if let Some(size_bytes) = self.size_bytes {
            add('s', &size_bytes.to_string());
        }
        for peer in &self.peers {
            add('p', &peer.to_string());
        }
        query
    }
}

/// Undoes percent-encoding.
fn decode(key: char, value: &str) -> Result<String, LinkError> {
    let mut escapes = value.split('%').skip(1);
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let decoded = percent_decode_str(value).decode_utf8();
    match decoded {
        Ok(text) if escapes.all(is_escape) => Ok(text.into_owned()),
        _ => Err(LinkError::Encoding { key }),
    }
}

fn once<T>(key: char, place: &mut Option<T>, value: T) -> Result<(), LinkError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(LinkError::Twice { key }),
    }
}

/// How far away an address can be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// From anywhere, as far as can be seen.
    Everywhere,
    /// From the same network.
    Nearby,
    /// From this machine.
    Here,
}

fn reach(addr: &Multiaddr) -> Option<Reach> {
    let ip: IpAddr = match addr.iter().next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return Some(Reach::Everywhere), // a name
    };
    let is_nearby = match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    match (ip.is_unspecified(), ip.is_loopback(), is_nearby) {
        (true, _, _) => None,
        (_, true, _) => Some(Reach::Here),
        (_, _, true) => Some(Reach::Nearby),
        _ => Some(Reach::Everywhere),
    }
}

/// The addresses that others may be told, those of the farthest reach first.
fn worth_telling(listen: &[String]) -> Vec<Multiaddr> {
    let addrs = listen.iter().filter_map(|addr| addr.parse().ok());
    let mut addrs: Vec<(Reach, Multiaddr)> = addrs
        .filter_map(|addr| Some((reach(&addr)?, addr)))
        .collect();
    if addrs.iter().any(|(reach, _)| *reach != Reach::Here) {
        addrs.retain(|(reach, _)| *reach != Reach::Here);
    }
    addrs.sort_by_key(|(reach, _)| *reach);
    let addrs = addrs.into_iter().map(|(_, addr)| addr);
    addrs.take(MADE_PEERS).collect()
}

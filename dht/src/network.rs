//! The name of a network, and the protocol names that follow from it.

use libp2p::StreamProtocol;

/// The longest name.
const MAX_NAME_CHARS: usize = 32;
/// The name of the network that everybody joins who names none.
const MAIN: &str = "main";

/// The name of a network. Nodes of networks with different names share no protocol: they never exchange
/// a record or a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkName(String);

/// A name that no network can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a network's name has 1 to 32 of the characters a-z, 0-9 and -, and begins with a letter")]
pub struct BadNetworkName;

impl NetworkName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`BadNetworkName`].
    pub fn new(name: &str) -> Result<Self, BadNetworkName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = name.len() <= MAX_NAME_CHARS
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(allowed);
        good.then(|| Self(name.to_owned())).ok_or(BadNetworkName)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for NetworkName {
    fn default() -> Self {
        Self(MAIN.to_owned())
    }
}

impl std::str::FromStr for NetworkName {
    type Err = BadNetworkName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

/// The names under which the nodes of one network speak.
#[derive(Clone, Debug)]
pub(crate) struct Protocols {
    pub(crate) kad: StreamProtocol,
    /// Many keys in one message: announcing and finding.
    pub(crate) records: StreamProtocol,
    /// Whether others can dial a node.
    pub(crate) reach: StreamProtocol,
    /// Chunks.
    pub(crate) exchange: StreamProtocol,
    /// What identify calls the whole family.
    pub(crate) family: String,
}

impl Protocols {
    /// Those of a network.
    pub(crate) fn of(network: &NetworkName) -> Self {
        let name = network.as_str();
        Self {
            kad: own(format!("/casnode/{name}/kad/1.0.0")),
            records: own(format!("/casnode/{name}/records/1")),
            reach: own(format!("/casnode/{name}/reach/1")),
            exchange: own(format!("/casnode/{name}/exchange/2")),
            family: format!("/casnode/{name}/1"),
        }
    }
}

fn own(name: String) -> StreamProtocol {
    // Only a name that does not begin with a slash is refused.
    StreamProtocol::try_from_owned(name).unwrap_or(StreamProtocol::new("/casnode/invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["main", "a", "lab-2", &"x".repeat(32)] {
            assert_eq!(NetworkName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "2a", "Main", "a/b", "a b", "é", &"x".repeat(33)] {
            assert_eq!(NetworkName::new(bad), Err(BadNetworkName), "{bad}");
        }
    }

    #[test]
    fn networks_share_no_protocol() {
        let main = Protocols::of(&NetworkName::default());
        let other = Protocols::of(&NetworkName::new("other").unwrap());
        assert_eq!(main.kad.as_ref(), "/casnode/main/kad/1.0.0");
        assert_eq!(main.records.as_ref(), "/casnode/main/records/1");
        assert_eq!(main.exchange.as_ref(), "/casnode/main/exchange/2");
        assert_ne!(main.kad, other.kad);
        assert_ne!(main.records, other.records);
        assert_ne!(main.exchange, other.exchange);
        assert_ne!(main.family, other.family);
    }
}

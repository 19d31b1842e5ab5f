//! Why a file cannot be had, from what a trace has seen. Pure: facts in, cause out.

#[cfg(test)]
mod tests;

use crate::{
    api::WhyCause,
    errors::{count, without_network},
};

/// How much of a file is here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Here {
    #[default]
    Nothing,
    Part,
    Whole,
}

/// How this node stands in the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Network {
    /// It is in none.
    #[default]
    Without,
    /// Nobody is connected.
    Alone,
    Connected,
}

/// Whether there is room for what is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Room {
    /// The size is not known.
    #[default]
    Unknown,
    Enough,
    /// Over the limit of the store, even when everything has gone that may go.
    OverLimit {
        needed_bytes: u64,
        available_bytes: u64,
        max_bytes: u64,
    },
    /// On the disk of the data directory.
    DiskFull {
        needed_bytes: u64,
        free_bytes: u64,
    },
}

/// What came of asking one provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// It sent what is the file's.
    Gives,
    /// It could not be connected to.
    Unreachable,
    /// It is connected, and does not speak the exchange, or broke off.
    Broken,
    /// It is not where it was said to be: another peer is.
    SomebodyElse,
    /// It does not have the file.
    Lacks,
    /// It sent what is not the file's.
    Lies,
    /// It serves others first.
    Chokes,
    /// It did not answer in time.
    Silent,
}

/// What a trace has seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) here: Here,
    pub(super) network: Network,
    /// Peers were named to join by, and none of them answers.
    pub(super) has_bootstrap: bool,
    /// Whoever asks is a daemon, which is restarted with other options.
    pub(super) is_daemon: bool,
    /// The data directory cannot be written, which is why there is no network.
    pub(super) is_read_only: bool,
    /// Peers that were asked for providers.
    pub(super) asked_peers: u32,
    /// The DHT has the file's metadata record.
    pub(super) has_record: bool,
    /// The link has another length than the file.
    pub(super) is_wrong_size: bool,
    pub(super) room: Room,
    /// Providers that were found, asked or not.
    pub(super) named: usize,
    /// What came of each provider that answered or failed.
    pub(super) providers: Vec<Asked>,
    /// The time was over before the trace.
    pub(super) out_of_time: bool,
}

/// What is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) cause: WhyCause,
    pub(super) what: String,
    pub(super) next: String,
}

impl Facts {
    fn count(&self, which: Asked) -> usize {
        self.providers
            .iter()
            .filter(|asked| **asked == which)
            .count()
    }

    fn has(&self, which: Asked) -> bool {
        self.count(which) > 0
    }

    /// The number of providers, as words.
    fn providers_of(&self, which: Asked) -> String {
        let of = u64::try_from(self.count(which)).unwrap_or(u64::MAX);
        count(of, "provider")
    }
}

/// The cause. What stands in the way first comes first.
pub(super) fn verdict(f: &Facts) -> Verdict {
    if f.here == Here::Whole {
        return said(
            WhyCause::Here,
            "it is here already, whole",
            "`casnode get` writes it out without a network, and `casnode verify` reads and checks it",
        );
    }
    if f.is_wrong_size {
        return said(
            WhyCause::WrongSize,
            "the link has another length than the file",
            "ask whoever made the link for a right one, or fetch the 64 hex digits alone",
        );
    }
    if let Some(full) = no_room(&f.room) {
        return full;
    }
    if f.has(Asked::Gives) {
        return said(
            WhyCause::None,
            format!(
                "nothing is wrong: {} can give it",
                f.providers_of(Asked::Gives)
            ),
            "`casnode get` will fetch it",
        );
    }
    if f.providers.is_empty() {
        return nobody(f);
    }
    no_provider_gives(f)
}

fn no_room(room: &Room) -> Option<Verdict> {
    match *room {
        Room::Unknown | Room::Enough => None,
        Room::OverLimit {
            needed_bytes,
            available_bytes,
            max_bytes,
        } => Some(said(
            WhyCause::NoRoom,
            format!(
                "there is no room for it here: it needs {needed_bytes} bytes, and {available_bytes} are left under --max-store {max_bytes}"
            ),
            "raise --max-store, let files go with `casnode pin rm` or `casnode rm`, or fetch it with --no-keep",
        )),
        Room::DiskFull {
            needed_bytes,
            free_bytes,
        } => Some(said(
            WhyCause::NoRoom,
            format!(
                "there is no room for it here: it needs {needed_bytes} bytes, and {free_bytes} are free on the disk of the data directory"
            ),
            "free some space there, or name a folder on another disk with --data-dir",
        )),
    }
}

/// Nobody was found who could be asked for it.
fn nobody(f: &Facts) -> Verdict {
    if f.out_of_time && f.named > 0 {
        return out_of_time("before its providers had answered");
    }
    match f.network {
        Network::Without => {
            let (what, next) = without_network(f.is_read_only);
            said(WhyCause::NoNetwork, what, next)
        }
        Network::Alone => said(
            WhyCause::NoPeers,
            match f.has_bootstrap {
                true => {
                    "this node is connected to no peers: none that it was told to join by answers"
                }
                false => "this node is connected to no peers, and was told of none to join by",
            },
            match f.is_daemon {
                true => {
                    "restart the daemon with --bootstrap and the address of a node that runs, or name a provider with --peer"
                }
                false => "name a node that runs with --bootstrap, or a provider with --peer",
            },
        ),
        Network::Connected if f.out_of_time => out_of_time("before anybody was found who has it"),
        Network::Connected if f.has_record => said(
            WhyCause::NoProviders,
            "it was published, and nobody provides it any more",
            "start a node that has it: it says so within minutes; or name one with --peer",
        ),
        Network::Connected => said(
            WhyCause::Unknown,
            format!(
                "nobody is known to have it: {} asked, and none has a record of it",
                count(f.asked_peers.into(), "peer")
            ),
            "check the address; a file that was stored a moment ago may take a minute to be known, and one that has been \
             away for two days is forgotten",
        ),
    }
}

/// Providers were found, and none gives it: the worst that they do is what is told.
fn no_provider_gives(f: &Facts) -> Verdict {
    let of = |which| f.providers_of(which);
    if f.has(Asked::Lies) {
        return said(
            WhyCause::ProvidersLie,
            format!(
                "{} sent bytes that are not the file's, and no other gives it",
                of(Asked::Lies)
            ),
            "name a provider that you trust with --peer, or try again when one is there",
        );
    }
    if f.has(Asked::Chokes) {
        return said(
            WhyCause::ProvidersBusy,
            format!("{} had no turn for this node in time", of(Asked::Chokes)),
            "`casnode get` waits for its turn, for up to half an hour",
        );
    }
    if f.out_of_time {
        return out_of_time("before its providers had answered");
    }
    if f.has(Asked::Silent) {
        return said(
            WhyCause::ProvidersSilent,
            format!("{} connected and did not answer in time", of(Asked::Silent)),
            "try again, or look at that node: it or its line may be overloaded",
        );
    }
    if f.has(Asked::Broken) {
        return said(
            WhyCause::ProvidersSilent,
            format!(
                "{} connected and could not be asked: it may run other software, or refuse this node",
                of(Asked::Broken)
            ),
            "look at that node's version and log, or name another with --peer",
        );
    }
    if f.has(Asked::Lacks) {
        return said(
            WhyCause::ProvidersLack,
            format!(
                "{} named for it, and what answers does not have it (any more)",
                of_all(f)
            ),
            "store it again on a node that runs, or name one that has it with --peer",
        );
    }
    let elsewhere = match f.has(Asked::SomebodyElse) {
        true => "; another peer answers where it was said to be",
        false => "",
    };
    said(
        WhyCause::ProvidersDown,
        format!(
            "{} named for it, and none can be reached{elsewhere}",
            of_all(f)
        ),
        "start that node, or see that its port is open to others; a node that has moved is found again once it has announced",
    )
}

fn of_all(f: &Facts) -> String {
    let all = u64::try_from(f.providers.len()).unwrap_or(u64::MAX);
    let verb = if all == 1 { "is" } else { "are" };
    format!("{} {verb}", count(all, "provider"))
}

fn out_of_time(when: &str) -> Verdict {
    said(
        WhyCause::OutOfTime,
        format!("the time was over {when}"),
        "try again with a longer --timeout",
    )
}

fn said(cause: WhyCause, what: impl Into<String>, next: impl Into<String>) -> Verdict {
    Verdict {
        cause,
        what: what.into(),
        next: next.into(),
    }
}

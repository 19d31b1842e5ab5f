//! Sockets that a service manager opened for the daemon, by the protocol of `sd_listen_fds`: LISTEN_PID says whom they are for,
//! LISTEN_FDS how many there are, LISTEN_FDNAMES what they are called.
//!
//! The socket in the data directory and the port of the API are taken so. Ports of the network are not: libp2p opens its
//! own.

use std::io;

use casnode_node::PassedSockets;
use casnode_node::api::ErrorKind;
use listenfd::ListenFd;

use crate::exit::{Failure, Result};

/// One for the socket, and one for the port.
const MAX_SOCKETS: usize = 2;

/// What a socket is to be for, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The socket in the data directory.
    Api,
    /// The port of the API.
    Http,
    /// Whichever of the two it can be.
    Either,
}

/// Takes what was passed to this process. To be called while it has one thread.
pub(crate) fn take() -> Result<PassedSockets> {
    let variable = |name| std::env::var(name).ok();
    let said = Said {
        pid: variable("LISTEN_PID"),
        count: variable("LISTEN_FDS"),
        names: variable("LISTEN_FDNAMES"),
    };
    let purposes = said.purposes(std::process::id())?;
    let mut sockets = PassedSockets::default();
    if purposes.is_empty() {
        return Ok(sockets);
    }
    let mut given = ListenFd::from_env();
    for (number, (name, purpose)) in purposes.into_iter().enumerate() {
        take_one(&mut given, number, purpose, &mut sockets)
            .map_err(|why| wrong(format!("socket {} ({name}): {why}", number + 1)))?;
    }
    Ok(sockets)
}

fn take_one(
    given: &mut ListenFd,
    number: usize,
    purpose: Purpose,
    sockets: &mut PassedSockets,
) -> Result<(), String> {
    let told = |error: io::Error| error.to_string();
    let unix = match purpose {
        Purpose::Http => None,
        Purpose::Api => given.take_unix_listener(number).map_err(told)?,
        Purpose::Either => given.take_unix_listener(number).ok().flatten(),
    };
    if let Some(unix) = unix {
        return match sockets.api.replace(unix) {
            None => Ok(()),
            Some(_) => Err("there is one already in the data directory".to_owned()),
        };
    }
    let tcp = given
        .take_tcp_listener(number)
        .map_err(|error| match purpose {
            Purpose::Either => "it is neither a Unix stream socket nor one of TCP".to_owned(),
            _ => told(error),
        })?;
    match tcp.and_then(|tcp| sockets.http.replace(tcp)) {
        None => Ok(()),
        Some(_) => Err("there is a port of the API already".to_owned()),
    }
}

/// What the variables say.
#[derive(Debug, Default)]
struct Said {
    pid: Option<String>,
    count: Option<String>,
    names: Option<String>,
}

impl Said {
    /// What each socket is for; none, where nothing was passed to this process.
    fn purposes(&self, me: u32) -> Result<Vec<(String, Purpose)>> {
        // What an ancestor was passed is not meant.
        let is_mine = self.pid.as_ref().is_some_and(|pid| *pid == me.to_string());
        let (true, Some(count)) = (is_mine, &self.count) else {
            return Ok(Vec::new());
        };
        let count: usize = count
            .parse()
            .map_err(|_| wrong(format!("LISTEN_FDS is {count:?}, which is no number")))?;
        if count > MAX_SOCKETS {
            return Err(wrong(format!(
                "{count} were passed, and there is use for {MAX_SOCKETS}"
            )));
        }
        let names = match &self.names {
            Some(names) => names.split(':').map(str::to_owned).collect(),
            None => vec!["unknown".to_owned(); count],
        };
        if names.len() != count {
            return Err(wrong(format!(
                "{count} were passed with {} names",
                names.len()
            )));
        }
        names.into_iter().map(purpose).collect()
    }
}

fn purpose(name: String) -> Result<(String, Purpose)> {
    let purpose = match name.as_str() {
        "api" => Purpose::Api,
        "http" => Purpose::Http,
        // A unit of its own says nothing more, nor does who gives no names.
        "casnode.socket" | "unknown" | "" => Purpose::Either,
        _ => {
            return Err(wrong(format!(
                "{name:?} is no name of a socket here: they are api (the socket in the data directory) and http (the port of \
                 the API); ports of the network are not taken"
            )));
        }
    };
    Ok((name, purpose))
}

fn wrong(why: String) -> Failure {
    Failure::new(
        ErrorKind::Usage,
        "the sockets that the service manager passed cannot be used",
        why,
        "see scripts/install/casnode.socket for a unit that works",
    )
}

/// A port was passed, and none is wanted.
pub(crate) fn unwanted_http() -> Failure {
    wrong("a port of the API was passed, and --http is off".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purposes(count: &str, names: Option<&str>) -> Result<Vec<Purpose>, String> {
        let said = Said {
            pid: Some("7".to_owned()),
            count: Some(count.to_owned()),
            names: names.map(str::to_owned),
        };
        match said.purposes(7) {
            Ok(purposes) => Ok(purposes.into_iter().map(|(_, purpose)| purpose).collect()),
            Err(failure) => {
                assert_eq!(failure.code(), 2);
                Err(format!("{failure:?}"))
            }
        }
    }

    #[test]
    fn a_name_says_what_a_socket_is_for() {
        use Purpose::{Api, Either, Http};
        assert_eq!(purposes("2", Some("http:api")), Ok(vec![Http, Api]));
        assert_eq!(purposes("1", Some("casnode.socket")), Ok(vec![Either]));
        assert_eq!(purposes("2", None), Ok(vec![Either, Either]));
        assert_eq!(purposes("0", None), Ok(vec![]));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let wrong = |count, names| purposes(count, names).unwrap_err();
        assert!(wrong("x", None).contains("no number"));
        assert!(wrong("3", None).contains("use for 2"));
        assert!(wrong("99999999999", None).contains("use for 2"));
        assert!(wrong("2", Some("api")).contains("2 were passed with 1 names"));
        assert!(wrong("1", Some("web")).contains("no name of a socket"));
    }

    #[test]
    fn what_an_ancestor_was_passed_is_left_alone() {
        let said = Said {
            pid: Some("8".to_owned()),
            count: Some("x".to_owned()),
            names: None,
        };
        assert_eq!(said.purposes(7).unwrap(), []);
        assert_eq!(Said::default().purposes(7).unwrap(), []);
    }
}

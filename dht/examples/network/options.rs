//! What is asked for on the command line.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;

use casnode_dht::Profile;

/// What options there are, with their defaults and meanings.
pub const OPTIONS: &[(&str, &str, &str)] = &[
    (
        "nodes",
        "per scenario",
        "how many nodes; several, separated by commas",
    ),
    (
        "keys",
        "per scenario",
        "how many keys; several, separated by commas",
    ),
    ("rtt", "40", "round trip time, ms"),
    (
        "handshake-rtts",
        "2",
        "round trips until a new connection can be used, as TCP and TLS 1.3",
    ),
    (
        "loss",
        "0",
        "percent of segments lost; each delays its line by a retransmission",
    ),
    (
        "retransmission",
        "200",
        "how long until a lost segment is sent again, ms",
    ),
    (
        "gone",
        "silent",
        "what dialling a machine that is gone does: silent (10 s) or refused",
    ),
    (
        "join",
        "no",
        "yes: nodes begin with empty routing tables and join through each other",
    ),
    (
        "profile",
        "lab; model: home",
        "limits and pace of the nodes: home, server or lab",
    ),
    (
        "churn",
        "30",
        "percent of nodes that leave in an hour, and as many that arrive",
    ),
    (
        "speedup",
        "60",
        "scenario churn: how much faster than stated the churn goes",
    ),
    (
        "hostile",
        "10",
        "scenario hostile: percent of nodes that are hostile",
    ),
    ("kinds", "all", "scenario hostile: silent,empty,liar,sybil"),
    (
        "samples",
        "200",
        "searches, or keys whose copies are counted",
    ),
    (
        "settle",
        "20",
        "seconds a network is left alone before it is measured",
    ),
    (
        "seconds",
        "120",
        "scenario idle: how long the quiet period is",
    ),
    (
        "hours",
        "48; real: 2",
        "how long churn goes on, in hours of the stated churn",
    ),
    (
        "miss",
        "calibrated",
        "model: percent of lookups that miss one of the 20 closest",
    ),
    (
        "seed",
        "1",
        "random numbers of the simulator (identities and the nodes' own are always new)",
    ),
    ("out", "target/network", "where the plots go"),
];

/// The options of one call.
#[derive(Clone, Debug)]
pub struct Options {
    pub scenario: String,
    given: HashMap<String, String>,
}

impl Options {
    /// Reads a command line without the name of the program.
    ///
    /// # Errors
    /// An option that there is not, or one without its value.
    pub fn read(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut scenario = None;
        let mut given = HashMap::new();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let Some(name) = arg.strip_prefix("--") else {
                if scenario.replace(arg.clone()).is_some() {
                    return Err(format!("one scenario at a time: {arg} is a second"));
                }
                continue;
            };
            if !OPTIONS.iter().any(|(known, _, _)| *known == name) {
                return Err(format!("there is no option --{name}; see --help"));
            }
            let value = args.next();
            let value = value.ok_or_else(|| format!("--{name} needs a value"))?;
            given.insert(name.to_owned(), value);
        }
        Ok(Self {
            scenario: scenario.unwrap_or_else(|| "all".into()),
            given,
        })
    }

    /// The text of an option, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// A value, or its default.
    ///
    /// # Errors
    /// It is not of that kind.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.given.get(name) {
            None => Ok(default),
            Some(text) => parse(name, text),
        }
    }

    /// Values separated by commas, or the default.
    ///
    /// # Errors
    /// One is not of that kind.
    pub fn list<T: FromStr + Clone>(&self, name: &str, default: &[T]) -> Result<Vec<T>, String> {
        match self.given.get(name) {
            None => Ok(default.to_vec()),
            Some(text) => text.split(',').map(|part| parse(name, part)).collect(),
        }
    }

    /// Where the plots go.
    pub fn out(&self) -> PathBuf {
        PathBuf::from(self.text("out").unwrap_or("target/network"))
    }

    /// Limits and pace of the nodes.
    ///
    /// # Errors
    /// There is no such profile.
    pub fn profile(&self, default: Profile) -> Result<Profile, String> {
        match self.text("profile") {
            None => Ok(default),
            Some("home") => Ok(Profile::Home),
            Some("server") => Ok(Profile::Server),
            Some("lab") => Ok(Profile::Lab),
            Some(other) => Err(format!(
                "--profile: {other} is none of home, server and lab"
            )),
        }
    }
}

fn parse<T: FromStr>(name: &str, text: &str) -> Result<T, String> {
    let plain = text.replace('_', "");
    plain
        .parse()
        .map_err(|_| format!("--{name}: {text} is not a value it can have"))
}

//! The settings that a file or a variable can say: one table, from which the checks, `config show` and the manual come.
//!
//! A key is named like its long flag; its variable and the name of its argument follow from that.

/// What the value of a key is, in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One value, as its flag takes it.
    Text,
    /// Several values; a variable has them comma separated.
    List,
    /// `true` or `false`; its flag takes no value.
    Bool,
    /// A path from the root: the file is read wherever a command was typed.
    Path,
}

/// Which commands a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Each that has the flag.
    All,
    /// This one alone, even if others have the flag.
    Only(&'static str),
}

/// One setting.
#[derive(Debug)]
pub(crate) struct Key {
    /// In the file; its flag is the same with two dashes.
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) scope: Scope,
    /// What may be written, with its unit.
    pub(crate) value: &'static str,
    /// What holds where nothing is said, as a person would write it.
    pub(crate) default: &'static str,
    /// Whether a running daemon takes it over on SIGHUP.
    pub(crate) live: bool,
    /// What it is.
    pub(crate) about: &'static str,
}

impl Key {
    /// The name of its argument.
    pub(crate) fn id(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Its variable.
    pub(crate) fn variable(&self) -> String {
        format!("CASNODE_{}", self.id().to_ascii_uppercase())
    }

    /// Whether it is for this command, by its words: `dht get` is not `get`.
    pub(crate) fn is_for(&self, command: &str) -> bool {
        match self.scope {
            Scope::All => true,
            // These take what the others take.
            Scope::Only("daemon") if command == "doctor" => true,
            Scope::Only(name) => command == name || command == "config show",
        }
    }
}

const DAEMON: Scope = Scope::Only("daemon");

/// Every setting, in the order in which it is shown.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "data-dir",
        form: Form::Path,
        scope: Scope::All,
        value: "path",
        default: "casnode in the user's data folder",
        live: false,
        about: "where the node keeps everything",
    },
    Key {
        name: "max-store",
        form: Form::Text,
        scope: Scope::All,
        value: "size, at least 64MiB, or none",
        default: "what the data directory was told last; at first none",
        live: true,
        about: "the most that the store takes of the disk",
    },
    Key {
        name: "memory",
        form: Form::Text,
        scope: Scope::All,
        value: "size, at least 64MiB",
        default: "256MiB",
        live: false,
        about: "memory that the node may use, about",
    },
    Key {
        name: "chunker",
        form: Form::Text,
        scope: Scope::All,
        value: "fixed or fastcdc",
        default: "fastcdc",
        live: false,
        about: "how `store` cuts files into chunks",
    },
    Key {
        name: "scrub-rate",
        form: Form::Text,
        scope: DAEMON,
        value: "bytes a second, at least 64KiB/s, or off",
        default: "8MiB/s",
        live: true,
        about: "how fast stored bytes are read and checked in the background",
    },
    Key {
        name: "listen",
        form: Form::List,
        scope: DAEMON,
        value: "multiaddrs, TCP or QUIC",
        default: "port 4101 of all addresses, TCP and QUIC",
        live: false,
        about: "where the node listens",
    },
    Key {
        name: "bootstrap",
        form: Form::List,
        scope: Scope::All,
        value: "multiaddrs",
        default: "none",
        live: false,
        about: "peers to join the network by",
    },
    Key {
        name: "no-mdns",
        form: Form::Bool,
        scope: Scope::All,
        value: "true or false",
        default: "false",
        live: false,
        about: "do not look for peers on the local network",
    },
    Key {
        name: "network",
        form: Form::Text,
        scope: Scope::All,
        value: "1 to 32 of a-z, 0-9 and -, a letter first",
        default: "main",
        live: false,
        about: "the network's name; those of different names have nothing to do with each other",
    },
    Key {
        name: "profile",
        form: Form::Text,
        scope: Scope::All,
        value: "home, server or lab",
        default: "home",
        live: false,
        about: "how much of the machine and its line the network may have",
    },
    Key {
        name: "cipher",
        form: Form::Text,
        scope: Scope::All,
        value: "auto, aes or chacha20",
        default: "auto",
        live: false,
        about: "which cipher TCP connections should have",
    },
    Key {
        name: "max-up",
        form: Form::Text,
        scope: Scope::All,
        value: "rate with /s, at least 16KiB/s, or none",
        default: "none",
        live: true,
        about: "the most that is sent",
    },
    Key {
        name: "max-down",
        form: Form::Text,
        scope: Scope::All,
        value: "rate with /s, at least 16KiB/s, or none",
        default: "none",
        live: true,
        about: "the most that is taken",
    },
    Key {
        name: "limit-local",
        form: Form::Text,
        scope: Scope::All,
        value: "on or off",
        default: "on",
        live: true,
        about: "whether the two hold back peers on private networks as well",
    },
    Key {
        name: "dht-mode",
        form: Form::Text,
        scope: DAEMON,
        value: "auto, server or client",
        default: "auto",
        live: false,
        about: "whether the node holds records for others",
    },
    Key {
        name: "seed",
        form: Form::Text,
        scope: DAEMON,
        value: "none, until-exit, a time, ratio=NUMBER or forever",
        default: "forever",
        live: false,
        about: "for how long fetched files are served",
    },
    Key {
        name: "swarm",
        form: Form::Text,
        scope: DAEMON,
        value: "fair or trusted",
        default: "fair on the network main, else trusted",
        live: false,
        about: "whether the peers of a swarm owe each other anything",
    },
    Key {
        name: "http",
        form: Form::Text,
        scope: DAEMON,
        value: "IP address and port, or off",
        default: "127.0.0.1:4180, if it is free",
        live: false,
        about: "where the local API is served over TCP as well",
    },
    Key {
        name: "http-host",
        form: Form::List,
        scope: DAEMON,
        value: "host names",
        default: "none",
        live: false,
        about: "names by which the API may be called over TCP, besides localhost and IP addresses",
    },
    Key {
        name: "timeout",
        form: Form::Text,
        scope: Scope::Only("get"),
        value: "time with its unit",
        default: "30s to find a provider, 5m without progress",
        live: false,
        about: "when `get` gives up",
    },
    Key {
        name: "log-level",
        form: Form::Text,
        scope: Scope::All,
        value: "error, warn, info or debug",
        default: "warn",
        live: false,
        about: "what is logged to standard error; -v and -vv log more",
    },
    Key {
        name: "log-format",
        form: Form::Text,
        scope: Scope::All,
        value: "text or json",
        default: "text",
        live: false,
        about: "how it is logged: for people, or one JSON object a line",
    },
];

/// The words of a subcommand, of a command with these words; none are the program's own.
pub(super) fn words(command: &str, subcommand: &str) -> String {
    format!("{command} {subcommand}").trim_start().to_owned()
}

/// The key of this name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The key that this was probably meant to be.
pub(crate) fn nearest(name: &str) -> Option<&'static Key> {
    /// Less is a guess, not a typing error.
    const ALIKE: f64 = 0.75;
    /// Of a name it is a part of, as `mdns` of `no-mdns`.
    const PART: f64 = 0.9;
    let name = name.to_lowercase().replace('_', "-");
    let likeness = |key: &Key| {
        let part = name.len() >= 3 && key.name.contains(&name);
        strsim::jaro_winkler(&name, key.name).max(if part { PART } else { 0.0 })
    };
    let best = KEYS
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.filter(|key| likeness(key) >= ALIKE)
}

/// The table of the manual.
#[cfg(test)]
fn manual() -> String {
    let mut table = "| key | is | value | default | SIGHUP |\n|---|---|---|---|---|\n".to_owned();
    for key in KEYS {
        let about = match key.scope {
            Scope::Only("daemon") => format!("{} (daemon)", key.about),
            _ => key.about.to_owned(),
        };
        let live = if key.live { "yes" } else { "" };
        let (name, value, default) = (key.name, key.value, key.default);
        table += &format!("| `{name}` | {about} | {value} | {default} | {live} |\n");
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::*;
    use crate::args::Args;

    /// Every argument of every command, with the command's words.
    fn arguments(command: &Command, of: &str) -> Vec<(String, clap::Arg)> {
        let own = command.get_arguments().cloned();
        let mut all: Vec<_> = own.map(|arg| (of.to_owned(), arg)).collect();
        for subcommand in command.get_subcommands() {
            all.extend(arguments(subcommand, &words(of, subcommand.get_name())));
        }
        all
    }

    #[test]
    fn each_key_is_a_flag_with_its_variable_wherever_it_is_for() {
        let all = arguments(&Args::command(), "");
        for key in KEYS {
            let of_key = all
                .iter()
                .filter(|(command, arg)| key.is_for(command) && *arg.get_id() == *key.id())
                .collect::<Vec<_>>();
            assert!(!of_key.is_empty(), "nothing takes {}", key.name);
            for (command, arg) in of_key {
                if arg.is_positional() {
                    continue;
                }
                assert_eq!(arg.get_long(), Some(key.name), "{command}");
                let variable = key.variable();
                assert_eq!(
                    arg.get_env().and_then(|name| name.to_str()),
                    Some(variable.as_str()),
                    "{command} --{}",
                    key.name
                );
            }
        }
    }

    #[test]
    fn each_variable_is_that_of_a_key() {
        for (command, arg) in arguments(&Args::command(), "") {
            let Some(variable) = arg.get_env().and_then(|name| name.to_str()) else {
                continue;
            };
            let known = KEYS.iter().any(|key| key.variable() == variable);
            assert!(
                known || variable == "CASNODE_CONFIG",
                "{command}: {variable}"
            );
        }
    }

    #[test]
    fn each_flag_of_a_daemon_has_a_key() {
        // How one call is answered, and where the keys are.
        const OF_A_CALL: [&str; 6] = ["json", "quiet", "verbose", "config", "help", "version"];
        for (command, arg) in arguments(&Args::command(), "") {
            if !(command.is_empty() || command == "daemon") || arg.is_hide_set() {
                continue;
            }
            let name = arg.get_long().unwrap_or_default();
            let known = find(name).is_some() || OF_A_CALL.contains(&name) || arg.is_positional();
            assert!(known, "{command} --{name} has no key");
        }
    }

    #[test]
    fn a_default_is_that_of_its_argument() {
        for (command, arg) in arguments(&Args::command(), "") {
            let key = KEYS
                .iter()
                .find(|key| key.is_for(&command) && *arg.get_id() == *key.id());
            if let (Some(key), [default]) = (key, arg.get_default_values()) {
                assert_eq!(default.to_str(), Some(key.default), "{command}");
            }
        }
    }

    #[test]
    fn what_was_meant_is_found() {
        for (typed, meant) in [
            ("max_store", "max-store"),
            ("maxstore", "max-store"),
            ("max-sotre", "max-store"),
            ("Listen", "listen"),
            ("bootstraps", "bootstrap"),
            ("mdns", "no-mdns"),
            ("datadir", "data-dir"),
        ] {
            assert_eq!(nearest(typed).map(|key| key.name), Some(meant), "{typed}");
        }
        assert!(nearest("xyzzy").is_none());
    }

    #[test]
    fn the_manual_has_the_table() {
        let manual_has = include_str!("../../../docs/OPERATIONS.md");
        let table = manual();
        assert!(
            manual_has.contains(&table),
            "docs/OPERATIONS.md lacks:\n{table}"
        );
    }
}

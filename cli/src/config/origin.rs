//! Who said what a key is.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::file::ConfigFile;
use super::keys::{Key, words};

/// Who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody.
    Default,
    /// A file, in this line.
    File(PathBuf, usize),
    /// The variable of this name.
    Variable(String),
    /// A flag.
    Flag,
}

/// A key and what holds.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) key: &'static Key,
    /// As they were written; empty: the default.
    pub(crate) values: Vec<String>,
    pub(crate) origin: Origin,
}

impl Setting {
    /// What holds, as a person would write it.
    pub(crate) fn shown(&self) -> String {
        match self.origin {
            Origin::Default => self.key.default.to_owned(),
            _ => self.values.join(", "),
        }
    }
}

/// What holds for a key.
pub(super) fn setting(
    key: &'static Key,
    matches: &ArgMatches,
    file: Option<&ConfigFile>,
) -> Setting {
    let found = strongest(key, "", matches);
    let values = |found: &ArgMatches| {
        let raw = found.get_raw(&key.id()).into_iter().flatten();
        raw.map(|value| value.to_string_lossy().into_owned())
            .collect()
    };
    let entry = file.and_then(|file| Some((&file.path, file.entry(key)?)));
    let (values, origin) = match (found, entry) {
        (Some((ValueSource::CommandLine, at)), _) => (values(at), Origin::Flag),
        (Some((ValueSource::EnvVariable, at)), _) => (values(at), Origin::Variable(key.variable())),
        (Some(_), Some((path, entry))) => {
            (entry.values.clone(), Origin::File(path.clone(), entry.line))
        }
        _ => (Vec::new(), Origin::Default),
    };
    Setting {
        key,
        values,
        origin,
    }
}

/// The strongest source of a key's argument, and the level of the command at which it is.
fn strongest<'a>(
    key: &Key,
    command: &str,
    matches: &'a ArgMatches,
) -> Option<(ValueSource, &'a ArgMatches)> {
    let id = key.id();
    let is_here = key.is_for(command) && matches.ids().any(|known| *known == *id);
    let own = is_here.then(|| matches.value_source(&id)).flatten();
    let own = own.map(|source| (source, matches));
    let below = matches
        .subcommand()
        .and_then(|(name, below)| strongest(key, &words(command, name), below));
    // A flag that every command understands is at each level, and known at some.
    own.into_iter()
        .chain(below)
        .max_by_key(|(source, _)| *source)
}

/// Whether the command that was typed has the argument of a key.
pub(super) fn is_taken(key: &Key, command: &Command, of: &str, matches: &ArgMatches) -> bool {
    let id = key.id();
    let mut own = command.get_arguments();
    if key.is_for(of) && own.any(|arg| *arg.get_id() == *id) {
        return true;
    }
    matches.subcommand().is_some_and(|(name, matches)| {
        let subcommand = command.find_subcommand(name);
        subcommand.is_some_and(|subcommand| is_taken(key, subcommand, &words(of, name), matches))
    })
}

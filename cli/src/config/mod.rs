//! What is set, and by whom: a file, variables and flags, the later stronger.
//!
//! [`keys`] is the table of what a file can say, [`mod@file`] reads one, [`check`] tells what is wrong about a value, and
//! [`origin`] who said what holds. A file's values become the defaults of their arguments, so that clap alone decides what
//! is stronger.

mod check;
pub(crate) mod file;
pub(crate) mod keys;
mod origin;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use casnode_node::api::{ApiError, ErrorKind};
use clap::builder::Resettable;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};

use self::file::ConfigFile;
use self::keys::{KEYS, words};
pub(crate) use self::origin::{Origin, Setting};
use crate::args::Args;
use crate::exit::{Failure, Result};

/// In place of a file's name: none is read.
pub(crate) const NO_FILE: &str = "none";

/// What is set.
#[derive(Debug)]
pub(crate) struct Settings {
    /// What was typed, the program's name first.
    words: Vec<OsString>,
    /// What clap made of it, with the file's values.
    matches: ArgMatches,
    /// The file that was read.
    file: Option<ConfigFile>,
    /// What is wrong with the file, where a command goes on all the same.
    broken: Option<ApiError>,
}

/// Why there is nothing to run.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Help was asked for, or what was typed is wrong.
    Clap(clap::Error),
    /// A variable or the file is wrong.
    Failure(Failure),
}

impl From<clap::Error> for Stop {
    fn from(error: clap::Error) -> Self {
        Self::Clap(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Reads what was typed, the variables and the config file.
pub(crate) fn read(words: Vec<OsString>) -> Result<(Args, Settings), Stop> {
    let command = with_variables(Args::command(), "");
    // The file fills in defaults alone: what is wrong without it is wrong with it.
    let matches = command.clone().try_get_matches_from(&words)?;
    check_variables(&command, &matches)?;
    let read = match Place::of(&matches) {
        Some(place) if heeds_settings(&matches) => place.read(&command),
        _ => Ok(None),
    };
    let (file, broken) = match read {
        Ok(file) => (file, None),
        // It is there to tell.
        Err(Failure::Api(error)) if matches.subcommand_name() == Some("doctor") => {
            (None, Some(error))
        }
        Err(failure) => return Err(failure.into()),
    };
    let matches = match &file {
        Some(file) => with_file(command, "", file).try_get_matches_from(&words)?,
        None => matches,
    };
    let args = Args::from_arg_matches(&matches)?;
    let settings = Settings {
        words,
        matches,
        file,
        broken,
    };
    Ok((args, settings))
}

impl Settings {
    /// The file that was read, and how many keys it has.
    pub(crate) fn file(&self) -> Option<(&Path, usize)> {
        let file = self.file.as_ref()?;
        Some((&file.path, file.entries.len()))
    }

    /// What is wrong with the file.
    pub(crate) fn broken(&self) -> Option<&ApiError> {
        self.broken.as_ref()
    }

    /// Each key with its value and who said it.
    pub(crate) fn all(&self) -> Vec<Setting> {
        let settings = KEYS.iter();
        settings
            .map(|key| origin::setting(key, &self.matches, self.file.as_ref()))
            .collect()
    }

    /// Whether a flag said what this key is.
    pub(crate) fn is_typed(&self, name: &str) -> bool {
        matches!(self.origin(name), Some(Origin::Flag))
    }

    /// Whether a flag or a variable said what this key is: whoever gave this command meant this command.
    pub(crate) fn is_said_here(&self, name: &str) -> bool {
        matches!(self.origin(name), Some(Origin::Flag | Origin::Variable(_)))
    }

    fn origin(&self, name: &str) -> Option<Origin> {
        let key = keys::find(name)?;
        Some(origin::setting(key, &self.matches, self.file.as_ref()).origin)
    }

    /// Reads the file again. Words and variables are those of the start.
    pub(crate) fn read_again(&self) -> Result<(Args, Self)> {
        read(self.words.clone()).map_err(|stop| match stop {
            Stop::Failure(failure) => failure,
            Stop::Clap(error) => Failure::new(
                ErrorKind::Usage,
                "the config file cannot be used",
                error.to_string(),
                "correct it, and send the signal again",
            ),
        })
    }
}

/// Whether a command is subject to the file: those that look at files of their own, or at none, also work while it is
/// broken.
fn heeds_settings(matches: &ArgMatches) -> bool {
    match matches.subcommand() {
        Some(("completions" | "man" | "demo" | "bench" | "bench-part", _)) => false,
        Some(("config", config)) => config.subcommand_name() != Some("check"),
        _ => true,
    }
}

/// Where a config file is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// It was named, so it has to be there.
    Named(PathBuf),
    /// Where it is when nobody says otherwise.
    Usual(PathBuf),
}

impl Place {
    /// What was named, else the usual place; `None`: no file is wanted, or there is no place for one.
    pub(crate) fn of(matches: &ArgMatches) -> Option<Self> {
        let named: Option<&PathBuf> = matches.get_one("config");
        Self::named_or_usual(named.cloned())
    }

    /// This file, or none for `none`, else the usual place.
    pub(crate) fn named_or_usual(named: Option<PathBuf>) -> Option<Self> {
        match named {
            Some(path) if path.as_os_str() == NO_FILE => None,
            Some(path) => Some(Self::Named(path)),
            None => {
                let folders = directories::BaseDirs::new()?;
                Some(Self::Usual(
                    folders.config_dir().join("casnode/config.toml"),
                ))
            }
        }
    }

    /// Reads and checks it. `None`: nothing is in the usual place.
    pub(crate) fn read(&self, command: &Command) -> Result<Option<ConfigFile>> {
        match self {
            Self::Usual(path) => ConfigFile::read(path, command),
            Self::Named(path) => match ConfigFile::read(path, command)? {
                Some(file) => Ok(Some(file)),
                None => Err(Failure::new(
                    ErrorKind::Usage,
                    format!("there is no config file {}", path.display()),
                    "--config or CASNODE_CONFIG names it",
                    "write it, leave the name out, or say none",
                )),
            },
        }
    }
}

/// Each argument without its variable where that is empty, which means that nothing is said, where its value is wrong,
/// which [`check_variables`] tells, and where it is not for this command.
fn with_variables(command: Command, of: &str) -> Command {
    let for_another = |arg: &Arg| {
        KEYS.iter()
            .any(|key| *arg.get_id() == *key.id() && !key.is_for(of))
    };
    command
        .mut_args(|arg| {
            let Some(value) = arg.get_env().and_then(std::env::var_os) else {
                return arg;
            };
            if for_another(&arg) || value.is_empty() || wrong_items(&arg, &value).is_some() {
                return arg.env(Resettable::Reset);
            }
            arg
        })
        .mut_subcommands(|subcommand| {
            let of = words(of, subcommand.get_name());
            with_variables(subcommand, &of)
        })
}

/// Why a variable cannot be used.
fn wrong_items(arg: &Arg, value: &OsStr) -> Option<String> {
    let Some(text) = value.to_str() else {
        let is_path = *arg.get_id() == *"data_dir" || *arg.get_id() == *"config";
        return (!is_path).then(|| format!("{value:?} is not UTF-8"));
    };
    let items = match arg.get_value_delimiter() {
        Some(delimiter) => text.split(delimiter).map(str::trim).collect(),
        None => vec![text],
    };
    let mut items = items.into_iter().filter(|item| !item.is_empty());
    items.find_map(|item| Some(format!("{item:?}: {}", check::complaint(arg, item)?)))
}

/// Tells of variables that are wrong, of those alone that this command would listen to.
fn check_variables(command: &Command, matches: &ArgMatches) -> Result<()> {
    let mut wrong = Vec::new();
    for key in KEYS {
        let variable = key.variable();
        let value = std::env::var_os(&variable).unwrap_or_default();
        let is_flag = origin::setting(key, matches, None).origin == Origin::Flag;
        if value.is_empty() || is_flag || !origin::is_taken(key, command, "", matches) {
            continue;
        }
        let arg = check::argument(command, key);
        if let Some(why) = arg.and_then(|arg| wrong_items(arg, &value)) {
            wrong.push(format!("{variable}: {why}"));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        ErrorKind::Usage,
        match wrong.len() {
            1 => "a variable has a wrong value".to_owned(),
            n => format!("{n} variables have wrong values"),
        },
        wrong.join("\n       "),
        "correct it, or unset it",
    ))
}

/// The file's values as the defaults of their arguments.
fn with_file(command: Command, of: &str, file: &ConfigFile) -> Command {
    command
        .mut_args(|arg| {
            let mut keys = KEYS.iter();
            let key = keys.find(|key| key.is_for(of) && *arg.get_id() == *key.id());
            match key.and_then(|key| file.entry(key)) {
                Some(entry) => arg.default_values(&entry.values),
                None => arg,
            }
        })
        .mut_subcommands(|subcommand| {
            let of = words(of, subcommand.get_name());
            with_file(subcommand, &of, file)
        })
}

/// Lets a program of this kind be started as if nobody had set anything.
pub(crate) fn unset_all(command: &mut tokio::process::Command) {
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"CASNODE_") {
            command.env_remove(variable);
        }
    }
    command.env("CASNODE_CONFIG", NO_FILE);
}

#[cfg(test)]
mod tests;

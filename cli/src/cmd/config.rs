//! `casnode config`.

use std::path::PathBuf;

use casnode_node::api::ErrorKind;
use clap::CommandFactory;

use crate::args::{Args, ConfigCommand, Global};
use crate::config::{Place, Settings};
use crate::exit::{Failure, Result};
use crate::output;

/// Checks a config file, or shows what is set.
pub(crate) fn run(command: ConfigCommand, global: &Global, settings: &Settings) -> Result<()> {
    match command {
        ConfigCommand::Check { file } => check(file.or_else(|| global.config.clone()), global.json),
        ConfigCommand::Show(_) => output::print_settings(&settings.all(), global.json),
    }
}

/// Says what is wrong with a file, or that nothing is.
fn check(named: Option<PathBuf>, json: bool) -> Result<()> {
    let place = Place::named_or_usual(named);
    let file = match &place {
        Some(place) => place.read(&Args::command())?,
        None => None,
    };
    match file {
        Some(file) => output::print_checked(&file.path, file.entries.len(), json),
        None => Err(Failure::new(
            ErrorKind::Usage,
            "there is no config file to check",
            match place {
                Some(Place::Usual(path)) => format!("{} is not there", path.display()),
                _ => "none is read here".to_owned(),
            },
            "name one: `casnode config check FILE`",
        )),
    }
}

//! `casnode completions` and `casnode man`: what follows from the definition of the command line.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use serde::Serialize;

use crate::args::Args;
use crate::exit::{Failure, Result};
use crate::output;

/// Prints the script. It is made in memory first: the generator panics when its output closes.
pub(crate) fn run(shell: Shell, json: bool) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "casnode", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    output::write_out(&if json {
        let shell = shell.to_string();
        output::json_line(&Script { shell, script })?
    } else {
        script
    })
}

/// What `completions --json` prints.
#[derive(Serialize)]
struct Script {
    shell: String,
    script: String,
}

/// What `man --json` prints.
#[derive(Serialize)]
struct Pages {
    folder: String,
}

/// Writes a page for each command into a folder.
pub(crate) fn man(folder: &Path, json: bool) -> Result<()> {
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Args::command(), folder))
        .map_err(|error| {
            let what = format!("the man pages could not be written to {}", folder.display());
            Failure::io(what, &error)
        })?;
    if !json {
        return Ok(());
    }
    let folder = folder.display().to_string();
    output::write_out(&output::json_line(&Pages { folder })?)
}

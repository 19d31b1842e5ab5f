//! `casnode completions` and `casnode man`: what follows from the definition of the command line.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;
use crate::exit::{Failure, Result};
use crate::output;

/// Prints the script. It is made in memory first: the generator panics when its output closes.
pub(crate) fn run(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "casnode", &mut script);
    output::write_out(&String::from_utf8_lossy(&script))
}

/// Writes a page for each command into a folder.
pub(crate) fn man(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Args::command(), folder))
        .map_err(|error| {
            let what = format!("the man pages could not be written to {}", folder.display());
            Failure::io(what, &error)
        })
}

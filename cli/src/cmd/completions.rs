//! `casnode completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;
use crate::exit::Result;
use crate::output;

/// Prints the script. It is made in memory first: the generator panics when its output closes.
pub(crate) fn run(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "casnode", &mut script);
    output::write_out(&String::from_utf8_lossy(&script))
}

//! The processes of a bench: nodes, and parts that do one piece of work.
//!
//! Nobody outlives the bench: a child leaves when its standard input ends, which it does when this process ends in
//! whatever way. Children are in process groups of their own, so that Ctrl-C at the terminal reaches the bench alone and
//! the ending has one author.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use casnode_node::api::ErrorKind;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::config;
use crate::exit::{Failure, Result};

/// How long a child may take to leave before it is killed.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// All that run now.
#[derive(Default)]
pub(crate) struct Children(Vec<Running>);

/// Names a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pid(pub(crate) u32);

struct Running {
    pid: Pid,
    name: String,
    child: Child,
    /// Open as long as the child is to run.
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Children {
    /// Starts this program once more, in `folder`, with nothing of the environment or of a config file.
    pub(crate) fn start<S: AsRef<OsStr>>(
        &mut self,
        folder: &Path,
        name: &str,
        words: impl IntoIterator<Item = S>,
    ) -> Result<Pid> {
        let io = |error| Failure::io(format!("cannot start {name}"), &error);
        let log = folder.join(format!("{name}.log"));
        let mut command = Command::new(std::env::current_exe().map_err(io)?);
        command.args(words).current_dir(folder);
        config::unset_all(&mut command);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).map_err(io)?)
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(io)?;
        let pid = Pid(child.id().unwrap_or_default());
        self.0.push(Running {
            pid,
            name: name.to_owned(),
            stdin: child.stdin.take(),
            stdout: child.stdout.take().map(BufReader::new),
            child,
            log,
        });
        Ok(pid)
    }

    /// The next line that a child prints.
    pub(crate) async fn line(&mut self, pid: Pid, limit: Duration) -> Result<String> {
        let running = self.get(pid)?;
        let mut line = String::new();
        if let Some(stdout) = &mut running.stdout
            // Too late, ended and unreadable look the same here: no line. The log says which.
            && let Ok(Ok(bytes)) = tokio::time::timeout(limit, stdout.read_line(&mut line)).await
            && bytes > 0
        {
            return Ok(line);
        }
        Err(Failure::new(
            ErrorKind::Failure,
            format!("{} did not do its part", running.name),
            last_words(&running.log, limit),
            "",
        ))
    }

    /// Asks one to leave, kills it if it does not in time, and waits until it is gone.
    pub(crate) async fn leave(&mut self, pid: Pid) {
        let Some(at) = self.0.iter().position(|running| running.pid == pid) else {
            return;
        };
        // It stays in the list until it is gone: this may be broken off.
        self.0[at].stdin = None;
        let child = &mut self.0[at].child;
        if tokio::time::timeout(LEAVE_LIMIT, child.wait())
            .await
            .is_err()
        {
            let _ = child.kill().await;
        }
        self.0.retain(|running| running.pid != pid);
    }

    /// Asks all to leave.
    pub(crate) async fn leave_all(&mut self) {
        for running in &mut self.0 {
            running.stdin = None;
        }
        while let Some(last) = self.0.last() {
            self.leave(last.pid).await;
        }
    }

    /// Kills all that still run, and waits until they are gone.
    pub(crate) async fn end(&mut self) {
        for running in &mut self.0 {
            let _ = running.child.start_kill();
        }
        for running in &mut self.0 {
            let _ = running.child.wait().await;
        }
        self.0.clear();
    }

    fn get(&mut self, pid: Pid) -> Result<&mut Running> {
        let found = self.0.iter_mut().find(|running| running.pid == pid);
        found.ok_or_else(|| {
            Failure::new(
                ErrorKind::Failure,
                "a process of the bench is gone",
                format!("process {} was ended before it was asked", pid.0),
                "this is a bug of casnode: please report it",
            )
        })
    }
}

/// The end of a child's log.
fn last_words(log: &Path, limit: Duration) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut last: Vec<&str> = text.lines().rev().take(5).collect();
    last.reverse();
    if last.is_empty() {
        format!("it said nothing within {} s", limit.as_secs())
    } else {
        last.join(" / ")
    }
}

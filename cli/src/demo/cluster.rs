//! The demo's nodes: daemons as child processes.
//!
//! Nobody outlives the demo: a child leaves when its standard input ends, which it does when this process ends
//! in whatever way; and it is killed when its handle is dropped. Children are in process groups of their own, so
//! that Ctrl-C at the terminal reaches the demo alone and the ending has one author.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use casnode_node::api::{ErrorKind, Event, Request, Response, StatusReport};
use casnode_node::{Client, Streams};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::config;
use crate::exit::{Failure, Result};

/// How long a daemon may take to listen.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a daemon may take to leave before it is killed.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// The daemons, by number from 1.
pub(crate) struct Cluster {
    folder: PathBuf,
    nodes: Vec<DemoNode>,
}

/// One daemon.
pub(crate) struct DemoNode {
    /// Its number in what the person reads.
    pub(crate) number: usize,
    /// Its data directory.
    pub(crate) data_dir: PathBuf,
    /// What it said when it was ready.
    pub(crate) status: StatusReport,
    child: Child,
    /// Open as long as the daemon is to run.
    stdin: Option<ChildStdin>,
}

impl Cluster {
    /// No nodes yet; theirs will be under `folder`.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            nodes: Vec::new(),
        }
    }

    /// Starts one more node, which knows only the one before.
    pub(crate) async fn add(&mut self) -> Result<()> {
        let bootstrap = self
            .nodes
            .last()
            .and_then(|node| node.status.listen.first());
        let node = DemoNode::start(self.nodes.len() + 1, &self.folder, bootstrap).await?;
        self.nodes.push(node);
        Ok(())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Node `number`, from 1.
    pub(crate) fn node(&mut self, number: usize) -> &mut DemoNode {
        &mut self.nodes[number - 1]
    }

    /// The number of the node with this peer id.
    pub(crate) fn number_of(&self, peer: &str) -> Option<usize> {
        self.nodes
            .iter()
            .find(|node| node.status.peer_id == peer)
            .map(|node| node.number)
    }

    /// Where node `number` puts its copy.
    pub(crate) fn copy_path(&self, number: usize, what: &str) -> PathBuf {
        self.folder.join(format!("copy-{number}-{what}"))
    }

    /// Asks all to leave, and kills who does not in time.
    pub(crate) async fn leave(&mut self) {
        for node in &mut self.nodes {
            node.stdin = None;
        }
        for node in &mut self.nodes {
            let _ = tokio::time::timeout(LEAVE_LIMIT, node.child.wait()).await;
        }
        self.end().await;
    }

    /// Kills all that still run, and waits until they are gone.
    pub(crate) async fn end(&mut self) {
        for node in &mut self.nodes {
            let _ = node.child.start_kill();
        }
        for node in &mut self.nodes {
            let _ = node.child.wait().await;
        }
        self.nodes.clear();
    }
}

impl DemoNode {
    async fn start(number: usize, folder: &Path, bootstrap: Option<&String>) -> Result<Self> {
        let what = || format!("cannot start node {number}");
        let io = |error| Failure::io(what(), &error);
        let data_dir = folder.join(format!("node-{number}"));
        let log_path = folder.join(format!("node-{number}.log"));
        let mut command = Command::new(std::env::current_exe().map_err(io)?);
        command
            .args([
                "daemon",
                "--json",
                "--until-eof",
                "--no-mdns",
                "--http",
                "off",
                "--listen",
                "/ip4/127.0.0.1/tcp/0",
            ])
            .arg("--data-dir")
            .arg(&data_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log_path).map_err(io)?)
            .process_group(0)
            .kill_on_drop(true);
        // These nodes are among themselves.
        config::unset_all(&mut command);
        if let Some(addr) = bootstrap {
            command.args(["--bootstrap", addr]);
        }
        let mut child = command.spawn().map_err(io)?;
        let stdin = child.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            let mut stdout = BufReader::new(stdout);
            // Too late, ended and unreadable look the same here: no status. The log says which.
            let _ = tokio::time::timeout(START_LIMIT, stdout.read_line(&mut line)).await;
        }
        match serde_json::from_str::<StatusReport>(&line) {
            Ok(status) => Ok(Self {
                number,
                data_dir,
                status,
                child,
                stdin,
            }),
            Err(_) => Err(Failure::new(
                ErrorKind::Failure,
                what(),
                last_words(&log_path),
                "",
            )),
        }
    }

    /// A caller's end of this node's API.
    pub(crate) async fn client(&self) -> Result<Client> {
        Client::connect(&self.data_dir).await?.ok_or_else(|| {
            Failure::new(
                ErrorKind::Failure,
                format!("node {} does not answer", self.number),
                "its process has ended",
                "",
            )
        })
    }

    /// Makes one call.
    pub(crate) async fn call(
        &self,
        request: Request,
        on_event: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Response> {
        let client = self.client().await?;
        let outcome = client.call(request, Streams::default(), on_event).await;
        client.close().await;
        Ok(outcome?)
    }

    /// Ends it without a warning (SIGKILL).
    pub(crate) fn kill(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.child.start_kill();
    }
}

/// The end of a node's log.
fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut last: Vec<&str> = text.lines().rev().take(5).collect();
    last.reverse();
    if last.is_empty() {
        "it said nothing in time".to_owned()
    } else {
        last.join(" / ")
    }
}

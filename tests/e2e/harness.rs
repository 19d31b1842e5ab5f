//! Starts the binary and its nodes, and ends them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const CASNODE: &str = env!("CARGO_BIN_EXE_casnode");

/// No single step takes longer than this, even on a machine that is busy with something else.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(10);

/// A folder of this test alone. Short, since a socket's path has little room.
pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new().prefix("cn").tempdir().unwrap()
}

/// Waits for a condition, and fails the test when it does not come.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "waited in vain for {what}");
        thread::sleep(POLL);
    }
}

/// How many processes work with a folder: their command line names it, or they work in it.
pub(crate) fn processes_with(folder: &Path) -> usize {
    let needle = folder.to_str().unwrap().as_bytes().to_vec();
    let Ok(all) = std::fs::read_dir("/proc") else {
        return 0;
    };
    let works_with = |process: PathBuf| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let is_named = line.windows(needle.len()).any(|window| window == needle);
        is_named || std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    };
    all.filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|process| works_with(process.clone()))
        .count()
}

/// Sends a signal to a process of this test.
pub(crate) fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_child(child);
    kill_process(pid, signal).unwrap();
}

/// A call of the binary.
pub(crate) struct Call {
    pub(crate) command: Command,
    input: Vec<u8>,
}

/// `casnode` with these words. Nothing of the environment of whoever runs the tests reaches it.
pub(crate) fn casnode<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Call {
    let mut command = Command::new(CASNODE);
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"CASNODE_") {
            command.env_remove(variable);
        }
    }
    command
        .args(words)
        .env("CASNODE_CONFIG", "none")
        // Tests count chunks, and know where they are.
        .env("CASNODE_CHUNKER", "fixed")
        .env_remove("RUST_LOG");
    Call {
        command,
        input: Vec::new(),
    }
}

/// Gives a command the environment of another.
pub(crate) fn copy_env(from: &Command, to: &mut Command) {
    for (key, value) in from.get_envs() {
        match value {
            Some(value) => to.env(key, value),
            None => to.env_remove(key),
        };
    }
}

impl Call {
    pub(crate) fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.command.arg(word);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.command.args(words);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    pub(crate) fn without_env(mut self, key: &str) -> Self {
        self.command.env_remove(key);
        self
    }

    /// The same call, made by another program, whose last words it is.
    pub(crate) fn by(mut self, program: &str, words: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(words).arg(self.command.get_program());
        command.args(self.command.get_args());
        copy_env(&self.command, &mut command);
        self.command = command;
        self
    }

    pub(crate) fn current_dir(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// What it reads on standard input.
    pub(crate) fn input(mut self, bytes: Vec<u8>) -> Self {
        self.input = bytes;
        self
    }

    /// Starts it, with a standard input that the test holds.
    pub(crate) fn spawn_open(self) -> (Running, ChildStdin) {
        let mut running = self.spawn_piped();
        let stdin = running.child.stdin.take().unwrap();
        (running, stdin)
    }

    /// Starts it.
    pub(crate) fn spawn(mut self) -> Running {
        let input = std::mem::take(&mut self.input);
        let mut running = self.spawn_piped();
        let mut stdin = running.child.stdin.take().unwrap();
        // The reader may leave early; that is for the test to judge.
        running.writer = Some(thread::spawn(move || drop(stdin.write_all(&input))));
        running
    }

    fn spawn_piped(mut self) -> Running {
        let shown = format!("{:?}", self.command);
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        Running {
            shown,
            child,
            writer: None,
            stdout: Some(stdout),
            stderr: Some(stderr),
        }
    }

    /// Runs it with a standard output whose reader has left; its exit code.
    pub(crate) fn unread(mut self) -> Option<i32> {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let run = self.command.stdin(Stdio::null()).stdout(writer);
        run.output().unwrap().status.code()
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Run {
        self.spawn().wait()
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// A call under way. Killed when dropped.
pub(crate) struct Running {
    shown: String,
    pub(crate) child: Child,
    writer: Option<JoinHandle<()>>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Waits for its end, at most [`LIMIT`].
    pub(crate) fn wait(self) -> Run {
        self.wait_at_most(LIMIT)
    }

    /// The same for what has patience of its own.
    pub(crate) fn wait_at_most(mut self, limit: Duration) -> Run {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break Some(status);
            }
            if begun.elapsed() > limit {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break None;
            }
            thread::sleep(POLL);
        };
        if let Some(writer) = self.writer.take() {
            writer.join().unwrap();
        }
        let stdout = self.stdout.take().unwrap().join().unwrap();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let status =
            status.unwrap_or_else(|| panic!("{} did not end; it said:\n{stderr}", self.shown));
        Run {
            shown: self.shown.clone(),
            status,
            seconds: begun.elapsed().as_secs_f64(),
            stdout,
            stderr,
        }
    }

    pub(crate) fn stdout_has_ended(&self) -> bool {
        self.stdout.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, which: Signal) {
        signal(&self.child, which);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A call that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    shown: String,
    pub(crate) status: ExitStatus,
    pub(crate) seconds: f64,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Run {
    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        self.exits_one_of(&[code])
    }

    /// Fails the test unless the exit code is one of these.
    #[track_caller]
    pub(crate) fn exits_one_of(self, codes: &[i32]) -> Self {
        assert!(
            self.status.code().is_some_and(|code| codes.contains(&code)),
            "{}\nended with {} and not {codes:?}; it said:\n{}\n{}",
            self.shown,
            self.status,
            self.text(),
            self.stderr
        );
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// Fails the test unless standard error says this.
    #[track_caller]
    pub(crate) fn says(self, part: &str) -> Self {
        assert!(
            self.stderr.contains(part),
            "{}\ndid not say {part:?} but:\n{}",
            self.shown,
            self.stderr
        );
        self
    }

    /// How many peers an error says were asked.
    #[track_caller]
    pub(crate) fn asked_peers(&self) -> u64 {
        let words: Vec<&str> = self.stderr.split_whitespace().collect();
        let number = words.windows(2).find_map(|pair| {
            let peers = pair[1].trim_end_matches([',', ';', '.']);
            matches!(peers, "peer" | "peers").then(|| pair[0].parse().ok())?
        });
        number.unwrap_or_else(|| panic!("no number of peers in:\n{}", self.stderr))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard output as one line of JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let lines = self.json_lines();
        assert_eq!(lines.len(), 1, "{}", self.text());
        lines.into_iter().next().unwrap()
    }

    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// A data directory, with or without a daemon on it.
pub(crate) struct Home(pub(crate) TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(folder())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A call on this data directory.
    pub(crate) fn call<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Call {
        call_on(self.path(), words)
    }

    /// A call that runs a node of its own, which knows these peers alone. The words may not end in an option
    /// without its value.
    pub(crate) fn networked<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
        bootstrap: &[&str],
    ) -> Call {
        let call = self
            .call(words)
            .args(["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"]);
        bootstrap
            .iter()
            .fold(call, |call, addr| call.args(["--bootstrap", addr]))
    }
}

fn call_on<S: AsRef<OsStr>>(data_dir: &Path, words: impl IntoIterator<Item = S>) -> Call {
    // In front, so that a test may add the value of its last word.
    casnode([OsStr::new("--data-dir"), data_dir.as_os_str()]).args(words)
}

/// A daemon. Killed when dropped; what it logged is shown when the test fails.
pub(crate) struct Node {
    pub(crate) home: Home,
    pub(crate) peer_id: String,
    /// The first address it listens on, with `/p2p/…`.
    pub(crate) addr: String,
    pub(crate) child: Child,
    _stdin: ChildStdin,
    log: PathBuf,
}

impl Node {
    /// A fresh node that knows these peers.
    pub(crate) fn start(bootstrap: &[&str]) -> Self {
        Self::start_on(Home::new(), bootstrap)
    }

    /// A node on this data directory.
    pub(crate) fn start_on(home: Home, bootstrap: &[&str]) -> Self {
        Self::start_with(home, bootstrap, "/ip4/127.0.0.1/tcp/0")
    }

    /// A node on this data directory that listens there.
    pub(crate) fn start_with(home: Home, bootstrap: &[&str], listen: &str) -> Self {
        Self::start_as(home, bootstrap, &["--listen", listen])
    }

    /// A node on this data directory, with these options.
    pub(crate) fn start_as(home: Home, bootstrap: &[&str], options: &[&str]) -> Self {
        let log = home.path().with_extension("log");
        let (child, stdin, status) = launch(&home, bootstrap, options, &log);
        let Some(status) = status else {
            panic!(
                "the daemon did not start: {}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
        };
        Self {
            home,
            peer_id: status["peer_id"].as_str().unwrap().to_owned(),
            addr: status["listen"][0].as_str().unwrap().to_owned(),
            child,
            _stdin: stdin,
            log,
        }
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.home.path()
    }

    /// The TCP address it listens on.
    pub(crate) fn socket_addr(&self) -> SocketAddr {
        let parts: Vec<&str> = self.addr.split('/').collect();
        assert_eq!((parts[1], parts[3]), ("ip4", "tcp"), "{}", self.addr);
        format!("{}:{}", parts[2], parts[4]).parse().unwrap()
    }

    /// A call that this daemon answers.
    pub(crate) fn call<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Call {
        call_on(self.data_dir(), words)
    }

    /// Stores a file through this daemon; its address.
    #[track_caller]
    pub(crate) fn store(&self, path: &Path) -> String {
        self.call(["store"])
            .arg(path)
            .run()
            .ok()
            .text()
            .trim()
            .to_owned()
    }

    pub(crate) fn status(&self) -> Value {
        self.call(["status", "--json"]).run().ok().json()
    }

    /// Fetches into a file through this daemon; the report.
    #[track_caller]
    pub(crate) fn get(&self, address: &str, to: &Path) -> Value {
        self.call(["get", "--json", address, "-o"])
            .arg(to)
            .run()
            .ok()
            .json()
    }

    /// What it has written to standard error.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Ends it without a warning (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills it, and gives back its data directory.
    pub(crate) fn into_home(mut self) -> Home {
        self.kill();
        std::mem::replace(&mut self.home, Home::new())
    }

    /// Asks it to leave (SIGTERM), waits until it has, and gives back its data directory.
    #[track_caller]
    pub(crate) fn leave(self) -> Home {
        self.leave_by(Signal::TERM)
    }

    /// Asks it to leave by this signal, waits until it has, and gives back its data directory.
    #[track_caller]
    pub(crate) fn leave_by(mut self, which: Signal) -> Home {
        signal(&self.child, which);
        let mut status = None;
        wait_until("the daemon to leave", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{status:?}");
        std::mem::replace(&mut self.home, Home::new())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            eprintln!("--- log of {}:\n{}", self.peer_id, tail.join("\n"));
        }
        let _ = std::fs::remove_file(&self.log);
    }
}

/// Starts a daemon and reads the line that says that it is ready.
fn launch(
    home: &Home,
    bootstrap: &[&str],
    options: &[&str],
    log: &Path,
) -> (Child, ChildStdin, Option<Value>) {
    let mut call = home
        .call(["daemon", "--json", "--no-mdns", "--until-eof"])
        .args(options)
        .env("RUST_LOG", "warn,casnode_node=debug,casnode_dht=debug");
    if !options.contains(&"--http") {
        call = call.args(["--http", "off"]);
    }
    for addr in bootstrap {
        call = call.args(["--bootstrap", addr]);
    }
    let mut child = call
        .command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::options().create(true).append(true).open(log).unwrap())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, line) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut line = String::new();
        let _ = stdout.read_line(&mut line);
        let _ = sender.send(line);
    });
    let status = line
        .recv_timeout(LIMIT)
        .ok()
        .and_then(|line| serde_json::from_str(&line).ok());
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    (child, stdin, status)
}

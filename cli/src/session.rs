//! Who does the work of a command: the daemon on the data directory if one answers, else a node in this process
//! for the length of the command.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use casnode_node::api::{ApiError, ErrorKind, Event, Request, Response};
use casnode_node::{
    Client, MemoryBudget, NetworkConfig, NetworkName, NodeConfig, SeedPolicy, StoreLimit, Streams,
};
use tokio_util::sync::CancellationToken;

use crate::args::{Global, LogFormat, NetworkArgs};
use crate::config::Settings;
use crate::exit::{Failure, Result};
use crate::output;
use crate::progress::{Reporter, remark, with_word};

/// What every command works with.
pub(crate) struct Context {
    /// Where this node keeps everything; absolute.
    pub(crate) data_dir: PathBuf,
    /// What is set, and by whom.
    pub(crate) settings: Settings,
    /// The most that the store may take, where that was said.
    pub(crate) max_store: Option<StoreLimit>,
    /// Memory that a node in this process may use.
    pub(crate) memory: MemoryBudget,
    /// Results as JSON.
    pub(crate) json: bool,
    /// No progress, no remarks.
    pub(crate) quiet: bool,
    /// Who reads the log.
    log_format: LogFormat,
    /// Cancelled by the first signal.
    pub(crate) stop: CancellationToken,
    /// Warnings that were said: of several calls each says what concerns them all.
    warned: Mutex<HashSet<String>>,
}

impl Context {
    /// Settles the data directory.
    pub(crate) fn new(
        global: &Global,
        settings: Settings,
        stop: CancellationToken,
    ) -> Result<Self> {
        Ok(Self {
            settings,
            data_dir: data_dir(global.data_dir.as_deref())?,
            max_store: global.max_store.and_then(|limit| limit.0),
            memory: global.memory.and_then(|m| m.0).unwrap_or_default(),
            json: global.json,
            quiet: global.quiet,
            log_format: global.log_format,
            stop,
            warned: Mutex::default(),
        })
    }

    /// Says something on standard error, unless the person wants quiet.
    pub(crate) fn remark(&self, text: &str) {
        if !self.quiet {
            remark(text);
        }
    }

    /// Says something of a daemon: as a remark to people, as an event where programs read the log.
    pub(crate) fn tell(&self, text: &str) {
        match self.log_format {
            LogFormat::Text => self.remark(text),
            LogFormat::Json => tracing::info!("{}", text.trim_end()),
        }
    }

    /// Connects to the daemon; `None` when none runs.
    pub(crate) async fn daemon(&self) -> Result<Option<Client>> {
        let connect = Client::connect(&self.data_dir);
        let client = self.wait_for("looking for the daemon", connect).await?;
        // A file is for the daemon as well, which may have been told otherwise: it was meant there, not here.
        if let (Some(client), Some(limit)) = (&client, self.max_store)
            && self.settings.is_said_here("max-store")
        {
            self.check_limit(client, limit).await?;
        }
        Ok(client)
    }

    /// Refuses another limit than the daemon's: it would change nothing.
    async fn check_limit(&self, daemon: &Client, wanted: StoreLimit) -> Result<()> {
        let Response::Status(status) = self
            .ask(daemon, Request::Status, Streams::default())
            .await?
        else {
            return Err(unexpected());
        };
        let has = status
            .max_store_bytes
            .map_or(StoreLimit::Unlimited, StoreLimit::Bytes);
        if has == wanted {
            return Ok(());
        }
        Err(Failure::new(
            ErrorKind::Usage,
            format!(
                "--max-store {} is not what the daemon was told",
                shown(wanted)
            ),
            format!(
                "a daemon runs on this data directory, and its limit is {}",
                shown(has)
            ),
            "restart the daemon with the new limit, or leave out --max-store (or CASNODE_MAX_STORE) here",
        ))
    }

    /// Refuses another network than the daemon's: whatever was done would be done in the wrong one.
    async fn check_network(&self, daemon: &Client, wanted: &NetworkName) -> Result<()> {
        let Response::Status(status) = self
            .ask(daemon, Request::Status, Streams::default())
            .await?
        else {
            return Err(unexpected());
        };
        let has = status.network.unwrap_or_default();
        if has == wanted.as_str() {
            return Ok(());
        }
        Err(Failure::new(
            ErrorKind::Usage,
            format!("--network {} is not the daemon's", wanted.as_str()),
            format!("a daemon runs on this data directory, and is in the network {has}"),
            "leave out --network (or CASNODE_NETWORK) here, or name another data directory with --data-dir",
        ))
    }

    /// The daemon, else the store in this process.
    pub(crate) async fn store_only(&self) -> Result<Client> {
        match self.daemon().await? {
            Some(client) => Ok(client),
            None => {
                self.warn_of_limit();
                self.in_process(None).await
            }
        }
    }

    /// The daemon, else a node in this process for the length of the command.
    pub(crate) async fn networked(&self, network: NetworkArgs) -> Result<Client> {
        match self.daemon().await? {
            Some(client) => {
                if let Some(name) = network.network_name()
                    && self.settings.is_said_here("network")
                {
                    self.check_network(&client, name).await?;
                }
                let mut idle = NetworkArgs::IDLE_WITH_DAEMON.into_iter();
                if idle.any(|name| self.settings.is_typed(name)) {
                    remark(
                        "warning: a daemon runs on this data directory and is in the network already; --listen, --bootstrap, --no-mdns, --profile, --cipher, --max-up, --max-down and --limit-local change nothing (its limits: `casnode limits`)\n",
                    );
                }
                Ok(client)
            }
            None => self.in_process(Some(network.into_config())).await,
        }
    }

    /// For a command that joins no network this time: what was typed about one is of no use, which is said with why.
    pub(crate) fn warn_of_network(&self, why: &str) {
        let names = NetworkArgs::IDLE_WITH_DAEMON.into_iter().chain(["network"]);
        let typed = names.filter(|name| self.settings.is_typed(name));
        let typed: Vec<String> = typed.map(|name| format!("--{name}")).collect();
        if !typed.is_empty() {
            let typed = typed.join(", ");
            remark(&format!("warning: {why}: nothing comes of {typed}\n"));
        }
    }

    /// A limit is kept by the store, and a command that only looks makes none.
    fn warn_of_limit(&self) {
        if self.settings.is_typed("max-store") && !Client::has_store(&self.data_dir) {
            remark(&format!(
                "warning: there is no store in {} yet: nothing comes of --max-store\n",
                self.data_dir.display()
            ));
        }
    }

    async fn in_process(&self, network: Option<NetworkConfig>) -> Result<Client> {
        let config = NodeConfig {
            data_dir: self.data_dir.clone(),
            network,
            serve_dht: false,
            max_store: self.max_store,
            scrub_bytes_per_s: None,
            seed: SeedPolicy::default(),
            memory: self.memory,
        };
        let open = Client::in_process(config);
        self.wait_for("opening the store", open).await
    }

    /// Waits for work that tells nothing of itself, until the person wants an end.
    pub(crate) async fn wait_for<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T> {
        let reporter = Mutex::new(Reporter::new(self.quiet));
        self.report(&reporter, Some(doing), work).await
    }

    /// The same of work that may tell the reporter how it goes; it is `doing` this where it tells nothing for long.
    async fn report<T>(
        &self,
        reporter: &Mutex<Reporter>,
        doing: Option<&'static str>,
        work: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T> {
        let say = || {
            doing
                .into_iter()
                .for_each(|doing| lock(reporter).wait(doing))
        };
        let work = with_word(work, say);
        let outcome = self.stop.run_until_cancelled(work).await;
        lock(reporter).finish();
        Ok(outcome.ok_or_else(interrupted)??)
    }

    /// Makes one call, shows how it goes, and lets go of the client, whatever the outcome.
    pub(crate) async fn call(
        &self,
        client: Client,
        request: Request,
        streams: Streams,
    ) -> Result<Response> {
        let outcome = self.ask(&client, request, streams).await;
        client.close().await;
        outcome
    }

    fn is_news(&self, event: &Event) -> bool {
        let Event::Warning { message } = event else {
            return true;
        };
        lock(&self.warned).insert(message.clone())
    }

    /// Makes one call and shows how it goes.
    pub(crate) async fn ask(
        &self,
        client: &Client,
        request: Request,
        streams: Streams,
    ) -> Result<Response> {
        let reporter = Mutex::new(Reporter::new(self.quiet));
        let mut on_event = |event| {
            if self.is_news(&event) {
                lock(&reporter).show(&event);
            }
        };
        // Whoever types what is to be stored sees that alone.
        let doing = streams.input.is_none().then_some("working");
        let call = client.call(request, streams, &mut on_event);
        self.report(&reporter, doing, call).await
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A limit as a person would write it.
fn shown(limit: StoreLimit) -> String {
    match limit {
        StoreLimit::Unlimited => "none".to_owned(),
        StoreLimit::Bytes(bytes) => output::bytes(bytes),
    }
}

/// The failure of whoever was stopped by a signal.
pub(crate) fn interrupted() -> Failure {
    Failure::new(
        ErrorKind::Interrupted,
        "interrupted",
        "a signal asked for an end",
        "",
    )
}

/// A node that answered something else than what it was asked.
pub(crate) fn unexpected() -> Failure {
    Failure::new(
        ErrorKind::Failure,
        "the node gave an answer that does not fit the question",
        "the daemon and this program may be of different versions",
        "restart the daemon with this program",
    )
}

/// `path` from the root, without resolving links. An empty one is wrong usage: a variable that is not set, most
/// likely.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        return Err(Failure::new(
            ErrorKind::Usage,
            "the path is empty",
            "no file has such a name",
            "name a file",
        ));
    }
    std::path::absolute(path).map_err(|error: io::Error| {
        Failure::io(
            format!("cannot make {} an absolute path", path.display()),
            &error,
        )
    })
}

/// Where this node keeps everything: what was given, else the default.
pub(crate) fn data_dir(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given.filter(|path| !path.as_os_str().is_empty()) {
        return absolute(given);
    }
    match directories::BaseDirs::new() {
        Some(dirs) => Ok(dirs.data_dir().join("casnode")),
        None => Err(Failure::new(
            ErrorKind::Usage,
            "there is no place for the data directory",
            "this user has no home folder",
            "name one with --data-dir or CASNODE_DATA_DIR",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_data_directory_is_made_absolute() {
        let dir = data_dir(Some(Path::new("x/y"))).unwrap();
        assert!(
            dir.is_absolute() && dir.ends_with("x/y"),
            "{}",
            dir.display()
        );
    }

    #[test]
    fn an_empty_path_is_wrong_usage() {
        assert_eq!(absolute(Path::new("")).unwrap_err().code(), 2);
    }

    #[test]
    fn an_empty_data_directory_is_the_default() {
        let default = data_dir(None).unwrap();
        assert_eq!(data_dir(Some(Path::new(""))).unwrap(), default);
        assert!(default.ends_with("casnode"));
    }
}

//! `casnode doctor`: what may be wrong with this node.

use std::time::Duration;

use casnode_node::api::{DoctorCheck, DoctorKind, DoctorOutcome, Request, Response};
use casnode_node::doctor::{LocalDoctor, OpenPort, check};
use casnode_node::{Client, NetworkConfig, NodeConfig, StoreLimit, Streams};

use crate::args::DaemonArgs;
use crate::exit::{Failure, Result};
use crate::output;
use crate::session::{Context, interrupted};

/// A node that does not answer a check so soon does not answer; its checks have shorter limits.
const DEADLINE: Duration = Duration::from_secs(30);

/// The checks of the machine, which need no node.
const OF_MACHINE: [DoctorKind; 4] = [
    DoctorKind::DataDir,
    DoctorKind::Disk,
    DoctorKind::Clock,
    DoctorKind::Limits,
];

/// Makes each check and tells it at once. Something that fails is exit code 1.
pub(crate) async fn run(context: &Context, args: DaemonArgs) -> Result<()> {
    let looks = look(context, args);
    let worst = context.stop.run_until_cancelled(looks).await;
    match worst.ok_or_else(interrupted)?? {
        DoctorOutcome::Fail => Err(Failure::Told(1)),
        _ => Ok(()),
    }
}

/// Tells checks, and remembers the worst.
struct Told<'a> {
    context: &'a Context,
    worst: DoctorOutcome,
}

impl Told<'_> {
    fn tell(&mut self, checks: Vec<DoctorCheck>) -> Result<()> {
        let worst = checks.iter().map(|check| check.outcome).max();
        self.worst = self.worst.max(worst.unwrap_or(DoctorOutcome::Ok));
        output::print(&Response::Doctor { checks }, self.context.json)
    }
}

/// Who has the data directory.
enum Owner {
    Daemon(Client),
    Nobody,
    /// Somebody who does not answer, or who cannot be known.
    Other,
}

async fn look(context: &Context, args: DaemonArgs) -> Result<DoctorOutcome> {
    let mut told = Told {
        context,
        worst: DoctorOutcome::Ok,
    };
    told.tell(vec![config(context)])?;
    let (owner, check) = owner(context).await;
    told.tell(vec![check])?;
    if let Owner::Daemon(client) = owner {
        for kind in DoctorKind::OF_DAEMON {
            told.tell(ask(&client, kind).await)?;
        }
        return Ok(told.worst);
    }
    let mut local = LocalDoctor::new(context.data_dir.clone());
    local.max_store_bytes = match context.max_store {
        Some(StoreLimit::Bytes(bytes)) => Some(bytes),
        _ => None,
    };
    for kind in OF_MACHINE {
        told.tell(local.look(kind).await)?;
    }
    // Whoever has the data directory has its ports as well.
    if matches!(owner, Owner::Nobody) {
        for port in ports(&args) {
            told.tell(LocalDoctor::look_at_port(port).await)?;
        }
    }
    told.tell(bootstrap(args.network.into_config()).await)?;
    Ok(told.worst)
}

/// The config file, which was read already.
fn config(context: &Context) -> DoctorCheck {
    let (outcome, what, next) = match (context.settings.broken(), context.settings.file()) {
        (Some(wrong), _) => (
            DoctorOutcome::Fail,
            format!("{}: {}", wrong.what, wrong.why),
            format!("{}; until then every command is refused", wrong.next),
        ),
        (None, Some((path, keys))) => (
            DoctorOutcome::Ok,
            format!("{} is right: {keys} keys", path.display()),
            String::new(),
        ),
        (None, None) => (
            DoctorOutcome::Ok,
            "there is none: everything has its default".to_owned(),
            String::new(),
        ),
    };
    check(DoctorKind::Config, outcome, what, next)
}

/// Looks for the daemon.
async fn owner(context: &Context) -> (Owner, DoctorCheck) {
    let of = |outcome, what: String, next: String| check(DoctorKind::Daemon, outcome, what, next);
    let failed = |error: casnode_node::api::ApiError| {
        let what = format!("{}: {}", error.what, error.why);
        (Owner::Other, of(DoctorOutcome::Fail, what, error.next))
    };
    let client = match Client::connect(&context.data_dir).await {
        Ok(Some(client)) => client,
        Ok(None) => {
            let what = "none runs: files are neither served nor announced".to_owned();
            let next = "start `casnode daemon`".to_owned();
            return (Owner::Nobody, of(DoctorOutcome::Warn, what, next));
        }
        Err(error) => return failed(error),
    };
    let mut ignore = |_| {};
    let status = client.call(Request::Status, Streams::default(), &mut ignore);
    match tokio::time::timeout(DEADLINE, status).await {
        Ok(Ok(Response::Status(status))) => {
            let what = format!("process {} answers, version {}", status.pid, status.version);
            let check = of(DoctorOutcome::Ok, what, String::new());
            (Owner::Daemon(client), check)
        }
        Ok(Err(error)) => failed(error),
        Ok(Ok(_)) | Err(_) => {
            let what = format!("it does not answer within {} s", DEADLINE.as_secs());
            let next = "look at its log, and start it again".to_owned();
            (Owner::Other, of(DoctorOutcome::Fail, what, next))
        }
    }
}

/// Lets a node make a check.
async fn ask(client: &Client, kind: DoctorKind) -> Vec<DoctorCheck> {
    let request = Request::Doctor { only: Some(kind) };
    let mut ignore = |_| {};
    let call = client.call(request, Streams::default(), &mut ignore);
    let failed = |what, next| vec![check(kind, DoctorOutcome::Fail, what, next)];
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(Response::Doctor { checks })) => checks,
        Ok(Ok(_)) => failed(
            "the node gave an answer that does not fit the question".to_owned(),
            "restart the daemon with this program".to_owned(),
        ),
        Ok(Err(error)) => failed(format!("{}: {}", error.what, error.why), error.next),
        Err(_) => failed(
            format!("the node did not answer within {} s", DEADLINE.as_secs()),
            "look at its log".to_owned(),
        ),
    }
}

/// Where a daemon would listen.
fn ports(args: &DaemonArgs) -> Vec<OpenPort> {
    let given = args.network.clone().into_config().listen;
    let listen = super::daemon::listen(given).into_iter();
    let http = super::daemon::http(args.http.and_then(|http| http.0), Vec::new());
    let api = http.map(|http| OpenPort::Api {
        listen: http.listen,
        optional: http.optional,
    });
    listen.map(OpenPort::Network).chain(api).collect()
}

/// Dials the peers to join by, from a node that is gone afterwards and leaves the data directory alone.
async fn bootstrap(network: NetworkConfig) -> Vec<DoctorCheck> {
    let of = |outcome, what: String, next: String| {
        vec![check(DoctorKind::Bootstrap, outcome, what, next)]
    };
    if network.bootstrap.is_empty() {
        return of(
            DoctorOutcome::Warn,
            "no peer to join by is named: a daemon finds those of the local network alone"
                .to_owned(),
            "name one with --bootstrap /ip4/…/tcp/4101, or in the config file".to_owned(),
        );
    }
    let failed = |why: String, next: String| {
        let what = format!("the peers to join by could not be dialled: {why}");
        of(DoctorOutcome::Fail, what, next)
    };
    let folder = match tempfile::Builder::new().prefix("casnode-doctor").tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            return failed(
                error.to_string(),
                "make room in the temporary folder".to_owned(),
            );
        }
    };
    let config = NodeConfig {
        data_dir: folder.path().to_owned(),
        network: Some(NetworkConfig {
            listen: Vec::new(),
            mdns: false,
            ..network
        }),
        ..NodeConfig::default()
    };
    let client = match Client::in_process(config).await {
        Ok(client) => client,
        Err(error) => return failed(format!("{}: {}", error.what, error.why), error.next),
    };
    let checks = ask(&client, DoctorKind::Bootstrap).await;
    client.close().await;
    checks
}

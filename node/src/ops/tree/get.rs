//! `get` of a directory, of a folder in it, or of one of its files.

use std::{
    ffi::OsString,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use casnode_cas::{Address, Claim, FileRecord};
use casnode_dht::Multiaddr;
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        files::drop_file,
        get::{self, GetCall},
        kept, parse_link,
        seed::parse_policy,
        touch,
    },
    is_a_link, part,
};
use crate::{
    api::{ApiError, Keep, Output, Response, TreeOutput, events::EventSink},
    bundle::Seeking,
    client::Streams,
    clock,
    download::Stay,
    errors::{self, Made},
    link::Link,
    node::{Node, multiaddrs},
    seeding::SeedPolicy,
    tasks::blocking,
    tree::{
        Globs,
        fetch::{self, Making},
        listing::{self, Had, Wanted},
        plan::Part,
    },
};

/// The fields of [`crate::api::Request::GetTree`].
pub(in crate::ops) struct GetTreeCall {
    pub(in crate::ops) address: String,
    pub(in crate::ops) path: String,
    pub(in crate::ops) include: Vec<String>,
    pub(in crate::ops) exclude: Vec<String>,
    pub(in crate::ops) output: TreeOutput,
    pub(in crate::ops) force: bool,
    pub(in crate::ops) timeout_ms: Option<u64>,
    pub(in crate::ops) peers: Vec<String>,
    pub(in crate::ops) keep: Keep,
    pub(in crate::ops) pin: bool,
    pub(in crate::ops) seed: Option<String>,
    /// Permission bits of the files; `None`: by this process's umask.
    pub(in crate::ops) mode: Option<u32>,
}

pub(in crate::ops) async fn get_tree(
    node: &Arc<Node>,
    call: GetTreeCall,
    streams: Streams,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<Response, ApiError> {
    let started = clock::now();
    let seed = call.seed.as_deref().map(parse_policy).transpose()?;
    kept::check(not_fetched(&call), call.keep, call.pin, seed)?;
    let link = parse_link(&call.address)?;
    let address = link.address();
    let globs = Globs::new(&call.include, &call.exclude)?;
    let mut hints = multiaddrs("--peer", &call.peers)?;
    hints.extend(link.peers().cloned());
    let deadline = call
        .timeout_ms
        .map(|ms| started + Duration::from_millis(ms));
    let _in_use = node.store.in_use(&address);
    let wanted = Wanted {
        address,
        deadline,
        hints: &hints,
        size_bytes: link.size_bytes(),
        events: &events,
        cancel: &cancel,
    };
    let had = listing::have(node, wanted).await?;
    touch(node, address).await;
    let is_to_go = call.keep == Keep::No && had.is_new;
    let asked = Asked {
        call,
        link,
        globs,
        seed,
        hints,
        deadline,
        started,
    };
    let got = get_part(node, asked, had, streams, events, cancel).await;
    // Whatever was made of it, if anything.
    if is_to_go {
        drop_file(node, address).await;
    }
    got
}

/// What is asked of a directory.
struct Asked {
    call: GetTreeCall,
    link: Link,
    globs: Globs,
    seed: Option<SeedPolicy>,
    hints: Vec<Multiaddr>,
    deadline: Option<Instant>,
    started: Instant,
}

/// Makes what is asked of a directory whose listing is here.
async fn get_part(
    node: &Arc<Node>,
    asked: Asked,
    had: Had,
    streams: Streams,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<Response, ApiError> {
    let Asked {
        call,
        link,
        globs,
        seed,
        hints,
        deadline,
        started,
    } = asked;
    let address = link.address();
    let part = part(&had.listing, &address, &call.path, &globs)?;
    if let Part::Folder(_) = part {
        kept::check_many(not_fetched(&call), call.keep)?;
    }
    if call.keep != Keep::No {
        let made = match (&part, &call.output) {
            (_, TreeOutput::Stream) => Made::Nothing,
            (Part::Folder(_), _) => Made::ManyFiles,
            _ => Made::File,
        };
        enter(node, address, Claim::own(call.pin), made).await?;
    }
    let known = had.senders();
    let plan = match part {
        Part::Folder(plan) => plan,
        Part::Link(target) => return Err(is_a_link(&call.path, target)),
        Part::File(file) => {
            let output = file_output(&call, &file.path);
            let address = file.address.to_string();
            let mode = call.mode;
            let call = GetCall {
                address,
                output,
                timeout_ms: call.timeout_ms,
                peers: hints.iter().map(ToString::to_string).collect(),
                keep: call.keep,
                claim: Claim::Member,
                seed: call.seed,
                swarm: None,
                mode: match file.executable {
                    true => {
                        let mode = mode.unwrap_or_else(|| 0o666 & !casnode_cas::own_umask());
                        Some(mode | (mode & 0o444) >> 2)
                    }
                    false => mode,
                },
                known,
                is_member: true,
            };
            return get::get(node, call, streams, events, cancel).await;
        }
    };
    let target = match &call.output {
        TreeOutput::Stream => return Err(errors::no_stream(&address)),
        TreeOutput::At(path) => PathBuf::from(path),
        TreeOutput::In(path) => {
            let name = match call.path.rsplit('/').next().filter(|name| !name.is_empty()) {
                Some(name) => name.to_owned(),
                None => {
                    let name = match link.name() {
                        Some(told) => Some(told.to_owned()),
                        None => published_name(node, &address).await,
                    };
                    name.unwrap_or_else(|| address.to_string())
                }
            };
            PathBuf::from(path).join(name)
        }
    };
    let stay = Stay {
        keep: call.keep,
        claim: Claim::Member,
    };
    drop(had.listing);
    let making = Making {
        address,
        plan,
        target,
        force: call.force,
        mode: call.mode,
        stay,
        seeking: Seeking {
            hints,
            known,
            whole: Some(address),
        },
        deadline,
        started,
    };
    let working = node.foreground.begin();
    let made = fetch::make(node, making, &events, &cancel).await;
    drop(working);
    let made = made?;
    kept::keep_on(node, seed, &made.entered).await;
    Ok(Response::GetTree(made.report))
}

fn not_fetched(call: &GetTreeCall) -> String {
    format!("the directory {} was not fetched", call.address)
}

/// How long the name of a directory is looked for.
const NAME_PATIENCE: Duration = Duration::from_secs(3);

/// The name that a directory is known under here, or else was published with: its listing often comes before that.
async fn published_name(node: &Arc<Node>, address: &Address) -> Option<String> {
    if let Some(known) = node.known_name(address).await {
        return Some(known);
    }
    let found = node
        .dht
        .as_ref()?
        .get_record(*address.as_bytes(), NAME_PATIENCE);
    let record = FileRecord::decode_for(address, &found.await.ok()?.value?).ok()?;
    let name = record.name()?.to_owned();
    let (store, address, told) = (node.store.clone(), *address, name.clone());
    if let Ok(Err(error)) = blocking(move || store.set_name(&address, &told)).await {
        tracing::debug!(%error, "the name of a directory is not kept");
    }
    Some(name)
}

/// Makes a directory of a listing that is here: what comes of its files stays for it, whether the rest comes or not.
async fn enter(
    node: &Arc<Node>,
    address: Address,
    claim: Claim,
    made: Made,
) -> Result<(), ApiError> {
    let store = node.store.clone();
    if store.is_read_only() {
        return Ok(());
    }
    let entered = blocking(move || store.enter_directory(&address, claim)).await;
    let entered = entered.map_err(errors::panicked)?;
    entered.map_err(|e| errors::keep("the directory could not be kept", &e, made))?;
    Ok(())
}

/// Where a single file goes.
fn file_output(call: &GetTreeCall, name: &str) -> Output {
    let within = |folder: &OsString| PathBuf::from(folder).join(name).into_os_string();
    let path = match &call.output {
        TreeOutput::Stream => return Output::Stream,
        TreeOutput::In(folder) => within(folder),
        TreeOutput::At(path) => match PathBuf::from(path).is_dir() {
            true => within(path),
            false => path.clone(),
        },
    };
    Output::File {
        path,
        force: call.force,
    }
}

//! `get`: checks the call and hands it to the downloader.

use std::{path::PathBuf, sync::Arc, time::Duration};

use casnode_cas::{Address, Claim, FileState};
use casnode_dht::PeerId;
use tokio_util::sync::CancellationToken;

use super::{files::on_store, seed::parse_policy};
use crate::{
    api::{
        ApiError, DirectoryReport, ErrorKind, GetReport, Keep, Output, Response, events::EventSink,
    },
    choke::SwarmMode,
    client::Streams,
    download::{self, GetOptions, Stay, Target, Terms},
    errors::{self, Made},
    link::Link,
    node::{Node, multiaddrs},
    publish, room,
    seeding::SeedPolicy,
    tree::listing,
};

/// The fields of [`crate::api::Request::Get`].
pub(super) struct GetCall {
    pub(super) address: String,
    pub(super) output: Output,
    pub(super) timeout_ms: Option<u64>,
    pub(super) peers: Vec<String>,
    pub(super) keep: Keep,
    /// What keeps it.
    pub(super) claim: Claim,
    pub(super) seed: Option<String>,
    pub(super) swarm: Option<SwarmMode>,
    /// Permission bits of the output; `None`: by this process's umask.
    pub(super) mode: Option<u32>,
    /// Peers that probably have it.
    pub(super) known: Vec<PeerId>,
    /// It is a file of a directory, and written as it is even if it is a listing.
    pub(super) is_member: bool,
}

pub(super) async fn get(
    node: &Arc<Node>,
    call: GetCall,
    streams: Streams,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<Response, ApiError> {
    let seed = call.seed.as_deref().map(parse_policy).transpose()?;
    check(&call, seed)?;
    let (target, output) = match call.output {
        Output::File { path, force } => (
            Target::File {
                path: PathBuf::from(path),
                force,
            },
            None,
        ),
        Output::Folder { path, force } => (
            Target::Folder {
                path: PathBuf::from(path),
                force,
            },
            None,
        ),
        Output::Stream => (Target::Stream, streams.output),
        Output::Nowhere => (Target::Keep, None),
    };
    let link = super::parse_link(&call.address)?;
    let mut hints = multiaddrs("--peer", &call.peers)?;
    hints.extend(link.peers().cloned());
    let stay = Stay {
        keep: call.keep,
        claim: call.claim,
    };
    check_room(node, &link, stay, &target).await?;
    let address = link.address();
    if !call.is_member && listing::is_directory(node, address).await? {
        return match target {
            Target::Stream => Err(errors::no_stream(&address)),
            _ => Ok(directory(address)),
        };
    }
    let (is_stream, is_nowhere) = match target {
        Target::Stream => (true, false),
        Target::Keep => (false, true),
        _ => (false, false),
    };
    let options = GetOptions {
        address,
        target,
        timeout: call.timeout_ms.map(Duration::from_millis),
        hints,
        name: link.name().map(str::to_owned),
        size_bytes: link.size_bytes(),
        output,
        mode: call.mode,
        stay,
        terms: Terms {
            peers: call.known,
            is_directory_told: !call.is_member,
            ..Terms::default()
        },
    };
    if let Some(mode) = call.swarm {
        node.swarms.set_mode(address, mode);
    }
    let _in_use = node.store.in_use(&address);
    let was_whole = is_whole(node, address).await?;
    let told_bytes = options.size_bytes;
    let mut report = download::get(node, options, events, cancel).await?;
    if let Some(told_bytes) = told_bytes.filter(|told| *told != report.bytes) {
        return Err(errors::wrong_size(&address, told_bytes, report.bytes));
    }
    super::touch(node, address).await;
    let is_directory = match is_nowhere {
        true => !call.is_member && listing::is_directory(node, address).await?,
        // Of a directory no file was made.
        false => report.path.is_none() && !is_stream,
    };
    if is_directory {
        return Ok(directory(address));
    }
    // What was here before is served as it was, unless something is said.
    let policy = seed.or(node.seed.filter(|_| !was_whole));
    report.seed = serve(node, &report, address, policy).await?;
    Ok(Response::Get(report))
}

fn directory(address: Address) -> Response {
    Response::Directory(DirectoryReport {
        address: address.to_string(),
    })
}

/// A file that is not here and whose link tells of more than there can be room for is not looked for.
async fn check_room(
    node: &Arc<Node>,
    link: &Link,
    stay: Stay,
    target: &Target,
) -> Result<(), ApiError> {
    let (address, Some(size_bytes)) = (link.address(), link.size_bytes()) else {
        return Ok(());
    };
    let made = Made::of(target, false);
    let path = target.resolve(link.name(), &address).map(|(path, _)| path);
    let checked = on_store(node, move |store| {
        // Some of what is here needs no room.
        let takes_room = store.file(&address)?.is_none()
            && download::takes_room(store, stay, &address, size_bytes, path.as_deref())?;
        match takes_room {
            true => Ok(room::check(store, size_bytes)),
            false => Ok(Ok(())),
        }
    });
    let what = format!("{address} was not fetched");
    checked
        .await?
        .map_err(|error| errors::keep(&what, &error, made))
}

/// Sets for how long a file that was fetched is served; tells for how long it is. `None`: nobody serves it.
async fn serve(
    node: &Arc<Node>,
    report: &GetReport,
    address: Address,
    policy: Option<SeedPolicy>,
) -> Result<Option<String>, ApiError> {
    if !is_whole(node, address).await? {
        return Ok(None);
    }
    let before = node.seeding.policy(&address);
    if let Some(policy) = policy
        && (policy, before) != (SeedPolicy::Forever, SeedPolicy::Forever)
    {
        node.serve_for(policy, address, report.bytes).await;
        if let Err(error) = publish::schedule_file(node, address).await {
            tracing::warn!(file = %address, %error, "a file that is served is not announced until the next start");
        }
    }
    let told = policy.is_some() || node.seed.is_some();
    Ok(told.then(|| node.seeding.policy(&address).to_string()))
}

/// Whether all of a file is kept here.
async fn is_whole(node: &Arc<Node>, address: Address) -> Result<bool, ApiError> {
    let entry = on_store(node, move |store| store.file(&address)).await?;
    Ok(entry.is_some_and(|entry| entry.state == FileState::Complete))
}

/// What stays here must be somewhere.
fn check(call: &GetCall, seed: Option<SeedPolicy>) -> Result<(), ApiError> {
    let refused = |why: &str, next: &str| {
        Err(ApiError::new(
            ErrorKind::Usage,
            format!("{} was not fetched", call.address),
            why,
            next,
        ))
    };
    match (call.keep, &call.output) {
        (Keep::InPlace | Keep::No, Output::Stream) => refused(
            "a stream can only be sent from chunks that are kept in the store",
            "name a file with -o, or leave --no-keep and --in-place out",
        ),
        (Keep::InPlace | Keep::No, Output::Nowhere) => refused(
            "where no file is made, it can only stay in the store",
            "name a file with -o, or leave --no-keep and --in-place out",
        ),
        (Keep::No, _) if call.claim == Claim::Pinned => refused(
            "of what is not kept nothing can be pinned",
            "leave --no-keep or --pin out",
        ),
        (Keep::No, _) if seed.is_some_and(|seed| seed != SeedPolicy::None) => refused(
            "of what is not kept nothing can be served",
            "leave --no-keep or --seed out",
        ),
        _ => Ok(()),
    }
}

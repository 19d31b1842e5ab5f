//! `store`, `get` and `ls` of directories: checks the call, has the work done, and tells the network.

mod get;

use std::{convert::Infallible, ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use casnode_cas::{Address, EntryKind, Listing};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub(super) use self::get::{GetTreeCall, get_tree};
use super::{
    kept,
    store::{announce_now, check_name, chunking, leaving},
};
use crate::{
    api::{ApiError, ChunkerName, ErrorKind, StoreTreeReport, TreePage, events::EventSink},
    clock, errors,
    node::{Node, multiaddrs},
    seeding::SeedPolicy,
    tree::{
        Globs,
        listing::{self, Wanted},
        page::page,
        plan::{Part, PlannedFile, plan},
        store,
    },
    upkeep,
};

/// The fields of [`crate::api::Request::StoreTree`].
pub(super) struct StoreCall {
    pub(super) path: OsString,
    pub(super) name: Option<String>,
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) chunker: ChunkerName,
    pub(super) pinned: bool,
}

pub(super) async fn store_tree(
    node: &Arc<Node>,
    call: StoreCall,
    events: &EventSink,
    cancel: CancellationToken,
) -> Result<StoreTreeReport, ApiError> {
    check_name(call.name.as_deref())?;
    let root = PathBuf::from(call.path);
    let own = root.file_name().and_then(|name| name.to_str());
    let own = own.and_then(casnode_cas::safe_file_name);
    let options = store::Options {
        name: call.name.or_else(|| own.map(str::to_owned)),
        globs: Globs::new(&call.include, &call.exclude)?,
        chunking: chunking(call.chunker),
        pinned: call.pinned,
        data_dir: node.data_dir.clone(),
        events: events.clone(),
        cancel: cancel.child_token(),
        root,
    };
    let (tell, told) = oneshot::channel();
    let work = run(node.clone(), options);
    node.tasks.spawn("store tree", async move {
        let _ = tell.send(work.await); // a caller who has left does not want to know
        Ok::<(), Infallible>(())
    });
    let _cancel = cancel.drop_guard();
    told.await.unwrap_or_else(|_| Err(leaving()))
}

async fn run(node: Arc<Node>, options: store::Options) -> Result<StoreTreeReport, ApiError> {
    let started = clock::now();
    // When the node ends, this future is dropped, and the work hears of it.
    let _cancel = options.cancel.clone().drop_guard();
    let (events, name) = (options.events.clone(), options.name.clone());
    let store_ = node.store.clone();
    let working = node.foreground.begin();
    let work = node.tasks.blocking("store files of a tree", move || {
        store::store(&store_, &options)
    });
    let stored = work.await.map_err(errors::panicked);
    drop(working);
    upkeep::withdraw_evicted(&node).await;
    let stored = stored??;
    // They are the user's own from now on, whatever was said when they were fetched.
    let address = stored.manifest.address();
    let listing = (address, stored.manifest.size_bytes());
    let own = stored.entered.iter().copied().chain([listing]);
    let own = own.filter(|(address, _)| node.seeding.policy(address) != SeedPolicy::Forever);
    let own: Vec<_> = own.collect();
    if !own.is_empty() {
        node.serve_all_for(SeedPolicy::Forever, own).await;
    }
    let entered = stored.entered.iter().map(|(address, _)| *address);
    schedule(&node, entered.collect()).await;
    let announced_to = announce_now(&node, &stored.manifest, name.as_deref(), &events).await;
    let mut report = StoreTreeReport {
        address: address.to_string(),
        name,
        files: 0,
        symlinks: 0,
        empty_folders: 0,
        bytes: stored.listing.file_bytes(),
        read_files: stored.read_files,
        new_files: stored.new_files,
        new_bytes: stored.new_bytes,
        listing_bytes: stored.manifest.size_bytes(),
        left_out: stored.faults.count(),
        faults: stored.faults.told(),
        outward_symlinks: stored.outward_symlinks,
        announced_to,
        seconds: clock::now()
            .saturating_duration_since(started)
            .as_secs_f64(),
    };
    for entry in stored.listing.entries() {
        *match entry.kind {
            EntryKind::File { .. } => &mut report.files,
            EntryKind::Symlink { .. } => &mut report.symlinks,
            EntryKind::Folder => &mut report.empty_folders,
        } += 1;
    }
    Ok(report)
}

/// Has the files of a directory announced by region, behind the caller where a daemon goes on.
async fn schedule(node: &Arc<Node>, files: Vec<Address>) {
    let all = kept::publish_all(node.clone(), files);
    match node.serve_dht {
        true => node.tasks.spawn("publish", all),
        false if node.has_bootstrap() => {
            if let Err(error) = all.await {
                tracing::warn!(%error, "the files of a directory are not announced until the next start of a daemon");
            }
        }
        false => {} // nobody is told anything, and a daemon announces what it finds
    }
}

/// The file at a path of a directory, whose listing is fetched if need be.
pub(super) async fn file_at(
    node: &Arc<Node>,
    wanted: Wanted<'_>,
    path: &str,
) -> Result<PlannedFile, ApiError> {
    let address = wanted.address;
    let listing = listing::have(node, wanted).await?.listing;
    match part(&listing, &address, path, &Globs::new(&[], &[])?)? {
        Part::File(file) => Ok(file),
        Part::Link(target) => Err(is_a_link(path, target)),
        Part::Folder(_) => Err(ApiError::new(
            ErrorKind::Usage,
            format!("{path:?} was not fetched"),
            "it is a folder, and has no bytes of its own",
            "name a file in it, or fetch the folder with `casnode get`",
        )),
    }
}

/// The fields of [`crate::api::Request::LsTree`].
pub(super) struct LsCall {
    pub(super) address: String,
    pub(super) path: String,
    pub(super) recursive: bool,
    pub(super) skip: u64,
    pub(super) timeout_ms: Option<u64>,
    pub(super) peers: Vec<String>,
}

pub(super) async fn ls_tree(
    node: &Arc<Node>,
    call: LsCall,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<TreePage, ApiError> {
    let link = super::parse_link(&call.address)?;
    let address = link.address();
    let mut hints = multiaddrs("--peer", &call.peers)?;
    hints.extend(link.peers().cloned());
    let wanted = Wanted {
        address,
        deadline: call
            .timeout_ms
            .map(|ms| clock::now() + Duration::from_millis(ms)),
        hints: &hints,
        size_bytes: link.size_bytes(),
        events: &events,
        cancel: &cancel,
    };
    let listing = listing::have(node, wanted).await?.listing;
    let path = clean(&call.path);
    let Some((entries, next)) = page(&listing, path, call.recursive, call.skip) else {
        return Err(nothing_there(&address, path));
    };
    Ok(TreePage {
        address: address.to_string(),
        entries,
        next,
    })
}

/// A path as somebody typed it: a folder may end with a slash.
fn clean(path: &str) -> &str {
    path.trim_end_matches('/')
}

fn part<'a>(
    listing: &'a Listing,
    address: &Address,
    path: &str,
    globs: &Globs,
) -> Result<Part<'a>, ApiError> {
    let path = clean(path);
    plan(listing, path, globs).ok_or_else(|| nothing_there(address, path))
}

fn nothing_there(address: &Address, path: &str) -> ApiError {
    ApiError::new(
        ErrorKind::NotFound,
        format!("{path:?} is not in the directory {address}"),
        "no file, link or folder in it has that path",
        "see `casnode ls <ADDRESS>`; paths are written as it prints them",
    )
}

fn is_a_link(path: &str, target: &str) -> ApiError {
    ApiError::new(
        ErrorKind::Usage,
        format!("{path:?} was not fetched"),
        format!("it is a symbolic link to {target:?}"),
        "fetch what it leads to, or the folder that it is in",
    )
}

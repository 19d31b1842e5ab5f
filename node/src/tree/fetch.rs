//! Making a folder of a directory, or of a folder in it.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Instant};

use casnode_cas::Address;
use casnode_dht::PeerId;
use tokio_util::sync::CancellationToken;

use super::{faults::Faults, plan::Plan};
use crate::{
    api::{
        ApiError, ErrorKind, FetchedState, GetTreeReport, ProviderUse, TreeFault, events::EventSink,
    },
    bundle::{self, Entered, Folder, Line, Options, Seeking, Tally, list, moves, not_written},
    clock,
    download::Stay,
    errors,
    node::Node,
    tasks::blocking,
};

/// Files that are fetched together; bounds what is known of each.
const PART_FILES: usize = 16_384;

/// Peers that are remembered as having files of the directory.
const MAX_KNOWN: usize = 32;

/// What is to be made, and where.
pub(crate) struct Making {
    pub(crate) address: Address,
    pub(crate) plan: Plan,
    pub(crate) target: PathBuf,
    pub(crate) force: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) stay: Stay,
    pub(crate) seeking: Seeking,
    pub(crate) deadline: Option<Instant>,
    pub(crate) started: Instant,
}

/// What was made.
pub(crate) struct Made {
    pub(crate) report: GetTreeReport,
    /// Files that are in the store now and were not.
    pub(crate) entered: Vec<Entered>,
}

/// Makes everything that is planned. What cannot be made is no error of the call.
///
/// # Errors
/// When the target is none, nobody wants it any more, or the disk does not say that it has it.
pub(crate) async fn make(
    node: &Arc<Node>,
    making: Making,
    events: &EventSink,
    cancel: &CancellationToken,
) -> Result<Made, ApiError> {
    let folder = list::open(&making.target, making.force, making.mode).await?;
    let plan = making.plan;
    if folder.replaces() {
        moves::save(node, &folder, places(&plan), events, cancel).await?;
    }
    let mut report = GetTreeReport {
        address: making.address.to_string(),
        path: making.target.display().to_string(),
        files: plan.files.len() as u64,
        fetched: 0,
        here: 0,
        failed: 0,
        symlinks: 0,
        refused_symlinks: plan.outward.len() as u64,
        empty_folders: 0,
        bytes: 0,
        kept_in_place: 0,
        seconds: 0.0,
        faults: Vec::new(),
        missing: 0,
        providers: Vec::new(),
    };
    let mut tally = Tally {
        total_files: plan.files.len() as u64,
        total_bytes: Some(plan.bytes()),
        ..Tally::default()
    };
    let mut seeking = making.seeking;
    let mut faults = Faults::default();
    let mut providers: HashMap<String, ProviderUse> = HashMap::new();
    let mut entered = Vec::new();
    let mut files = plan.files.into_iter();
    loop {
        let line = |file: super::plan::PlannedFile| Line {
            address: file.address,
            path: file.path,
            size_bytes: Some(file.size_bytes),
            executable: Some(file.executable),
        };
        let lines: Vec<Line> = files.by_ref().take(PART_FILES).map(line).collect();
        if lines.is_empty() {
            break;
        }
        let options = Options {
            lines,
            folder: folder.clone(),
            deadline: making.deadline,
            seeking: seeking.clone(),
            mode: making.mode,
            stay: making.stay,
            tally,
        };
        let part = bundle::fetch(node, options, events.clone(), cancel.clone()).await?;
        tally = part.tally;
        entered.extend(part.entered);
        report.kept_in_place += part.in_place;
        remember(&mut seeking.known, &part.providers);
        for used in part.providers.into_values() {
            list::count(&mut providers, used);
        }
        for done in part.lines {
            match done.outcome {
                Ok((state, bytes)) => {
                    report.bytes += bytes;
                    match state {
                        FetchedState::Fetched => report.fetched += 1,
                        FetchedState::Here | FetchedState::Failed => report.here += 1,
                    }
                }
                Err(error) => {
                    report.failed += 1;
                    faults.add(TreeFault::of(done.path, &error));
                }
            }
        }
    }
    // Links last: none is in the way of a file.
    let work = folder.clone();
    let rest = blocking(move || rest(&work, plan.empty_folders, plan.links)).await;
    let rest = rest.map_err(errors::panicked)?;
    (report.empty_folders, report.symlinks) = (rest.folders, rest.links);
    rest.faults.into_iter().for_each(|fault| faults.add(fault));
    list::sync(&folder).await?;
    report.missing = faults.count();
    for (path, target) in plan.outward {
        faults.add(TreeFault {
            path,
            kind: ErrorKind::Failure,
            why: format!("it is a link that leads out of the directory, to {target}"),
        });
    }
    report.faults = faults.told();
    report.providers = providers.into_values().collect();
    report.providers.sort_by_key(|p| std::cmp::Reverse(p.bytes));
    let took = clock::now().saturating_duration_since(making.started);
    report.seconds = took.as_secs_f64();
    Ok(Made { report, entered })
}

/// Everything that gets a name, and the addresses of files.
fn places(plan: &Plan) -> Vec<(String, Option<Address>)> {
    let files = plan.files.iter();
    let files = files.map(|file| (file.path.clone(), Some(file.address)));
    let links = plan.links.iter().map(|(path, _)| (path.clone(), None));
    files.chain(links).collect()
}

/// Whoever sent files of a part is asked first for those of the next.
fn remember(known: &mut Vec<PeerId>, providers: &HashMap<String, ProviderUse>) {
    for used in providers.values().filter(|used| used.bytes > 0) {
        if let Ok(peer) = used.peer.parse()
            && !known.contains(&peer)
            && known.len() < MAX_KNOWN
        {
            known.push(peer);
        }
    }
}

/// What became of folders and links.
struct Rest {
    folders: u64,
    links: u64,
    faults: Vec<TreeFault>,
}

fn rest(folder: &Folder, folders: Vec<String>, links: Vec<(String, String)>) -> Rest {
    let mut rest = Rest {
        folders: 0,
        links: 0,
        faults: Vec::new(),
    };
    for path in folders {
        match folder.make_folder(&path) {
            Ok(()) => rest.folders += 1,
            Err(error) => rest.faults.push(TreeFault::of(path, &not_written(&error))),
        }
    }
    for (path, target) in links {
        match folder.link(&path, &target) {
            Ok(()) => rest.links += 1,
            Err(error) => rest.faults.push(TreeFault::of(path, &not_written(&error))),
        }
    }
    rest
}

//! `casnode demo`: the whole story on one machine. Real nodes, as processes of this very binary, store a file,
//! fetch it, lose a provider in the middle and meet damaged chunks; in the end every copy is hashed here, by
//! nothing of the nodes, and compared with the address.

mod acts;
mod cluster;
mod damage;
mod report;
mod source;

use casnode_node::api::ErrorKind;
use indicatif::HumanBytes;
use tokio_util::sync::CancellationToken;

use self::cluster::Cluster;
use self::source::Original;
use crate::args::{DemoArgs, Global};
use crate::exit::{Failure, Result};
use crate::session::interrupted;

/// What the demo works with.
pub(crate) struct Stage {
    /// Lines as JSON.
    json: bool,
    /// No progress.
    quiet: bool,
    original: Original,
    cluster: Cluster,
}

/// Runs the demo, and leaves nothing behind whatever happens.
pub(crate) async fn run(args: DemoArgs, global: &Global, stop: CancellationToken) -> Result<()> {
    let nodes = usize::from(args.nodes);
    let folder = tempfile::Builder::new()
        .prefix("casnode-demo-")
        .tempdir()
        .map_err(|error| Failure::io("cannot make a temporary folder", &error))?;
    source::check_space(folder.path(), args.file.as_deref(), nodes)?;
    let prepare = source::original(args.file, folder.path());
    let original = stop
        .run_until_cancelled(prepare)
        .await
        .ok_or_else(interrupted)??;

    let cluster = Cluster::new(folder.path().to_owned());
    let mut stage = Stage {
        json: global.json,
        quiet: global.quiet,
        original,
        cluster,
    };
    let told = stop
        .run_until_cancelled(acts::play(&mut stage, nodes))
        .await
        .ok_or_else(interrupted);
    let told = told.and_then(|outcome| outcome);
    match &told {
        Ok(()) => stage.cluster.leave().await,
        Err(_) => stage.cluster.end().await,
    }
    let path = folder.path().display().to_string();
    let removed = folder
        .close()
        .map_err(|error| Failure::io(format!("cannot remove {path}"), &error));
    told.and(removed)
}

/// Not enough room for what the demo writes.
fn no_room(needed_bytes: u64, free_bytes: u64, place: &std::path::Path) -> Failure {
    Failure::new(
        ErrorKind::NoSpace,
        "not enough free space for the demo",
        format!(
            "it writes about {} and {} has {}",
            HumanBytes(needed_bytes),
            place.display(),
            HumanBytes(free_bytes)
        ),
        "name another folder with TMPDIR, or give the demo a smaller FILE",
    )
}

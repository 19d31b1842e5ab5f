//! What stays here of many files that come or came: what may be asked, for how long they are served, and who hears of them.

use std::{sync::Arc, time::Duration};

use casnode_cas::Address;

use crate::{
    api::{ApiError, ErrorKind, Keep},
    bundle::Entered,
    clock,
    node::Node,
    publish::{self, PublishError},
    seeding::SeedPolicy,
    upkeep,
};

/// How long nobody has to wait for anything before many files begin to be announced.
const REST: Duration = Duration::from_secs(1);

/// Files that are entered in the announce schedule with one sync.
const PUBLISHED_AT_ONCE: usize = 1024;

/// Many files are not kept in place all together. `what` says that they were not fetched.
pub(super) fn check_many(what: String, keep: Keep) -> Result<(), ApiError> {
    match keep {
        Keep::InPlace => Err(ApiError::new(
            ErrorKind::Usage,
            what,
            "of many files only the large ones are kept in place, and without being told so",
            "leave --in-place out, or take --copy or --no-keep",
        )),
        _ => Ok(()),
    }
}

/// What of files may stay here, and for how long. `what` says that they were not fetched.
pub(super) fn check(
    what: String,
    keep: Keep,
    pin: bool,
    seed: Option<SeedPolicy>,
) -> Result<(), ApiError> {
    let refused = |why: &str, next: &str| Err(ApiError::new(ErrorKind::Usage, what, why, next));
    match keep {
        Keep::No if pin => refused(
            "of what is not kept nothing can be pinned",
            "leave --no-keep or --pin out",
        ),
        Keep::No if seed.is_some_and(|seed| seed != SeedPolicy::None) => refused(
            "of what is not kept nothing can be served",
            "leave --no-keep or --seed out",
        ),
        _ => Ok(()),
    }
}

/// Says for how long files that came are served, and announces them.
pub(super) async fn keep_on(node: &Arc<Node>, seed: Option<SeedPolicy>, entered: &[Entered]) {
    if let Some(policy) = seed.or(node.seed) {
        serve(node, policy, entered).await;
    }
    if node.serve_dht {
        let entered = entered.iter().map(|(address, ..)| *address).collect();
        node.tasks
            .spawn("publish", publish_all(node.clone(), entered));
    }
}

/// Has files announced by region, in the order of their addresses: neighbours in the index are read together. Where somebody
/// waits for other files to be stored or fetched, theirs come first.
pub(super) async fn publish_all(
    node: Arc<Node>,
    mut files: Vec<Address>,
) -> Result<(), PublishError> {
    files.sort_unstable();
    let mut rest = REST;
    for part in files.chunks(PUBLISHED_AT_ONCE) {
        // Without a daemon it is this that somebody waits for.
        if node.serve_dht && files.len() > PUBLISHED_AT_ONCE {
            node.foreground.give_way(rest).await;
            rest = Duration::ZERO;
        }
        publish::many(&node, part).await?;
    }
    Ok(())
}

/// Says of all files for how long they are served, and has that on the medium once.
async fn serve(node: &Node, policy: SeedPolicy, files: &[Entered]) {
    let now_s = clock::unix_s();
    for (address, bytes, _) in files {
        if (policy, node.seeding.policy(address)) == (SeedPolicy::Forever, SeedPolicy::Forever) {
            continue;
        }
        if let Err(error) = node.seeding.set(*address, policy, *bytes, now_s) {
            tracing::warn!(file = %address, %error, "a file is served for as long as it is here");
        }
    }
    upkeep::save_seeding(node).await;
}

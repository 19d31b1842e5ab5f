//! `doctor`: what may be wrong with a node, and what to do about it.
//!
//! `verdict` turns what was seen into words, `local` looks at the machine, and `network` asks the node itself. The
//! first needs no node: a command without a daemon uses it, too. Every look has a deadline.

mod local;
mod network;
mod verdict;

use std::{future::Future, sync::Arc, time::Duration};

pub use self::local::{LocalDoctor, OpenPort};
pub use self::verdict::check;
use crate::{
    api::{ApiError, DoctorCheck, DoctorKind, DoctorOutcome, ErrorKind},
    clock,
    node::Node,
    ops,
};

/// The longest that a check may take; dials have their own limit, which is shorter.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a node can tell of itself: one check, or all.
pub(crate) async fn doctor(
    node: &Arc<Node>,
    only: Option<DoctorKind>,
) -> Result<Vec<DoctorCheck>, ApiError> {
    let kinds = match &only {
        None => &DoctorKind::OF_DAEMON[..],
        Some(kind) if DoctorKind::OF_DAEMON.contains(kind) => std::slice::from_ref(kind),
        Some(_) => {
            return Err(ApiError::new(
                ErrorKind::Usage,
                "a daemon cannot tell that",
                "whoever asks it sees that alone",
                "run `casnode doctor`",
            ));
        }
    };
    let mut checks = Vec::new();
    for kind in kinds {
        checks.extend(timed(*kind, DEADLINE, look(node, *kind)).await);
    }
    Ok(checks)
}

async fn look(node: &Arc<Node>, kind: DoctorKind) -> Vec<DoctorCheck> {
    match kind {
        DoctorKind::DataDir | DoctorKind::Disk | DoctorKind::Clock | DoctorKind::Limits => {
            let mut local = LocalDoctor::new(node.data_dir.clone());
            local.age_s = Some(node.age_s());
            if let Ok(status) = ops::status(node).await {
                local.max_store_bytes = status.max_store_bytes;
                local.used_bytes = Some(status.disk_bytes);
                local.is_read_only = status.read_only;
            }
            local.look(kind).await
        }
        _ => network::look(node, kind).await,
    }
}

/// Says how long a check took, and that it took too long.
async fn timed(
    kind: DoctorKind,
    limit: Duration,
    look: impl Future<Output = Vec<DoctorCheck>>,
) -> Vec<DoctorCheck> {
    let began = clock::now();
    let mut checks = tokio::time::timeout(limit, look).await.unwrap_or_else(|_| {
        let what = format!("no answer within {} s", limit.as_secs());
        let next = "a disk or a network that does not answer: look at the log of the system";
        vec![check(kind, DoctorOutcome::Fail, what, next)]
    });
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    for check in checks.iter_mut().filter(|check| check.took_ms == 0) {
        check.took_ms = took_ms;
    }
    checks
}

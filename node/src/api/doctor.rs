//! What `doctor` returns.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoctorCheck {
    /// What.
    pub check: DoctorKind,
    /// Whether it is as it should be.
    pub outcome: DoctorOutcome,
    /// What was seen, in words.
    pub what: String,
    /// What to do; empty where nothing is to be done.
    pub next: String,
    /// How long it took.
    pub took_ms: u64,
}

/// What a check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DoctorKind {
    /// The config file. Whoever asks reads it: a daemon does not know it.
    Config,
    /// Whether a daemon answers, and who owns the data directory. A daemon does not ask itself.
    Daemon,
    /// The data directory: whose it is, who may read it, whether it can be written, the version of its store.
    DataDir,
    /// Free space, and what kind of file system it is.
    Disk,
    /// The clock, as far as one machine can tell.
    Clock,
    /// Limits of the process.
    Limits,
    /// The ports of the network and of the API.
    Ports,
    /// Where the node can be dialled.
    Addresses,
    /// Whether others can dial it.
    Nat,
    /// Each peer that was named to join by.
    Bootstrap,
    /// Its part in the DHT, and whom it knows there.
    Dht,
    /// Whether announcing keeps up.
    Announcing,
}

impl DoctorKind {
    /// What a daemon can tell, in the order in which it is told.
    pub const OF_DAEMON: [Self; 10] = [
        Self::DataDir,
        Self::Disk,
        Self::Clock,
        Self::Limits,
        Self::Ports,
        Self::Addresses,
        Self::Nat,
        Self::Bootstrap,
        Self::Dht,
        Self::Announcing,
    ];
}

/// Whether something is as it should be; the worst is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DoctorOutcome {
    /// It is.
    Ok,
    /// It works, and not as well as it could.
    Warn,
    /// Something does not work.
    Fail,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{
        Request, Response,
        pinned::{pinned, pinned_call},
    };

    #[test]
    fn messages() {
        let request = Request::Doctor {
            only: Some(DoctorKind::DataDir),
        };
        pinned_call(&request, "doctor", json!({"only": "data_dir"}));
        let check = DoctorCheck {
            check: DoctorKind::Nat,
            outcome: DoctorOutcome::Warn,
            what: "a".to_owned(),
            next: "b".to_owned(),
            took_ms: 3,
        };
        pinned(
            &Response::Doctor {
                checks: vec![check],
            },
            json!({
                "result": "doctor",
                "checks": [{"check": "nat", "outcome": "warn", "what": "a", "next": "b", "took_ms": 3}],
            }),
        );
    }
}

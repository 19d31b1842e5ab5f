//! What is wrong, from what was seen. Pure: facts in, checks out.

mod local;
mod network;
#[cfg(test)]
mod tests;

pub(super) use self::local::{
    Clock, DataDir, Disk, Folder, Port, PortState, clock, data_dir, disk, limits, port,
};
pub(super) use self::network::{
    Addresses, Dialled, Members, Nat, addresses, announcing, bootstrap, members, nat,
};
use crate::api::{DoctorCheck, DoctorKind, DoctorOutcome};

/// A check that was made.
pub fn check(
    check: DoctorKind,
    outcome: DoctorOutcome,
    what: impl Into<String>,
    next: impl Into<String>,
) -> DoctorCheck {
    DoctorCheck {
        check,
        outcome,
        what: what.into(),
        next: next.into(),
        took_ms: 0,
    }
}

/// The checks of one kind: each thing that is wrong, and one line when nothing is.
struct Found {
    kind: DoctorKind,
    checks: Vec<DoctorCheck>,
}

impl Found {
    fn new(kind: DoctorKind) -> Self {
        Self {
            kind,
            checks: Vec::new(),
        }
    }

    fn fail(&mut self, what: impl Into<String>, next: impl Into<String>) {
        let check = check(self.kind, DoctorOutcome::Fail, what, next);
        self.checks.push(check);
    }

    fn warn(&mut self, what: impl Into<String>, next: impl Into<String>) {
        let check = check(self.kind, DoctorOutcome::Warn, what, next);
        self.checks.push(check);
    }

    /// The end of it: what is said when nothing is wrong.
    fn or_ok(mut self, what: impl FnOnce() -> String) -> Vec<DoctorCheck> {
        if self.checks.is_empty() {
            let check = check(self.kind, DoctorOutcome::Ok, what(), "");
            self.checks.push(check);
        }
        self.checks
    }
}

/// Bytes as a person reads them.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, unit) in UNITS {
        let one = 1_u64 << shift;
        if bytes >= one {
            let tenths = u128::from(bytes) * 10 / u128::from(one);
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} bytes")
}

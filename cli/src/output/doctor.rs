//! A check a line, and beneath what is to be done.

use casnode_node::api::{DoctorCheck, DoctorKind, DoctorOutcome};

use super::printable;

/// A check as text.
pub(super) fn check_text(check: &DoctorCheck) -> String {
    let mark = match check.outcome {
        DoctorOutcome::Ok => "ok",
        DoctorOutcome::Warn => "warn",
        DoctorOutcome::Fail => "fail",
    };
    let kind = match check.check {
        DoctorKind::Config => "config",
        DoctorKind::Daemon => "daemon",
        DoctorKind::DataDir => "data dir",
        DoctorKind::Disk => "disk",
        DoctorKind::Clock => "clock",
        DoctorKind::Limits => "limits",
        DoctorKind::Ports => "ports",
        DoctorKind::Addresses => "addresses",
        DoctorKind::Nat => "NAT",
        DoctorKind::Bootstrap => "bootstrap",
        DoctorKind::Dht => "DHT",
        DoctorKind::Announcing => "announcing",
        _ => "other",
    };
    let mut text = format!("{mark:4} {kind:10} {}\n", printable(&check.what));
    if !check.next.is_empty() {
        text += &format!("{:16}what to do: {}\n", "", printable(&check.next));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_stands_beneath_its_check() {
        let mut check = DoctorCheck {
            check: DoctorKind::DataDir,
            outcome: DoctorOutcome::Ok,
            what: "fine".to_owned(),
            next: String::new(),
            took_ms: 1,
        };
        assert_eq!(check_text(&check), "ok   data dir   fine\n");
        check.outcome = DoctorOutcome::Fail;
        check.next = "mend it".to_owned();
        assert_eq!(
            check_text(&check),
            "fail data dir   fine\n                what to do: mend it\n"
        );
    }
}

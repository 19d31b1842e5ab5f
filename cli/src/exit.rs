//! How a run ends: the one place where kinds of failure become exit codes, and errors become lines.

use std::io::{self, Write};

use casnode_node::api::{ApiError, ErrorKind};

/// The table of `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    failed
  2    wrong usage
  10   nobody has it
  11   a time limit passed
  12   bytes were wrong, and right ones could not be had (verify: were not)
  13   no space on the disk, or over --max-store
  15   done in part: what was fetched is kept, and the same `get` goes on; of a folder something was left out
  16   busy: another process owns the data directory, or the file is in use (rm: it is being fetched; cat: too many read it)
  130  interrupted";

/// Why a command did not go well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It failed, and the person is told why.
    Api(ApiError),
    /// It failed with this code, and the person was told why already.
    Told(u8),
    /// Whoever read standard output has enough (`casnode ls | head -1`); nothing is to be said.
    OutputClosed,
}

/// What commands return.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl Failure {
    /// A failure of `kind` with its three parts.
    pub(crate) fn new(
        kind: ErrorKind,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self::Api(ApiError::new(kind, what, why, next))
    }

    /// A failure of this machine: what could not be done, and what the system says.
    pub(crate) fn io(what: impl Into<String>, error: &io::Error) -> Self {
        Self::new(ErrorKind::of_io(error), what, error.to_string(), "")
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Api(error) => code(error.kind),
            Self::Told(code) => *code,
            Self::OutputClosed => 0,
        }
    }

    /// Tells the person.
    pub(crate) fn report(&self, to: &mut impl Write) {
        if let Self::Api(error) = self {
            // Nobody is left to hear that standard error is closed.
            let _ = to.write_all(three_parts(error).as_bytes());
        }
    }
}

/// How a command ends that has told its result. Whoever read standard output and left takes no failure of its own away.
pub(crate) fn after(told: Result<()>, own: Result<()>) -> Result<()> {
    match (told, own) {
        (Ok(()), own) => own,
        (Err(Failure::OutputClosed), Err(own)) => Err(own),
        (told, _) => told,
    }
}

/// The exit code of a kind of failure.
fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Failure => 1,
        ErrorKind::Usage => 2,
        ErrorKind::NotFound => 10,
        ErrorKind::TimedOut => 11,
        ErrorKind::Integrity => 12,
        ErrorKind::NoSpace => 13,
        ErrorKind::Partial => PARTIAL,
        ErrorKind::Busy => 16,
        ErrorKind::Interrupted => INTERRUPTED,
    }
}

/// The exit code of an interrupted run.
pub(crate) const INTERRUPTED: u8 = 130;

/// The exit code of what was done in part.
pub(crate) const PARTIAL: u8 = 15;

/// What happened, why, what to do next; a part that is empty is left out.
fn three_parts(error: &ApiError) -> String {
    let mut text = format!("error: {}\n", error.what);
    for (label, part) in [("why", &error.why), ("next", &error.next)] {
        if !part.is_empty() {
            text.push_str(&format!("  {label}: {part}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_help() {
        let kinds = [
            ErrorKind::Failure,
            ErrorKind::Usage,
            ErrorKind::NotFound,
            ErrorKind::TimedOut,
            ErrorKind::Integrity,
            ErrorKind::NoSpace,
            ErrorKind::Partial,
            ErrorKind::Busy,
            ErrorKind::Interrupted,
        ];
        let codes = kinds.map(code);
        assert_eq!(codes, [1, 2, 10, 11, 12, 13, 15, 16, 130]);
        for code in codes {
            assert!(HELP.contains(&format!("\n  {code:<4}")), "{code}");
        }
        let busy = HELP.lines().find(|line| line.starts_with("  16 "));
        assert!(busy.unwrap().contains("is being fetched"), "of rm, too");
    }

    #[test]
    fn an_error_has_three_parts_and_empty_ones_are_left_out() {
        let whole = ApiError::new(ErrorKind::Failure, "a", "b", "c");
        assert_eq!(three_parts(&whole), "error: a\n  why: b\n  next: c\n");
        let short = ApiError::new(ErrorKind::Failure, "a", "b", "");
        assert_eq!(three_parts(&short), "error: a\n  why: b\n");
    }

    #[test]
    fn a_reader_that_left_hides_no_failure() {
        let closed = || Err(Failure::OutputClosed);
        let code = |outcome: Result<()>| outcome.map_or_else(|failure| failure.code(), |()| 0);
        assert_eq!(code(after(closed(), Ok(()))), 0);
        assert_eq!(code(after(closed(), Err(Failure::Told(15)))), 15);
        assert_eq!(code(after(Ok(()), Err(Failure::Told(15)))), 15);
        assert_eq!(code(after(Err(Failure::Told(13)), Ok(()))), 13);
    }

    #[test]
    fn a_full_disk_has_its_own_code() {
        for full in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert_eq!(Failure::io("x", &full.into()).code(), 13);
        }
        let other = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(Failure::io("x", &other).code(), 1);
    }
}

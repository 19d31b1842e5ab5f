//! What `get --list` did.

use casnode_node::api::{ListReport, ProviderUse};
use indicatif::HumanBytes;
use serde::Serialize;

use super::{count, json_line, lines_of, rate, seconds};
use crate::exit::Result;

/// The last line of `get --list --json`.
#[derive(Serialize)]
struct Summary<'a> {
    files: usize,
    fetched: u64,
    here: u64,
    failed: u64,
    bytes: u64,
    kept_in_place: u64,
    seconds: f64,
    providers: &'a [ProviderUse],
}

/// One object for each file, and one for all of them.
pub(crate) fn list_lines(report: &ListReport) -> Result<String> {
    let summary = Summary {
        files: report.files.len(),
        fetched: report.fetched,
        here: report.here,
        failed: report.failed,
        bytes: report.bytes,
        kept_in_place: report.kept_in_place,
        seconds: report.seconds,
        providers: &report.providers,
    };
    Ok(lines_of(&report.files)? + &json_line(&summary)?)
}

/// The remark on standard error.
pub(crate) fn list_summary(report: &ListReport) -> String {
    let mut text = format!(
        "{} fetched, {} here already, {} failed: {} in {}",
        count(report.fetched, "file"),
        report.here,
        report.failed,
        HumanBytes(report.bytes),
        seconds(report.seconds)
    );
    if report.fetched > 0 {
        text.push_str(&format!(", {}", rate(report.bytes, report.seconds)));
    }
    text.push('\n');
    text
}

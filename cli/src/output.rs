//! Results as people and programs read them. Everything here goes to standard output unless it says otherwise.

pub(crate) mod bench;
mod config;
mod dht;
mod doctor;
mod list;
mod provide;
mod state;
mod swarm;
mod tree;
mod upkeep;
mod when;
mod why;

use std::fmt::Write as _;
use std::io::{self, Write as _};

use casnode_node::api::{
    ErrorKind, FileInfo, FileStat, GetReport, PinReport, ProviderInfo, ProvidersReport,
    RebuildReport, Response, StoreReport, prometheus_text,
};
use indicatif::HumanBytes;
use serde::Serialize;

use crate::exit::{Failure, Result};

/// Prints a result: one JSON object a line, or text.
pub(crate) fn print(response: &Response, json: bool) -> Result<()> {
    write_out(&if json {
        json_lines(response)?
    } else {
        text(response)
    })
}

pub(crate) use config::{print_checked, print_settings};
pub(crate) use list::{list_lines, list_summary};
pub(crate) use provide::warning as provide_warning;
pub(crate) use swarm::{mode_text as swarm_mode, seed_remark, seed_summary};
pub(crate) use tree::{get_tree_summary, left_out, not_made, store_tree_summary};

/// Prints what rebuilding the index has brought.
pub(crate) fn print_rebuilt(report: &RebuildReport, json: bool) -> Result<()> {
    write_out(&if json {
        json_line(report)?
    } else {
        upkeep::rebuilt_text(report)
    })
}

/// Writes text to standard output. A reader that has gone away is [`Failure::OutputClosed`].
pub(crate) fn write_out(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::io("cannot write to standard output", &error),
        })
}

/// One value as one line of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> Result<String> {
    match serde_json::to_string(value) {
        Ok(line) => Ok(line + "\n"),
        Err(error) => Err(Failure::new(
            ErrorKind::Failure,
            "cannot write JSON",
            error.to_string(),
            "",
        )),
    }
}

fn lines_of<T: Serialize>(items: &[T]) -> Result<String> {
    items.iter().map(json_line).collect()
}

/// A response as JSON: lists as one object for each item, anything else as one object.
pub(crate) fn json_lines(response: &Response) -> Result<String> {
    match response {
        Response::Store(report) => json_line(report),
        Response::StoreMany { outcomes } => outcomes.iter().flatten().map(json_line).collect(),
        Response::StoreTree(report) => json_line(report),
        Response::Get(report) => json_line(report),
        Response::Cat(report) => json_line(report),
        Response::Directory(report) => json_line(report),
        Response::GetTree(report) => json_line(report),
        Response::LsTree(page) => lines_of(&page.entries),
        Response::GetMany(report) => list_lines(report),
        Response::Ls { files } => lines_of(files),
        Response::Linger(seed) => json_line(seed),
        Response::Stat(stat) => json_line(stat),
        Response::Rm(report) => json_line(report),
        Response::Pin(report) => json_line(report),
        Response::GcPlan(report) => json_line(report),
        Response::Gc(report) => json_line(report),
        Response::Du { files } => lines_of(files),
        Response::Verify(report) => json_line(report),
        Response::Providers(report) => json_line(report),
        Response::Why(report) => json_line(report),
        Response::Doctor { checks } => lines_of(checks),
        Response::ProvideStatus(report) => json_line(report),
        Response::ProvideFile(report) => json_line(report),
        Response::ProvideNow(report) => json_line(report),
        Response::DhtLookup(report) => json_line(report),
        Response::DhtGet(report) => json_line(report),
        Response::DhtPutTest(report) => json_line(report),
        Response::DhtMode(report) => json_line(report),
        Response::Limits(report) => json_line(report),
        Response::Metrics { metrics } => lines_of(metrics),
        Response::Status(report) => json_line(report),
        Response::SwarmStatus(report) => json_line(report),
        Response::Peers { peers } => lines_of(peers),
    }
}

fn text(response: &Response) -> String {
    match response {
        Response::Store(report) => format!("{}\n", report.address),
        Response::StoreMany { outcomes } => {
            let stored = outcomes.iter().flatten();
            stored
                .map(|report| format!("{}\n", report.address))
                .collect()
        }
        Response::Get(report) => report.path.as_deref().map_or_else(
            || format!("{}\n", report.address),
            |path| format!("{}\n", printable(path)),
        ),
        Response::Cat(_) => String::new(),
        Response::StoreTree(report) => format!("{}\n", report.address),
        Response::Directory(report) => format!("{}\n", report.address),
        Response::GetTree(report) => format!("{}\n", printable(&report.path)),
        Response::LsTree(page) => page.entries.iter().map(tree::entry_line).collect(),
        Response::Ls { files } => files.iter().map(file_line).collect(),
        Response::GetMany(report) => list_summary(report),
        Response::Linger(seed) => swarm::seed_summary(seed),
        Response::Stat(stat) => stat_text(stat),
        Response::Rm(report) => format!(
            "removed {}: {}, {} given back\n",
            report.address,
            count(report.freed_chunks, "chunk"),
            HumanBytes(report.freed_bytes)
        ),
        Response::Pin(report) => pin_text(report),
        Response::GcPlan(report) => upkeep::plan_text(report),
        Response::Gc(report) => upkeep::gc_text(report),
        Response::Du { files } => upkeep::du_text(files),
        Response::Verify(report) => upkeep::verify_text(report),
        Response::Providers(report) => providers_text(report),
        Response::Doctor { checks } => checks.iter().map(doctor::check_text).collect(),
        Response::Why(report) => why::why_text(report),
        Response::ProvideStatus(report) => provide::status_text(report, when::now_ms()),
        Response::ProvideFile(report) => provide::file_text(report, when::now_ms()),
        Response::ProvideNow(report) => provide::now_text(report),
        Response::DhtLookup(report) => dht::lookup_text(report),
        Response::DhtGet(report) => dht::get_text(report, when::now_ms()),
        Response::DhtPutTest(report) => dht::put_test_text(report),
        Response::DhtMode(report) => dht::mode_text(report),
        Response::Limits(report) => swarm::limits_text(report),
        Response::Metrics { metrics } => prometheus_text(metrics),
        Response::Status(report) => state::status_text(report),
        Response::SwarmStatus(report) => swarm::status_text(report),
        Response::Peers { peers } => peers.iter().map(state::peer_line).collect(),
    }
}

fn file_line(file: &FileInfo) -> String {
    let name = file
        .name
        .as_deref()
        .map_or_else(|| "-".to_owned(), printable);
    let state = (file.state != "complete").then_some(file.state.as_str());
    let place = file.in_place.is_some().then(|| place(file));
    let marks: Vec<&str> = state.into_iter().chain(place.as_deref()).collect();
    let mark = match marks.as_slice() {
        [] => String::new(),
        marks => format!("  ({})", printable(&marks.join(", "))),
    };
    let (bytes, inside) = match &file.directory {
        Some(directory) => {
            let files = count(directory.files, "file");
            (directory.bytes, format!("/  ({files})"))
        }
        None => (file.bytes, String::new()),
    };
    format!(
        "{}  {:>11}  {name}{inside}{mark}\n",
        file.address,
        HumanBytes(bytes).to_string()
    )
}

/// Whether a file is kept in place, and what became of it there.
fn place(file: &FileInfo) -> String {
    match file.source_state.as_deref() {
        None | Some("intact") => "in place".to_owned(),
        Some(state) => format!("in place, {state}"),
    }
}

fn pin_text(report: &PinReport) -> String {
    let what = if report.pinned {
        "pinned"
    } else {
        "no longer pinned"
    };
    format!("{} is {what}\n", report.address)
}

fn stat_text(stat: &FileStat) -> String {
    let FileStat {
        file,
        chunks_here,
        bytes_here,
        chunker,
        manifest,
        seed,
    } = stat;
    let mut rows = Rows::default();
    rows.add("address", &file.address);
    if let Some(name) = &file.name {
        rows.add("name", printable(name));
    }
    rows.add(
        "size",
        format_args!("{} bytes ({})", file.bytes, HumanBytes(file.bytes)),
    );
    if let Some(directory) = &file.directory {
        let files = count(directory.files, "file");
        rows.add(
            "directory",
            format_args!("{files}, {}", HumanBytes(directory.bytes)),
        );
    }
    rows.add("state", &file.state);
    rows.add("pinned", if file.pinned { "yes" } else { "no" });
    rows.add("chunks", format_args!("{} ({chunker})", file.chunks));
    rows.add(
        "here",
        format_args!(
            "{}, {}",
            count(*chunks_here, "chunk"),
            HumanBytes(*bytes_here)
        ),
    );
    rows.add("manifest", manifest);
    if let Some(path) = &file.in_place {
        let path = printable(path);
        rows.add("file", format_args!("{path} ({})", place(file)));
    }
    rows.add("served", swarm::seed_text(seed));
    rows.add("stored", stored_at(file.stored_unix_ms));
    rows.add("last used", stored_at(file.last_used_unix_ms));
    rows.0
}

/// UTC in the form of RFC 3339, to the second.
fn stored_at(unix_ms: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(unix_ms));
    // humantime writes years up to 9999 and refuses later ones.
    const LAST_MS: u64 = 253_402_300_799_999;
    match time {
        Some(time) if unix_ms <= LAST_MS => humantime::format_rfc3339_seconds(time).to_string(),
        _ => format!("{unix_ms} ms after 1970"),
    }
}

fn providers_text(report: &ProvidersReport) -> String {
    provider_lines(&report.providers)
}

fn provider_lines(providers: &[ProviderInfo]) -> String {
    let mut text = String::new();
    for provider in providers {
        text.push_str(&provider.peer);
        for addr in &provider.addrs {
            let _ = write!(text, "  {addr}");
        }
        text.push('\n');
    }
    text
}

/// The remark on standard error after a `store`.
pub(crate) fn store_summary(report: &StoreReport) -> String {
    let mut text = format!("{} new", HumanBytes(report.new_bytes));
    if report.saved_bytes > 0 {
        let _ = write!(
            text,
            ", {} were here already",
            HumanBytes(report.saved_bytes)
        );
    }
    if report.referenced_bytes > 0 {
        let _ = write!(
            text,
            ", {} stay in the file itself",
            HumanBytes(report.referenced_bytes)
        );
    }
    text + "\n"
}

/// A line as b3sum prints it: a path with a line break or a backslash is escaped, and the line says so.
pub(crate) fn sum_line(address: &str, path: &str) -> String {
    if path.contains(['\n', '\r', '\\']) {
        let path = path.replace('\\', "\\\\");
        let path = path.replace('\n', "\\n").replace('\r', "\\r");
        return format!("\\{address}  {path}\n");
    }
    format!("{address}  {path}\n")
}

/// The remark on standard error after a `get`.
pub(crate) fn get_summary(report: &GetReport) -> String {
    if report.unchanged {
        return "already there: the file is the one that was asked for\n".to_owned();
    }
    let senders = report
        .providers
        .iter()
        .filter(|provider| provider.bytes > 0)
        .count();
    let mut text = format!(
        "{} in {}",
        HumanBytes(report.bytes),
        seconds(report.seconds)
    );
    let _ = write!(text, ", {}", rate(report.bytes, report.seconds));
    match u64::try_from(senders).unwrap_or(u64::MAX) {
        0 => text.push_str(", all of it was here"),
        n => {
            let _ = write!(text, ", from {}", count(n, "provider"));
        }
    }
    if senders > 0 && report.local_bytes > 0 {
        let _ = write!(
            text,
            "; {} of it were here already",
            HumanBytes(report.local_bytes)
        );
    }
    text.push('\n');
    text
}

/// The remark on standard error after a `get` of a file that is kept in place: what is shared, and what that asks for.
pub(crate) fn kept_remark(report: &GetReport) -> String {
    let Some(kept) = &report.in_place else {
        return String::new();
    };
    let shared = match report.path.as_ref() == Some(kept) {
        true => "the file itself".to_owned(),
        false => printable(kept),
    };
    format!(
        "{shared} is what this node keeps and shares, without a copy: it must stay there unchanged (`get --copy` makes a copy)\n"
    )
}

/// The same for many files.
pub(crate) fn many_kept_remark(kept_in_place: u64) -> String {
    if kept_in_place == 0 {
        return String::new();
    }
    format!(
        "kept and shared from where they are, without a copy: {}, which must stay there unchanged (`get --copy` makes copies)\n",
        count(kept_in_place, "large file")
    )
}

/// The warnings on standard error after a `get`: who sent wrong bytes.
pub(crate) fn liars(report: &GetReport) -> String {
    let liars = report
        .providers
        .iter()
        .filter(|provider| provider.rejected > 0);
    liars
        .map(|liar| {
            format!(
                "warning: {} sent {} and is asked no more\n",
                liar.peer,
                count(liar.rejected, "wrong chunk")
            )
        })
        .collect()
}

/// A number of things for people.
pub(crate) fn count(number: impl Into<u64>, thing: &str) -> String {
    match number.into() {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

/// Things of which there is a number, with their verb.
pub(crate) fn were(number: u64, thing: &str) -> String {
    let verb = if number == 1 { "was" } else { "were" };
    format!("{} {verb}", count(number, thing))
}

/// A size for people.
pub(crate) fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// Seconds for people.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{seconds:.1} s")
    }
}

/// Bytes a second for people.
pub(crate) fn rate(bytes: u64, seconds: f64) -> String {
    if seconds <= 0.0 {
        return "at once".to_owned();
    }
    format!("{:.1} MiB/s", bytes as f64 / seconds / f64::from(1 << 20))
}

/// Text that others chose, safe for a terminal: control characters are written out.
pub(crate) fn printable(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .fold(String::with_capacity(text.len()), |mut safe, c| {
            if hidden(c) {
                safe.extend(c.escape_default());
            } else {
                safe.push(c);
            }
            safe
        })
}

/// Lines of a label and a value.
#[derive(Default)]
pub(crate) struct Rows(pub(crate) String);

impl Rows {
    /// Adds a line.
    pub(crate) fn add(&mut self, label: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{label:<10} {value}");
    }
}

#[cfg(test)]
mod tests;

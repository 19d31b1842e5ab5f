//! `casnode get --list`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use casnode_node::api::{
    ApiError, ErrorKind, FetchedFile, FetchedState, ListReport, ListedFile, MAX_LISTED_FILES,
    MAX_LISTED_PATH_BYTES, Request, Response,
};
use casnode_node::{Client, SeedPolicy, Streams, check_list};

use super::get;
use crate::args::GetArgs;
use crate::exit::{self, Failure, Result};
use crate::list;
use crate::output;
use crate::pipe::ClosedFlag;
use crate::progress::{Stderr, remark};
use crate::session::{Context, absolute, interrupted, unexpected};

/// The largest list that is read: of a million files, about.
const MAX_LIST_BYTES: u64 = 256 << 20;

/// Files of which it is said why they were not fetched; `--json` tells of all.
const TOLD_FAILURES: usize = 20;

/// Fetches the files of a list into a folder.
pub(crate) async fn run(context: &Context, args: GetArgs, from: &OsStr) -> Result<()> {
    let keep = get::keep(&args);
    let folder = match args.output {
        Some(output) if output == "-" => return Err(needs_a_folder()),
        Some(output) => PathBuf::from(output),
        None => PathBuf::from("."),
    };
    let folder = absolute(&folder)?;
    let files = read_in_background(context, from.to_owned()).await?;
    let client = context.networked(args.network).await?;
    if !client.is_daemon() && args.seed.is_some_and(|seed| seed != SeedPolicy::None) {
        client.close().await;
        return Err(needs_a_daemon());
    }
    let began = Instant::now();
    let request = |files| Request::GetMany {
        files,
        folder: folder.clone().into_os_string(),
        force: args.force,
        timeout_ms: args
            .timeout
            .map(|limit| super::millis(limit.saturating_sub(began.elapsed()))),
        peers: args.peer.clone(),
        keep,
        pin: args.pin,
        seed: args.seed.map(|seed| seed.to_string()),
    };
    let mut report = nothing();
    let requests = parts(files).into_iter().map(request);
    let outcome = fetch(context, &client, requests, &mut report).await;
    client.close().await;
    // What came before a failure is told as well; the failure is the run's.
    let told = match (&outcome, report.files.is_empty()) {
        (Err(_), true) => Ok(()),
        _ => tell(context, &folder, &report),
    };
    outcome.and(told)
}

fn nothing() -> ListReport {
    ListReport {
        files: Vec::new(),
        fetched: 0,
        here: 0,
        failed: 0,
        bytes: 0,
        kept_in_place: 0,
        seconds: 0.0,
        providers: Vec::new(),
    }
}

/// Fetches part by part, and adds each to the report.
async fn fetch(
    context: &Context,
    client: &Client,
    requests: impl Iterator<Item = Request>,
    report: &mut ListReport,
) -> Result<()> {
    for request in requests {
        let response = context.ask(client, request, Streams::default()).await;
        match response.map_err(|failure| get::explain(failure, &ClosedFlag::default()))? {
            Response::GetMany(part) => add(report, part),
            _ => return Err(unexpected()),
        }
    }
    Ok(())
}

fn add(all: &mut ListReport, part: ListReport) {
    all.files.extend(part.files);
    all.fetched += part.fetched;
    all.here += part.here;
    all.failed += part.failed;
    all.bytes += part.bytes;
    all.kept_in_place += part.kept_in_place;
    all.seconds += part.seconds;
    for used in part.providers {
        match all.providers.iter_mut().find(|p| p.peer == used.peer) {
            Some(before) => {
                before.bytes += used.bytes;
                before.chunks += used.chunks;
                before.rejected += used.rejected;
            }
            None => all.providers.push(used),
        }
    }
}

/// Tells what became of the files. The code of the first one that failed is the run's.
fn tell(context: &Context, folder: &Path, report: &ListReport) -> Result<()> {
    let told = if context.json {
        output::write_out(&output::list_lines(report)?)
    } else {
        let there = report.files.iter();
        let there = there.filter(|file| file.state != FetchedState::Failed);
        let line = |file: &FetchedFile| {
            let path = folder.join(&file.path);
            format!("{}\n", output::printable(&path.display().to_string()))
        };
        output::write_out(&there.map(line).collect::<String>())
    };
    let mut failed = report.files.iter().filter_map(|file| {
        let error = file.error.as_ref()?;
        Some(Failure::Api(ApiError {
            what: format!("{} was not fetched", output::printable(&file.path)),
            why: match error.what.as_str() {
                "it was not written" => error.why.clone(),
                what => format!("{what}: {}", error.why),
            },
            ..error.clone()
        }))
    });
    let mut first_code = None;
    for failure in failed.by_ref().take(TOLD_FAILURES) {
        failure.report(&mut Stderr);
        first_code.get_or_insert(failure.code());
    }
    match failed.count() {
        0 => {}
        more => remark(&format!("and {more} more; --json tells of all\n")),
    }
    context.remark(&output::list_summary(report));
    context.remark(&output::many_kept_remark(report.kept_in_place));
    let own = first_code.map_or(Ok(()), |code| Err(Failure::Told(code)));
    exit::after(told, own)
}

/// As many files as one request may be for.
fn parts(files: Vec<ListedFile>) -> Vec<Vec<ListedFile>> {
    let mut parts: Vec<Vec<ListedFile>> = Vec::new();
    let mut path_bytes = 0;
    for file in files {
        path_bytes += file.path.len();
        match parts.last_mut() {
            Some(part) if part.len() < MAX_LISTED_FILES && path_bytes <= MAX_LISTED_PATH_BYTES => {
                part.push(file);
            }
            _ => {
                path_bytes = file.path.len();
                parts.push(vec![file]);
            }
        }
    }
    parts
}

/// Reads the list where a pipe that nobody writes to keeps no signal from being heard.
async fn read_in_background(context: &Context, from: OsString) -> Result<Vec<ListedFile>> {
    let reading = tokio::task::spawn_blocking(move || read(&from));
    let read = context.stop.run_until_cancelled(reading).await;
    let read = read.ok_or_else(interrupted)?;
    read.map_err(|error| Failure::io("the list was not read", &error.into()))?
}

/// The files of the list, all of which are right: it goes in several requests, and nothing is fetched of a wrong one.
fn read(from: &OsStr) -> Result<Vec<ListedFile>> {
    let files = list::parse(&read_text(from)?)?;
    check_list(&files)?;
    Ok(files)
}

/// The list, from a file or standard input.
fn read_text(from: &OsStr) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = match from == "-" {
        true => io::stdin()
            .lock()
            .take(MAX_LIST_BYTES + 1)
            .read_to_end(&mut text),
        false => {
            File::open(from).and_then(|file| file.take(MAX_LIST_BYTES + 1).read_to_end(&mut text))
        }
    };
    let shown = Path::new(from).display();
    read.map_err(|error| Failure::io(format!("the list {shown} cannot be read"), &error))?;
    if text.len() as u64 > MAX_LIST_BYTES {
        return Err(Failure::new(
            ErrorKind::Usage,
            format!("the list {shown} is too long"),
            "at most 256 MiB are read",
            "cut it into several lists",
        ));
    }
    Ok(text)
}

fn needs_a_folder() -> Failure {
    Failure::new(
        ErrorKind::Usage,
        "--list does not go with -o -",
        "many files do not go to standard output",
        "name a folder with -o, or leave -o out",
    )
}

fn needs_a_daemon() -> Failure {
    Failure::new(
        ErrorKind::Usage,
        "--seed does not go with --list where no daemon runs",
        "the files are served by a daemon, and the command ends when they are there",
        "start `casnode daemon` on this data directory, or leave --seed out",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_goes_in_several_requests() {
        let file = |len: usize| ListedFile {
            address: String::new(),
            path: "x".repeat(len),
        };
        let lens = |files| -> Vec<usize> { parts(files).iter().map(Vec::len).collect() };
        assert_eq!(lens(vec![file(3); MAX_LISTED_FILES]), [MAX_LISTED_FILES]);
        let many = vec![file(3); 2 * MAX_LISTED_FILES + 1];
        assert_eq!(lens(many), [MAX_LISTED_FILES, MAX_LISTED_FILES, 1]);
        assert_eq!(lens(vec![file(MAX_LISTED_PATH_BYTES / 2); 5]), [2, 2, 1]);
        assert!(lens(Vec::new()).is_empty());
    }
}

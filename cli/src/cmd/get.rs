//! `casnode get`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use casnode_node::api::{ApiError, ErrorKind, GetReport, Keep, Output, Request, Response};
use casnode_node::{Client, SeedPolicy, Streams};

use crate::args::GetArgs;
use crate::exit::{Failure, Result};
use crate::output;
use crate::pipe::{ClosedFlag, StdoutPipe, end_stdout};
use crate::progress::remark;
use crate::session::{Context, absolute, unexpected};

/// Fetches a file into a file, a folder or standard output.
pub(crate) async fn run(context: &Context, mut args: GetArgs) -> Result<()> {
    let place = match (args.place.take(), args.list.take()) {
        (Some(place), _) if !place.path.is_empty() && args.store_only => {
            return Err(no_directory(&place.link.address().to_string()));
        }
        (Some(place), _) if !place.path.is_empty() || has_globs(&args) => {
            let client = context.networked(args.network.clone()).await?;
            let outcome = super::tree::get(context, &client, place, &args).await;
            client.close().await;
            return outcome;
        }
        (Some(place), _) => place,
        (None, Some(list)) => return super::get_list::run(context, args, &list).await,
        (None, None) => return Err(unexpected()),
    };
    let output = match args.store_only {
        true => Output::Nowhere,
        false => destination(args.output.clone(), args.force)?,
    };
    let to_stdout = output == Output::Stream;
    let keep = keep(&args);
    if to_stdout && matches!(keep, Keep::InPlace | Keep::No) {
        return Err(needs_a_file(keep));
    }
    let closed = ClosedFlag::default();
    let streams = stdout_streams(to_stdout, &closed);
    let request = Request::Get {
        address: place.link.to_string(),
        output,
        timeout_ms: args.timeout.map(super::millis),
        peers: args.peer.clone(),
        keep,
        pin: args.pin,
        seed: args.seed.map(|seed| seed.to_string()),
        swarm: args.swarm,
    };
    let client = context.networked(args.network.clone()).await?;
    let outcome = fetch(context, &client, request, streams, to_stdout).await;
    let outcome = match outcome {
        Ok(None) if args.store_only => Err(no_directory(&place.link.address().to_string())),
        Ok(None) => super::tree::get(context, &client, place, &args).await,
        Ok(Some(report)) => stay(context, &client, args.seed, to_stdout, &report).await,
        Err(failure) => Err(explain(failure, &closed)),
    };
    client.close().await;
    outcome
}

/// Standard output, where it is what is written to.
pub(super) fn stdout_streams(to_stdout: bool, closed: &ClosedFlag) -> Streams {
    let mut streams = Streams::default();
    if to_stdout {
        streams.output = Some(Box::new(StdoutPipe::new(closed.clone())));
    }
    streams
}

/// What is to stay here.
pub(super) fn keep(args: &GetArgs) -> Keep {
    match (args.copy, args.in_place, args.no_keep) {
        (true, ..) => Keep::Copy,
        (_, true, _) => Keep::InPlace,
        (.., true) => Keep::No,
        _ => Keep::Auto,
    }
}

fn has_globs(args: &GetArgs) -> bool {
    !args.include.is_empty() || !args.exclude.is_empty()
}

/// Fetches the file, and tells what was done; `None` when it is a directory, and nothing was.
async fn fetch(
    context: &Context,
    client: &Client,
    request: Request,
    streams: Streams,
    to_stdout: bool,
) -> Result<Option<GetReport>> {
    let response = context.ask(client, request, streams).await?;
    match &response {
        Response::Get(report) => {
            tell(context, report, to_stdout)?;
            Ok(Some(report.clone()))
        }
        Response::Directory(_) => Ok(None),
        _ => Err(unexpected()),
    }
}

/// Tells what was done.
pub(super) fn tell(context: &Context, report: &GetReport, to_stdout: bool) -> Result<()> {
    remark(&output::liars(report));
    context.remark(&output::get_summary(report));
    context.remark(&output::kept_remark(report));
    let response = Response::Get(report.clone());
    match (to_stdout, context.json) {
        (true, true) => remark(&output::json_lines(&response)?),
        (true, false) => {}
        (false, json) => output::print(&response, json)?,
    }
    Ok(())
}

/// Says for how long the file is served. Where no daemon does it, the command does, for as long as it was told to: a
/// signal then ends what is done, and breaks off nothing.
async fn stay(
    context: &Context,
    client: &Client,
    seed: Option<SeedPolicy>,
    to_stdout: bool,
    report: &GetReport,
) -> Result<()> {
    let lingers = !client.is_daemon() && seed.is_some_and(|seed| seed != SeedPolicy::None);
    context.remark(&output::seed_remark(report, client.is_daemon(), lingers));
    if !lingers {
        return Ok(());
    }
    if to_stdout {
        end_stdout().map_err(|error| Failure::io("standard output could not be ended", &error))?;
    }
    let request = Request::Linger {
        address: report.address.clone(),
    };
    match context.ask(client, request, Streams::default()).await {
        Ok(Response::Linger(seed)) => {
            context.remark(&output::seed_summary(&seed));
            Ok(())
        }
        Ok(_) => Err(unexpected()),
        Err(Failure::Api(error)) if error.kind == ErrorKind::Interrupted => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// A directory's files are fetched to where they are wanted, or by the gateway.
fn no_directory(address: &str) -> Failure {
    Failure::new(
        ErrorKind::Usage,
        format!("the files of {address} were not fetched"),
        "it is a directory, and --store-only is about single files",
        format!(
            "leave --store-only out, or see with `casnode ls {address}` which of its files is wanted"
        ),
    )
}

/// Standard output can neither be referred to nor be gone on with.
pub(super) fn needs_a_file(keep: Keep) -> Failure {
    let option = match keep {
        Keep::InPlace => "--in-place",
        _ => "--no-keep",
    };
    Failure::new(
        ErrorKind::Usage,
        format!("{option} does not go with -o -"),
        "it is about the file that is written, and standard output is none",
        "name a file with -o, or leave the option out",
    )
}

pub(super) fn explain(failure: Failure, closed: &ClosedFlag) -> Failure {
    match failure {
        _ if closed.is_set() => Failure::OutputClosed,
        Failure::Api(error) if error.kind == ErrorKind::Interrupted && error.next.is_empty() => {
            Failure::Api(ApiError {
                next: "what was fetched is kept: the same `casnode get` goes on from there"
                    .to_owned(),
                ..error
            })
        }
        other => other,
    }
}

/// Where the bytes go: a folder takes the published name, anything else is the file to make.
fn destination(given: Option<OsString>, force: bool) -> Result<Output> {
    let Some(given) = given else {
        return Ok(Output::Folder {
            path: absolute(Path::new("."))?.into_os_string(),
            force,
        });
    };
    if given == "-" {
        return Ok(Output::Stream);
    }
    let path = absolute(Path::new(&given))?;
    if names_a_folder(&given) || path.is_dir() {
        return Ok(Output::Folder {
            path: path.into_os_string(),
            force,
        });
    }
    Ok(Output::File {
        path: path.into_os_string(),
        force,
    })
}

fn names_a_folder(given: &OsStr) -> bool {
    given.as_bytes().ends_with(b"/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(given: &str) -> Output {
        destination(Some(given.into()), false).unwrap()
    }

    #[test]
    fn a_dash_is_standard_output() {
        assert_eq!(to("-"), Output::Stream);
    }

    #[test]
    fn nothing_is_the_current_folder() {
        let here = std::env::current_dir().unwrap().into_os_string();
        assert_eq!(
            destination(None, true).unwrap(),
            Output::Folder {
                path: here,
                force: true
            }
        );
    }

    #[test]
    fn folders_are_known_by_being_there_or_by_their_slash() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().to_str().unwrap();
        assert!(matches!(to(there), Output::Folder { .. }));
        assert!(matches!(
            to(&format!("{there}/new/")),
            Output::Folder { .. }
        ));
        assert!(matches!(to(&format!("{there}/new")), Output::File { .. }));
    }

    #[test]
    fn an_interrupted_get_says_that_the_next_one_goes_on() {
        let explained = explain(crate::session::interrupted(), &ClosedFlag::default());
        let Failure::Api(error) = explained else {
            panic!("not an error")
        };
        assert!(error.next.contains("goes on"));
        assert_eq!(error.kind, ErrorKind::Interrupted);
    }

    #[test]
    fn a_reader_that_left_is_no_error() {
        let closed = ClosedFlag::default();
        closed.set();
        assert!(matches!(
            explain(crate::session::interrupted(), &closed),
            Failure::OutputClosed
        ));
    }
}

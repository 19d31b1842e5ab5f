//! `casnode store`.

use std::ffi::OsString;
use std::path::Path;

use casnode_node::api::{
    ErrorKind, MAX_STORE_PATHS, Request, Response, Source, StoreReport, StoreTreeReport,
};
use casnode_node::{Client, Streams, rebuild_index};

use super::link;
use crate::args::{StoreArgs, StoreCommand};
use crate::exit::{Failure, Result};
use crate::output;
use crate::progress::Stderr;
use crate::session::{Context, absolute, interrupted, unexpected};

/// Stores files or standard input, and prints the addresses.
pub(crate) async fn run(context: &Context, args: StoreArgs) -> Result<()> {
    if let Some(StoreCommand::RebuildIndex) = args.upkeep {
        return rebuild(context).await;
    }
    check(context, &args)?;
    if args.qr {
        link::check_terminal()?;
    }
    let client = context.networked(args.network.clone()).await?;
    let stored = store_all(context, &client, &args).await;
    client.close().await;
    stored
}

/// Stores one after the other, files without options of their own many at a time. A failure is told at once, and the
/// rest goes on; the first one's code is the run's.
async fn store_all(context: &Context, client: &Client, args: &StoreArgs) -> Result<()> {
    let is_alone = args.paths.len() == 1;
    let mut first_code = None;
    let mut rest = args.paths.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(at_once(rest, args.in_place));
        rest = later;
        let outcomes = match now {
            [path] if is_folder(path) => {
                vec![
                    super::tree::store(context, client, args, path)
                        .await
                        .map(Stored::Tree),
                ]
            }
            [path] => vec![store(context, client, args, path).await.map(Stored::File)],
            paths => match store_many(context, client, args, paths).await {
                Ok(outcomes) => outcomes.into_iter().map(|o| o.map(Stored::File)).collect(),
                Err(failure) => vec![Err(failure)],
            },
        };
        for (path, outcome) in now.iter().zip(outcomes) {
            let printed = match outcome {
                Ok(Stored::File(report)) => print(context, client, args, path, report).await,
                Ok(Stored::Tree(report)) => {
                    super::tree::print_stored(context, client, args, report).await
                }
                Err(failure) => Err(failure),
            };
            let failure = match printed {
                Ok(()) => continue,
                Err(failure) if is_alone || context.stop.is_cancelled() => return Err(failure),
                Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
                Err(failure) => failure,
            };
            failure.report(&mut Stderr);
            first_code.get_or_insert(failure.code());
        }
    }
    first_code.map_or(Ok(()), |code| Err(Failure::Told(code)))
}

/// What became of a path.
enum Stored {
    File(StoreReport),
    Tree(StoreTreeReport),
}

fn is_folder(path: &OsString) -> bool {
    path != "-" && Path::new(path).is_dir()
}

/// How many of the first paths go into one call.
fn at_once(paths: &[OsString], in_place: bool) -> usize {
    let is_file = |path: &&OsString| *path != "-" && !is_folder(path);
    let files = paths.iter().take_while(is_file).count();
    let most = if in_place { 1 } else { MAX_STORE_PATHS };
    files.clamp(1, most)
}

async fn store(
    context: &Context,
    client: &Client,
    args: &StoreArgs,
    path: &OsString,
) -> Result<StoreReport> {
    let (source, streams) = source(path)?;
    let request = Request::Store {
        source,
        name: args.name.clone(),
        chunker: args.chunker.into(),
        pinned: !args.no_pin,
        in_place: args.in_place,
    };
    match context.ask(client, request, streams).await? {
        Response::Store(report) => Ok(report),
        _ => Err(unexpected()),
    }
}

async fn store_many(
    context: &Context,
    client: &Client,
    args: &StoreArgs,
    paths: &[OsString],
) -> Result<Vec<Result<StoreReport>>> {
    let paths = paths.iter().map(|path| absolute(Path::new(path)));
    let paths = paths.map(|path| path.map(Into::into));
    let request = Request::StoreMany {
        paths: paths.collect::<Result<_>>()?,
        chunker: args.chunker.into(),
        pinned: !args.no_pin,
    };
    match context.ask(client, request, Streams::default()).await? {
        Response::StoreMany { outcomes } => {
            let outcomes = outcomes.into_iter();
            Ok(outcomes
                .map(|outcome| outcome.map_err(Failure::from))
                .collect())
        }
        _ => Err(unexpected()),
    }
}

async fn print(
    context: &Context,
    client: &Client,
    args: &StoreArgs,
    path: &OsString,
    report: StoreReport,
) -> Result<()> {
    context.remark(&output::store_summary(&report));
    if args.link {
        let name = report.name.as_deref();
        let link = link::make(context, client, &report.address, name, report.bytes).await?;
        return link::print(context, &link, args.qr);
    }
    if args.sums {
        return output::write_out(&output::sum_line(&report.address, &path.to_string_lossy()));
    }
    output::print(&Response::Store(report), context.json)
}

/// Refuses what does not go together.
fn check(context: &Context, args: &StoreArgs) -> Result<()> {
    let streams = args.paths.iter().filter(|path| *path == "-").count();
    let refused =
        |what: &str, why: &str, next: &str| Err(Failure::new(ErrorKind::Usage, what, why, next));
    if args.name.is_some() && args.paths.len() > 1 {
        return refused(
            "--name does not go with several files",
            "all of them would have the same name",
            "store that file alone, or leave --name out",
        );
    }
    if streams > 1 {
        return refused(
            "standard input was named twice",
            "it can be read once",
            "write - once",
        );
    }
    if args.in_place && streams > 0 {
        return refused(
            "--in-place does not go with -",
            "standard input is no file that could be referred to",
            "name a file, or leave --in-place out",
        );
    }
    let has_folder = args.paths.iter().any(is_folder);
    if args.in_place && has_folder {
        return refused(
            "--in-place does not go with a folder",
            "the files of a directory are kept as copies",
            "leave --in-place out, or name the files themselves",
        );
    }
    if args.sums && has_folder {
        return refused(
            "--sums does not go with a folder",
            "the address of a directory is the sum of no file",
            "leave --sums out; `casnode ls --recursive --json <ADDRESS>` prints the addresses of its files",
        );
    }
    let has_globs = !args.include.is_empty() || !args.exclude.is_empty();
    if has_globs && !has_folder {
        return refused(
            "--include and --exclude do not go with files",
            "they say what of a folder is stored, and no folder is named",
            "name a folder, or leave them out",
        );
    }
    if args.sums && context.json {
        return refused(
            "--sums does not go with --json",
            "each says how a file is printed",
            "leave one of them out",
        );
    }
    Ok(())
}

fn source(path: &OsString) -> Result<(Source, Streams)> {
    if path == "-" {
        let streams = Streams {
            input: Some(Box::new(tokio::io::stdin())),
            output: None,
        };
        return Ok((Source::Stream, streams));
    }
    Ok((
        Source::File(absolute(Path::new(path))?.into_os_string()),
        Streams::default(),
    ))
}

/// Makes the index anew. It is this process that does it: nobody else may have the store open.
async fn rebuild(context: &Context) -> Result<()> {
    let rebuild = rebuild_index(&context.data_dir);
    let stopped = context.stop.run_until_cancelled(rebuild).await;
    let report = stopped.ok_or_else(interrupted)??;
    output::print_rebuilt(&report, context.json)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many paths go into each call.
    fn calls(paths: &[&str], in_place: bool) -> Vec<usize> {
        let paths: Vec<OsString> = paths.iter().map(OsString::from).collect();
        let mut rest = paths.as_slice();
        let mut calls = Vec::new();
        while !rest.is_empty() {
            calls.push(at_once(rest, in_place));
            rest = &rest[calls[calls.len() - 1]..];
        }
        calls
    }

    #[test]
    fn files_are_stored_many_at_a_time_and_standard_input_by_itself() {
        assert_eq!(calls(&["a", "b", "-", "c"], false), [2, 1, 1]);
        assert_eq!(calls(&["-", "a", "b"], false), [1, 2]);
        assert_eq!(calls(&["a", "b", "./-"], false), [3], "a file of that name");
        assert_eq!(calls(&["a", "b"], true), [1, 1]);
        assert_eq!(
            calls(&["a", "b", "src", "src", "c"], false),
            [2, 1, 1, 1],
            "folders"
        );
        let many = vec!["a"; 2 * MAX_STORE_PATHS + 1];
        assert_eq!(calls(&many, false), [MAX_STORE_PATHS, MAX_STORE_PATHS, 1]);
    }
}

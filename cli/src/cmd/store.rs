//! `casnode store`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use casnode_node::api::{
    ApiError, ErrorKind, MAX_STORE_PATHS, Request, Response, Source, StoreReport, StoreTreeReport,
};
use casnode_node::{Client, MAX_SMALL_FILE_BYTES, Streams, rebuild_index};

use super::link;
use crate::args::{StoreArgs, StoreCommand};
use crate::exit::{Failure, Result};
use crate::output;
use crate::progress::Stderr;
use crate::session::{Context, absolute, unexpected};

/// The subcommand, as it is typed.
const REBUILD_INDEX: &str = "rebuild-index";

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

/// Stores one after the other, small files many at a time. A failure is told at once, and the rest goes on; the first
/// one's code is the run's.
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
            [path] if is_alone || args.in_place || path == "-" => {
                vec![store(context, client, args, path).await.map(Stored::File)]
            }
            paths => {
                let outcomes = store_many(context, client, args, paths).await?;
                outcomes.into_iter().map(|o| o.map(Stored::File)).collect()
            }
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

fn is_small_file(path: &OsString) -> bool {
    let found = (path != "-").then(|| Path::new(path).metadata());
    found.is_some_and(|found| {
        found.is_ok_and(|found| found.is_file() && found.len() <= MAX_SMALL_FILE_BYTES)
    })
}

/// How many of the first paths go into one call: their addresses are printed when all of them are stored, and so only
/// files that are stored in no time share one.
fn at_once(paths: &[OsString], in_place: bool) -> usize {
    let most = if in_place { 1 } else { MAX_STORE_PATHS };
    let small = paths
        .iter()
        .take(most)
        .take_while(|path| is_small_file(path));
    small.count().max(1)
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

/// What became of each path, in their order; an error only when the person asked for an end.
async fn store_many(
    context: &Context,
    client: &Client,
    args: &StoreArgs,
    paths: &[OsString],
) -> Result<Vec<Result<StoreReport>>> {
    let found: Vec<Result<OsString>> = paths
        .iter()
        .map(|path| Ok(absolute(Path::new(path))?.into_os_string()))
        .collect();
    let request = Request::StoreMany {
        paths: found.iter().flatten().cloned().collect(),
        chunker: args.chunker.into(),
        pinned: !args.no_pin,
    };
    let mut outcomes = match context.ask(client, request, Streams::default()).await {
        Ok(Response::StoreMany { outcomes }) => outcomes.into_iter(),
        Ok(_) => return Err(unexpected()),
        Err(Failure::Api(error)) if !context.stop.is_cancelled() => {
            let paths = found.iter().flatten();
            let named: Vec<_> = paths.map(|path| Err(of_path(path, &error))).collect();
            named.into_iter()
        }
        Err(failure) => return Err(failure),
    };
    let outcome = |path: Result<OsString>| {
        path.and_then(|_| Ok(outcomes.next().ok_or_else(unexpected)??))
    };
    Ok(found.into_iter().map(outcome).collect())
}

/// What a call for several paths failed for, of one of them.
fn of_path(path: &OsStr, error: &ApiError) -> ApiError {
    ApiError {
        what: format!("{} was not stored", Path::new(path).display()),
        why: format!("{}: {}", error.what, error.why),
        ..error.clone()
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
    // Behind an option, clap takes a subcommand for a path.
    if let [path] = args.paths.as_slice()
        && path == REBUILD_INDEX
        && !Path::new(path).exists()
    {
        return refused(
            "`rebuild-index` was taken for a file, and there is none of that name",
            "behind an option of `store` every word is a path",
            "write options before `store` or behind `rebuild-index`",
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
    let report = context.wait_for("rebuilding the index", rebuild).await?;
    output::print_rebuilt(&report, context.json)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many paths go into each call.
    fn calls(paths: &[&Path], in_place: bool) -> Vec<usize> {
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
    fn small_files_are_stored_many_at_a_time_and_anything_else_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes| {
            let path = dir.path().join(name);
            let file = std::fs::File::create(&path).unwrap();
            file.set_len(bytes).unwrap();
            path
        };
        let (a, b) = (file("a", 0), file("b", MAX_SMALL_FILE_BYTES));
        let large = file("large", MAX_SMALL_FILE_BYTES + 1);
        let (a, b, large, folder) = (&*a, &*b, &*large, dir.path());
        let (stdin, empty) = (Path::new("-"), Path::new(""));
        assert_eq!(calls(&[a, b, stdin, a], false), [2, 1, 1]);
        assert_eq!(calls(&[stdin, a, b], false), [1, 2]);
        assert_eq!(calls(&[a, b], true), [1, 1]);
        for alone in [large, folder, empty, &folder.join("missing")] {
            assert_eq!(calls(&[a, b, alone, alone, a], false), [2, 1, 1, 1]);
        }
        let many = vec![a; 2 * MAX_STORE_PATHS + 1];
        assert_eq!(calls(&many, false), [MAX_STORE_PATHS, MAX_STORE_PATHS, 1]);
    }
}

//! `casnode store`.

use std::ffi::OsString;
use std::path::Path;

use casnode_node::api::{ErrorKind, Request, Response, Source};
use casnode_node::{Client, Streams, rebuild_index};

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
    let sources = sources(&args)?;
    let client = context.networked(args.network).await?;
    let stored = store_all(context, &client, sources).await;
    client.close().await;
    stored
}

/// Stores one after the other. A failure is told at once, and the rest goes on; the first one's code is the run's.
async fn store_all(
    context: &Context,
    client: &Client,
    sources: Vec<(Request, Streams)>,
) -> Result<()> {
    let alone = sources.len() == 1;
    let mut first_code = None;
    for (request, streams) in sources {
        let failure = match store(context, client, request, streams).await {
            Ok(()) => continue,
            Err(failure) if alone || context.stop.is_cancelled() => return Err(failure),
            Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
            Err(failure) => failure,
        };
        failure.report(&mut Stderr);
        first_code.get_or_insert(failure.code());
    }
    first_code.map_or(Ok(()), |code| Err(Failure::Told(code)))
}

async fn store(
    context: &Context,
    client: &Client,
    request: Request,
    streams: Streams,
) -> Result<()> {
    let response = context.ask(client, request, streams).await?;
    let Response::Store(report) = &response else {
        return Err(unexpected());
    };
    context.remark(&output::store_summary(report));
    output::print(&response, context.json)
}

/// What to ask for, in the order of the command line.
fn sources(args: &StoreArgs) -> Result<Vec<(Request, Streams)>> {
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
    let request = |path: &OsString| {
        let (source, streams) = source(path)?;
        let request = Request::Store {
            source,
            name: args.name.clone(),
            chunker: args.chunker.into(),
            pinned: !args.no_pin,
            in_place: args.in_place,
        };
        Ok((request, streams))
    };
    args.paths.iter().map(request).collect()
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

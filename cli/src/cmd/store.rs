//! `casnode store`.

use std::ffi::OsString;
use std::path::Path;

use casnode_node::Streams;
use casnode_node::api::{Request, Source};

use crate::args::StoreArgs;
use crate::exit::Result;
use crate::output;
use crate::session::{Context, absolute};

/// Stores a file or standard input, and prints the address.
pub(crate) async fn run(context: &Context, args: StoreArgs) -> Result<()> {
    let (source, streams) = source(args.path)?;
    let client = context.networked(args.network).await?;
    let request = Request::Store {
        source,
        name: args.name,
        chunker: args.chunker.into(),
    };
    let response = context.call(client, request, streams).await?;
    output::print(&response, context.json)
}

fn source(path: OsString) -> Result<(Source, Streams)> {
    if path == "-" {
        let streams = Streams {
            input: Some(Box::new(tokio::io::stdin())),
            output: None,
        };
        return Ok((Source::Stream, streams));
    }
    Ok((
        Source::File(absolute(Path::new(&path))?.into_os_string()),
        Streams::default(),
    ))
}

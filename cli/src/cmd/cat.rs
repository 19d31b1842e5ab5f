//! `casnode cat`.

use casnode_node::api::{Request, Response};
use casnode_node::{Client, Streams};

use crate::args::CatArgs;
use crate::exit::{Failure, Result};
use crate::output;
use crate::pipe::{ClosedFlag, StdoutPipe};
use crate::progress::remark;
use crate::session::{Context, unexpected};

/// Writes a range of a file to standard output.
pub(crate) async fn run(context: &Context, args: CatArgs) -> Result<()> {
    let closed = ClosedFlag::default();
    let streams = Streams {
        input: None,
        output: Some(Box::new(StdoutPipe::new(closed.clone()))),
    };
    let request = Request::Cat {
        address: args.place.link.to_string(),
        path: args.place.path,
        offset_bytes: args.offset.unwrap_or(0),
        length_bytes: args.length,
        timeout_ms: args.timeout.map(super::millis),
        peers: args.peer,
    };
    let client = context.networked(args.network).await?;
    let outcome = write(context, &client, request, streams).await;
    client.close().await;
    match outcome {
        Err(_) if closed.is_set() => Err(Failure::OutputClosed),
        outcome => outcome,
    }
}

async fn write(
    context: &Context,
    client: &Client,
    request: Request,
    streams: Streams,
) -> Result<()> {
    let response = context.ask(client, request, streams).await?;
    if !matches!(response, Response::Cat(_)) {
        return Err(unexpected());
    }
    if context.json {
        remark(&output::json_lines(&response)?); // standard output has the bytes
    }
    Ok(())
}

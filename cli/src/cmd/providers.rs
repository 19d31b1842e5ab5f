//! `casnode providers`.

use casnode_node::Streams;
use casnode_node::api::{ErrorKind, Request, Response};

use crate::args::ProvidersArgs;
use crate::exit::{Failure, Result};
use crate::output;
use crate::session::{Context, unexpected};

/// Asks the DHT who has a key. Nobody is an answer too, with an exit code of its own.
pub(crate) async fn run(context: &Context, args: ProvidersArgs) -> Result<()> {
    let client = context.networked(args.network).await?;
    let timeout_ms = args.timeout.map(super::millis);
    let request = Request::Providers {
        key: args.key.into_string(),
        timeout_ms,
    };
    let response = context.call(client, request, Streams::default()).await?;
    output::print(&response, context.json)?;
    let Response::Providers(report) = response else {
        return Err(unexpected());
    };
    if report.providers.is_empty() {
        return Err(Failure::new(
            ErrorKind::NotFound,
            "nobody announces this key",
            format!("{} peers were asked", report.asked_peers),
            "chunks are announced in the background after `store`: `casnode status` on the storing node shows how many are to go",
        ));
    }
    Ok(())
}

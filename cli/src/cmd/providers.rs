//! `casnode providers`.

use casnode_node::Streams;
use casnode_node::api::Request;

use crate::args::ProvidersArgs;
use crate::exit::Result;
use crate::output;
use crate::session::Context;

/// Asks the DHT who has a key. That nobody has it is the node's error, with an exit code of its own.
pub(crate) async fn run(context: &Context, args: ProvidersArgs) -> Result<()> {
    let client = context.networked(args.network).await?;
    let timeout_ms = args.timeout.map(super::millis);
    let request = Request::Providers {
        key: args.key.into_string(),
        timeout_ms,
    };
    let response = context.call(client, request, Streams::default()).await?;
    output::print(&response, context.json)
}

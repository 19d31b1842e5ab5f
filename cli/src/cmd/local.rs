//! `casnode ls`, `stat` and `rm`: what needs the store and no network.

use casnode_node::Streams;
use casnode_node::api::Request;

use crate::address::Address;
use crate::exit::Result;
use crate::output;
use crate::session::Context;

/// Lists the files that are here.
pub(crate) async fn ls(context: &Context) -> Result<()> {
    ask(context, Request::Ls).await
}

/// Shows one file's facts.
pub(crate) async fn stat(context: &Context, address: Address) -> Result<()> {
    ask(
        context,
        Request::Stat {
            address: address.into_string(),
        },
    )
    .await
}

/// Removes a file.
pub(crate) async fn rm(context: &Context, address: Address) -> Result<()> {
    ask(
        context,
        Request::Rm {
            address: address.into_string(),
        },
    )
    .await
}

async fn ask(context: &Context, request: Request) -> Result<()> {
    let client = context.store_only().await?;
    let response = context.call(client, request, Streams::default()).await?;
    output::print(&response, context.json)
}

//! `casnode ls`, `stat`, `rm`, `pin`, `gc` and `du`: what needs the store and no network.

use casnode_node::Streams;
use casnode_node::api::Request;

use crate::address::Address;
use crate::args::PinCommand;
use crate::exit::Result;
use crate::output;
use crate::session::Context;

/// Lists the files that are here.
pub(crate) async fn ls(context: &Context, all: bool) -> Result<()> {
    context.warn_of_network("without an address `ls` joins no network");
    let request = if all { Request::LsAll } else { Request::Ls };
    ask(context, request).await
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

/// Pins a file, lets one go, or lists the pinned ones.
pub(crate) async fn pin(context: &Context, what: PinCommand) -> Result<()> {
    let request = match what {
        PinCommand::Add(one) => Request::PinAdd {
            address: one.address.into_string(),
        },
        PinCommand::Rm(one) => Request::PinRm {
            address: one.address.into_string(),
        },
        PinCommand::Ls => Request::PinLs,
    };
    ask(context, request).await
}

/// Gives back the space of what nothing needs.
pub(crate) async fn gc(context: &Context, dry_run: bool) -> Result<()> {
    ask(context, Request::Gc { dry_run }).await
}

/// Shows what files occupy.
pub(crate) async fn du(context: &Context, address: Option<Address>) -> Result<()> {
    let address = address.map(Address::into_string);
    ask(context, Request::Du { address }).await
}

async fn ask(context: &Context, request: Request) -> Result<()> {
    let client = context.store_only().await?;
    let response = context.call(client, request, Streams::default()).await?;
    output::print(&response, context.json)
}

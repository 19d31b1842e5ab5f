//! `casnode provide`: how announcing stands, and doing it again at once.

use casnode_node::Streams;
use casnode_node::api::{Request, Response};

use crate::address::Address;
use crate::args::{ProvideCommand, ProvideNowArgs};
use crate::exit::Result;
use crate::output;
use crate::progress::remark;
use crate::session::Context;

pub(crate) async fn run(context: &Context, command: ProvideCommand) -> Result<()> {
    match command {
        ProvideCommand::Status(which) => status(context, which.address).await,
        ProvideCommand::Now(args) => now(context, args).await,
    }
}

/// Shows how announcing stands. That it falls behind is a warning and no failure: the question was answered.
async fn status(context: &Context, address: Option<Address>) -> Result<()> {
    let client = context.store_only().await?;
    let address = address.map(Address::into_string);
    let request = Request::ProvideStatus { address };
    let response = context.call(client, request, Streams::default()).await?;
    output::print(&response, context.json)?;
    if let Response::ProvideStatus(report) = &response {
        remark(&output::provide_warning(report));
    }
    Ok(())
}

/// Announces now. A node for the length of the command has to wait: nobody would go on with it.
async fn now(context: &Context, args: ProvideNowArgs) -> Result<()> {
    let client = context.networked(args.network).await?;
    let request = Request::ProvideNow {
        address: args.address.map(Address::into_string),
        wait: args.wait || !client.is_daemon(),
        timeout_ms: args.timeout.map(super::millis),
    };
    let response = context.call(client, request, Streams::default()).await?;
    output::print(&response, context.json)
}

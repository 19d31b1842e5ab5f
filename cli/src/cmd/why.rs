//! `casnode why`: what stands between this node and a file.

use casnode_node::Streams;
use casnode_node::api::{Request, Response, WhyCause};

use crate::args::WhyArgs;
use crate::exit::{Failure, Result, after};
use crate::output;
use crate::session::{Context, unexpected};

/// Traces a retrieval. The exit code is the one that `get` would end with.
pub(crate) async fn run(context: &Context, args: WhyArgs) -> Result<()> {
    let client = context.networked(args.network).await?;
    let request = Request::Why {
        address: args.address.to_string(),
        timeout_ms: args.timeout.map(super::millis),
        peers: args.peer,
    };
    let response = context.call(client, request, Streams::default()).await?;
    let Response::Why(report) = &response else {
        return Err(unexpected());
    };
    let outcome = match code(report.cause) {
        0 => Ok(()),
        code => Err(Failure::Told(code)),
    };
    after(output::print(&response, context.json), outcome)
}

/// The exit code of a cause.
fn code(cause: WhyCause) -> u8 {
    match cause {
        WhyCause::None | WhyCause::Here => 0,
        WhyCause::NoNetwork
        | WhyCause::NoPeers
        | WhyCause::Unknown
        | WhyCause::NoProviders
        | WhyCause::ProvidersDown
        | WhyCause::ProvidersLack => 10,
        WhyCause::ProvidersBusy | WhyCause::ProvidersSilent | WhyCause::OutOfTime => 11,
        WhyCause::ProvidersLie | WhyCause::WrongSize => 12,
        WhyCause::NoRoom => 13,
        _ => 1,
    }
}

//! `casnode verify`.

use casnode_node::Streams;
use casnode_node::api::{ErrorKind, Request, Response, VerifyReport};

use crate::address::Address;
use crate::args::VerifyArgs;
use crate::exit::{Failure, Result, after};
use crate::output;
use crate::session::{Context, unexpected};

/// Checks what is stored. The report is printed in any case; damage that is still there is then an error.
pub(crate) async fn run(context: &Context, args: VerifyArgs) -> Result<()> {
    let client = if args.repair {
        context.networked(args.network).await?
    } else {
        context.warn_of_network("without --repair `verify` joins no network");
        context.store_only().await?
    };
    let request = Request::Verify {
        address: args.address.map(Address::into_string),
        repair: args.repair,
    };
    let response = context.call(client, request, Streams::default()).await?;
    let Response::Verify(report) = &response else {
        return Err(unexpected());
    };
    let outcome = match report.is_whole() {
        true => Ok(()),
        false => Err(damage(report, args.repair)),
    };
    after(output::print(&response, context.json), outcome)
}

fn damage(report: &VerifyReport, repair: bool) -> Failure {
    let files = output::count(report.unrepaired_files, "file");
    let next = if repair {
        "run it again when a peer that has them can be reached, or store the files again"
    } else {
        "fetch what is damaged again with `casnode verify --repair`, or store the files again"
    };
    Failure::new(
        ErrorKind::Integrity,
        format!("{files} of this store cannot be read whole"),
        format!(
            "{} found damaged, {} missing now",
            output::were(report.bad_chunks, "chunk"),
            report.missing_chunks
        ),
        next,
    )
}

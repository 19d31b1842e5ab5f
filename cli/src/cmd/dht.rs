//! `casnode dht`: looking at the DHT itself.

use casnode_node::Streams;
use casnode_node::api::{DhtLookupReport, DhtMode, DhtPutTestReport, ErrorKind, Request, Response};

use crate::args::{DhtCommand, KeyArgs, NetworkArgs, PutTestArgs};
use crate::exit::{Failure, Result};
use crate::output;
use crate::session::{Context, unexpected};

pub(crate) async fn run(context: &Context, command: DhtCommand) -> Result<()> {
    match command {
        DhtCommand::Lookup(KeyArgs {
            key,
            timeout,
            network,
        }) => {
            let request = Request::DhtLookup {
                key: key.into_string(),
                timeout_ms: timeout.map(super::millis),
            };
            lookup(context, request, network).await
        }
        DhtCommand::Get(KeyArgs {
            key,
            timeout,
            network,
        }) => {
            let request = Request::DhtGet {
                key: key.into_string(),
                timeout_ms: timeout.map(super::millis),
            };
            ask(context, request, network).await
        }
        DhtCommand::PutTest(args) => put_test(context, args).await,
        DhtCommand::Mode { mode } => self::mode(context, mode).await,
    }
}

async fn ask(context: &Context, request: Request, network: NetworkArgs) -> Result<()> {
    let client = context.networked(network).await?;
    let response = context.call(client, request, Streams::default()).await?;
    output::print(&response, context.json)
}

/// Shows the peers closest to a key. What was found is printed in any case; that it is not all, or nobody, is then
/// an error.
async fn lookup(context: &Context, request: Request, network: NetworkArgs) -> Result<()> {
    let client = context.networked(network).await?;
    let response = context.call(client, request, Streams::default()).await?;
    let Response::DhtLookup(report) = &response else {
        return Err(unexpected());
    };
    output::print(&response, context.json)?;
    cut_off(report).map_or(Ok(()), Err)
}

/// Why a lookup's answer is not the whole one.
fn cut_off(report: &DhtLookupReport) -> Option<Failure> {
    let asked = output::count(report.asked_peers, "request");
    if !report.complete {
        return Some(Failure::new(
            ErrorKind::TimedOut,
            format!("the lookup of {} was cut off", report.key),
            format!("its time was up after {asked}"),
            "try again with a longer --timeout",
        ));
    }
    report.peers.is_empty().then(|| {
        Failure::new(
            ErrorKind::NotFound,
            format!("no peer is known to be close to {}", report.key),
            format!("{asked} sent, and nobody was found that serves the DHT"),
            "see `casnode peers`: a network needs one reachable node in mode auto or server",
        )
    })
}

/// Puts records and reads them back. The report is printed in any case; what is missing in it is then an error.
async fn put_test(context: &Context, args: PutTestArgs) -> Result<()> {
    let client = context.networked(args.network).await?;
    let request = Request::DhtPutTest {
        timeout_ms: args.timeout.map(super::millis),
    };
    let response = context.call(client, request, Streams::default()).await?;
    let Response::DhtPutTest(report) = &response else {
        return Err(unexpected());
    };
    output::print(&response, context.json)?;
    if report.ok {
        return Ok(());
    }
    Err(missing(report))
}

/// The first step that failed, and what to do about it.
fn missing(report: &DhtPutTestReport) -> Failure {
    let asked = output::count(report.closest_peers, "closest peer");
    let (why, next) = if report.closest_peers == 0 {
        (
            "the lookup found nobody that serves the DHT".to_owned(),
            "see `casnode peers`: a network needs one reachable node in mode auto or server",
        )
    } else if report.provider_copies == 0 || report.value_copies == 0 {
        let which = match (report.provider_copies, report.value_copies) {
            (0, 0) => "took the provider record, or answered the value record",
            (0, _) => "took the provider record",
            _ => "answered the value record",
        };
        (
            format!("none of the {asked} {which}"),
            "try again; if it stays so, they are full or speak another version: see `casnode peers` for their software",
        )
    } else {
        let providers = output::count(report.provider_copies, "peer");
        let values = output::count(report.value_copies, "peer");
        let why = match (report.provider_read, report.value_read) {
            (0, false) => format!(
                "neither record was read back, although {providers} took the provider record and {values} answered the value record"
            ),
            (0, true) => {
                format!("the provider record was not read back, although {providers} took it")
            }
            _ => format!("the value record was not read back, although {values} answered it"),
        };
        (
            why,
            "try again with a longer --timeout; if it stays so, look at the log with -v",
        )
    };
    Failure::new(
        ErrorKind::Failure,
        "no record could be put to the DHT and read back whole",
        why,
        next,
    )
}

/// Shows or changes the daemon's part in the DHT.
async fn mode(context: &Context, mode: Option<DhtMode>) -> Result<()> {
    let client = super::state::require_daemon(context, "and a command's own node is a client");
    let request = Request::DhtMode { mode };
    let response = context
        .call(client.await?, request, Streams::default())
        .await?;
    output::print(&response, context.json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_that_is_cut_off_or_finds_nobody_is_a_failure() {
        use casnode_node::api::ClosePeer;

        let report = |found: usize, complete| DhtLookupReport {
            key: "ab".repeat(32),
            peers: vec![
                ClosePeer {
                    peer: "12D3".to_owned(),
                    shared_bits: 7,
                    addrs: Vec::new(),
                };
                found
            ],
            asked_peers: 3,
            complete,
            took_ms: 12,
        };
        let code = |report| cut_off(&report).map_or(0, |failure| failure.code());
        assert_eq!(code(report(2, true)), 0);
        assert_eq!(code(report(2, false)), 11);
        assert_eq!(code(report(0, false)), 11);
        assert_eq!(code(report(0, true)), 10);
    }

    #[test]
    fn the_first_step_that_failed_is_told() {
        let report = |closest, provided, valued, read, back| DhtPutTestReport {
            key: "ab".repeat(32),
            closest_peers: closest,
            provider_copies: provided,
            value_copies: valued,
            provider_read: read,
            value_read: back,
            lookup_ms: 1,
            put_ms: 1,
            read_ms: 1,
            ok: false,
        };
        for (report, part) in [
            (report(0, 0, 0, 0, false), "found nobody"),
            (
                report(3, 0, 2, 0, true),
                "3 closest peers took the provider record",
            ),
            (report(3, 3, 0, 3, false), "answered the value record"),
            (
                report(5, 3, 1, 0, false),
                "3 peers took the provider record and 1 peer answered",
            ),
            (
                report(5, 3, 4, 0, true),
                "provider record was not read back, although 3 peers took",
            ),
            (
                report(5, 3, 4, 2, false),
                "value record was not read back, although 4 peers answered",
            ),
        ] {
            let failure = missing(&report);
            assert_eq!(failure.code(), 1);
            let mut told = Vec::new();
            failure.report(&mut told);
            let told = String::from_utf8(told).unwrap();
            assert!(told.contains(part) && told.contains("next:"), "{told}");
        }
    }
}

//! What each call does.

mod cat;
mod collect;
mod dht;
mod files;
mod get;
mod get_many;
mod kept;
mod limits;
mod metrics;
mod network;
mod pins;
mod provide;
mod room;
mod seed;
mod store;
mod swarm;
mod tree;
mod verify;

use std::{str::FromStr, sync::Arc, time::Duration};

use casnode_cas::{Address, Claim, StoreError};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{ApiError, Caller, ErrorKind, Outcome, Request, Response, events::EventSink},
    client::Streams,
    doctor,
    link::{Link, LinkError, is_link},
    node::{Node, multiaddrs},
    tasks::blocking,
    why,
};

/// How much is shown of a text that is no address.
const MAX_SHOWN_CHARS: usize = 200;

/// Carries out one call.
pub(crate) async fn execute(
    node: &Arc<Node>,
    request: Request,
    caller: Caller,
    streams: Streams,
    events: EventSink,
    cancel: CancellationToken,
) -> Outcome {
    match request {
        Request::Store {
            source,
            name,
            chunker,
            pinned,
            in_place,
        } => {
            let call = store::StoreCall {
                source,
                name,
                chunker,
                pinned,
                in_place,
            };
            store::store(node, call, streams, &events, cancel)
                .await
                .map(Response::Store)
        }
        Request::StoreMany {
            paths,
            chunker,
            pinned,
        } => {
            let call = store::ManyCall {
                paths,
                chunker,
                pinned,
            };
            store::store_many(node, call, &events, cancel)
                .await
                .map(|outcomes| Response::StoreMany { outcomes })
        }
        Request::StoreTree {
            path,
            name,
            include,
            exclude,
            chunker,
            pinned,
        } => {
            let call = tree::StoreCall {
                path,
                name,
                include,
                exclude,
                chunker,
                pinned,
            };
            let stored = tree::store_tree(node, call, &events, cancel).await;
            stored.map(Response::StoreTree)
        }
        Request::Get {
            address,
            output,
            timeout_ms,
            peers,
            keep,
            pin,
            seed,
            swarm,
        } => {
            let call = get::GetCall {
                address,
                output,
                timeout_ms,
                peers,
                keep,
                claim: Claim::own(pin),
                seed,
                swarm,
                mode: caller.umask.map(|umask| 0o666 & !umask),
                known: Vec::new(),
                is_member: false,
            };
            get::get(node, call, streams, events, cancel).await
        }
        Request::GetTree {
            address,
            path,
            include,
            exclude,
            output,
            force,
            timeout_ms,
            peers,
            keep,
            pin,
            seed,
        } => {
            let call = tree::GetTreeCall {
                address,
                path,
                include,
                exclude,
                output,
                force,
                timeout_ms,
                peers,
                keep,
                pin,
                seed,
                mode: caller.umask.map(|umask| 0o666 & !umask),
            };
            tree::get_tree(node, call, streams, events, cancel).await
        }
        Request::LsTree {
            address,
            path,
            recursive,
            skip,
            timeout_ms,
            peers,
        } => {
            let call = tree::LsCall {
                address,
                path,
                recursive,
                skip,
                timeout_ms,
                peers,
            };
            let page = tree::ls_tree(node, call, events, cancel).await;
            page.map(Response::LsTree)
        }
        Request::Cat {
            address,
            path,
            offset_bytes,
            length_bytes,
            timeout_ms,
            peers,
        } => {
            let call = cat::CatCall {
                address,
                path,
                offset_bytes,
                length_bytes,
                timeout_ms,
                peers,
            };
            cat::cat(node, call, streams, &events, cancel)
                .await
                .map(Response::Cat)
        }
        Request::GetMany {
            files,
            folder,
            force,
            timeout_ms,
            peers,
            keep,
            pin,
            seed,
        } => {
            let call = get_many::ManyCall {
                files,
                folder,
                force,
                timeout_ms,
                peers,
                keep,
                pin,
                seed,
                mode: caller.umask.map(|umask| 0o666 & !umask),
            };
            get_many::get_many(node, call, events, cancel)
                .await
                .map(Response::GetMany)
        }
        Request::Linger { address } => seed::linger(node, &address, &events).await,
        Request::Ls => files::ls(node, false, &events).await,
        Request::LsAll => files::ls(node, true, &events).await,
        Request::Stat { address } => files::stat(node, &address, &events).await,
        Request::Rm { address } => files::rm(node, &address).await,
        Request::PinAdd { address } => pins::set(node, &address, true).await,
        Request::PinRm { address } => pins::set(node, &address, false).await,
        Request::PinLs => pins::ls(node).await,
        Request::Gc { dry_run: true } => collect::plan(node).await,
        Request::Gc { dry_run: false } => {
            let collected = collect::gc(node, events, cancel).await;
            collected.map(Response::Gc)
        }
        Request::Du { address } => collect::du(node, address.as_deref()).await,
        Request::Verify { address, repair } => {
            let verified = verify::verify(node, address.as_deref(), repair, events, cancel).await;
            verified.map(Response::Verify)
        }
        Request::Providers { key, timeout_ms } => network::providers(node, &key, timeout_ms).await,
        Request::Why {
            address,
            timeout_ms,
            peers,
        } => {
            let link = parse_link(&address)?;
            let mut hints = multiaddrs("--peer", &peers)?;
            hints.extend(link.peers().cloned());
            let options = why::WhyOptions {
                link,
                hints,
                timeout: timeout_ms.map(Duration::from_millis),
            };
            let traced = why::why(node, options, events, cancel).await;
            traced.map(Response::Why)
        }
        Request::Doctor { only } => {
            let checks = doctor::doctor(node, only).await;
            checks.map(|checks| Response::Doctor { checks })
        }
        Request::ProvideStatus { address } => provide::status(node, address.as_deref()).await,
        Request::ProvideNow {
            address,
            wait,
            timeout_ms,
        } => {
            let call = provide::NowCall {
                address,
                wait,
                timeout_ms,
            };
            provide::now(node, call, &events)
                .await
                .map(Response::ProvideNow)
        }
        Request::DhtLookup { key, timeout_ms } => dht::lookup(node, &key, timeout_ms).await,
        Request::DhtGet { key, timeout_ms } => dht::get(node, &key, timeout_ms).await,
        Request::DhtPutTest { timeout_ms } => dht::put_test(node, timeout_ms).await,
        Request::DhtMode { mode } => dht::mode(node, mode).await,
        Request::Limits { change } => limits::limits(node, change).await,
        Request::Metrics => metrics::metrics(node).await,
        Request::Status => network::status(node).await.map(Response::Status),
        Request::SwarmStatus { address } => swarm::status(node, &address).await,
        Request::Peers => Ok(network::peers(node).await),
    }
}

pub(crate) use dht::is_serving;
pub(crate) use files::source_state;
pub(crate) use limits::change_limits;
pub(crate) use metrics::all as all_metrics;
pub(crate) use network::status;
pub(crate) use provide::report_of as provide_report;

/// Notes that a file was used: what was used last is the last to make room.
async fn touch(node: &Node, address: Address) {
    let store = node.store.clone();
    match blocking(move || store.touch(&address)).await {
        Ok(Ok(()) | Err(StoreError::ReadOnly { .. })) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the use of a file was not noted"),
        Err(error) => tracing::debug!(%error, "the use of a file was not noted"),
    }
}

/// Reads a link, or an address alone, that a person wrote.
fn parse_link(text: &str) -> Result<Link, ApiError> {
    if !is_link(text) {
        return parse("an address", text).map(|address: Address| address.into());
    }
    text.parse().map_err(|error: LinkError| {
        let shown: String = text.chars().take(MAX_SHOWN_CHARS).collect();
        ApiError::new(
            ErrorKind::Usage,
            format!("{shown} is not a link"),
            error.to_string(),
            "copy it whole as `casnode link` printed it, or write its 64 hex digits alone",
        )
    })
}

/// Parses a hash that a person wrote; of a link, the address.
fn parse<T>(what: &str, text: &str) -> Result<T, ApiError>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    if is_link(text) {
        let address = parse_link(text)?.address().to_string();
        return parse(what, &address);
    }
    text.parse().map_err(|error: T::Err| {
        let shown: String = text.chars().take(MAX_SHOWN_CHARS).collect();
        ApiError::new(
            ErrorKind::Usage,
            format!("{shown} is not {what}"),
            error.to_string(),
            "write the 64 hex digits that `casnode store` or `b3sum` printed",
        )
    })
}

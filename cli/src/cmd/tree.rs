//! Directories: `casnode store` of a folder, `casnode get` of a directory, `casnode ls` of what is in one.

use std::ffi::OsString;
use std::path::Path;

use casnode_node::api::{
    ErrorKind, GetTreeReport, Keep, Request, Response, StoreTreeReport, TreeOutput,
};
use casnode_node::{Client, SeedPolicy, Streams};

use super::{get, link};
use crate::address::Place;
use crate::args::{GetArgs, LsArgs, StoreArgs};
use crate::exit::{Failure, PARTIAL, Result, after};
use crate::output;
use crate::pipe::ClosedFlag;
use crate::progress::remark;
use crate::session::{Context, absolute, unexpected};

/// Stores a folder.
pub(super) async fn store(
    context: &Context,
    client: &Client,
    args: &StoreArgs,
    path: &OsString,
) -> Result<StoreTreeReport> {
    let request = Request::StoreTree {
        path: absolute(Path::new(path))?.into_os_string(),
        name: args.name.clone(),
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        chunker: args.chunker.into(),
        pinned: !args.no_pin,
    };
    match context.ask(client, request, Streams::default()).await? {
        Response::StoreTree(report) => Ok(report),
        _ => Err(unexpected()),
    }
}

/// Tells what became of a folder; an error where something of it was left out.
pub(super) async fn print_stored(
    context: &Context,
    client: &Client,
    args: &StoreArgs,
    report: StoreTreeReport,
) -> Result<()> {
    let outcome = whole_but_for(report.left_out);
    remark(&output::left_out(&report));
    context.remark(&output::store_tree_summary(&report));
    let told = if args.link {
        let (address, name) = (&report.address, report.name.as_deref());
        let link = link::make(context, client, address, name, report.listing_bytes).await?;
        link::print(context, &link, args.qr)
    } else {
        output::print(&Response::StoreTree(report), context.json)
    };
    after(told, outcome)
}

/// Fetches a directory, or a part of it.
pub(super) async fn get(
    context: &Context,
    client: &Client,
    place: Place,
    args: &GetArgs,
) -> Result<()> {
    if args.swarm.is_some() {
        return Err(has_no_swarm());
    }
    let output = destination(args.output.as_ref())?;
    let to_stdout = output == TreeOutput::Stream;
    let keep = get::keep(args);
    if to_stdout && matches!(keep, Keep::InPlace | Keep::No) {
        return Err(get::needs_a_file(keep));
    }
    if !client.is_daemon() && args.seed.is_some_and(|seed| seed != SeedPolicy::None) {
        return Err(needs_a_daemon());
    }
    let closed = ClosedFlag::default();
    let request = Request::GetTree {
        address: place.link.to_string(),
        path: place.path,
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        output,
        force: args.force,
        timeout_ms: args.timeout.map(super::millis),
        peers: args.peer.clone(),
        keep,
        pin: args.pin,
        seed: args.seed.map(|seed| seed.to_string()),
    };
    let streams = get::stdout_streams(to_stdout, &closed);
    let response = context.ask(client, request, streams).await;
    match response.map_err(|failure| get::explain(failure, &closed))? {
        Response::GetTree(report) => print_made(context, report),
        Response::Get(report) => get::tell(context, &report, to_stdout),
        _ => Err(unexpected()),
    }
}

/// Tells what was made of a directory; an error where something is missing.
fn print_made(context: &Context, report: GetTreeReport) -> Result<()> {
    let outcome = whole_but_for(report.missing);
    remark(&output::not_made(&report));
    context.remark(&output::get_tree_summary(&report));
    context.remark(&output::many_kept_remark(report.kept_in_place));
    let told = output::print(&Response::GetTree(report), context.json);
    after(told, outcome)
}

/// How a command ends after which so much of a directory is missing.
fn whole_but_for(missing: u64) -> Result<()> {
    match missing {
        0 => Ok(()),
        _ => Err(Failure::Told(PARTIAL)),
    }
}

/// Lists what is in a directory.
pub(super) async fn ls(context: &Context, args: LsArgs) -> Result<()> {
    let Some(place) = args.place else {
        return Err(unexpected());
    };
    let client = context.networked(args.network).await?;
    let (address, path) = (place.link.to_string(), place.path);
    let mut next = Some(0);
    let mut outcome = Ok(());
    while let Some(skip) = next.take() {
        let request = Request::LsTree {
            address: address.clone(),
            path: path.clone(),
            recursive: args.recursive,
            skip,
            timeout_ms: args.timeout.map(super::millis),
            peers: args.peer.clone(),
        };
        let page = context.ask(&client, request, Streams::default()).await;
        outcome = page.and_then(|page| {
            let Response::LsTree(listed) = &page else {
                return Err(unexpected());
            };
            next = listed.next;
            output::print(&page, context.json)
        });
        if outcome.is_err() {
            break;
        }
    }
    client.close().await;
    outcome
}

/// Where a directory, or a part of it, goes.
fn destination(given: Option<&OsString>) -> Result<TreeOutput> {
    Ok(match given {
        None => TreeOutput::In(absolute(Path::new("."))?.into_os_string()),
        Some(given) if given == "-" => TreeOutput::Stream,
        Some(given) => TreeOutput::At(absolute(Path::new(given))?.into_os_string()),
    })
}

fn has_no_swarm() -> Failure {
    Failure::new(
        ErrorKind::Usage,
        "--swarm does not go with a directory, nor with what is in one",
        "its files are fetched many at a time, in swarms that are as the node was told",
        "leave --swarm out; `casnode daemon --swarm` is for all files, and a file of its own address may have it",
    )
}

fn needs_a_daemon() -> Failure {
    Failure::new(
        ErrorKind::Usage,
        "--seed does not go with a directory where no daemon runs",
        "its files are served by a daemon, and the command ends when they are there",
        "start `casnode daemon` on this data directory, or leave --seed out",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_the_folder_itself_and_nothing_is_a_folder_in_this_one() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            destination(None).unwrap(),
            TreeOutput::In(here.clone().into_os_string())
        );
        for given in ["x", "x/"] {
            let TreeOutput::At(path) = destination(Some(&given.into())).unwrap() else {
                panic!("{given}")
            };
            assert_eq!(Path::new(&path), here.join("x"));
        }
        assert_eq!(destination(Some(&"-".into())).unwrap(), TreeOutput::Stream);
    }
}

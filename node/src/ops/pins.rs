//! `pin add`, `pin rm`, `pin ls`: what is kept whatever is collected or has to make room.

use std::sync::Arc;

use casnode_cas::Address;

use super::files::{infos, not_here, on_store};
use crate::{
    api::{Outcome, PinReport, Response},
    node::Node,
};

pub(super) async fn set(node: &Arc<Node>, address: &str, pinned: bool) -> Outcome {
    let address: Address = super::parse("an address", address)?;
    let entry = on_store(node, move |store| store.set_pinned(&address, pinned)).await?;
    let entry = entry.ok_or_else(|| not_here(&address))?;
    Ok(Response::Pin(PinReport {
        address: address.to_string(),
        pinned: entry.is_pinned(),
        name: entry.name,
    }))
}

pub(super) async fn ls(node: &Arc<Node>) -> Outcome {
    let files = on_store(node, |store| {
        let mut files = store.files()?;
        files.retain(|file| file.is_pinned());
        infos(store, files)
    });
    Ok(Response::Ls {
        files: files.await?,
    })
}

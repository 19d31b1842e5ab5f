//! Having a directory's listing: from the store, else fetched as a file is.

use std::{sync::Arc, time::Instant};

use casnode_cas::{Address, FileState, Listing, MAX_LISTING_BYTES, Manifest, Store, StoreError};
use casnode_dht::{Multiaddr, PeerId};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{ApiError, ErrorKind, ProviderUse, events::EventSink},
    clock,
    download::{self, GetOptions, Stay, Target, Terms},
    errors,
    node::Node,
    tasks::blocking,
};

/// How a listing is to be had.
pub(crate) struct Wanted<'a> {
    pub(crate) address: Address,
    pub(crate) deadline: Option<Instant>,
    pub(crate) hints: &'a [Multiaddr],
    /// Its length, where somebody said it.
    pub(crate) size_bytes: Option<u64>,
    pub(crate) events: &'a EventSink,
    pub(crate) cancel: &'a CancellationToken,
}

/// A listing, and how it came.
pub(crate) struct Had {
    pub(crate) listing: Listing,
    /// It was not here before.
    pub(crate) is_new: bool,
    /// Who sent it.
    pub(crate) providers: Vec<ProviderUse>,
}

impl Had {
    /// Those who sent it, who probably have the files, too.
    pub(crate) fn senders(&self) -> Vec<PeerId> {
        let senders = self.providers.iter().filter(|used| used.bytes > 0);
        senders.filter_map(|used| used.peer.parse().ok()).collect()
    }
}

/// The listing of a directory. It is kept in the store.
///
/// # Errors
/// What the download says; `Usage` for a file that is no directory.
pub(crate) async fn have(node: &Arc<Node>, wanted: Wanted<'_>) -> Result<Had, ApiError> {
    let address = wanted.address;
    if let Some(found) = stored(node, address).await? {
        return Ok(Had {
            listing: found?,
            is_new: false,
            providers: Vec::new(),
        });
    }
    let left = |at: Instant| at.saturating_duration_since(clock::now());
    let options = GetOptions {
        address,
        target: Target::Keep,
        timeout: wanted.deadline.map(left),
        hints: wanted.hints.to_vec(),
        name: None,
        size_bytes: wanted.size_bytes,
        output: None,
        mode: None,
        stay: Stay::default(),
        terms: Terms {
            max_bytes: Some(MAX_LISTING_BYTES as u64),
            ..Terms::default()
        },
    };
    let (events, cancel) = (wanted.events.clone(), wanted.cancel.clone());
    let report = download::get(node, options, events, cancel).await?;
    match stored(node, address).await? {
        Some(found) => Ok(Had {
            listing: found?,
            is_new: true,
            providers: report.providers,
        }),
        None => Err(ApiError::new(
            ErrorKind::Partial,
            format!("the directory {address} could not be read"),
            "its listing was fetched, and is not here any more",
            "run the same command again",
        )),
    }
}

/// Whether a file that is whole in the store is a directory.
pub(crate) async fn is_directory(node: &Arc<Node>, address: Address) -> Result<bool, ApiError> {
    let store = node.store.clone();
    let found = blocking(move || read(&store, address)).await;
    let found = found.map_err(errors::panicked)?;
    // What cannot be read is fetched again as a file, which then says what it is.
    Ok(matches!(found, Ok(Some(Ok(_)))))
}

/// The listing, if the file is whole in the store and intact; the inner error says that it is no directory.
async fn stored(
    node: &Arc<Node>,
    address: Address,
) -> Result<Option<Result<Listing, ApiError>>, ApiError> {
    let store = node.store.clone();
    let found = blocking(move || read(&store, address)).await;
    match found.map_err(errors::panicked)? {
        Err(error) if error.is_corruption() => {
            tracing::warn!(%error, "a stored listing is damaged and will be fetched again");
            Ok(None)
        }
        found => found.map_err(|e| errors::store("the directory could not be read", &e)),
    }
}

fn read(store: &Store, address: Address) -> Result<Option<Result<Listing, ApiError>>, StoreError> {
    let whole = store.file(&address)?;
    let Some(entry) = whole.filter(|entry| entry.state == FileState::Complete) else {
        return Ok(None);
    };
    if entry.size_bytes > MAX_LISTING_BYTES as u64 {
        return Ok(Some(Err(errors::no_directory(
            &address,
            "it is larger than any listing",
        ))));
    }
    let Some(manifest) = store.manifest(&address)? else {
        return Ok(None);
    };
    let Some(bytes) = bytes_of(store, &manifest)? else {
        return Ok(None);
    };
    let listing = Listing::decode(&bytes);
    Ok(Some(listing.map_err(|error| {
        errors::no_directory(&address, &errors::chain(&error))
    })))
}

/// The bytes of a file, unless some are not here. Of a file that does not begin as a listing only the beginning.
fn bytes_of(store: &Store, manifest: &Manifest) -> Result<Option<Vec<u8>>, StoreError> {
    let mut bytes = Vec::with_capacity(usize::try_from(manifest.size_bytes()).unwrap_or(0));
    for chunk in manifest.chunks() {
        let Some(part) = store.get(&chunk.hash)? else {
            return Ok(None);
        };
        bytes.extend_from_slice(&part);
        if !Listing::is_listing(&bytes) {
            break;
        }
    }
    Ok(Some(bytes))
}

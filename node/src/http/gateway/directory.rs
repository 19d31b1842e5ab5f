//! What is at a place: a file, a folder of a directory, or a link to another place.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use casnode_cas::{Address, EntryKind, Listing, MAX_LISTING_BYTES, Sub};
use http::StatusCode;
use tokio::sync::Mutex as AsyncMutex;

use super::{
    Gateway,
    failure::Failure,
    in_time, page,
    path::{self, Place},
};
use crate::{read::OpenFile, tree};

/// Longest listing that is shown. Decoded it takes several times that.
const MAX_SHOWN_BYTES: u64 = 16 << 20;

/// Bytes of a listing that tell it from any other file.
const MAGIC_BYTES: u64 = 12;

/// What a folder is shown as, where it has one.
const INDEX: &str = "index.html";

/// What is at a place.
pub(super) enum Found {
    File {
        file: OpenFile,
        address: Address,
        name: Option<String>,
    },
    Folder {
        page: String,
    },
    /// It is at this path.
    Elsewhere {
        path: String,
    },
}

/// Listings that were decoded lately: a page of a directory is followed by what it shows.
#[derive(Default)]
pub(super) struct Listings {
    lately: Mutex<VecDeque<(Address, u64, Arc<Listing>)>>,
    /// One is decoded at a time.
    turn: AsyncMutex<()>,
}

impl Listings {
    fn get(&self, address: &Address) -> Option<Arc<Listing>> {
        let lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lately = lately.iter();
        let found = lately.find(|(of, ..)| of == address);
        found.map(|(.., listing)| listing.clone())
    }

    /// Together they are no longer than the longest that is shown.
    fn put(&self, address: Address, bytes: u64, listing: Arc<Listing>) {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.push_back((address, bytes, listing));
        while lately.iter().map(|(_, bytes, _)| bytes).sum::<u64>() > MAX_SHOWN_BYTES {
            lately.pop_front();
        }
    }
}

impl Gateway {
    /// What is at a place; of a folder the part behind the first `skip` entries.
    pub(super) async fn find(&self, place: &Place, skip: u64) -> Result<Found, Failure> {
        let Place {
            address,
            inside,
            is_folder,
        } = place;
        let listing = match self.listings.get(address) {
            Some(listing) => listing,
            None => {
                let file = self.open(*address).await?;
                match self.listing(&file, address).await? {
                    Some(listing) => listing,
                    None if inside.is_empty() && !is_folder => {
                        let name = file.name().map(str::to_owned);
                        let address = *address;
                        return Ok(Found::File {
                            file,
                            address,
                            name,
                        });
                    }
                    None => return Err(no_directory(address)),
                }
            }
        };
        match listing.under(inside) {
            None => Err(not_in(address)),
            Some(Sub::Entry(_)) if *is_folder => Err(not_in(address)),
            Some(Sub::Folder(_)) if !is_folder => Ok(Found::Elsewhere {
                path: path::of_folder(address, inside),
            }),
            Some(Sub::Entry(entry)) => match &entry.kind {
                EntryKind::File { address, .. } => self.member(*address, inside).await,
                EntryKind::Symlink { target } => match follow(inside, target) {
                    Some(inside) => {
                        let folder = path::of_folder(address, &inside);
                        let is_root = inside.is_empty();
                        let path = folder.strip_suffix('/').filter(|_| !is_root);
                        let path = path.unwrap_or(&folder).to_owned();
                        Ok(Found::Elsewhere { path })
                    }
                    None => Err(leads_out(address)),
                },
                EntryKind::Folder => Err(not_in(address)),
            },
            Some(Sub::Folder(_)) => {
                let index = match inside.as_str() {
                    "" => INDEX.to_owned(),
                    inside => format!("{inside}/{INDEX}"),
                };
                if let Some(Sub::Entry(entry)) = listing.under(&index)
                    && let EntryKind::File { address, .. } = entry.kind
                {
                    return self.member(address, &index).await;
                }
                let (entries, next) = tree::page::page(&listing, inside, false, skip)
                    .ok_or_else(|| not_in(address))?;
                let page = page::of_folder(address, inside, &entries, next);
                Ok(Found::Folder { page })
            }
        }
    }

    async fn member(&self, address: Address, path: &str) -> Result<Found, Failure> {
        let file = self.open(address).await?;
        let name = path.rsplit('/').next().map(str::to_owned);
        Ok(Found::File {
            file,
            address,
            name,
        })
    }

    /// What is in a directory; `None` for any other file. No more than the first bytes of one are read to find that out.
    async fn listing(
        &self,
        file: &OpenFile,
        address: &Address,
    ) -> Result<Option<Arc<Listing>>, Failure> {
        let size_bytes = file.size_bytes();
        if size_bytes < MAGIC_BYTES || size_bytes > MAX_LISTING_BYTES as u64 {
            return Ok(None);
        }
        let begins = in_time(address, file.read_all(0..MAGIC_BYTES)).await?;
        if !Listing::is_listing(&begins) {
            return Ok(None);
        }
        if size_bytes > MAX_SHOWN_BYTES {
            return Err(too_large(address));
        }
        let _turn = self.listings.turn.lock().await;
        if let Some(listing) = self.listings.get(address) {
            return Ok(Some(listing));
        }
        let Some(listing) = in_time(address, file.listing()).await? else {
            return Ok(None);
        };
        let listing = Arc::new(listing);
        self.listings.put(*address, size_bytes, listing.clone());
        Ok(Some(listing))
    }
}

/// Where a link leads, if that is inside its directory.
fn follow(link: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut path: Vec<&str> = link.split('/').collect();
    path.pop();
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(path.pop()?),
            name => path.push(name),
        }
    }
    Some(path.join("/"))
}

fn not_in(address: &Address) -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "there is nothing at this path",
        format!("the directory {address} has no such file or folder"),
        "go up to see what it has",
    )
}

fn no_directory(address: &Address) -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "there is nothing at this path",
        format!("{address} is a file, and has no inside"),
        "leave out what follows the address",
    )
}

fn leads_out(address: &Address) -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "there is nothing at this path",
        format!("this is a link that leads out of the directory {address}"),
        "go up to see what it has",
    )
}

fn too_large(address: &Address) -> Failure {
    Failure::new(
        StatusCode::INSUFFICIENT_STORAGE,
        "the directory is too large to be shown",
        format!("its listing has more than {} MiB", MAX_SHOWN_BYTES >> 20),
        &format!("fetch what you need of it: casnode get {address}/PATH"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_inside_their_directory_alone() {
        for (link, target, leads) in [
            ("a/b", "c", Some("a/c")),
            ("a/b", "../c", Some("c")),
            ("a/b", "..", Some("")),
            ("b", "./x//y/", Some("x/y")),
            ("a/b", "../../c", None),
            ("b", "..", None),
            ("b", "/etc/passwd", None),
            ("a/b", "../../a/c", None),
        ] {
            assert_eq!(follow(link, target).as_deref(), leads, "{link} {target}");
        }
    }

    #[test]
    fn listings_are_kept_up_to_a_bound() {
        let listings = Listings::default();
        let empty = Arc::new(Listing::builder().finish().unwrap());
        let address = |n| Address::from_bytes([n; 32]);
        for n in 0..5 {
            listings.put(address(n), MAX_SHOWN_BYTES / 4, empty.clone());
        }
        assert!(listings.get(&address(0)).is_none());
        assert!((1..5).all(|n| listings.get(&address(n)).is_some()));
        listings.put(address(9), MAX_SHOWN_BYTES + 1, empty);
        assert!((0..=9).all(|n| listings.get(&address(n)).is_none()));
    }
}

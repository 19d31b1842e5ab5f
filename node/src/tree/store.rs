//! Storing a folder: its files first, small ones many at a time, then the listing of them.
//!
//! Everything here blocks.

mod small;
mod tell;

use std::{collections::HashSet, ops::ControlFlow, os::unix::ffi::OsStrExt, path::PathBuf};

use casnode_cas::{
    Address, Chunking, Claim, EntryKind, FileStamp, ImportError, ImportOptions, Imported,
    KnownFile, Listing, ListingError, MAX_LISTING_ENTRIES, MAX_SMALL_FILE_BYTES, Manifest,
    Placement, Store, StoreError, import_file_among, import_reader,
};
use tokio_util::sync::CancellationToken;

use self::{
    small::Small,
    tell::{Tell, looking},
};
use super::{
    Globs,
    faults::Faults,
    plan::stays_inside,
    walk::{Found, Walker, What, interrupted},
};
use crate::{
    api::{ApiError, ErrorKind, TreeFault, events::EventSink},
    errors, room,
};

/// Entries of the folder that are looked up at once: what is known of files that were stored before.
const KNOWN_AT_ONCE: usize = 32_768;

/// Small files that are remembered at once: in the order of their keys more of them are neighbours.
const REMEMBERED_AT_ONCE: usize = 16_384;

/// What is to be stored, and how.
pub(crate) struct Options {
    pub(crate) root: PathBuf,
    pub(crate) name: Option<String>,
    pub(crate) globs: Globs,
    pub(crate) chunking: Chunking,
    pub(crate) pinned: bool,
    /// The node's own folder, which is left out.
    pub(crate) data_dir: PathBuf,
    pub(crate) events: EventSink,
    pub(crate) cancel: CancellationToken,
}

/// A directory that is stored.
pub(crate) struct Stored {
    pub(crate) listing: Listing,
    /// Of the listing.
    pub(crate) manifest: Manifest,
    /// Files that were read, each once, with their lengths.
    pub(crate) entered: Vec<(Address, u64)>,
    pub(crate) new_files: u64,
    pub(crate) new_bytes: u64,
    pub(crate) read_files: u64,
    pub(crate) outward_symlinks: u64,
    pub(crate) faults: Faults,
}

/// Stores a folder. What was stored before a failure stays.
///
/// # Errors
/// When the folder cannot be read or listed, or the store takes no more. A file that cannot be stored is left out.
pub(crate) fn store(store: &Store, options: &Options) -> Result<Stored, ApiError> {
    // Until the directory keeps them.
    let _held = store.hold_members();
    let walk = Walker {
        root: &options.root,
        globs: &options.globs,
        data_dir: &options.data_dir,
        max_entries: MAX_LISTING_ENTRIES,
        cancel: &options.cancel,
    }
    .walk(&mut looking(&options.events))?;
    let mut work = Work {
        store,
        options,
        known: vec![None; walk.entries.len()],
        faults: walk.faults,
        entered: Vec::new(),
        new_files: 0,
        new_bytes: 0,
        read_files: 0,
        tell: Tell::new(options, &walk.entries),
    };
    work.files(&walk.entries)?;
    let outward_symlinks = walk
        .entries
        .iter()
        .filter(|found| found.leads_out())
        .count();
    let listing = work.listing(walk.entries)?;
    let imported = work.enter_listing(&listing)?;
    work.enter_directory(imported.address)?;
    Ok(Stored {
        listing,
        manifest: imported.manifest,
        entered: work.entered,
        new_files: work.new_files,
        new_bytes: work.new_bytes + imported.new_bytes,
        read_files: work.read_files,
        outward_symlinks: outward_symlinks as u64,
        faults: work.faults,
    })
}

impl Found {
    fn leads_out(&self) -> bool {
        matches!(&self.what, What::Symlink { target } if !stays_inside(&self.path, target))
    }

    fn size_bytes(&self) -> u64 {
        match &self.what {
            What::File { stamp, .. } => stamp.identity().size_bytes,
            _ => 0,
        }
    }
}

/// The storing of one folder.
struct Work<'a> {
    store: &'a Store,
    options: &'a Options,
    /// Address and length of each entry that is a file and is stored.
    known: Vec<Option<(Address, u64)>>,
    faults: Faults,
    entered: Vec<(Address, u64)>,
    new_files: u64,
    new_bytes: u64,
    read_files: u64,
    tell: Tell<'a>,
}

impl Work<'_> {
    /// Stores every file.
    fn files(&mut self, entries: &[Found]) -> Result<(), ApiError> {
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for (part, found) in entries.chunks(KNOWN_AT_ONCE).enumerate() {
            if self.options.cancel.is_cancelled() {
                return Err(interrupted());
            }
            for (within, address) in self.unchanged(found)? {
                let at = part * KNOWN_AT_ONCE + within;
                let size_bytes = entries[at].size_bytes();
                if let Some(address) = address {
                    self.known[at] = Some((address, size_bytes));
                    self.tell.done(size_bytes);
                    continue;
                }
                match size_bytes > MAX_SMALL_FILE_BYTES {
                    true => large.push(at),
                    false => small.push(at),
                }
            }
        }
        self.small(entries, &small, &mut large)?;
        let mut sizes = match large.is_empty() {
            true => HashSet::new(),
            false => self.sizes()?,
        };
        for at in large {
            self.large(entries, at, &mut sizes)?;
        }
        Ok(())
    }

    /// The sizes of all larger files that are here.
    fn sizes(&self) -> Result<HashSet<u64>, ApiError> {
        let mut sizes = HashSet::new();
        let visited = self.store.for_each_file(|file| {
            if file.size_bytes > MAX_SMALL_FILE_BYTES {
                sizes.insert(file.size_bytes);
            }
            ControlFlow::Continue(())
        });
        visited.map_err(|e| errors::store("the folder was not stored", &e))?;
        Ok(sizes)
    }

    /// The files among these, by their places, each with its address if it is whole in the store and did not change
    /// since.
    fn unchanged(&self, entries: &[Found]) -> Result<Vec<(usize, Option<Address>)>, ApiError> {
        let files = entries.iter().enumerate().filter_map(|(at, found)| {
            let What::File { stamp, .. } = &found.what else {
                return None;
            };
            Some((at, self.options.root.join(&found.path), *stamp))
        });
        let files: Vec<(usize, PathBuf, FileStamp)> = files.collect();
        let asked = files
            .iter()
            .map(|(_, path, stamp)| (path.as_os_str().as_bytes(), *stamp));
        let known = self.store.known_files(&asked.collect::<Vec<_>>());
        let known = known.map_err(|e| errors::store("the folder was not stored", &e))?;
        Ok(files.iter().map(|(at, ..)| *at).zip(known).collect())
    }

    /// Notes what files were when they were read: the next time they need not be.
    fn remember(&self, entries: &[Found], read: &[(usize, Address)]) {
        let path = |(at, _): &(usize, Address)| self.options.root.join(&entries[*at].path);
        let paths: Vec<PathBuf> = read.iter().map(path).collect();
        let known = read.iter().zip(&paths).filter_map(|((at, address), path)| {
            let What::File { stamp, .. } = &entries[*at].what else {
                return None;
            };
            Some(KnownFile {
                path_key: path.as_os_str().as_bytes(),
                stamp: *stamp,
                address: *address,
            })
        });
        let known: Vec<KnownFile<'_>> = known.collect();
        if let Err(error) = self.store.remember_files(&known) {
            tracing::debug!(%error, "files that were stored are read again the next time");
        }
    }

    /// Stores small files. One that has grown meanwhile is added to `large`.
    fn small(
        &mut self,
        entries: &[Found],
        places: &[usize],
        large: &mut Vec<usize>,
    ) -> Result<(), ApiError> {
        let small = Small {
            store: self.store,
            root: &self.options.root,
            entries,
            cancel: &self.options.cancel,
        };
        let mut read: Vec<(usize, Address)> = Vec::new();
        let stored = small.store(places, &mut |entered| {
            self.new_files += entered.new_files;
            self.new_bytes += entered.new_bytes;
            large.extend(entered.grown);
            for (at, error) in entered.unread {
                self.left_out(&entries[at], &error);
            }
            for (at, address, bytes) in entered.files {
                read.push((at, address));
                self.is_here(at, address, bytes);
            }
            if read.len() >= REMEMBERED_AT_ONCE {
                self.remember(entries, &read);
                read.clear();
            }
            Ok(())
        });
        // Also of what was broken off.
        self.remember(entries, &read);
        stored
    }

    fn large(
        &mut self,
        entries: &[Found],
        at: usize,
        sizes: &mut HashSet<u64>,
    ) -> Result<(), ApiError> {
        let options = ImportOptions {
            chunking: self.options.chunking,
            name: None,
            claim: Claim::Member,
            placement: Placement::Copy,
        };
        let path = self.options.root.join(&entries[at].path);
        let before_bytes = self.tell.done_bytes;
        let made = room::make(self.store, entries[at].size_bytes());
        made.map_err(|e| not_stored(&e))?;
        let tell = &mut self.tell;
        let mut progress = |done_bytes, _| tell.at(before_bytes + done_bytes);
        match import_file_among(self.store, &path, &options, sizes, &mut progress) {
            Ok(imported) => {
                self.tell.done_bytes = before_bytes;
                sizes.insert(imported.bytes);
                if imported.new_chunks > 0 {
                    self.new_files += 1;
                    self.new_bytes += imported.new_bytes;
                }
                self.remember(entries, &[(at, imported.address)]);
                self.is_here(at, imported.address, imported.bytes);
            }
            Err(ImportError::Cancelled) => return Err(interrupted()),
            Err(ImportError::Store(error)) => {
                return Err(not_stored(&error));
            }
            Err(error) => self.left_out(&entries[at], &error),
        }
        Ok(())
    }

    fn is_here(&mut self, at: usize, address: Address, bytes: u64) {
        self.known[at] = Some((address, bytes));
        self.entered.push((address, bytes));
        self.read_files += 1;
        self.tell.done(bytes);
    }

    fn left_out(&mut self, found: &Found, error: &ImportError) {
        let error = errors::import(&found.path, error);
        self.faults.add(TreeFault::of(found.path.clone(), &error));
    }

    /// The listing of what is stored.
    fn listing(&mut self, entries: Vec<Found>) -> Result<Listing, ApiError> {
        let not_listed = |error: &ListingError| {
            ApiError::new(
                ErrorKind::Usage,
                format!("{} was not stored", self.options.root.display()),
                errors::chain(error),
                "store its folders one by one, or leave some of it out with --exclude",
            )
        };
        let mut builder = Listing::builder();
        for (found, known) in entries.into_iter().zip(&self.known) {
            let kind = match (found.what, known) {
                (What::File { executable, .. }, Some((address, bytes))) => EntryKind::File {
                    address: *address,
                    bytes: *bytes,
                    executable,
                },
                (What::File { .. }, None) => continue, // it is told already
                (What::Symlink { target }, _) => EntryKind::Symlink { target },
                (What::EmptyFolder, _) => EntryKind::Folder,
            };
            match builder.push(&found.path, kind) {
                Ok(()) => {}
                Err(error @ (ListingError::TooManyEntries | ListingError::TooLarge)) => {
                    return Err(not_listed(&error));
                }
                Err(error) => self.faults.add(TreeFault {
                    path: found.path,
                    kind: ErrorKind::Failure,
                    why: errors::chain(&error),
                }),
            }
        }
        builder.finish().map_err(|error| not_listed(&error))
    }

    fn enter_directory(&self, address: Address) -> Result<(), ApiError> {
        let not_stored = |error| errors::store("the directory was not stored", &error);
        let entered = self
            .store
            .enter_directory(&address, Claim::own(self.options.pinned));
        match entered.map_err(not_stored)?.missing {
            0 => Ok(()),
            missing => Err(ApiError::new(
                ErrorKind::Partial,
                format!("the directory {address} is not complete"),
                format!("{missing} of its files went while the others were stored"),
                "run the command again",
            )),
        }
    }

    fn enter_listing(&mut self, listing: &Listing) -> Result<Imported, ApiError> {
        let bytes = listing.encode();
        let options = ImportOptions {
            chunking: self.options.chunking,
            name: self.options.name.clone(),
            claim: Claim::own(self.options.pinned),
            placement: Placement::Copy,
        };
        let size = bytes.len() as u64;
        let made = room::make(self.store, size);
        made.map_err(|e| errors::store("the directory was not stored", &e))?;
        let mut go_on = |_, _| match self.options.cancel.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let imported = import_reader(
            self.store,
            &mut &bytes[..],
            Some(size),
            &options,
            &mut go_on,
        );
        imported.map_err(|error| errors::import(&self.options.root.display().to_string(), &error))
    }
}

fn not_stored(error: &StoreError) -> ApiError {
    errors::store("the files were not stored", error)
}

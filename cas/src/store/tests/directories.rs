//! Directories: what they keep, and what goes with them.

mod leftovers;

use super::*;
use crate::directory::{EntryKind, Listing, ListingError};
use crate::store::entry;

fn listing_of(files: &[(&str, Address)]) -> Vec<u8> {
    let mut builder = Listing::builder();
    for (path, address) in files {
        let kind = EntryKind::File {
            address: *address,
            bytes: 100,
            executable: false,
        };
        builder.push(path, kind).unwrap();
    }
    builder.finish().unwrap().encode()
}

fn small(seed: u64) -> SmallFile {
    let bytes = bytes_of(seed, 100);
    SmallFile {
        address: Address::of(&bytes),
        bytes: bytes.into(),
        name: None,
    }
}

fn members(store: &Store, seeds: std::ops::Range<u64>) -> Vec<Address> {
    let files: Vec<SmallFile> = seeds.map(small).collect();
    store.add_small_files(&files, Claim::Member).unwrap();
    files.iter().map(|file| file.address).collect()
}

/// Stores the listing of these files, cut small, without entering it.
fn put_listing(store: &Store, files: &[Address]) -> Address {
    let names: Vec<String> = (0..files.len()).map(|n| format!("f/{n:06}")).collect();
    let listed = names.iter().map(String::as_str).zip(files.iter().copied());
    let bytes = listing_of(&listed.collect::<Vec<_>>());
    let manifest = put_file(store, &bytes);
    store.add_file(&manifest, Some("dir"), Claim::Own).unwrap();
    manifest.address()
}

fn put_dir(store: &Store, files: &[Address]) -> Address {
    let address = put_listing(store, files);
    let entered = store.enter_directory(&address, Claim::Own).unwrap();
    assert!(entered.entry.directory);
    address
}

fn is_here(store: &Store, address: &Address) -> bool {
    store.file(address).unwrap().is_some()
}

#[test]
fn a_directory_goes_with_what_only_it_lists() {
    let store = Store::in_memory().unwrap();
    let files = members(&store, 0..6);
    let (first, second) = (put_dir(&store, &files[..4]), put_dir(&store, &files[3..]));
    // One of its own, too.
    store.claim_file(&files[0], Claim::Own).unwrap().unwrap();
    let size = store.directory_size(&first).unwrap().unwrap();
    assert_eq!((size.files, size.bytes), (4, 400));
    assert_eq!(store.directories_of(&files[3], 9).unwrap().len(), 2);
    assert_eq!(store.directories_of(&files[3], 1).unwrap().len(), 1);
    let removed = store.remove_file(&first).unwrap().unwrap();
    let mut gone = removed.files.clone();
    gone.sort_unstable();
    let mut expected = vec![first, files[1], files[2]];
    expected.sort_unstable();
    assert_eq!(gone, expected);
    assert!(is_here(&store, &files[0]) && is_here(&store, &files[3]));
    assert!(!is_here(&store, &files[1]) && !is_here(&store, &first));
    assert_eq!(store.directory_size(&first).unwrap(), None);
    let removed = store.remove_file(&second).unwrap().unwrap();
    assert_eq!(removed.files.len(), 4);
    store.remove_file(&files[0]).unwrap().unwrap();
    assert_eq!(store.files().unwrap(), []);
    assert_eq!(store.stats().unwrap().chunks, 0);
}

#[test]
fn a_member_is_not_removed_by_itself_and_loses_only_its_own_claim() {
    let store = Store::in_memory().unwrap();
    let files = members(&store, 0..2);
    let directory = put_dir(&store, &files);
    let error = store.remove_file(&files[0]).unwrap_err();
    assert!(
        matches!(error, StoreError::IsMember { address, directory: by } if address == files[0] && by == directory)
    );
    assert!(
        store
            .set_pinned(&files[0], true)
            .unwrap()
            .unwrap()
            .is_pinned()
    );
    let removed = store.remove_file(&files[0]).unwrap().unwrap();
    assert_eq!((removed.kept_by, removed.files.len()), (Some(directory), 0));
    let entry = store.file(&files[0]).unwrap().unwrap();
    assert_eq!(entry.claim, Claim::Member);
    assert!(store.remove_file(&files[0]).is_err());
    // A claim that was never there is not made by letting go of it.
    let entry = store.set_pinned(&files[1], false).unwrap().unwrap();
    assert_eq!(entry.claim, Claim::Member);
}

#[test]
fn a_directory_within_a_directory_stays_as_a_file_of_it() {
    let store = Store::in_memory().unwrap();
    let files = members(&store, 0..2);
    let inner = put_dir(&store, &files[..1]);
    let outer = put_dir(&store, &[inner, files[1]]);
    let removed = store.remove_file(&inner).unwrap().unwrap();
    assert_eq!(
        (removed.kept_by, removed.files),
        (Some(outer), vec![files[0]])
    );
    let entry = store.file(&inner).unwrap().unwrap();
    assert_eq!((entry.claim, entry.directory), (Claim::Member, false));
    assert_eq!(store.remove_file(&outer).unwrap().unwrap().files.len(), 3);
    assert_eq!(store.stats().unwrap().files, 0);
}

#[test]
fn what_is_no_directory_is_not_entered_as_one() {
    let store = Store::in_memory().unwrap();
    let file = small(1);
    let unknown = store.enter_directory(&file.address, Claim::Own);
    assert!(matches!(unknown, Err(StoreError::UnknownFile(_))));
    store
        .add_small_files(std::slice::from_ref(&file), Claim::Own)
        .unwrap();
    let error = store
        .enter_directory(&file.address, Claim::Own)
        .unwrap_err();
    let is_none = |error: &StoreError| {
        matches!(
            error,
            StoreError::NotADirectory {
                source: ListingError::NotAListing,
                ..
            }
        )
    };
    assert!(is_none(&error), "{error}");
    assert!(is_none(&store.listing(&file.address).unwrap_err()));
    assert!(!store.file(&file.address).unwrap().unwrap().directory);
    // One whose bytes are not all here.
    let bytes = listing_of(&[("a", file.address)]);
    let manifest = manifest_of(SMALL_CHUNKS, &bytes);
    store.begin_partial(&manifest, None, Claim::Own).unwrap();
    let error = store
        .enter_directory(&manifest.address(), Claim::Own)
        .unwrap_err();
    assert!(matches!(error, StoreError::MissingChunks { .. }), "{error}");
}

#[test]
fn a_directory_is_entered_before_its_members_come_and_keeps_them_then() {
    let store = Store::in_memory().unwrap();
    let files: Vec<Address> = (0..3).map(|seed| small(seed).address).collect();
    let address = put_listing(&store, &files);
    let entered = store.enter_directory(&address, Claim::Own).unwrap();
    assert_eq!((entered.members, entered.missing), (3, 3));
    members(&store, 0..2);
    let entered = store.enter_directory(&address, Claim::Pinned).unwrap();
    assert_eq!((entered.members, entered.missing), (3, 1));
    assert!(entered.entry.is_pinned());
    assert_eq!(store.drop_orphans().unwrap().files, []);
    assert_eq!(store.remove_file(&address).unwrap().unwrap().files.len(), 3);
    let entries = store.listing(&address).unwrap();
    assert_eq!(entries, None);
}

#[test]
fn a_directory_makes_room_as_one_by_its_latest_use() {
    let store = Store::in_memory().unwrap();
    let (of_old, of_new) = (members(&store, 0..40), members(&store, 100..140));
    let (old, new) = (put_dir(&store, &of_old), put_dir(&store, &of_new));
    let kept = members(&store, 200..201);
    let pinned = put_dir(&store, &kept);
    store.set_pinned(&pinned, true).unwrap();
    let noted = |address: &Address, ms: u64| {
        let op = (
            entry::last_use_key(address),
            Some(ms.to_le_bytes().to_vec()),
        );
        store.core.apply(vec![op]).unwrap();
    };
    // Its files were used last, though the other directory was itself used later than this one.
    let now = unix_ms();
    noted(&old, now + 1);
    let candidates: Vec<Address> = (store.core.by_last_use().unwrap().iter())
        .map(|file| file.address)
        .collect();
    assert_eq!(candidates.len(), 2);
    assert!(candidates.contains(&old) && candidates.contains(&new));
    let file = store.file(&new).unwrap().unwrap();
    let used = store.in_use(&of_new[7]);
    assert_eq!(
        store.core.evict(&file).unwrap(),
        None,
        "one of its files is in use"
    );
    drop(used);
    let gone = store.core.evict(&file).unwrap().unwrap();
    assert_eq!(gone.address, new);
    let told = store.take_evicted();
    assert_eq!((told.len(), told[0].members.len()), (1, 40));
    assert_eq!(told[0].freed_chunks.len(), 41);
    assert!(is_here(&store, &of_old[0]) && is_here(&store, &kept[0]));
}

#[test]
fn the_use_of_a_member_is_the_use_of_its_directories() {
    let store = Store::in_memory().unwrap();
    let files = members(&store, 0..1);
    let directory = put_dir(&store, &files);
    let entry = store.file(&directory).unwrap().unwrap();
    let long_ago = unix_ms() - 3_600_000;
    for address in [files[0], directory] {
        let value = store.core.file_value(&address).unwrap().unwrap();
        let old = entry::FileValue {
            entry: FileEntry {
                stored_unix_ms: long_ago,
                ..value.entry
            },
            ..value
        };
        let op = (entry::file_key(&address), Some(old.encode()));
        store.core.apply(vec![op]).unwrap();
    }
    assert!(store.file(&directory).unwrap().unwrap().last_used_unix_ms < entry.stored_unix_ms);
    store.touch(&files[0]).unwrap();
    assert!(store.file(&directory).unwrap().unwrap().last_used_unix_ms >= entry.stored_unix_ms);
}

#[test]
fn a_directory_costs_what_its_members_do() {
    let store = Store::in_memory().unwrap();
    let files = members(&store, 0..4);
    let directory = put_dir(&store, &files[..3]);
    let _other = put_dir(&store, &files[2..]);
    store.claim_file(&files[0], Claim::Own).unwrap();
    let usage = store.usage(Some(&directory)).unwrap().remove(0);
    let listing = store.file(&directory).unwrap().unwrap().size_bytes;
    assert_eq!(
        (usage.logical_bytes, usage.stored_bytes),
        (300, 300 + listing)
    );
    assert_eq!(
        usage.shared_bytes, 200,
        "a file of its own, and one of the other directory"
    );
    // Members alone are not listed, what they cost is in their directories.
    assert_eq!(store.usage(None).unwrap().len(), 3);
}

#[test]
fn entries_of_the_version_before_are_files_of_their_own() {
    let vector = "02".to_owned() + &"11".repeat(32) + &"22".repeat(32) + "07" + "01" + "05";
    for (pinned, claim) in [("00", Claim::Own), ("01", Claim::Pinned)] {
        let hex = vector.clone() + pinned + "00" + "01" + "01" + "61" + "00";
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let entry = FileEntry::decode(&bytes).unwrap();
        assert_eq!((entry.claim, entry.directory), (claim, false));
        assert_eq!((entry.size_bytes, entry.chunk_count), (7, 1));
        assert_eq!(entry.name.as_deref(), Some("a"));
        let again = FileEntry::decode(&entry.encode()).unwrap();
        assert_eq!((entry.encode()[0], again), (3, entry));
        assert!(FileEntry::decode(&bytes[..bytes.len() - 1]).is_err());
    }
}

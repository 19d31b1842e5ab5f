use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn file(byte: u8) -> EntryKind {
    EntryKind::File {
        address: Address::from_bytes([byte; 32]),
        bytes: u64::from(byte) * 1000,
        executable: byte % 2 == 1,
    }
}

fn link(target: &str) -> EntryKind {
    EntryKind::Symlink {
        target: target.to_owned(),
    }
}

fn built(entries: &[(&str, EntryKind)]) -> Result<Listing, ListingError> {
    let mut builder = Listing::builder();
    for (path, kind) in entries {
        builder.push(path, kind.clone())?;
    }
    builder.finish()
}

/// Entries as they are, in whatever order: what a stranger may send.
fn forged(entries: &[(&str, EntryKind)]) -> Vec<u8> {
    let entry = |(path, kind): &(&str, EntryKind)| Entry {
        path: RelPath::unchecked(path),
        kind: kind.clone(),
    };
    wire::encode(&entries.iter().map(entry).collect::<Vec<_>>())
}

fn refused(entries: &[(&str, EntryKind)]) -> ListingError {
    Listing::decode(&forged(entries)).unwrap_err()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Vectors `listing-empty` and `listing-4` of docs/FORMATS.md.
#[test]
fn encoding_is_pinned() {
    let empty = built(&[]).unwrap().encode();
    assert_eq!(hex(&empty), "6361736e6f64652d6469720001");
    assert_eq!(
        Address::of(&empty).to_string(),
        "118cf0cf4a86e5dd617ffec448e2a7e117c7d1df970e0de1cfc7df85a689cfce"
    );
    let listing = built(&[
        ("src/main.rs", file(0x11)),
        ("empty", EntryKind::Folder),
        ("latest", link("src/main.rs")),
        ("run", file(0x22)),
    ]);
    let bytes = listing.unwrap().encode();
    assert_eq!(
        hex(&bytes),
        "6361736e6f64652d646972000105656d70747902066c6174657374010b7372632f6d61696e2e72730372756e002222222222222222222222222222222222222222222222222222222222222222fbd084000b7372632f6d61696e2e7273001111111111111111111111111111111111111111111111111111111111111111fb684201"
    );
    assert_eq!(
        Address::of(&bytes).to_string(),
        "c9860dce2c75df02db61b3f673b9f61655d412966a1599bfd239b4e15cd3bb72"
    );
}

#[test]
fn a_listing_is_told_by_its_beginning_and_another_version_by_name() {
    let mut bytes = built(&[("a", file(1))]).unwrap().encode();
    assert!(Listing::is_listing(&bytes));
    assert!(Listing::is_listing(&bytes[..12]));
    assert!(!Listing::is_listing(&bytes[..11]));
    assert_eq!(Listing::decode(&[]), Err(ListingError::NotAListing));
    assert_eq!(
        Listing::decode(b"casnode-dir\n\x01"),
        Err(ListingError::NotAListing)
    );
    bytes[12] = 2;
    assert!(Listing::is_listing(&bytes));
    let version = CodecError::Version { found: 2, known: 1 };
    assert_eq!(
        Listing::decode(&bytes),
        Err(ListingError::Codec(version.clone()))
    );
    assert!(version.to_string().contains("version 2"));
}

#[test]
fn paths_that_leave_the_directory_or_cannot_be_are_refused() {
    let long = "n".repeat(256);
    let deep = "d/".repeat(2048) + "f";
    let cases = [
        ("", PathError::Empty),
        ("/", PathError::Empty),
        ("/etc/passwd", PathError::Empty),
        ("a//b", PathError::Empty),
        ("a/", PathError::Empty),
        (".", PathError::Dots),
        ("..", PathError::Dots),
        ("../a", PathError::Dots),
        ("a/../b", PathError::Dots),
        ("a/./b", PathError::Dots),
        ("a/..", PathError::Dots),
        ("a\0b", PathError::Nul),
        (&long, PathError::ComponentTooLong),
        (&deep, PathError::TooLong),
    ];
    for (path, why) in cases {
        assert_eq!(RelPath::new(path), Err(why), "{path:?}");
        let error = ListingError::Path {
            path: path.to_owned(),
            source: why,
        };
        assert_eq!(refused(&[(path, file(1))]), error);
        assert_eq!(built(&[(path, file(1))]), Err(error));
    }
    let widest = "n".repeat(255);
    let deepest = "d/".repeat(2047) + "ff";
    assert_eq!(deepest.len(), MAX_PATH_BYTES);
    for path in [
        "...",
        "..a",
        "a b",
        "C:\\x",
        "é/日本",
        "-rf",
        &widest,
        &deepest,
    ] {
        let listing = built(&[(path, file(1))]).unwrap();
        assert_eq!(Listing::decode(&listing.encode()), Ok(listing), "{path:?}");
    }
}

#[test]
fn impossible_links_are_refused_and_others_kept_as_they_are() {
    for target in ["", "a\0b", &"t".repeat(4096)] {
        let error = ListingError::Target { path: "l".into() };
        assert_eq!(refused(&[("l", link(target))]), error);
        assert_eq!(built(&[("l", link(target))]), Err(error));
    }
    for target in ["/etc/passwd", "../../x", ".", &"t".repeat(4095)] {
        let listing = built(&[("l", link(target))]).unwrap();
        assert_eq!(Listing::decode(&listing.encode()), Ok(listing));
    }
}

#[test]
fn each_path_is_there_once_and_in_order() {
    let twice = ListingError::Twice { path: "a".into() };
    assert_eq!(refused(&[("a", file(1)), ("a", file(1))]), twice);
    assert_eq!(
        built(&[("a", file(1)), ("b", file(1)), ("a", file(2))]),
        Err(twice)
    );
    assert_eq!(
        refused(&[("b", file(1)), ("a", file(1))]),
        ListingError::Order { path: "a".into() }
    );
}

#[test]
fn nothing_is_inside_what_is_no_folder() {
    let inside = |path: &str, parent: &str| ListingError::Inside {
        path: path.to_owned(),
        parent: parent.to_owned(),
    };
    // Others sort between an entry and what is inside it.
    let between = [
        ("a", file(1)),
        ("a b", file(1)),
        ("a-", file(1)),
        ("a/b", file(1)),
    ];
    assert_eq!(refused(&between), inside("a/b", "a"));
    assert_eq!(built(&between), Err(inside("a/b", "a")));
    let through_link = [("l", link("/etc")), ("l/deep/passwd", file(1))];
    assert_eq!(refused(&through_link), inside("l/deep/passwd", "l"));
    assert_eq!(built(&through_link), Err(inside("l/deep/passwd", "l")));
    let folder = [("f", EntryKind::Folder), ("f/x", file(1))];
    assert_eq!(refused(&folder), inside("f/x", "f"));
    let alike = [("a", file(1)), ("aa", file(1)), ("aaa/b", file(1))];
    assert!(Listing::decode(&forged(&alike)).is_ok());
}

#[test]
fn folders_that_are_not_empty_are_left_out() {
    let listing = built(&[
        ("f", EntryKind::Folder),
        ("f/g", EntryKind::Folder),
        ("f/g/x", file(1)),
        ("f/h", EntryKind::Folder),
        ("e", EntryKind::Folder),
    ]);
    let listing = listing.unwrap();
    let paths: Vec<&str> = listing.entries().iter().map(|e| e.path.as_str()).collect();
    assert_eq!(paths, ["e", "f/g/x", "f/h"]);
}

#[test]
fn a_path_names_an_entry_or_all_that_is_in_a_folder() {
    let listing = built(&[
        ("a", file(1)),
        ("b-", file(2)),
        ("b/c", file(3)),
        ("b/d/e", link("x")),
        ("b0", file(4)),
        ("f", EntryKind::Folder),
    ]);
    let listing = listing.unwrap();
    let paths = |path: &str| match listing.under(path) {
        None => None,
        Some(Sub::Entry(entry)) => Some(vec![entry.path.as_str()]),
        Some(Sub::Folder(entries)) => Some(entries.iter().map(|e| e.path.as_str()).collect()),
    };
    assert_eq!(paths("").unwrap().len(), 6);
    assert_eq!(paths("a"), Some(vec!["a"]));
    assert_eq!(paths("b"), Some(vec!["b/c", "b/d/e"]));
    assert_eq!(paths("b/d"), Some(vec!["b/d/e"]));
    assert_eq!(paths("b/d/e"), Some(vec!["b/d/e"]));
    assert_eq!(listing.under("f"), Some(Sub::Folder(&[])));
    for nothing in ["b/", "b/x", "a/x", "c", "f/x", "/", ".", ".."] {
        assert_eq!(listing.under(nothing), None, "{nothing:?}");
    }
    assert_eq!(listing.file_bytes(), 10_000);
    assert_eq!(listing.members().len(), 4);
}

#[test]
fn a_hostile_length_allocates_nothing_and_bounds_are_kept() {
    let mut bytes = built(&[]).unwrap().encode();
    bytes.extend([253, 0, 0, 0, 0, 0, 1, 0, 0]);
    let malformed = ListingError::Codec(CodecError::Malformed);
    assert_eq!(Listing::decode(&bytes), Err(malformed));
    let mut bytes = built(&[]).unwrap().encode();
    bytes.resize(MAX_LISTING_BYTES + 1, 0);
    assert_eq!(Listing::decode(&bytes), Err(ListingError::TooLarge));
    // One entry too many: each takes 9 bytes.
    let mut bytes = built(&[]).unwrap().encode();
    for number in 0..=MAX_LISTING_ENTRIES {
        bytes.push(7);
        bytes.extend(format!("{number:07}").as_bytes());
        bytes.push(2);
    }
    assert_eq!(Listing::decode(&bytes), Err(ListingError::TooManyEntries));
    bytes.truncate(bytes.len() - 9);
    let listing = Listing::decode(&bytes).unwrap();
    assert_eq!(listing.entries().len(), MAX_LISTING_ENTRIES);
    let mut builder = Listing::builder();
    for entry in listing.entries() {
        builder
            .push(entry.path.as_str(), EntryKind::Folder)
            .unwrap();
    }
    let more = builder.push("more", EntryKind::Folder);
    assert_eq!(more, Err(ListingError::TooManyEntries));
    assert_eq!(builder.finish().unwrap().encode(), bytes);
}

#[test]
fn a_builder_takes_no_more_than_a_listing_may_have() {
    let mut builder = Listing::builder();
    let target = "t".repeat(MAX_TARGET_BYTES);
    let filled = (0..).find_map(|number| {
        let refused = builder.push(&format!("{number:08}"), link(&target)).err()?;
        Some((number, refused))
    });
    let (number, refused) = filled.unwrap();
    assert_eq!(refused, ListingError::TooLarge);
    let bytes = builder.finish().unwrap().encode();
    assert!(bytes.len() <= MAX_LISTING_BYTES);
    assert!(bytes.len() > MAX_LISTING_BYTES - 2 * MAX_TARGET_BYTES);
    assert_eq!(Listing::decode(&bytes).unwrap().entries().len(), number);
}

fn any_kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        4 => (any::<[u8; 32]>(), any::<u64>(), any::<bool>()).prop_map(
            |(address, bytes, executable)| EntryKind::File {
                address: Address::from_bytes(address),
                bytes,
                executable,
            }
        ),
        1 => "[a-c./]{1,6}".prop_map(|target| EntryKind::Symlink { target }),
        1 => Just(EntryKind::Folder),
    ]
}

proptest! {
    /// What can be built comes back; and exactly the sets of paths that a file system could hold can be.
    #[test]
    fn built_listings_come_back(entries in vec(("[ab-](/?[ab-]){0,3}", any_kind()), 0..12)) {
        let refs: Vec<_> = entries.iter().map(|(path, kind)| (path.as_str(), kind.clone())).collect();
        let clash = refs.iter().enumerate().any(|(at, (path, kind))| {
            refs.iter().enumerate().any(|(other, (inner, _))| {
                let inside = inner.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
                (inside && *kind != EntryKind::Folder) || (other != at && inner == path)
            })
        });
        match built(&refs) {
            Err(_) => prop_assert!(clash),
            Ok(listing) => {
                prop_assert!(!clash);
                let bytes = listing.encode();
                prop_assert_eq!(Listing::decode(&bytes), Ok(listing.clone()));
                for entry in listing.entries() {
                    let (folder, _) = entry.path.split_name();
                    let found = listing.under(folder);
                    prop_assert!(matches!(found, Some(Sub::Folder(all)) if all.contains(entry)));
                }
            }
        }
    }

    /// Whatever decodes is canonical, and whatever is cut short or changed is refused or another directory.
    #[test]
    fn what_decodes_encodes_to_the_same_bytes(
        entries in vec(("[a-d](/[a-d]){0,2}", any_kind()), 1..6),
        at in any::<proptest::sample::Index>(),
        change in 1..=255u8,
    ) {
        let mut builder = Listing::builder();
        for (path, kind) in entries {
            builder.push(&path, kind).unwrap();
        }
        let Ok(listing) = builder.finish() else { return Ok(()) };
        let mut bytes = listing.encode();
        let at = at.index(bytes.len());
        let cut = Listing::decode(&bytes[..at]);
        prop_assert!(cut.is_err() || cut.unwrap().encode() == bytes[..at]);
        bytes[at] ^= change;
        if let Ok(other) = Listing::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
            prop_assert_ne!(other, listing);
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(body in vec(any::<u8>(), 0..200)) {
        let mut bytes = built(&[]).unwrap().encode();
        bytes.extend(body);
        if let Ok(listing) = Listing::decode(&bytes) {
            prop_assert_eq!(listing.encode(), bytes);
        }
    }
}

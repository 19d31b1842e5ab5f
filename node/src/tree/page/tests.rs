use casnode_cas::Address;

use super::*;

fn listing(paths: &[&str]) -> Listing {
    let mut builder = Listing::builder();
    for path in paths {
        let kind = match path.strip_suffix('/') {
            Some(_) => EntryKind::Folder,
            None => EntryKind::File {
                address: Address::of(path.as_bytes()),
                bytes: 10,
                executable: false,
            },
        };
        builder.push(path.trim_end_matches('/'), kind).unwrap();
    }
    builder.finish().unwrap()
}

fn shown(listing: &Listing, path: &str, recursive: bool) -> Vec<(String, u64, u64)> {
    let (entries, next) = page(listing, path, recursive, 0).unwrap();
    assert_eq!(next, None);
    let entries = entries.into_iter();
    entries.map(|e| (e.path, e.files, e.bytes)).collect()
}

fn row(path: &str, files: u64, bytes: u64) -> (String, u64, u64) {
    (path.to_owned(), files, bytes)
}

#[test]
fn a_level_has_its_folders_with_all_that_is_beneath() {
    let listing = listing(&["a", "a-b/x", "b/c/1", "b/c/2", "b/d", "e/"]);
    assert_eq!(
        shown(&listing, "", false),
        [
            row("a", 1, 10),
            row("a-b", 1, 10),
            row("b", 3, 30),
            row("e", 0, 0)
        ]
    );
    assert_eq!(
        shown(&listing, "b", false),
        [row("b/c", 2, 20), row("b/d", 1, 10)]
    );
    assert_eq!(shown(&listing, "b/d", false), [row("b/d", 1, 10)]);
    assert_eq!(shown(&listing, "e", false), []);
    assert_eq!(shown(&listing, "", true).len(), 6);
    assert!(page(&listing, "c", false, 0).is_none());
}

#[test]
fn pages_have_every_entry_once() {
    let paths: Vec<String> = (0..MAX_TREE_PAGE * 2 + 10)
        .map(|n| format!("d/{n:06}"))
        .collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let listing = listing(&paths);
    let (mut all, mut skip) = (Vec::new(), Some(0));
    while let Some(from) = skip {
        let (entries, next) = page(&listing, "d", false, from).unwrap();
        assert!(entries.len() <= MAX_TREE_PAGE);
        all.extend(entries.into_iter().map(|e| e.path));
        skip = next;
    }
    assert_eq!(all, paths);
    let (rest, next) = page(&listing, "d", true, u64::MAX).unwrap();
    assert!(rest.is_empty() && next.is_none());
}

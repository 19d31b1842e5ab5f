use casnode_cas::EntryKind;
use proptest::prelude::*;

use super::*;

fn file(bytes: u64) -> EntryKind {
    EntryKind::File {
        address: Address::from_bytes([7; 32]),
        bytes,
        executable: bytes == 1,
    }
}

fn link(target: &str) -> EntryKind {
    EntryKind::Symlink {
        target: target.to_owned(),
    }
}

fn listing(entries: &[(&str, EntryKind)]) -> Listing {
    let mut builder = Listing::builder();
    for (path, kind) in entries {
        builder.push(path, kind.clone()).unwrap();
    }
    builder.finish().unwrap()
}

fn everything() -> Globs {
    Globs::new(&[], &[]).unwrap()
}

fn folder(listing: &Listing, path: &str, globs: &Globs) -> Plan {
    match plan(listing, path, globs) {
        Some(Part::Folder(plan)) => plan,
        other => panic!("no folder: {other:?}"),
    }
}

#[test]
fn a_folder_is_planned_with_paths_from_itself_on() {
    let listing = listing(&[
        ("a/b/run", file(1)),
        ("a/b/x", file(5)),
        ("a/empty", EntryKind::Folder),
        ("a/up", link("../c")),
        ("a/within", link("b/x")),
        ("c", file(9)),
    ]);
    let whole = folder(&listing, "", &everything());
    assert_eq!(whole.files.len(), 3);
    assert_eq!((whole.links.len(), whole.outward.len()), (2, 0));
    assert_eq!(whole.bytes(), 15);
    let part = folder(&listing, "a", &everything());
    let paths: Vec<&str> = part.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths, ["b/run", "b/x"]);
    assert!(part.files[0].executable && !part.files[1].executable);
    assert_eq!(part.empty_folders, ["empty"]);
    // What it leads to is not in this part.
    assert_eq!(part.outward, [("up".to_owned(), "../c".to_owned())]);
    assert_eq!(part.links, [("within".to_owned(), "b/x".to_owned())]);
    assert_eq!(folder(&listing, "a/empty", &everything()), Plan::default());
    assert!(plan(&listing, "a/b/x/y", &everything()).is_none());
    assert!(plan(&listing, "b", &everything()).is_none());
    match plan(&listing, "a/b/x", &everything()) {
        Some(Part::File(file)) => assert_eq!((file.path.as_str(), file.size_bytes), ("x", 5)),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        plan(&listing, "a/up", &everything()),
        Some(Part::Link("../c"))
    );
}

#[test]
fn globs_are_for_paths_from_the_directory_on_wherever_the_part_begins() {
    let listing = listing(&[
        ("a/b/x.rs", file(1)),
        ("a/x.rs", file(2)),
        ("x.rs", file(3)),
    ]);
    let globs = Globs::new(&["a/*.rs".to_owned()], &[]).unwrap();
    let part = folder(&listing, "a", &globs);
    assert_eq!(part.files.len(), 1);
    assert_eq!(part.files[0].path, "x.rs");
    assert_eq!(folder(&listing, "", &globs).files[0].path, "a/x.rs");
}

#[test]
fn links_that_lead_out_are_known_by_their_text() {
    for (path, target) in [
        ("a", "b"),
        ("a", "./b//c"),
        ("a/b", "../c"),
        ("a/b/c", "../../d"),
        ("a/b/c", ".././../d/e/.hidden"),
        ("a", "..b/c.."),
    ] {
        assert!(stays_inside(path, target), "{path} -> {target}");
    }
    for (path, target) in [
        ("a", "/etc/passwd"),
        ("a", ".."),
        ("a", "../a"),
        ("a/b", "../../c"),
        // `b` may be a link to the top.
        ("a/b/c", "b/../x"),
        ("a", "b/.."),
    ] {
        assert!(!stays_inside(path, target), "{path} -> {target}");
    }
}

proptest! {
    /// Whatever a tree of links is, following one never leads above the top.
    #[test]
    fn no_chain_of_links_leads_out(
        links in prop::collection::btree_map("[ab](/[ab]){0,2}", "(\\.\\./){0,2}[ab.](/([ab]|\\.\\.)){0,2}", 1..6)
    ) {
        let kept: std::collections::BTreeMap<&str, &str> = links
            .iter()
            .filter(|(path, target)| stays_inside(path, target))
            .map(|(path, target)| (path.as_str(), target.as_str()))
            .collect();
        for path in kept.keys() {
            prop_assert!(resolve(&kept, path).is_ok(), "{path} of {kept:?}");
        }
    }
}

/// Where a path leads, as a kernel follows it; an error for a step above the top.
fn resolve(links: &std::collections::BTreeMap<&str, &str>, path: &str) -> Result<(), ()> {
    let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut at: Vec<String> = Vec::new();
    let mut steps = 0;
    while let Some(part) = todo.pop() {
        steps += 1;
        if steps > 200 {
            return Ok(()); // a loop, which leads nowhere
        }
        match part.as_str() {
            "" | "." => {}
            ".." => drop(at.pop().ok_or(())?),
            _ => {
                at.push(part);
                if let Some(target) = links.get(at.join("/").as_str()) {
                    at.pop();
                    todo.extend(target.split('/').rev().map(str::to_owned));
                }
            }
        }
    }
    Ok(())
}

//! What is written stays in the folder.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use proptest::prelude::*;

use super::*;

fn folder(force: bool) -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(&dir.path().join("out"), force, Some(0o640)).unwrap();
    (dir, folder)
}

fn wanted<'a>(path: &'a str, bytes: &[u8]) -> Wanted<'a> {
    Wanted {
        path,
        address: Address::of(bytes),
        size_bytes: None,
        executable: None,
    }
}

fn write(folder: &Folder, path: &str, bytes: &[u8]) -> io::Result<()> {
    folder.write(&wanted(path, bytes), bytes)
}

fn look(folder: &Folder, path: &str, bytes: &[u8]) -> io::Result<There> {
    folder.look(&wanted(path, bytes), &mut to_the_end)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn files_are_written_with_their_folders_and_nothing_is_left() {
    let (dir, folder) = folder(false);
    let out = dir.path().join("out");
    for path in ["a", "b/c/d", "b/c/e f"] {
        write(&folder, path, path.as_bytes()).unwrap();
        assert_eq!(fs::read(out.join(path)).unwrap(), path.as_bytes());
        assert_eq!(mode(&out.join(path)), 0o640);
        assert_eq!(
            look(&folder, path, path.as_bytes()).unwrap(),
            There::Same(path.len() as u64)
        );
    }
    folder.sync().unwrap();
    assert_eq!(look(&folder, "b/x/y", b"").unwrap(), There::Nothing);
    assert_eq!(fs::read_dir(out.join("b/c")).unwrap().count(), 2);
    assert_eq!(mode(&out.join("b")), 0o750);
    folder.make_folder("b/c/empty").unwrap();
    folder.make_folder("b/c/empty").unwrap();
    assert_eq!(fs::read_dir(out.join("b/c/empty")).unwrap().count(), 0);
}

#[test]
fn a_file_has_no_name_before_it_is_whole() {
    for force in [false, true] {
        let (dir, folder) = folder(force);
        let out = dir.path().join("out");
        let names = || fs::read_dir(&out).unwrap().count();
        let fresh = folder.create(&folder.root, false).unwrap();
        // What a kill would leave: nothing, as this file system can do that.
        assert!(matches!(fresh, Fresh::Nameless(_)), "{fresh:?}");
        folder.fill(&fresh, false, b"bytes").unwrap();
        assert_eq!(names(), 0);
        let whole = fresh.whole(&folder.root);
        folder.publish(whole, &folder.root, "a", "a").unwrap();
        assert_eq!(names(), 1);
        assert_eq!(fs::read(out.join("a")).unwrap(), b"bytes");
    }
}

#[test]
fn where_a_file_needs_a_name_it_is_written_all_the_same() {
    for force in [false, true] {
        let (dir, mut folder) = folder(force);
        folder.nameless = false;
        write(&folder, "a/b", b"bytes").unwrap();
        let again = write(&folder, "a/b", b"other");
        assert_eq!(again.is_ok(), force, "{again:?}");
        let out = dir.path().join("out/a");
        let expected: &[u8] = if force { b"other" } else { b"bytes" };
        assert_eq!(fs::read(out.join("b")).unwrap(), expected);
        assert_eq!(fs::read_dir(out).unwrap().count(), 1, "nothing is left");
    }
}

#[test]
fn another_file_is_replaced_only_by_force() {
    let (dir, folder) = folder(false);
    let out = dir.path().join("out");
    write(&folder, "a", b"one").unwrap();
    write(&folder, "a", b"one").unwrap();
    assert!(write(&folder, "a", b"two").is_err());
    assert!(look(&folder, "a", b"two").is_err());
    assert_eq!(fs::read(out.join("a")).unwrap(), b"one");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    let forced = Folder::open(&out, true, None).unwrap();
    assert_eq!(look(&forced, "a", b"two").unwrap(), There::Nothing);
    write(&forced, "a", b"two").unwrap();
    assert_eq!(fs::read(out.join("a")).unwrap(), b"two");
}

#[test]
fn no_link_leads_out_of_the_folder() {
    let (dir, folder) = folder(true);
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), b"precious").unwrap();
    symlink(&outside, dir.path().join("out/link")).unwrap();
    symlink(outside.join("f"), dir.path().join("out/file")).unwrap();
    for path in ["link/f", "link/new/f"] {
        let error = write(&folder, path, b"evil").unwrap_err();
        assert!(error.to_string().contains("link"), "{error}");
        assert!(look(&folder, path, b"evil").is_err());
        assert!(folder.prepare(path).is_err());
        assert!(folder.make_folder(path).is_err());
        assert!(folder.link(path, "x").is_err());
    }
    // A link to the very file is not the file.
    assert_eq!(look(&folder, "file", b"precious").unwrap(), There::Nothing);
    // The link itself is replaced.
    write(&folder, "file", b"evil").unwrap();
    assert_eq!(fs::read(outside.join("f")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn whoever_may_read_a_file_may_run_it_where_that_is_said() {
    let (dir, folder) = folder(false);
    let run = dir.path().join("out/run");
    let executable = |is| Wanted {
        executable: Some(is),
        ..wanted("run", b"#!")
    };
    folder.write(&executable(true), b"#!").unwrap();
    assert_eq!(mode(&run), 0o750);
    // What is there and right gets the right bits, and keeps the others.
    fs::set_permissions(&run, fs::Permissions::from_mode(0o604)).unwrap();
    assert_eq!(
        folder.look(&executable(true), &mut to_the_end).unwrap(),
        There::Same(2)
    );
    assert_eq!(mode(&run), 0o705);
    assert_eq!(
        folder.look(&executable(false), &mut to_the_end).unwrap(),
        There::Same(2)
    );
    assert_eq!(mode(&run), 0o604);
    assert_eq!(look(&folder, "run", b"#!").unwrap(), There::Same(2));
    // One of another length is not read.
    let longer = Wanted {
        size_bytes: Some(3),
        ..wanted("run", b"#!")
    };
    assert!(folder.look(&longer, &mut to_the_end).is_err());
}

#[test]
fn links_are_made_as_they_are_and_replaced_only_by_force() {
    let (dir, folder) = folder(false);
    let out = dir.path().join("out");
    folder.link("d/link", "../nowhere").unwrap();
    folder.link("d/link", "../nowhere").unwrap();
    assert_eq!(
        fs::read_link(out.join("d/link")).unwrap(),
        Path::new("../nowhere")
    );
    assert!(folder.link("d/link", "elsewhere").is_err());
    write(&folder, "file", b"x").unwrap();
    assert!(folder.link("file", "elsewhere").is_err());
    assert!(folder.link("d", "elsewhere").is_err());
    let forced = Folder::open(&out, true, None).unwrap();
    forced.link("d/link", "elsewhere").unwrap();
    forced.link("file", "elsewhere").unwrap();
    assert!(forced.link("d", "elsewhere").is_err(), "a folder stays");
    for link in ["d/link", "file"] {
        assert_eq!(
            fs::read_link(out.join(link)).unwrap(),
            Path::new("elsewhere")
        );
    }
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
}

#[test]
fn what_was_put_together_at_the_top_gets_its_place() {
    let (dir, folder) = folder(false);
    let out = dir.path().join("out");
    let large = Wanted {
        executable: Some(true),
        ..wanted("a/b", b"large")
    };
    for _ in 0..2 {
        // The second time it is there already.
        fs::write(folder.staging(&large.address), b"large").unwrap();
        folder.adopt(&large).unwrap();
        assert_eq!(fs::read(out.join("a/b")).unwrap(), b"large");
        assert_eq!(mode(&out.join("a/b")) & 0o100, 0o100);
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    }
    let other = wanted("a/b", b"other");
    fs::write(folder.staging(&other.address), b"other").unwrap();
    assert!(folder.adopt(&other).is_err());
    assert_eq!(fs::read(out.join("a/b")).unwrap(), b"large");
    let left = folder.staging(&other.address);
    assert_eq!(fs::read(left).unwrap(), b"other", "it is not lost");
}

/// As a folder that something is mounted on: a rename does not lead there.
#[test]
fn what_was_put_together_gets_its_place_on_another_file_system_too() {
    let elsewhere = Path::new("/dev/shm");
    let (dir, folder) = folder(false);
    let out = dir.path().join("out");
    let device = |path: &Path| fs::metadata(path).ok().map(|data| data.dev());
    if device(elsewhere).is_none() || device(elsewhere) == device(&out) {
        return; // nothing to try it with
    }
    let there = tempfile::tempdir_in(elsewhere).unwrap();
    let opened = rustix::fs::open(there.path(), OFlags::RDONLY, Mode::empty()).unwrap();
    let mut large = wanted("b", b"large");
    for executable in [false, true] {
        large.executable = Some(executable);
        let staged = staging_name(&large.address);
        fs::write(out.join(&staged), b"large").unwrap();
        let name = if executable { "tool" } else { "text" };
        let whole = Whole::Named(&folder.root, &staged);
        let error = folder.publish(whole, &opened, name, "b").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::CrossesDevices);
        folder.copy_across(&staged, &opened, name, &large).unwrap();
        assert_eq!(fs::read(there.path().join(name)).unwrap(), b"large");
        let expected = if executable { 0o750 } else { 0o640 };
        assert_eq!(mode(&there.path().join(name)), expected);
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    }
    assert_eq!(fs::read_dir(there.path()).unwrap().count(), 2);
}

/// To whoever writes, a second link to a file is what another case of its name is on a file system that knows none.
#[test]
fn of_two_names_that_are_one_to_the_file_system_the_first_stays() {
    for force in [false, true] {
        let (dir, folder) = folder(force);
        let out = dir.path().join("out");
        write(&folder, "Name", b"first").unwrap();
        fs::hard_link(out.join("Name"), out.join("name")).unwrap();
        let error = write(&folder, "name", b"second").unwrap_err();
        assert_eq!(fs::read(out.join("Name")).unwrap(), b"first", "{error}");
        assert_eq!(fs::read(out.join("name")).unwrap(), b"first", "{error}");
        let link = folder.link("name", "second").unwrap_err();
        assert_eq!(fs::read(out.join("name")).unwrap(), b"first", "{link}");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
    }
}

#[test]
fn what_is_known_under_one_name_is_anothers_under_the_next() {
    let mut taken = Taken::default();
    assert!(taken.take((1, 1), "Folder"));
    assert!(taken.take((1, 1), "Folder"));
    assert!(!taken.take((1, 1), "folder"));
    assert!(taken.take((1, 2), "folder"));
    assert!(taken.is_others((1, 1), "folder") && !taken.is_others((1, 1), "Folder"));
    assert!(!taken.is_others((2, 1), "folder"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a listing with paths of strangers is, nothing is written outside: what is no path within is no listing, and
    /// what is one goes no way that a link of the folder shows.
    #[test]
    fn no_path_of_a_listing_leads_out(
        paths in prop::collection::vec("(\\.\\.|\\.|/|a|b|link|\u{0}|é| ){1,2}(/(\\.\\.|\\.|a|link|)){0,3}", 1..8)
    ) {
        let (dir, folder) = folder(true);
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        symlink(&outside, dir.path().join("out/link")).unwrap();
        symlink("..", dir.path().join("out/a")).unwrap();
        for path in &paths {
            let mut builder = casnode_cas::Listing::builder();
            let kind = casnode_cas::EntryKind::Folder;
            if builder.push(path, kind).is_ok() {
                let _ = write(&folder, path, b"x");
                let _ = folder.make_folder(path);
                let _ = folder.link(path, "y");
            } else {
                prop_assert!(!path.is_empty());
            }
        }
        prop_assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}

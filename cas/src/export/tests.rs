use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::testing::bytes_from;

const CONTENT: &[u8] = b"the content of the file";

fn begin(target: &Path, force: bool) -> Result<Assembly, ExportError> {
    begin_with(target, &OutputOptions::new(force, None))
}

fn begin_with(target: &Path, options: &OutputOptions) -> Result<Assembly, ExportError> {
    let size_bytes = CONTENT.len() as u64;
    Assembly::create(target, &Address::of(CONTENT), size_bytes, options)
}

/// Writes the whole output.
fn export(target: &Path, options: &OutputOptions) {
    let assembly = begin_with(target, options).unwrap();
    assembly.write_at(0, CONTENT).unwrap();
    assembly.finish().unwrap();
    assert_eq!(fs::read(target).unwrap(), CONTENT);
}

fn bits(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_bits(path: &Path, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn to_the_end(_: u64, _: Option<u64>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn pieces_in_any_order_make_the_file_and_nothing_else_stays() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let assembly = begin(&target, false).unwrap();
    let short = Address::of(CONTENT).short();
    assert_eq!(names(dir.path()), [format!(".out.{short}.part")]);
    assembly.write_at(4, &CONTENT[4..]).unwrap();
    assembly.write_at(0, &CONTENT[..4]).unwrap();
    let end = CONTENT.len() as u64;
    assert!(matches!(
        assembly.write_at(end, b"x"),
        Err(ExportError::OutOfRange { .. })
    ));
    assert!(matches!(
        assembly.write_at(u64::MAX, b"x"),
        Err(ExportError::OutOfRange { .. })
    ));
    assembly.finish().unwrap();
    assert_eq!(names(dir.path()), ["out"]);
    assert_eq!(fs::read(&target).unwrap(), CONTENT);
    assert_eq!(
        file_address(&target, &mut to_the_end).unwrap(),
        Address::of(CONTENT)
    );
}

#[test]
fn an_abandoned_assembly_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(begin(&dir.path().join("out"), false).unwrap());
    assert!(names(dir.path()).is_empty());
}

#[test]
fn an_existing_file_is_replaced_by_force_only() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    fs::write(&target, b"old").unwrap();
    assert!(matches!(
        begin(&target, false),
        Err(ExportError::Exists { .. })
    ));
    let assembly = begin(&target, true).unwrap();
    assembly.write_at(0, CONTENT).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"old");
    assembly.finish().unwrap();
    assert_eq!(fs::read(&target).unwrap(), CONTENT);
}

#[test]
fn a_file_that_appears_meanwhile_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let assembly = begin(&target, false).unwrap();
    fs::write(&target, b"mine").unwrap();
    assert!(matches!(assembly.finish(), Err(ExportError::Exists { .. })));
    assert_eq!(fs::read(&target).unwrap(), b"mine");
    let from = dir.path().join("from");
    fs::write(&from, b"late").unwrap();
    assert!(matches!(
        rename_new(&from, &target),
        Err(ExportError::Exists { .. })
    ));
    assert_eq!(fs::read(&target).unwrap(), b"mine");
}

#[test]
fn impossible_targets_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    let at = |name: &str, force| begin(&dir.path().join(name), force).unwrap_err();
    assert!(matches!(
        at("none/out", false),
        ExportError::NoFolder { .. }
    ));
    assert!(matches!(at("folder", true), ExportError::NotAFile { .. }));
    assert!(matches!(at("folder/", true), ExportError::NoName { .. }));
    assert!(matches!(
        begin(Path::new("/dev/null"), true),
        Err(ExportError::NotAFile { .. })
    ));
    assert!(matches!(
        begin(Path::new("/"), true),
        Err(ExportError::NoName { .. })
    ));
    let huge = Assembly::create(
        &dir.path().join("out"),
        &Address::of(CONTENT),
        1 << 60,
        &OutputOptions::default(),
    );
    let error = huge.unwrap_err();
    assert!(error.is_no_space() && !error.is_corruption(), "{error}");
    assert_eq!(names(dir.path()), ["folder"]);
}

#[test]
fn the_address_of_a_special_file_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(
        file_address(&fifo, &mut to_the_end).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
    let missing = file_address(&dir.path().join("none"), &mut to_the_end).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_folder_that_takes_no_file_is_said_so_and_not_that_it_is_full() {
    // It takes no file from anybody, root included, and has no space to tell of.
    let folder = Path::new("/proc");
    if !folder.join("self").exists() {
        eprintln!("skipped: no /proc here");
        return;
    }
    let error = begin(&folder.join("out"), false).unwrap_err();
    assert!(
        matches!(&error, ExportError::NotWritable { path, .. } if path == folder),
        "{error}"
    );
    assert!(!error.is_no_space());
}

#[test]
fn a_read_only_folder_is_said_so() {
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root writes to every folder");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    set_bits(dir.path(), 0o500);
    let error = begin(&dir.path().join("out"), false).unwrap_err();
    assert!(matches!(error, ExportError::NotWritable { .. }), "{error}");
}

#[test]
fn an_output_is_private_until_it_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let assembly = begin_with(&target, &OutputOptions::new(false, Some(0o666))).unwrap();
    assert_eq!(bits(&assembly.temp), 0o600);
    assembly.finish().unwrap();
    assert_eq!(bits(&target), 0o666);
}

#[test]
fn a_new_file_has_the_bits_asked_for_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let target = |bits: u32| dir.path().join(format!("{bits:o}"));
    for asked in [0o600, 0o640, 0o444, 0o755] {
        export(&target(asked), &OutputOptions::new(false, Some(asked)));
        assert_eq!(bits(&target(asked)), asked);
    }
    export(&target(0o6644), &OutputOptions::new(false, Some(0o6644)));
    assert_eq!(bits(&target(0o6644)), 0o644, "no set-id bits");
}

#[test]
fn without_a_wish_the_bits_are_those_of_any_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    export(&target, &OutputOptions::default());
    let plain = dir.path().join("plain");
    File::create(&plain).unwrap();
    assert_eq!(bits(&target), bits(&plain));
}

#[test]
fn a_replaced_file_passes_its_bits_on() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    fs::write(&target, b"old").unwrap();
    for kept in [0o600, 0o664, 0o755] {
        set_bits(&target, kept);
        export(&target, &OutputOptions::new(true, Some(0o644)));
        assert_eq!(bits(&target), kept);
    }
}

#[test]
fn a_replaced_file_of_somebody_else_grants_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make a file of somebody else");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    for (theirs, asked, expected) in [
        (0o666, 0o644, 0o644),
        (0o640, 0o644, 0o640),
        (0o000, 0o644, 0o600),
    ] {
        fs::write(&target, b"theirs").unwrap();
        std::os::unix::fs::chown(&target, Some(65534), None).unwrap();
        set_bits(&target, theirs);
        export(&target, &OutputOptions::new(true, Some(asked)));
        assert_eq!(bits(&target), expected);
        assert_eq!(fs::metadata(&target).unwrap().uid(), 0);
    }
}

#[test]
fn a_symbolic_link_is_replaced_by_force_and_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let pointed_at = dir.path().join("pointed at");
    fs::write(&pointed_at, b"precious").unwrap();
    set_bits(&pointed_at, 0o606);
    let target = dir.path().join("out");
    for to in [pointed_at.clone(), dir.path().join("nowhere")] {
        std::os::unix::fs::symlink(&to, &target).unwrap();
        assert!(matches!(
            begin(&target, false),
            Err(ExportError::Exists { .. })
        ));
        export(&target, &OutputOptions::new(true, Some(0o640)));
        assert!(fs::symlink_metadata(&target).unwrap().is_file());
        assert_eq!(bits(&target), 0o640, "a link has no bits to pass on");
        fs::remove_file(&target).unwrap();
    }
    assert_eq!(fs::read(&pointed_at).unwrap(), b"precious");
    assert_eq!(bits(&pointed_at), 0o606);
    assert_eq!(names(dir.path()), ["pointed at"]);
}

#[test]
fn an_output_may_get_its_name_late() {
    let dir = tempfile::tempdir().unwrap();
    let options = OutputOptions::new(false, None);
    let mut assembly = begin_with(&dir.path().join("for now"), &options).unwrap();
    assembly.write_at(0, CONTENT).unwrap();
    assembly.rename(Path::new("/elsewhere")).unwrap_err();
    assembly.rename(&dir.path().join("name")).unwrap();
    assembly.finish().unwrap();
    assert_eq!(names(dir.path()), ["name"]);
    assert_eq!(fs::read(dir.path().join("name")).unwrap(), CONTENT);
}

#[test]
fn an_output_is_private_as_long_as_its_bytes_are_on_their_way_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = OutputOptions::new(false, Some(0o644)).resuming();
    let assembly = begin_with(&dir.path().join("out"), &options).unwrap();
    assembly.write_at(0, CONTENT).unwrap();
    let seen = std::cell::RefCell::new(Vec::new());
    let sync = |file: &File| {
        seen.borrow_mut().push(file.metadata()?.mode() & 0o777);
        file.sync_all()
    };
    assembly.finish_with(&sync).unwrap();
    assert_eq!(*seen.borrow(), [0o600, 0o644]);
}

#[test]
fn an_output_that_gets_no_name_can_be_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    // Where others may write to it, they may have it open: then it is begun anew.
    for (asked, is_resumed) in [(0o644, true), (0o666, false)] {
        let options = OutputOptions::new(false, Some(asked)).resuming();
        let assembly = begin_with(&target, &options).unwrap();
        assembly.write_at(0, CONTENT).unwrap();
        let syncs = std::cell::Cell::new(0);
        let sync = |_: &File| {
            syncs.set(syncs.get() + 1);
            match syncs.get() {
                1 => Ok(()),
                // Somebody else is quicker.
                _ => fs::write(&target, b"mine"),
            }
        };
        let error = assembly.finish_with(&sync).unwrap_err();
        assert!(matches!(error, ExportError::Exists { .. }), "{error}");
        fs::remove_file(&target).unwrap();
        let again = begin_with(&target, &options).unwrap();
        assert_eq!(again.is_resumed(), is_resumed);
        again.write_at(0, CONTENT).unwrap();
        again.finish().unwrap();
        fs::remove_file(&target).unwrap();
    }
}

/// Bytes for which going around the page cache pays.
fn large() -> Vec<u8> {
    bytes_from(b"", (9 << 20) + 12_345)
}

fn begin_large(target: &Path, bytes: &[u8], options: &OutputOptions) -> Assembly {
    Assembly::create(target, &Address::of(bytes), bytes.len() as u64, options).unwrap()
}

/// Chunks of all sizes, the last one first.
fn pieces(bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for size in [70_000, 256 << 10, 1 << 20, 333_333, 4096].iter().cycle() {
        let (piece, behind) = rest.split_at(rest.len().min(*size));
        pieces.push(((bytes.len() - rest.len()) as u64, piece));
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    pieces.reverse();
    pieces
}

#[test]
fn a_large_output_is_the_same_either_way_and_seen_at_once() {
    let bytes = large();
    let dir = tempfile::tempdir().unwrap();
    for direct_io in [true, false] {
        let target = dir.path().join(format!("direct {direct_io}"));
        let options = OutputOptions {
            direct_io,
            ..OutputOptions::default()
        };
        let assembly = begin_large(&target, &bytes, &options);
        assert!(direct_io || !assembly.is_direct());
        for (offset, piece) in pieces(&bytes) {
            assembly.write_at(offset, piece).unwrap();
            assert!(assembly.has_data(offset..offset + 1));
            let mut seen = vec![0; piece.len()];
            assembly.file().read_exact_at(&mut seen, offset).unwrap();
            assert!(seen == piece);
        }
        let file = assembly.file().clone();
        assembly.finish().unwrap();
        assert!(fs::read(&target).unwrap() == bytes);
        let mut seen = vec![0; bytes.len()];
        file.read_exact_at(&mut seen, 0).unwrap();
        assert!(seen == bytes, "by whoever still reads from it");
    }
}

#[test]
fn a_large_output_that_was_broken_off_is_gone_on_with() {
    let bytes = large();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let options = OutputOptions::default().resuming();
    let pieces = pieces(&bytes);
    let (first, rest) = pieces.split_at(pieces.len() / 2);
    let assembly = begin_large(&target, &bytes, &options);
    for (offset, piece) in first {
        assembly.write_at(*offset, piece).unwrap();
    }
    drop(assembly);
    let assembly = begin_large(&target, &bytes, &options);
    assert!(assembly.is_resumed());
    for (offset, piece) in first {
        let left = assembly.leftover(*offset, u32::try_from(piece.len()).unwrap());
        assert!(left.unwrap() == *piece);
    }
    for (offset, piece) in rest {
        assembly.write_at(*offset, piece).unwrap();
    }
    assembly.finish().unwrap();
    assert!(fs::read(&target).unwrap() == bytes);
}

#[test]
fn a_large_output_that_is_abandoned_leaves_nothing() {
    let bytes = large();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let assembly = begin_large(&target, &bytes, &OutputOptions::default());
    assembly.write_at(0, &bytes).unwrap();
    drop(assembly);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_file_that_has_taken_the_temporary_name_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let file = File::create(&ours).unwrap();
    fs::write(&theirs, b"precious").unwrap();
    fs::rename(&theirs, &ours).unwrap();
    assert!(!OutputFile::direct(file, &ours, 1 << 30).is_direct());
}

#[test]
fn an_output_in_doubt_is_not_gone_on_with() {
    let bytes = large();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let options = OutputOptions::default().resuming();
    let mut assembly = begin_large(&target, &bytes, &options);
    assembly.write_at(0, &bytes).unwrap();
    assembly.distrust();
    drop(assembly);
    assert!(names(dir.path()).is_empty());
}

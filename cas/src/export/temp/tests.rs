use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::export::{Assembly, OutputOptions};

const CONTENT: &[u8] = b"the content of the file";

/// A folder, the target in it, and the temporary name that is tried at this turn.
struct Place {
    dir: tempfile::TempDir,
    target: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        Self { dir, target }
    }

    fn temp(&self, turn: u32) -> PathBuf {
        let name = self.target.file_name().unwrap();
        self.dir
            .path()
            .join(temp_name(name, &Address::of(CONTENT), turn))
    }

    fn begin(&self) -> Result<Assembly, ExportError> {
        let size_bytes = CONTENT.len() as u64;
        let options = OutputOptions::default();
        Assembly::create(&self.target, &Address::of(CONTENT), size_bytes, &options)
    }

    /// Writes the whole output, which must become a file of ours.
    fn export(&self) {
        let assembly = self.begin().unwrap();
        assembly.write_at(0, CONTENT).unwrap();
        assembly.finish().unwrap();
        assert_eq!(fs::read(&self.target).unwrap(), CONTENT);
        assert!(is_ours(&fs::symlink_metadata(&self.target).unwrap()));
    }
}

fn set_bits(path: &Path, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
}

#[test]
fn a_leftover_gives_its_name_but_not_one_in_use() {
    let place = Place::new();
    fs::write(place.temp(0), vec![9; 100]).unwrap();
    let assembly = place.begin().unwrap();
    assert!(matches!(place.begin(), Err(ExportError::Busy { .. })));
    assert!(place.temp(0).exists() && !place.temp(1).exists());
    drop(assembly);
    place.export();
    assert!(!place.temp(0).exists());
}

#[test]
fn who_had_a_leftover_open_cannot_write_to_the_output() {
    let place = Place::new();
    fs::write(place.temp(0), b"").unwrap();
    set_bits(&place.temp(0), 0o666);
    let mut held = OpenOptions::new().append(true).open(place.temp(0)).unwrap();
    place.export();
    held.write_all(b"added").unwrap();
    assert_eq!(fs::read(&place.target).unwrap(), CONTENT);
}

#[test]
fn a_file_of_somebody_else_is_not_taken_over() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make a file of somebody else");
        return;
    }
    let place = Place::new();
    for turn in [0, 1] {
        fs::write(place.temp(turn), b"theirs").unwrap();
        set_bits(&place.temp(turn), 0o666);
        std::os::unix::fs::chown(place.temp(turn), Some(65534), Some(65534)).unwrap();
    }
    let assembly = place.begin().unwrap();
    assert!(place.temp(2).exists());
    assert!(
        matches!(place.begin(), Err(ExportError::Busy { .. })),
        "under a later name as well"
    );
    drop(assembly);
    place.export();
    for turn in [0, 1] {
        assert_eq!(fs::read(place.temp(turn)).unwrap(), b"theirs");
    }
    assert!(!place.temp(2).exists());
}

#[test]
fn somebody_elses_lock_keeps_nobody_from_writing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make a file of somebody else");
        return;
    }
    let place = Place::new();
    let held = File::create(place.temp(0)).unwrap();
    std::os::unix::fs::chown(place.temp(0), Some(65534), None).unwrap();
    held.lock().unwrap();
    place.export();
}

#[test]
fn a_temporary_name_that_is_a_trap_is_left_alone() {
    let place = Place::new();
    let victim = place.dir.path().join("victim");
    fs::write(&victim, b"precious").unwrap();
    symlink(&victim, place.temp(0)).unwrap();
    fs::hard_link(&victim, place.temp(1)).unwrap();
    symlink(place.dir.path().join("nowhere"), place.temp(2)).unwrap();
    fs::create_dir(place.temp(3)).unwrap();
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mkfifoat(rustix::fs::CWD, place.temp(4), mode).unwrap();
    place.export();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert!((0..5).all(|turn| fs::symlink_metadata(place.temp(turn)).is_ok()));
    assert!(!place.dir.path().join("nowhere").exists());
}

#[test]
fn no_temporary_name_left_is_an_error_that_names_them() {
    let place = Place::new();
    for turn in 0..TEMP_NAMES {
        fs::create_dir(place.temp(turn)).unwrap();
    }
    match place.begin() {
        Err(ExportError::NoTemporaryName { path }) => assert_eq!(path, place.temp(0)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_has_got_its_final_name_is_no_leftover() {
    let place = Place::new();
    let (temp, file) = create(
        place.dir.path(),
        place.target.file_name().unwrap(),
        &Address::of(CONTENT),
    )
    .unwrap();
    assert!(is_still_at(&file, &temp).unwrap());
    fs::rename(&temp, &place.target).unwrap();
    assert!(!is_still_at(&file, &temp).unwrap());
    fs::write(&temp, b"of another").unwrap();
    assert!(!is_still_at(&file, &temp).unwrap());
}

#[test]
fn the_longest_name_has_temporary_names() {
    let mut place = Place::new();
    place.target = place.dir.path().join("n".repeat(MAX_NAME_BYTES));
    fs::create_dir(place.temp(0)).unwrap();
    place.export();
}

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

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
        self.begin_with(&OutputOptions::default())
    }

    fn resume(&self) -> Result<Assembly, ExportError> {
        self.begin_with(&OutputOptions::default().resuming())
    }

    fn begin_with(&self, options: &OutputOptions) -> Result<Assembly, ExportError> {
        let size_bytes = CONTENT.len() as u64;
        Assembly::create(&self.target, &Address::of(CONTENT), size_bytes, options)
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
    let Temp {
        path: temp, file, ..
    } = create(
        place.dir.path(),
        place.target.file_name().unwrap(),
        &Address::of(CONTENT),
        false,
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

#[test]
fn an_unfinished_output_that_resumes_is_gone_on_with() {
    let place = Place::new();
    let first = place.resume().unwrap();
    assert!(!first.is_resumed());
    assert_eq!(first.leftover(0, 4), None);
    first.write_at(0, &CONTENT[..4]).unwrap();
    drop(first);
    assert!(place.temp(0).exists());
    let second = place.resume().unwrap();
    assert!(second.is_resumed());
    assert_eq!(second.leftover(0, 4).unwrap(), &CONTENT[..4]);
    second.write_at(4, &CONTENT[4..]).unwrap();
    second.finish().unwrap();
    assert_eq!(fs::read(&place.target).unwrap(), CONTENT);
    assert!(!place.temp(0).exists());
}

#[test]
fn an_output_that_resumes_and_has_nothing_leaves_nothing() {
    let place = Place::new();
    drop(place.resume().unwrap());
    assert!(!place.temp(0).exists());
    place.resume().unwrap().write_at(0, b"t").unwrap();
    drop(place.resume().unwrap());
    assert!(place.temp(0).exists(), "what was there stays");
}

#[test]
fn without_resume_a_leftover_is_not_gone_on_with() {
    let place = Place::new();
    place.resume().unwrap().write_at(0, b"THE").unwrap();
    let assembly = place.begin().unwrap();
    assert!(!assembly.is_resumed());
    let mut bytes = vec![1; 3];
    assembly.file().read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [0; 3], "it is another file");
    drop(assembly);
    assert!(!place.temp(0).exists());
}

#[test]
fn a_leftover_is_as_long_as_the_whole_afterwards() {
    let place = Place::new();
    for len_bytes in [1, 100] {
        fs::write(place.temp(0), vec![9; len_bytes]).unwrap();
        set_bits(&place.temp(0), 0o600);
        let assembly = place.resume().unwrap();
        assert!(assembly.is_resumed());
        let length = fs::metadata(place.temp(0)).unwrap().len();
        assert_eq!(length, CONTENT.len() as u64);
        assert_eq!(assembly.leftover(0, 1).unwrap(), [9]);
        assert_eq!(assembly.leftover(0, 1000), None, "beyond the end");
        assert_eq!(assembly.leftover(u64::MAX, 2), None);
    }
}

#[test]
fn a_leftover_that_others_could_open_is_made_anew() {
    let place = Place::new();
    for bits in [0o666, 0o640, 0o604] {
        fs::write(place.temp(0), b"the").unwrap();
        set_bits(&place.temp(0), bits);
        let mut held = OpenOptions::new().append(true).open(place.temp(0)).unwrap();
        let assembly = place.resume().unwrap();
        assert!(!assembly.is_resumed(), "{bits:o}");
        held.write_all(b"added").unwrap();
        assembly.write_at(0, CONTENT).unwrap();
        assembly.finish().unwrap();
        assert_eq!(fs::read(&place.target).unwrap(), CONTENT);
        fs::remove_file(&place.target).unwrap();
    }
}

#[test]
fn a_trap_is_not_resumed_and_one_in_use_is_busy() {
    let place = Place::new();
    let victim = place.dir.path().join("victim");
    fs::write(&victim, b"precious").unwrap();
    set_bits(&victim, 0o600);
    symlink(&victim, place.temp(0)).unwrap();
    fs::hard_link(&victim, place.temp(1)).unwrap();
    let assembly = place.resume().unwrap();
    assert!(!assembly.is_resumed());
    assembly.write_at(0, CONTENT).unwrap();
    assert!(matches!(place.resume(), Err(ExportError::Busy { .. })));
    let reader = Arc::clone(assembly.file());
    drop(assembly);
    assert!(place.resume().unwrap().is_resumed());
    drop(reader);
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn where_nothing_was_written_nothing_is_left() {
    let place = Place::new();
    let block = 1 << 20;
    let options = OutputOptions::default().resuming();
    let begin = || Assembly::create(&place.target, &Address::of(CONTENT), 4 * block, &options);
    let first = begin().unwrap();
    first.write_at(2 * block, &[7; 100]).unwrap();
    drop(first);
    let second = begin().unwrap();
    assert!(second.has_data(2 * block..3 * block));
    assert_eq!(second.leftover(2 * block, 100).unwrap(), [7; 100]);
    if next_data_is_told(&second) {
        assert!(!second.has_data(0..block) && !second.has_data(3 * block..4 * block));
        assert_eq!(second.leftover(0, 100), None);
    }
}

/// Whether the file system knows holes.
fn next_data_is_told(assembly: &Assembly) -> bool {
    matches!(super::super::next_data(assembly.file().file(), 0), Ok(Some(at)) if at > 0)
}

#[test]
fn a_leftover_outlives_an_output_that_cannot_begin() {
    let place = Place::new();
    let options = OutputOptions::default().resuming();
    let begin =
        |size_bytes| Assembly::create(&place.target, &Address::of(CONTENT), size_bytes, &options);
    assert!(begin(1 << 60).unwrap_err().is_no_space());
    assert!(!place.temp(0).exists(), "nothing was written");
    begin(100).unwrap().write_at(50, b"fifty").unwrap();
    assert!(begin(1 << 60).unwrap_err().is_no_space());
    assert_eq!(begin(100).unwrap().leftover(50, 5).unwrap(), b"fifty");
}

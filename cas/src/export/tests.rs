use super::*;

const CONTENT: &[u8] = b"the content of the file";

fn begin(target: &Path, force: bool) -> Result<Assembly, ExportError> {
    Assembly::create(target, &Address::of(CONTENT), CONTENT.len() as u64, force)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
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
    assert_eq!(file_address(&target).unwrap(), Address::of(CONTENT));
}

#[test]
fn an_abandoned_assembly_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(begin(&dir.path().join("out"), false).unwrap());
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_leftover_is_taken_over_but_not_one_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let temp = dir.path().join(temp_name(
        target.file_name().unwrap(),
        &Address::of(CONTENT),
    ));
    fs::write(&temp, vec![9; 100]).unwrap();
    let assembly = begin(&target, false).unwrap();
    assert!(matches!(
        begin(&target, false),
        Err(ExportError::Busy { .. })
    ));
    assembly.write_at(0, CONTENT).unwrap();
    assembly.finish().unwrap();
    assert_eq!(
        fs::read(&target).unwrap(),
        CONTENT,
        "nothing of the leftover"
    );
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
        false,
    );
    let error = huge.unwrap_err();
    assert!(error.is_no_space() && !error.is_corruption(), "{error}");
    assert_eq!(names(dir.path()), ["folder"]);
}

#[test]
fn a_temporary_name_that_is_a_trap_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let temp = dir.path().join(temp_name(
        target.file_name().unwrap(),
        &Address::of(CONTENT),
    ));
    let victim = dir.path().join("victim");
    fs::write(&victim, b"precious").unwrap();
    std::os::unix::fs::symlink(&victim, &temp).unwrap();
    assert!(begin(&target, false).is_err());
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn the_longest_name_has_a_temporary_name() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("n".repeat(255));
    let assembly = begin(&target, false).unwrap();
    assembly.write_at(0, CONTENT).unwrap();
    assembly.finish().unwrap();
    assert!(target.exists());
}

#[test]
fn the_address_of_a_special_file_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(
        file_address(&fifo).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
    let missing = file_address(&dir.path().join("none")).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
}

use std::fs;
use std::io;

use super::*;
use crate::store::{FileState, StoreConfig};
use crate::testing::{bytes_of, go_on};

fn with(chunking: Chunking) -> ImportOptions {
    ImportOptions {
        chunking,
        ..ImportOptions::default()
    }
}

/// Gives the bytes in reads of odd lengths, with an interruption now and then.
struct Choppy<'a> {
    rest: &'a [u8],
    reads: usize,
}

impl Read for Choppy<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        if self.reads.is_multiple_of(5) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let take = (self.reads * 7919 % 60_000 + 1)
            .min(self.rest.len())
            .min(buf.len());
        let (now, later) = self.rest.split_at(take);
        buf[..take].copy_from_slice(now);
        self.rest = later;
        Ok(take)
    }
}

#[test]
fn files_of_every_edge_size_come_back_whole() {
    for chunking in [Chunking::Fixed, Chunking::FastCdc] {
        let store = Store::in_memory().unwrap();
        for len in [0, 1, 262_143, 262_144, 262_145, 524_288, 3_000_000] {
            let bytes = bytes_of(1, len);
            let mut reader = Choppy {
                rest: &bytes,
                reads: 0,
            };
            let done =
                import_reader(&store, &mut reader, None, &with(chunking), &mut go_on).unwrap();
            assert_eq!(done.address, Address::of(&bytes));
            assert_eq!(
                (done.bytes, done.entry.state),
                (len as u64, FileState::Complete)
            );
            let mut again = Vec::new();
            for chunk in done.manifest.chunks() {
                again.extend_from_slice(&store.get(&chunk.hash).unwrap().unwrap());
            }
            assert!(again == bytes, "{len} bytes");
        }
    }
}

#[test]
fn what_is_here_already_is_not_written_again() {
    let store = Store::in_memory().unwrap();
    let bytes = bytes_of(2, 1_000_000);
    let options = ImportOptions {
        name: Some("n".into()),
        ..ImportOptions::default()
    };
    let first = import_reader(&store, &mut bytes.as_slice(), None, &options, &mut go_on).unwrap();
    assert_eq!(
        (first.chunks, first.new_chunks, first.new_bytes),
        (4, 4, 1_000_000)
    );
    assert_eq!(first.saved_bytes, 0);
    let again = import_reader(&store, &mut bytes.as_slice(), None, &options, &mut go_on).unwrap();
    assert_eq!((again.chunks, again.new_chunks, again.new_bytes), (4, 0, 0));
    assert_eq!(again.saved_bytes, 1_000_000);
    assert_eq!(again.entry, first.entry);
    let edited = [&bytes[..300_000], b"tail"].concat();
    let third = import_reader(&store, &mut edited.as_slice(), None, &options, &mut go_on).unwrap();
    assert_eq!((third.chunks, third.new_chunks), (2, 1));
    assert_eq!((third.new_bytes, third.saved_bytes), (37_860, 262_144));
}

#[test]
fn what_a_file_repeats_is_saved() {
    let store = Store::in_memory().unwrap();
    let bytes = bytes_of(30, 262_144).repeat(3);
    let options = ImportOptions::default();
    let done = import_reader(&store, &mut bytes.as_slice(), None, &options, &mut go_on).unwrap();
    assert_eq!((done.chunks, done.new_chunks), (3, 1));
    assert_eq!((done.new_bytes, done.saved_bytes), (262_144, 524_288));
}

#[test]
fn a_file_that_is_here_keeps_its_cutting() {
    let store = Store::in_memory().unwrap();
    let bytes = bytes_of(3, 2_000_000);
    let fixed = with(Chunking::Fixed);
    let first = import_reader(&store, &mut bytes.as_slice(), None, &fixed, &mut go_on).unwrap();
    let stored = store.stats().unwrap().stored_bytes;
    let cdc = with(Chunking::FastCdc);
    let second = import_reader(&store, &mut bytes.as_slice(), None, &cdc, &mut go_on).unwrap();
    assert_eq!(second.manifest, first.manifest);
    assert_eq!((second.new_chunks, second.new_bytes), (0, 0));
    assert_eq!(second.saved_bytes, 2_000_000);
    assert_eq!(store.stats().unwrap().stored_bytes, stored);
}

#[test]
fn an_import_heals_a_file_with_damaged_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = bytes_of(4, 1_000_000);
    let open = || Store::open(dir.path(), StoreConfig::default()).unwrap();
    let options = ImportOptions::default();
    let first = import_reader(&open(), &mut bytes.as_slice(), None, &options, &mut go_on).unwrap();
    let pack = dir.path().join("packs/00000000.pack");
    let mut damaged = fs::read(&pack).unwrap();
    damaged[300_000] ^= 1;
    fs::write(&pack, damaged).unwrap();
    let store = open();
    let bad = first.manifest.chunks()[1].hash;
    assert!(store.get(&bad).is_err());
    let again = import_reader(&store, &mut bytes.as_slice(), None, &options, &mut go_on).unwrap();
    assert_eq!((again.new_chunks, again.manifest), (1, first.manifest));
    assert_eq!(store.get(&bad).unwrap().unwrap(), &bytes[262_144..524_288]);
}

#[test]
fn progress_is_told_and_can_cancel() {
    let store = Store::in_memory().unwrap();
    let bytes = bytes_of(5, 3_000_000);
    let mut told = Vec::new();
    let mut tell = |done: u64, total: Option<u64>| {
        told.push((done, total));
        ControlFlow::Continue(())
    };
    let size = Some(3_000_000);
    import_reader(
        &store,
        &mut bytes.as_slice(),
        size,
        &ImportOptions::default(),
        &mut tell,
    )
    .unwrap();
    assert_eq!(told.first(), Some(&(0, size)));
    assert_eq!(told.last(), Some(&(3_000_000, size)));
    assert!(told.is_sorted());
    let bytes = bytes_of(6, 3_000_000);
    let mut stop = |done: u64, _: Option<u64>| {
        if done > 1_000_000 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let options = ImportOptions::default();
    let before = store.stats().unwrap();
    let error =
        import_reader(&store, &mut bytes.as_slice(), size, &options, &mut stop).unwrap_err();
    assert!(matches!(error, ImportError::Cancelled));
    let after = store.stats().unwrap();
    assert_eq!(
        (after.files, after.chunks),
        (before.files, before.chunks),
        "nothing stays behind"
    );
}

#[test]
fn a_size_that_no_manifest_can_list_is_refused_before_reading() {
    let store = Store::in_memory().unwrap();
    let mut never = io::empty();
    let size = Some((4 << 40) + 1);
    let error = import_reader(
        &store,
        &mut never,
        size,
        &ImportOptions::default(),
        &mut go_on,
    );
    assert!(matches!(error, Err(ImportError::TooLarge)));
}

#[test]
fn a_failing_reader_leaves_nothing() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(1)
                .ok_or_else(|| io::Error::other("unplugged"))?;
            buf.fill(u8::try_from(self.0).unwrap());
            Ok(buf.len())
        }
    }
    let store = Store::in_memory().unwrap();
    let options = ImportOptions::default();
    let error = import_reader(&store, &mut Failing(5), None, &options, &mut go_on).unwrap_err();
    assert!(matches!(&error, ImportError::Read(source) if source.to_string() == "unplugged"));
    let stats = store.stats().unwrap();
    assert_eq!((stats.files, stats.chunks), (0, 0));
}

#[test]
fn special_and_missing_files_are_refused_by_kind() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::in_memory().unwrap();
    let refusal =
        |path: &Path| import_file(&store, path, &ImportOptions::default(), &mut go_on).unwrap_err();
    assert!(matches!(
        refusal(&dir.path().join("none")),
        ImportError::NotFound { .. }
    ));
    let kind = |path: &Path| match refusal(path) {
        ImportError::NotAFile { kind, .. } => kind,
        other => panic!("{other}"),
    };
    assert_eq!(kind(dir.path()), "a directory");
    assert_eq!(kind(Path::new("/dev/null")), "a character device");
    let fifo = dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(kind(&fifo), "a FIFO");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&fifo, &link).unwrap();
    assert_eq!(kind(&link), "a FIFO");
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(kind(&socket), "a socket");
    assert_eq!(store.stats().unwrap().files, 0);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let bytes = bytes_of(7, 2_000_000);
    type Change = fn(&Path);
    let changes: [Change; 4] = [
        |path| fs::write(path, bytes_of(8, 2_000_000)).unwrap(),
        |path| {
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(1_999_999)
                .unwrap()
        },
        |path| fs::remove_file(path).unwrap(),
        |path| {
            let other = path.with_extension("other");
            fs::copy(path, &other).unwrap();
            fs::rename(other, path).unwrap();
        },
    ];
    for change in changes {
        fs::write(&path, &bytes).unwrap();
        let store = Store::in_memory().unwrap();
        let mut changed = false;
        let mut meddle = |done: u64, _: Option<u64>| {
            if done > 1_000_000 && !std::mem::replace(&mut changed, true) {
                change(&path);
            }
            ControlFlow::Continue(())
        };
        let error = import_file(&store, &path, &ImportOptions::default(), &mut meddle).unwrap_err();
        assert!(matches!(error, ImportError::Changed { .. }), "{error}");
        assert_eq!(store.stats().unwrap().chunks, 0);
    }
}

#[test]
fn names_come_from_the_path_and_must_be_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own name.txt");
    fs::write(&path, b"content").unwrap();
    let store = Store::in_memory().unwrap();
    let done = import_file(&store, &path, &ImportOptions::default(), &mut go_on).unwrap();
    assert_eq!(done.entry.name.as_deref(), Some("own name.txt"));
    let options = ImportOptions {
        name: Some("a/b".into()),
        ..ImportOptions::default()
    };
    let error = import_file(&store, &path, &options, &mut go_on).unwrap_err();
    assert!(matches!(error, ImportError::Name(_)));
}

#[test]
fn concurrent_imports_of_the_same_and_of_other_files_agree() {
    let store = Store::in_memory().unwrap();
    let files: Vec<Vec<u8>> = (0..3).map(|n| bytes_of(20 + n, 1_500_000)).collect();
    std::thread::scope(|scope| {
        for n in 0..6 {
            let (store, bytes) = (&store, &files[n % 3]);
            scope.spawn(move || {
                let options = with(if n < 3 {
                    Chunking::Fixed
                } else {
                    Chunking::FastCdc
                });
                let done = import_reader(store, &mut bytes.as_slice(), None, &options, &mut go_on);
                assert_eq!(done.unwrap().address, Address::of(bytes));
            });
        }
    });
    assert_eq!(store.files().unwrap().len(), 3);
    for bytes in &files {
        let manifest = store.manifest(&Address::of(bytes)).unwrap().unwrap();
        assert!(store.have(&manifest).unwrap().is_complete());
    }
}

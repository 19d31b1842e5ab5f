//! A file that is small enough to be read whole, and entered with others.

use std::io::Read;
use std::path::Path;

use super::ImportError;
use super::file::SourceFile;
use crate::id::Address;
use crate::store::{MAX_SMALL_FILE_BYTES, SmallFile};

/// Reads a regular file for [`crate::Store::add_small_files`], under its own name. `None` when it has more
/// than [`MAX_SMALL_FILE_BYTES`].
///
/// # Errors
/// See [`ImportError`]; a file that changes while it is read is none.
pub fn read_small_file(path: &Path) -> Result<Option<SmallFile>, ImportError> {
    let source = SourceFile::open(path)?;
    let size_bytes = source.identity.size_bytes;
    if size_bytes > MAX_SMALL_FILE_BYTES {
        return Ok(None);
    }
    // One more than it says to have: files of some file systems (proc, FUSE) say 0 and have bytes, which is seen by that.
    let most_bytes = size_bytes + 1;
    let mut bytes = Vec::with_capacity(usize::try_from(most_bytes).unwrap_or(0));
    let read = (&source.file).take(most_bytes).read_to_end(&mut bytes);
    read.map_err(|error| source.name(ImportError::Read(error)))?;
    source.check_unchanged(bytes.len() as u64)?;
    let name = path.file_name().and_then(|name| name.to_str());
    Ok(Some(SmallFile {
        address: Address::of(&bytes),
        bytes: bytes.into(),
        name: name.map(str::to_owned),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_read_whole_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own name");
        for len in [0, 1, MAX_SMALL_FILE_BYTES] {
            let bytes = vec![7; usize::try_from(len).unwrap()];
            std::fs::write(&path, &bytes).unwrap();
            let file = read_small_file(&path).unwrap().unwrap();
            assert_eq!(file.address, Address::of(&bytes));
            assert_eq!(
                (file.bytes.as_ref(), file.name.as_deref()),
                (&bytes[..], Some("own name"))
            );
        }
        std::fs::write(
            &path,
            vec![7; usize::try_from(MAX_SMALL_FILE_BYTES).unwrap() + 1],
        )
        .unwrap();
        assert_eq!(read_small_file(&path).unwrap(), None);
        let folder = read_small_file(dir.path()).unwrap_err();
        assert!(matches!(folder, ImportError::NotAFile { .. }), "{folder}");
    }
    /// Such a file is not taken for an empty one.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_that_says_to_be_empty_and_is_not_is_refused() {
        let path = Path::new("/proc/version");
        assert_eq!(std::fs::metadata(path).unwrap().len(), 0);
        assert!(!std::fs::read(path).unwrap().is_empty());
        let error = read_small_file(path).unwrap_err();
        assert!(matches!(error, ImportError::Changed { .. }), "{error}");
    }
}

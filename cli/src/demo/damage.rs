//! Damage to a store, as a failing disk would do it: bits change behind the node's back.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Chunks begin behind the pack file's own header.
const PACK_HEADER_BYTES: u64 = 4096;

/// Where behind the header the first byte is flipped: inside the first chunk, past its record header.
const FIRST_BYTE: u64 = PACK_HEADER_BYTES + 128;

/// One flip in every second chunk of the usual size.
const STEP_BYTES: u64 = 512 << 10;

/// Flips single bytes all over the pack files of a data directory, and says how many.
pub(crate) fn corrupt(data_dir: &Path) -> io::Result<u32> {
    let mut flipped = 0;
    for entry in fs::read_dir(data_dir.join("packs"))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "pack")
        {
            flipped += flip_bytes(&path)?;
        }
    }
    Ok(flipped)
}

fn flip_bytes(path: &Path) -> io::Result<u32> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let bytes = file.metadata()?.len();
    let mut flipped = 0;
    let mut offset = FIRST_BYTE;
    while offset < bytes {
        let mut byte = [0u8];
        file.read_exact_at(&mut byte, offset)?;
        file.write_all_at(&[byte[0] ^ 0xff], offset)?;
        flipped += 1;
        offset += STEP_BYTES;
    }
    Ok(flipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_change_only_behind_the_header_and_only_in_packs() {
        let dir = tempfile::tempdir().unwrap();
        let packs = dir.path().join("packs");
        fs::create_dir(&packs).unwrap();
        let size = usize::try_from(FIRST_BYTE + STEP_BYTES + 1).unwrap();
        fs::write(packs.join("0.pack"), vec![7; size]).unwrap();
        fs::write(packs.join("1.pack"), vec![7; 4096]).unwrap();
        fs::write(packs.join("notes"), vec![7; size]).unwrap();
        assert_eq!(corrupt(dir.path()).unwrap(), 2);
        let changed = |name: &str| {
            fs::read(packs.join(name))
                .unwrap()
                .iter()
                .filter(|&&byte| byte != 7)
                .count()
        };
        assert_eq!(
            (changed("0.pack"), changed("1.pack"), changed("notes")),
            (2, 0, 0)
        );
    }

    #[test]
    fn a_directory_without_packs_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(corrupt(dir.path()).is_err());
    }
}

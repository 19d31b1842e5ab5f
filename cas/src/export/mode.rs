//! Who may read and write a finished output.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::OnceLock;

use rustix::fs::Mode;

/// The bits that are given: no set-id bits, nor the sticky one.
const PERMISSION_BITS: u32 = 0o777;

/// The bits of a temporary file.
pub(super) const PRIVATE_BITS: u32 = 0o600;

/// What a program asks for that has no wish of its own.
const PLAIN_FILE_BITS: u32 = 0o666;

/// The permission bits of the output: those of the file it replaces, or else those asked for.
///
/// Bits mean something else once the owner or the group changes, and may have been set by someone who
/// waits for our bytes. Then the old file only takes bits away from others, and grants none.
pub(super) fn final_bits(
    asked: Option<u32>,
    replaced: Option<&Metadata>,
    output: &Metadata,
) -> u32 {
    let fresh = asked.unwrap_or_else(|| PLAIN_FILE_BITS & !own_umask()) & PERMISSION_BITS;
    match replaced.filter(|old| old.is_file()) {
        None => fresh,
        Some(old) if (old.uid(), old.gid()) == (output.uid(), output.gid()) => {
            old.mode() & PERMISSION_BITS
        }
        Some(old) => fresh & (old.mode() | 0o700),
    }
}

/// Sets permission bits where the file system keeps any.
pub(super) fn set_bits(file: &File, bits: u32) -> io::Result<()> {
    match file.set_permissions(Permissions::from_mode(bits)) {
        // The file is ours, so it is the file system (FAT, some network ones) that has no such bits.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) =>
        {
            tracing::debug!(%error, "the permission bits of an output stay as they are");
            Ok(())
        }
        result => result,
    }
}

/// This process's file mode creation mask, as it was when first asked for.
pub fn own_umask() -> u32 {
    static UMASK: OnceLock<u32> = OnceLock::new();
    *UMASK.get_or_init(|| {
        // It can only be read by setting it. Once per process, so that two readers never restore each
        // other's stand-in; and a strict stand-in, so that what other threads make meanwhile is private.
        let mask = rustix::process::umask(Mode::RWXG | Mode::RWXO);
        rustix::process::umask(mask);
        #[allow(
            clippy::useless_conversion,
            reason = "the raw type is narrower on some systems"
        )]
        u32::from(mask.as_raw_mode())
    })
}

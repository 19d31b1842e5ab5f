//! The temporary file of an output: made by us, locked while it is being written.
//!
//! The folder may be one that others can write to. What already has the temporary name is hence not
//! written to: a leftover of ours is removed, and anything else stays, under a name we then do not use.
//! Only an output that resumes goes on with a leftover, if nobody else can have it open.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{ExportError, failed, mode};
use crate::id::Address;
use crate::name::MAX_NAME_BYTES;

/// Temporary names tried. One is enough unless somebody else has it; whoever takes several is bent on
/// it, and would take more.
const TEMP_NAMES: u32 = 8;

/// How often one name is tried while other processes of ours make and remove that very file.
const TRIES_PER_NAME: u32 = 8;

/// A temporary file, open for reading and writing, and locked.
#[derive(Debug)]
pub(super) struct Temp {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Whether an earlier output left it, with whatever is in it.
    pub(super) is_leftover: bool,
}

/// Makes the temporary file, readable and writable by us alone, or takes over a leftover when `resume`.
pub(super) fn create(
    folder: &Path,
    name: &OsStr,
    address: &Address,
    resume: bool,
) -> Result<Temp, ExportError> {
    for turn in 0..TEMP_NAMES {
        let path = folder.join(temp_name(name, address, turn));
        if let Some((file, is_leftover)) = create_named(folder, &path, resume)? {
            return Ok(Temp {
                path,
                file,
                is_leftover,
            });
        }
    }
    Err(ExportError::NoTemporaryName {
        path: folder.join(temp_name(name, address, 0)),
    })
}

/// `.<name>.<first digits of the address>.part`, with the name shortened where the whole would be too
/// long for a file system; from the second turn on with the number of the turn before `part`.
pub(crate) fn temp_name(name: &OsStr, address: &Address, turn: u32) -> OsString {
    let suffix = match turn {
        0 => format!(".{}.part", address.short()),
        _ => format!(".{}.{turn}.part", address.short()),
    };
    let room = MAX_NAME_BYTES - 1 - suffix.len();
    let name = name.as_bytes();
    let mut bytes = vec![b'.'];
    bytes.extend_from_slice(&name[..name.len().min(room)]);
    bytes.extend_from_slice(suffix.as_bytes());
    OsString::from_vec(bytes)
}

/// The file, and whether it is a leftover; `None` when something that is not ours has the name.
fn create_named(
    folder: &Path,
    temp: &Path,
    resume: bool,
) -> Result<Option<(File, bool)>, ExportError> {
    for _ in 0..TRIES_PER_NAME {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(mode::PRIVATE_BITS);
        // `create_new` is O_EXCL, which follows no link either.
        match options.create_new(true).open(temp) {
            Ok(file) => {
                if let Err(error) = lock(&file, temp) {
                    if !matches!(error, ExportError::Busy { .. }) {
                        let _ = fs::remove_file(temp);
                    }
                    return Err(error);
                }
                // Before the lock it could be taken for a leftover, and removed.
                if is_still_at(&file, temp)? {
                    return Ok(Some((file, false)));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match leftover(temp)? {
                Found::Gone => {}
                Found::NotOurs => return Ok(None),
                Found::Ours(file) if resume && is_private(&file, temp)? => {
                    return Ok(Some((file, true)));
                }
                // Someone may have had it open since it was less private.
                Found::Ours(_locked) => remove(temp)?,
            },
            Err(error) => return Err(not_created(folder, temp, error)),
        }
    }
    Err(ExportError::Busy {
        path: temp.to_owned(),
    })
}

/// What has the temporary name.
enum Found {
    /// Nothing any more.
    Gone,
    /// Something that is left alone.
    NotOurs,
    /// What a crash or a pause left, locked. What a process of ours still writes is [`ExportError::Busy`].
    Ours(File),
}

fn leftover(temp: &Path) -> Result<Found, ExportError> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match fs::symlink_metadata(temp) {
        Ok(data) if is_ours(&data) => {}
        Ok(_) => return Ok(Found::NotOurs),
        Err(error) if gone(&error) => return Ok(Found::Gone),
        Err(error) => return Err(failed("look at", temp)(error)),
    }
    // Between the look and the open it may have become something else.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.custom_flags(flags.bits().cast_signed());
    let file = match options.open(temp) {
        Ok(file) => file,
        Err(error) if gone(&error) => return Ok(Found::Gone),
        Err(_) => return Ok(Found::NotOurs),
    };
    let data = file.metadata().map_err(failed("look at", temp))?;
    if data.nlink() == 0 {
        return Ok(Found::Gone);
    }
    if !is_ours(&data) {
        return Ok(Found::NotOurs);
    }
    lock(&file, temp)?;
    // Whoever held the lock until now may have given the file its final name, and another this one.
    match is_still_at(&file, temp)? {
        true => Ok(Found::Ours(file)),
        false => Ok(Found::Gone),
    }
}

/// Removes a leftover whose lock is held.
fn remove(temp: &Path) -> Result<(), ExportError> {
    match fs::remove_file(temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", temp)(error)),
        _ => Ok(()),
    }
}

/// Whether a leftover was open to nobody else all the time: an output is private until it is finished.
/// Where the file system keeps no bits, they are no sign of anything.
fn is_private(file: &File, temp: &Path) -> Result<bool, ExportError> {
    let bits = || {
        let data = file.metadata().map_err(failed("look at", temp))?;
        Ok::<_, ExportError>(data.mode() & 0o777)
    };
    let found = bits()?;
    mode::set_bits(file, mode::PRIVATE_BITS).map_err(failed("set the mode of", temp))?;
    Ok(found == bits()?)
}

/// A plain file that we made and that has no other name: by such a name it may be anything of ours.
fn is_ours(data: &Metadata) -> bool {
    data.is_file() && data.nlink() == 1 && data.uid() == rustix::process::geteuid().as_raw()
}

fn lock(file: &File, temp: &Path) -> Result<(), ExportError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => ExportError::Busy {
            path: temp.to_owned(),
        },
        TryLockError::Error(error) => failed("lock", temp)(error),
    })
}

fn is_still_at(file: &File, temp: &Path) -> Result<bool, ExportError> {
    let held = file.metadata().map_err(failed("look at", temp))?;
    match fs::symlink_metadata(temp) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("look at", temp)(error)),
    }
}

/// The folder is known to exist: `NotFound` is how some that are not on a disk refuse a new file.
fn not_created(folder: &Path, temp: &Path, error: io::Error) -> ExportError {
    match error.kind() {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotFound => ExportError::NotWritable {
            path: folder.to_owned(),
            source: error,
        },
        _ => failed("create", temp)(error),
    }
}

#[cfg(test)]
mod tests;

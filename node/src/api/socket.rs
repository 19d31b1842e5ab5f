//! Where the socket of a data directory is, and how it is reached.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::{fs::PermissionsExt, net},
    },
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

/// Name of the socket in the data directory.
const SOCKET_FILE: &str = "api.sock";

/// A Unix socket's address holds 107 bytes of path on Linux, fewer elsewhere.
const MAX_DIRECT_PATH_BYTES: usize = 100;

/// Where the socket of a data directory is.
pub(crate) fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET_FILE)
}

/// A path by which the socket can be bound and connected to, however deep the folder is: through an open handle of it.
/// The handle must live as long as the path is used.
fn reach(data_dir: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let direct = socket_path(data_dir);
    if direct.as_os_str().len() <= MAX_DIRECT_PATH_BYTES {
        return Ok((direct, None));
    }
    let folder = File::open(data_dir)?;
    Ok((
        PathBuf::from(format!(
            "/proc/self/fd/{}/{SOCKET_FILE}",
            folder.as_raw_fd()
        )),
        Some(folder),
    ))
}

/// Binds the socket, readable by its owner alone. The caller holds the data directory's lock, so a socket file that
/// is already there is a dead process's.
pub(crate) fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    remove(data_dir)?;
    let (path, _folder) = reach(data_dir)?;
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(socket_path(data_dir), fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Takes over a socket that listens already. Calls look for it in the data directory, so that is where it has to be.
pub(crate) fn adopt(data_dir: &Path, passed: net::UnixListener) -> io::Result<UnixListener> {
    let addr = passed.local_addr()?;
    let path = addr.as_pathname();
    // By whatever links either is named.
    let folder = path.and_then(|path| path.parent()?.canonicalize().ok());
    let is_there = path.is_some_and(|path| path.ends_with(SOCKET_FILE))
        && folder.is_some_and(|folder| data_dir.canonicalize().is_ok_and(|dir| dir == folder));
    if !is_there {
        let at = path.map_or_else(|| "nowhere".to_owned(), |path| path.display().to_string());
        return Err(io::Error::other(format!(
            "it is at {at}, and calls look for {}",
            socket_path(data_dir).display()
        )));
    }
    passed.set_nonblocking(true)?;
    UnixListener::from_std(passed)
}

/// Connects to the daemon of a data directory.
pub(crate) async fn connect(data_dir: &Path) -> io::Result<UnixStream> {
    let (path, _folder) = reach(data_dir)?;
    UnixStream::connect(path).await
}

/// Removes the socket file, if there is one.
pub(crate) fn remove(data_dir: &Path) -> io::Result<()> {
    match fs::remove_file(socket_path(data_dir)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_passed_has_to_be_where_calls_look_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        let passed = net::UnixListener::bind(socket_path(&link)).unwrap();
        let listener = adopt(dir.path(), passed).unwrap();
        let (there, here) = tokio::join!(connect(dir.path()), listener.accept());
        there.unwrap();
        here.unwrap();
        let passed = net::UnixListener::bind(dir.path().join("other.sock")).unwrap();
        let error = adopt(dir.path(), passed).unwrap_err();
        assert!(
            error.to_string().contains("other.sock, and calls look for"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_deep_folder_is_reached_and_the_socket_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        for folder in [dir.path(), deep.as_path()] {
            fs::create_dir_all(folder).unwrap();
            fs::write(socket_path(folder), b"left by a dead process").unwrap();
            let listener = bind(folder).unwrap();
            let (there, here) = tokio::join!(connect(folder), listener.accept());
            there.unwrap();
            here.unwrap();
            let mode = fs::metadata(socket_path(folder))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}

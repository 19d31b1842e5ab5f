//! What the service manager is told: that the node listens, or reads its settings again.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends a state such as `READY=1` to whoever asked for it with NOTIFY_SOCKET. Nobody may have, and nobody has to listen.
pub(super) fn notify(state: &str) {
    if let Err(error) = send(state) {
        tracing::debug!(%error, state, "the service manager was not told");
    }
}

fn send(state: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(state.as_bytes(), &address(&path)?)?;
    Ok(())
}

/// A path; where it begins with `@`, a name that is none.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let [b'@', name @ ..] = path.as_bytes() {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    SocketAddr::from_pathname(path)
}

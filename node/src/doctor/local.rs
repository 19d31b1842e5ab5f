//! Looks at the machine: the data directory, its disk, the clock, limits, ports.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use casnode_cas::{Store, disk_bytes, file_system, latest_change_unix_s, probe_folder};
use casnode_dht::{Multiaddr, Protocol};
use rustix::process::{Resource, getrlimit};

use super::{
    DEADLINE, timed,
    verdict::{
        Clock, DataDir, Disk, Folder, Port, PortState, check, clock, data_dir, disk, limits, port,
    },
};
use crate::{
    api::{DoctorCheck, DoctorKind, DoctorOutcome},
    clock as time, errors,
    tasks::blocking,
};

/// What a doctor knows who looks at this machine.
#[derive(Debug, Clone, Default)]
pub struct LocalDoctor {
    /// Where the node keeps everything.
    pub data_dir: PathBuf,
    /// The most that the store may take, where that is known.
    pub max_store_bytes: Option<u64>,
    /// What it takes now, where that is known.
    pub used_bytes: Option<u64>,
    /// Of a daemon: its age by the monotonic clock and by the time of day.
    pub(super) age_s: Option<(u64, i64)>,
    /// Of a daemon: its store can only be read.
    pub(super) is_read_only: bool,
}

/// A port that is looked at.
#[derive(Debug, Clone)]
pub enum OpenPort {
    /// Of the network, as `--listen` has it.
    Network(String),
    /// Of the API; `optional`: nobody asked for this very one.
    Api {
        /// The address.
        listen: SocketAddr,
        /// Where it is taken, the daemon goes without.
        optional: bool,
    },
}

impl LocalDoctor {
    /// A doctor of the node that keeps everything there.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            ..Self::default()
        }
    }

    /// Makes a check of the machine. Of other kinds there is nothing to see here.
    pub async fn look(&self, kind: DoctorKind) -> Vec<DoctorCheck> {
        let doctor = self.clone();
        let look = move || match kind {
            DoctorKind::DataDir => doctor.look_at_data_dir(),
            DoctorKind::Disk => doctor.look_at_disk(),
            DoctorKind::Clock => doctor.look_at_clock(),
            DoctorKind::Limits => doctor.look_at_limits(),
            _ => Vec::new(),
        };
        look_aside(kind, look).await
    }

    /// Whether a port is to be had. No daemon runs: one that does is asked itself.
    pub async fn look_at_port(port: OpenPort) -> Vec<DoctorCheck> {
        look_aside(DoctorKind::Ports, move || look_at_port(&port)).await
    }

    fn look_at_data_dir(&self) -> Vec<DoctorCheck> {
        data_dir(&DataDir {
            path: self.data_dir.display().to_string(),
            folder: look_at_folder(&self.data_dir, self.is_read_only),
        })
    }

    fn look_at_disk(&self) -> Vec<DoctorCheck> {
        let place = there(&self.data_dir);
        let looked = disk_bytes(place).and_then(|bytes| Ok((bytes, file_system(place)?)));
        match looked {
            Ok(((free_bytes, total_bytes), file_system)) => disk(&Disk {
                file_system,
                free_bytes,
                total_bytes,
                // Not in a folder that is not this node's.
                probe: probe_folder(&self.data_dir).ok(),
                max_store_bytes: self.max_store_bytes,
                used_bytes: self.used_bytes,
            }),
            Err(error) => vec![check(
                DoctorKind::Disk,
                DoctorOutcome::Fail,
                format!(
                    "the disk of {} cannot be looked at: {error}",
                    place.display()
                ),
                "run this as the user that the node runs as",
            )],
        }
    }

    fn look_at_clock(&self) -> Vec<DoctorCheck> {
        let probe = probe_folder(&self.data_dir).ok();
        clock(&Clock {
            now_s: i64::try_from(time::unix_s()).unwrap_or(i64::MAX),
            disk_s: probe.map(|probe| probe.written_unix_s),
            latest_change_s: latest_change_unix_s(&self.data_dir).ok().flatten(),
            age_s: self.age_s,
        })
    }

    fn look_at_limits(&self) -> Vec<DoctorCheck> {
        let limit = getrlimit(Resource::Nofile);
        // A daemon has raised its own as far as it may; one that is yet to start will.
        limits(match self.age_s {
            Some(_) => limit.current,
            None => limit.maximum,
        })
    }
}

/// Looks where waiting is allowed, and not for ever.
async fn look_aside(
    kind: DoctorKind,
    look: impl FnOnce() -> Vec<DoctorCheck> + Send + 'static,
) -> Vec<DoctorCheck> {
    let look = async {
        blocking(look).await.unwrap_or_else(|error| {
            let error = errors::panicked(error);
            vec![check(kind, DoctorOutcome::Fail, error.why, error.next)]
        })
    };
    timed(kind, DEADLINE, look).await
}

/// The folder itself, else the nearest one above it that is there.
fn there(folder: &Path) -> &Path {
    let mut above = folder.ancestors();
    above.find(|path| path.is_dir()).unwrap_or(folder)
}

fn look_at_folder(path: &Path, is_read_only: bool) -> Folder {
    let found = match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => return Folder::Other,
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Folder::Absent,
        Err(error) => return Folder::Closed(error.to_string()),
    };
    Folder::There {
        owner: found.uid(),
        me: rustix::process::geteuid().as_raw(),
        mode: found.mode(),
        unwritable: probe_folder(path).err().map(|error| error.to_string()),
        is_read_only,
        store: Store::version_in(path).map_err(|error| errors::chain(&error)),
    }
}

fn look_at_port(seen: &OpenPort) -> Vec<DoctorCheck> {
    match seen {
        OpenPort::Api { listen, optional } => port(&Port {
            address: listen.to_string(),
            of: "the API",
            flag: "--http",
            is_optional: *optional,
            state: state(TcpListener::bind(listen).map(drop)),
        }),
        OpenPort::Network(address) => port(&Port {
            address: address.clone(),
            of: "the network",
            flag: "--listen",
            is_optional: false,
            state: match socket_of(address) {
                Some((at, true)) => state(TcpListener::bind(at).map(drop)),
                Some((at, false)) => state(UdpSocket::bind(at).map(drop)),
                None => PortState::Refused("it is no address of TCP or QUIC".to_owned()),
            },
        }),
    }
}

fn state(bound: io::Result<()>) -> PortState {
    match bound {
        Ok(()) => PortState::Free,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => PortState::Taken,
        Err(error) => PortState::Refused(error.to_string()),
    }
}

/// The socket of an address to listen on, and whether it is TCP's.
fn socket_of(address: &str) -> Option<(SocketAddr, bool)> {
    let address: Multiaddr = address.parse().ok()?;
    let mut ip = None;
    for part in &address {
        match (part, ip) {
            (Protocol::Ip4(found), _) => ip = Some(found.into()),
            (Protocol::Ip6(found), _) => ip = Some(found.into()),
            (Protocol::Tcp(port), Some(ip)) => return Some((SocketAddr::new(ip, port), true)),
            (Protocol::Udp(port), Some(ip)) => return Some((SocketAddr::new(ip, port), false)),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_of_an_address() {
        let of = |text| socket_of(text).map(|(at, is_tcp)| (at.to_string(), is_tcp));
        assert_eq!(
            of("/ip4/0.0.0.0/tcp/4101"),
            Some(("0.0.0.0:4101".to_owned(), true))
        );
        assert_eq!(
            of("/ip6/::/udp/1/quic-v1"),
            Some(("[::]:1".to_owned(), false))
        );
        assert_eq!(of("/dns4/x/tcp/1"), None);
    }

    #[test]
    fn a_port_that_is_taken_is_told_from_one_that_is_free() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = held.local_addr().unwrap();
        let look = |optional| look_at_port(&OpenPort::Api { listen, optional })[0].clone();
        assert_eq!(look(false).outcome, DoctorOutcome::Fail);
        assert_eq!(look(true).outcome, DoctorOutcome::Warn);
        let port = listen.port();
        let look = |text: String| look_at_port(&OpenPort::Network(text))[0].clone();
        assert_eq!(
            look(format!("/ip4/127.0.0.1/tcp/{port}")).outcome,
            DoctorOutcome::Fail
        );
        assert_eq!(
            look("/ip4/127.0.0.1/udp/0/quic-v1".to_owned()).outcome,
            DoctorOutcome::Ok
        );
        // Of no machine: TEST-NET-1.
        let other = look("/ip4/192.0.2.1/tcp/4101".to_owned());
        assert!(other.what.contains("cannot be had"), "{other:?}");
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_made_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let doctor = LocalDoctor::new(dir.path().join("a/b"));
        for kind in [
            DoctorKind::DataDir,
            DoctorKind::Disk,
            DoctorKind::Clock,
            DoctorKind::Limits,
        ] {
            let checks = doctor.look(kind).await;
            assert!(checks.iter().all(|check| check.check == kind), "{checks:?}");
            assert!(!checks.is_empty());
        }
        assert!(!dir.path().join("a").exists());
    }
}

use casnode_cas::{FileSystem, FolderProbe};
use casnode_dht::Reach;

use super::*;
use crate::api::{BehindReport, DhtMode};

const GIB: u64 = 1 << 30;

/// The worst of some checks, and the words of the first that is so.
fn worst(checks: &[DoctorCheck]) -> (DoctorOutcome, &str) {
    let worst = checks.iter().map(|check| check.outcome).max().unwrap();
    let first = checks.iter().find(|check| check.outcome == worst).unwrap();
    let has_advice = !first.next.is_empty();
    assert_eq!(has_advice, worst != DoctorOutcome::Ok, "{first:?}");
    (worst, &first.what)
}

#[track_caller]
fn assert_says(checks: &[DoctorCheck], outcome: DoctorOutcome, words: &str) {
    let (worst, what) = worst(checks);
    assert!(worst == outcome && what.contains(words), "{checks:?}");
}

fn folder(change: impl FnOnce(&mut Folder)) -> Vec<DoctorCheck> {
    let mut folder = Folder::There {
        owner: 1000,
        me: 1000,
        mode: 0o40700,
        unwritable: None,
        is_read_only: false,
        store: Ok(Some(3)),
    };
    change(&mut folder);
    data_dir(&DataDir {
        path: "/d".to_owned(),
        folder,
    })
}

#[test]
fn a_data_directory() {
    use DoctorOutcome::{Fail, Ok as Good, Warn};
    assert_says(&folder(|_| {}), Good, "a store of format 3");
    assert_says(&folder(|f| *f = Folder::Absent), Good, "not there yet");
    assert_says(&folder(|f| *f = Folder::Other), Fail, "not a folder");
    let closed = |f: &mut Folder| *f = Folder::Closed("no".to_owned());
    assert_says(&folder(closed), Fail, "cannot be looked at: no");
    let with = |number: usize| {
        folder(|folder| {
            let Folder::There {
                me,
                mode,
                unwritable,
                is_read_only,
                store,
                ..
            } = folder
            else {
                return;
            };
            match number {
                0 => *me = 1,
                1 => *me = 0,
                2 => *mode = 0o40755,
                3 => *unwritable = Some("read-only".to_owned()),
                4 => *is_read_only = true,
                _ => *store = Err("newer".to_owned()),
            }
        })
    };
    assert_says(&with(0), Fail, "user 1000's, and this is user 1");
    assert_says(&with(1), Good, "writable");
    assert_says(&with(2), Warn, "mode 755");
    assert_says(&with(3), Fail, "nothing can be written in /d: read-only");
    assert_says(&with(4), Fail, "can only be read");
    assert_says(&with(5), Fail, "cannot be opened: newer");
}

fn on_disk(
    free_bytes: u64,
    max_store_bytes: Option<u64>,
    file_system: FileSystem,
) -> Vec<DoctorCheck> {
    disk(&Disk {
        file_system,
        free_bytes,
        total_bytes: 100 * GIB,
        probe: Some(FolderProbe {
            direct_io: true,
            shares_blocks: false,
            written_unix_s: 0,
        }),
        max_store_bytes,
        used_bytes: Some(GIB),
    })
}

#[test]
fn a_disk() {
    use DoctorOutcome::{Fail, Ok as Good, Warn};
    let ext4 = FileSystem::Local("ext4");
    let fine = on_disk(50 * GIB, None, ext4.clone());
    assert_says(
        &fine,
        Good,
        "50.0 GiB of 100.0 GiB free on ext4; direct I/O: yes; files can share blocks: no",
    );
    assert_says(
        &on_disk(50 * GIB, Some(51 * GIB), ext4.clone()),
        Good,
        "free on ext4",
    );
    assert_says(
        &on_disk(50 * GIB, Some(52 * GIB), ext4.clone()),
        Warn,
        "51.0 GiB more",
    );
    assert_says(
        &on_disk(GIB / 2, None, ext4.clone()),
        Warn,
        "512.0 MiB are free",
    );
    assert_says(&on_disk(1 << 20, None, ext4), Fail, "nothing can be stored");
    assert_says(
        &on_disk(50 * GIB, None, FileSystem::Network("NFS")),
        Warn,
        "NFS",
    );
    assert_says(
        &on_disk(50 * GIB, None, FileSystem::Memory("tmpfs")),
        Warn,
        "in memory",
    );
    assert_says(
        &on_disk(50 * GIB, None, FileSystem::Program("FUSE")),
        Warn,
        "FUSE",
    );
}

#[test]
fn a_clock() {
    use DoctorOutcome::{Fail, Ok as Good, Warn};
    let now_s = 1_800_000_000;
    let fine = Clock {
        now_s,
        disk_s: Some(now_s - 1),
        latest_change_s: Some(now_s - 5),
        age_s: Some((100, 101)),
    };
    assert_says(&clock(&fine), Good, "cannot be known");
    let at = |change: fn(&mut Clock)| {
        let mut seen = fine.clone();
        change(&mut seen);
        clock(&seen)
    };
    assert_says(&at(|c| c.now_s = 5), Fail, "before this program");
    assert_says(
        &at(|c| c.latest_change_s = Some(c.now_s + 7200)),
        Warn,
        "written 2h from now",
    );
    assert_says(&at(|c| c.disk_s = Some(c.now_s - 3600)), Warn, "off by 1h");
    assert_says(&at(|c| c.age_s = Some((100, 3700))), Warn, "forward by 1h");
    assert_says(&at(|c| c.age_s = Some((3700, 100))), Warn, "back by 1h");
}

#[test]
fn limits_and_ports() {
    use DoctorOutcome::{Fail, Ok as Good, Warn};
    assert_says(&limits(None), Good, "as it likes");
    assert_says(&limits(Some(65_536)), Good, "65536 files");
    assert_says(&limits(Some(1024)), Warn, "1024");
    assert_says(&limits(Some(64)), Fail, "too few");
    let of = |state, is_optional| {
        port(&Port {
            address: "x:1".to_owned(),
            of: "the API",
            flag: "--http",
            is_optional,
            state,
        })
    };
    assert_says(&of(PortState::Free, false), Good, "free");
    assert_says(&of(PortState::Ours, false), Good, "the daemon listens");
    assert_says(&of(PortState::Taken, false), Fail, "another process has it");
    assert_says(&of(PortState::Taken, true), Warn, "another process has it");
    assert_says(
        &of(PortState::Refused("why".to_owned()), false),
        Fail,
        "why",
    );
}

fn listening(addrs: &[&str]) -> Vec<DoctorCheck> {
    addresses(&Addresses {
        listening: addrs.iter().map(|addr| addr.parse().unwrap()).collect(),
    })
}

#[test]
fn addresses_and_what_others_found_of_them() {
    use DoctorOutcome::{Fail, Ok as Good, Warn};
    assert_says(&listening(&[]), Fail, "nowhere");
    assert_says(
        &listening(&["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"]),
        Warn,
        "2 ports",
    );
    let near = listening(&["/ip4/10.0.0.1/tcp/1", "/ip4/100.64.0.1/tcp/1"]);
    assert_says(
        &near,
        Good,
        "0 ports for everybody and 2 ports for this network, no public IPv6",
    );
    let public = listening(&["/ip4/9.9.9.9/tcp/1", "/ip6/2620:fe::fe/tcp/1"]);
    assert_says(
        &public,
        Good,
        "2 ports for everybody and 0 ports for this network, public IPv6",
    );
    let of = |mode, reach| nat(&Nat { mode, reach });
    assert_says(&of(DhtMode::Auto, Reach::Untested), Good, "not tested");
    assert_says(&of(DhtMode::Auto, Reach::Reached), Good, "has dialled");
    assert_says(
        &of(DhtMode::Auto, Reach::Unreachable),
        Warn,
        "there are no relays",
    );
    assert_says(
        &of(DhtMode::Client, Reach::Untested),
        Good,
        "chosen (client)",
    );
}

#[test]
fn peers_to_join_by() {
    use DoctorOutcome::{Fail, Ok as Good, Warn};
    let one = |answers: bool| Dialled {
        address: "/ip4/1.2.3.4/tcp/1".to_owned(),
        answer: if answers {
            Ok("12D3".to_owned())
        } else {
            Err("refused".to_owned())
        },
        took_ms: 0,
    };
    assert_says(&bootstrap(&[], 0), Warn, "nobody is connected");
    assert_says(&bootstrap(&[], 1), Good, "others are connected");
    assert_says(&bootstrap(&[one(true)], 0), Good, "answers: 12D3");
    assert_says(
        &bootstrap(&[one(false)], 0),
        Fail,
        "/ip4/1.2.3.4/tcp/1: refused",
    );
    let both = bootstrap(&[one(true), one(false)], 0);
    assert_eq!(both.len(), 2);
    assert_says(&both, Warn, "refused");
}

#[test]
fn its_part_in_the_dht() {
    use DoctorOutcome::{Fail, Ok as Good, Warn};
    let of = |connected, known, has_bootstrap| {
        members(&Members {
            mode: DhtMode::Auto,
            is_serving: true,
            connected,
            known,
            network_peers: 5,
            has_bootstrap,
        })
    };
    assert_says(&of(0, 0, true), Fail, "although");
    assert_says(&of(0, 3, false), Warn, "connected to nobody");
    assert_says(&of(2, 0, true), Warn, "none of them serves");
    assert_says(
        &of(1, 4, true),
        Good,
        "server (by itself), 4 peers in the routing table, 1 peer connected",
    );
    assert_says(&announcing(0, 0, 0, None), Good, "nothing");
    assert_says(&announcing(3, 3, 0, None), Good, "3 of 3 keys");
    assert_says(&announcing(3, 2, 1, None), Warn, "1 key of 3 keys");
    let behind = BehindReport {
        reason: "stalled".to_owned(),
        what: "a".to_owned(),
        why: "b".to_owned(),
        next: "c".to_owned(),
    };
    assert_says(&announcing(3, 2, 1, Some(&behind)), Warn, "a: b");
}

#[test]
fn sizes_have_the_largest_unit() {
    assert_eq!(size(1023), "1023 bytes");
    assert_eq!(size(1536), "1.5 KiB");
    assert_eq!(size(u64::MAX), "16777215.9 TiB");
}

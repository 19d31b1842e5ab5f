use super::*;

/// A node that is connected, and has asked three peers.
fn connected() -> Facts {
    Facts {
        network: Network::Connected,
        asked_peers: 3,
        room: Room::Enough,
        ..Facts::default()
    }
}

fn with(providers: &[Asked]) -> Facts {
    Facts {
        providers: providers.to_vec(),
        ..connected()
    }
}

#[test]
fn each_cause_is_named() {
    let cases = [
        (
            Facts {
                here: Here::Whole,
                ..Facts::default()
            },
            WhyCause::Here,
        ),
        (Facts::default(), WhyCause::NoNetwork),
        (
            Facts {
                network: Network::Alone,
                ..Facts::default()
            },
            WhyCause::NoPeers,
        ),
        (connected(), WhyCause::Unknown),
        (
            Facts {
                has_record: true,
                ..connected()
            },
            WhyCause::NoProviders,
        ),
        (
            Facts {
                out_of_time: true,
                ..connected()
            },
            WhyCause::OutOfTime,
        ),
        (
            Facts {
                out_of_time: true,
                ..with(&[Asked::Unreachable])
            },
            WhyCause::OutOfTime,
        ),
        (
            with(&[Asked::Unreachable, Asked::Unreachable]),
            WhyCause::ProvidersDown,
        ),
        (with(&[Asked::SomebodyElse]), WhyCause::ProvidersDown),
        (
            with(&[Asked::Unreachable, Asked::Lacks]),
            WhyCause::ProvidersLack,
        ),
        (
            with(&[Asked::Lacks, Asked::Broken]),
            WhyCause::ProvidersSilent,
        ),
        (
            with(&[Asked::Silent, Asked::Broken]),
            WhyCause::ProvidersSilent,
        ),
        (
            with(&[Asked::Silent, Asked::Chokes]),
            WhyCause::ProvidersBusy,
        ),
        (
            with(&[Asked::Chokes, Asked::Lies, Asked::Unreachable]),
            WhyCause::ProvidersLie,
        ),
        (with(&[Asked::Lies, Asked::Gives]), WhyCause::None),
        (
            Facts {
                out_of_time: true,
                ..with(&[Asked::Gives])
            },
            WhyCause::None,
        ),
        (
            Facts {
                is_wrong_size: true,
                ..with(&[Asked::Gives])
            },
            WhyCause::WrongSize,
        ),
    ];
    for (facts, cause) in cases {
        let said = verdict(&facts);
        assert_eq!(said.cause, cause, "{facts:?}");
        assert!(!said.what.is_empty() && !said.next.is_empty(), "{facts:?}");
        assert!(
            !format!("{}{}", said.what, said.next).contains('\n'),
            "{facts:?}"
        );
    }
}

#[test]
fn a_full_disk_goes_before_what_the_providers_do() {
    let full = Room::DiskFull {
        needed_bytes: 10,
        free_bytes: 3,
    };
    let limit = Room::OverLimit {
        needed_bytes: 10,
        available_bytes: 4,
        max_bytes: 5,
    };
    for (room, words) in [
        (full, "3 are free on the disk"),
        (limit, "4 are left under --max-store 5"),
    ] {
        for providers in [&[Asked::Gives][..], &[Asked::Unreachable], &[]] {
            let said = verdict(&Facts {
                room,
                ..with(providers)
            });
            assert_eq!(said.cause, WhyCause::NoRoom);
            assert!(
                said.what.contains(words) && said.what.contains("needs 10 bytes"),
                "{said:?}"
            );
        }
    }
    let here = Facts {
        here: Here::Whole,
        room: full,
        ..Facts::default()
    };
    assert_eq!(
        verdict(&here).cause,
        WhyCause::Here,
        "what is here needs no room"
    );
}

#[test]
fn what_to_do_fits_who_asks() {
    let alone = |is_daemon, has_bootstrap| {
        let network = Network::Alone;
        verdict(&Facts {
            network,
            is_daemon,
            has_bootstrap,
            ..Facts::default()
        })
    };
    assert!(alone(true, true).next.starts_with("restart the daemon"));
    assert!(alone(false, true).next.starts_with("name a node"));
    assert!(alone(true, true).what.contains("answers"));
    assert!(alone(true, false).what.contains("was told of none"));
    let without = |is_read_only| {
        verdict(&Facts {
            is_read_only,
            ..Facts::default()
        })
    };
    assert!(without(false).next.contains("--bootstrap"));
    assert!(without(true).next.starts_with("mount it for writing"));
    assert!(
        verdict(&with(&[Asked::SomebodyElse]))
            .what
            .contains("another peer answers")
    );
    let said = verdict(&connected());
    assert!(said.what.contains("3 peers asked"), "{said:?}");
}

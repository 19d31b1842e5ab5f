//! What is concluded of which facts.

use super::*;

fn error(f: &Facts) -> ApiError {
    match verdict(f) {
        Verdict::Error(error) => error,
        other => panic!("{other:?}"),
    }
}

fn facts() -> Facts {
    Facts {
        address: "ab".into(),
        network_peers: Some(3),
        asked_peers: 3,
        ..Facts::default()
    }
}

#[test]
fn an_address_nobody_knows_is_not_found_after_three_lookups() {
    assert_eq!(
        verdict(&Facts {
            lookups: 2,
            ..facts()
        }),
        Verdict::GoOn
    );
    let error = error(&Facts {
        lookups: 3,
        ..facts()
    });
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.why.contains("3 peers were asked"), "{error}");
}

#[test]
fn a_provider_that_cannot_be_reached_yet_is_tried_until_the_find_deadline() {
    let known = Facts {
        lookups: 9,
        known_providers: 1,
        unreachable: 1,
        ..facts()
    };
    assert_eq!(verdict(&known), Verdict::GoOn);
    let late = Facts {
        searching: FIND_DEADLINE,
        ..known
    };
    assert_eq!(error(&late).kind, ErrorKind::NotFound);
}

#[test]
fn a_node_without_peers_does_not_wait_for_ever() {
    let alone = Facts {
        lookups: 3,
        network_peers: Some(0),
        asked_peers: 0,
        ..facts()
    };
    assert_eq!(verdict(&alone), Verdict::Lonely(ErrorKind::NotFound));
    let resumed = Facts {
        has_manifest: true,
        kept_chunks: 1,
        all_chunks: 2,
        ..alone
    };
    assert_eq!(verdict(&resumed), Verdict::Lonely(ErrorKind::Partial));
}

#[test]
fn a_short_limit_does_not_turn_not_found_into_timed_out() {
    let asked = Facts {
        out_of_time: true,
        ..facts()
    };
    assert_eq!(error(&asked).kind, ErrorKind::NotFound);
    let waiting = Facts {
        active: 1,
        ..asked.clone()
    };
    assert_eq!(error(&waiting).kind, ErrorKind::TimedOut);
    let unreachable = Facts {
        known_providers: 1,
        unreachable: 1,
        ..asked
    };
    assert_eq!(error(&unreachable).kind, ErrorKind::TimedOut);
}

#[test]
fn a_session_that_runs_is_given_time() {
    let busy = Facts {
        lookups: 9,
        active: 1,
        ..facts()
    };
    assert_eq!(verdict(&busy), Verdict::GoOn);
    let stuck = Facts {
        idle: FIND_DEADLINE,
        ..busy
    };
    assert_eq!(error(&stuck).kind, ErrorKind::TimedOut);
}

#[test]
fn providers_that_vanish_leave_a_resumable_part() {
    let part = Facts {
        has_manifest: true,
        kept_chunks: 4,
        all_chunks: 9,
        lookups: 50,
        offered: true,
        ..facts()
    };
    assert_eq!(
        verdict(&part),
        Verdict::GoOn,
        "it waits for them to come back"
    );
    let late = Facts {
        idle: GIVE_UP_AFTER,
        ..part.clone()
    };
    assert_eq!(error(&late).kind, ErrorKind::Partial);
    let limited = Facts {
        out_of_time: true,
        ..part
    };
    let error = error(&limited);
    assert_eq!(error.kind, ErrorKind::Partial);
    assert!(error.why.contains("4 of 9"), "{error}");
}

#[test]
fn a_file_that_nobody_offers_is_not_waited_for() {
    let record_alone = Facts {
        has_manifest: true,
        all_chunks: 4,
        lookups: 9,
        ..facts()
    };
    assert_eq!(verdict(&record_alone), Verdict::GoOn);
    let late = Facts {
        idle: FIND_DEADLINE,
        ..record_alone
    };
    assert_eq!(error(&late).kind, ErrorKind::NotFound);
    // The one who is connected has but a chunk, as a part of another file.
    let part = Facts {
        active: 1,
        kept_chunks: 2,
        ..late
    };
    assert_eq!(error(&part).kind, ErrorKind::Partial);
    let offered = Facts {
        offered: true,
        ..part
    };
    assert_eq!(verdict(&offered), Verdict::GoOn);
}

#[test]
fn a_provider_without_a_free_place_is_tried_again() {
    let full = Facts {
        lookups: 9,
        known_providers: 1,
        turned_away: 1,
        searching: FIND_DEADLINE,
        ..facts()
    };
    assert_eq!(verdict(&full), Verdict::GoOn);
    let late = Facts {
        searching: GIVE_UP_AFTER,
        ..full
    };
    assert_eq!(error(&late).kind, ErrorKind::NotFound);
}

#[test]
fn being_choked_is_waited_for_longer_and_told() {
    let turns = |choking, sending| Turns { choking, sending };
    let choked = Facts {
        has_manifest: true,
        all_chunks: 9,
        active: 3,
        turns: turns(2, 0),
        offered: true,
        idle: TURN_PATIENCE - Duration::from_secs(1),
        ..facts()
    };
    assert_eq!(verdict(&choked), Verdict::GoOn);
    let beside_a_mute = Facts {
        turns: turns(2, 1),
        ..choked.clone()
    };
    assert_eq!(verdict(&beside_a_mute), Verdict::GoOn);
    let late = Facts {
        idle: TURN_PATIENCE,
        ..choked.clone()
    };
    let told = error(&late);
    assert_eq!(told.kind, ErrorKind::TimedOut);
    assert!(told.why.contains("2 peers have it and gave"), "{told}");
    let part = error(&Facts {
        kept_chunks: 1,
        turns: turns(1, 0),
        ..late
    });
    assert_eq!(part.kind, ErrorKind::Partial);
    assert!(part.why.contains("1 peer has it"), "{part}");
    let limited = Facts {
        out_of_time: true,
        ..choked
    };
    assert_eq!(error(&limited).kind, ErrorKind::TimedOut);
}

#[test]
fn whoever_got_its_turn_at_last_is_given_the_usual_time() {
    let choked = Duration::from_secs(1000);
    let served = Facts {
        has_manifest: true,
        active: 1,
        offered: true,
        idle: choked + GIVE_UP_AFTER - Duration::from_secs(1),
        choked,
        ..facts()
    };
    assert_eq!(verdict(&served), Verdict::GoOn);
    let late = Facts {
        idle: choked + GIVE_UP_AFTER,
        ..served
    };
    assert_eq!(error(&late).kind, ErrorKind::TimedOut);
}

#[test]
fn only_liars_is_an_integrity_failure() {
    let lied = Facts {
        has_manifest: true,
        banned: 1,
        lookups: 5,
        lookups_since_ban: 1,
        ..facts()
    };
    assert_eq!(verdict(&lied), Verdict::GoOn);
    let sure = Facts {
        lookups_since_ban: 2,
        ..lied
    };
    assert_eq!(error(&sure).kind, ErrorKind::Integrity);
}

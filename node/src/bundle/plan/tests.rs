use super::*;

const NOW: Duration = Duration::from_secs(100);

fn plan(count: u16) -> Plan {
    let sought = |n: u16| Sought {
        address: Address::of(&n.to_le_bytes()),
        is_small: false,
    };
    Plan::new((0..count).map(sought))
}

/// A plan with one peer that has given something, and what is still open.
fn with_giver(count: u16) -> (Plan, PeerId) {
    let (mut plan, peer) = (plan(count), PeerId::random());
    assert!(plan.join(peer, NOW));
    let probe = plan.take(&peer, NOW).unwrap();
    plan.answered(&peer, probe.id, &[Said::Whole]);
    (plan, peer)
}

#[test]
fn a_peer_is_tried_with_little_and_then_asked_for_much() {
    let (mut plan, peer) = (plan(2000), PeerId::random());
    assert!(plan.join(peer, NOW) && !plan.join(peer, NOW));
    let probe = plan.take(&peer, NOW).unwrap();
    assert_eq!(probe.files, (0..PROBE).collect::<Vec<_>>());
    assert_eq!(plan.asked(&peer, probe.id), Some(probe.addresses));
    assert_eq!(plan.take(&peer, NOW), None);
    let came = plan.answered(&peer, probe.id, &[Said::NotHere, Said::Whole, Said::Larger]);
    assert_eq!(came, [(1, 1)]);
    assert_eq!(plan.open(), 1998);
    let out: Vec<Batch> = std::iter::from_fn(|| plan.take(&peer, NOW)).collect();
    assert_eq!(out.len(), WINDOW);
    // What was not answered comes first, without what it lacks.
    assert_eq!(out[0].files, (3..3 + MAX_FILES).collect::<Vec<_>>());
}

#[test]
fn what_one_lacks_is_asked_of_another_and_then_of_nobody() {
    let (mut plan, peers) = (plan(3), [PeerId::random(), PeerId::random()]);
    assert!(plan.join(peers[0], NOW));
    let batch = plan.take(&peers[0], NOW).unwrap();
    assert!(!plan.is_stuck());
    plan.answered(
        &peers[0],
        batch.id,
        &[Said::Whole, Said::NotHere, Said::NotHere],
    );
    assert!(plan.is_stuck());
    assert_eq!(plan.take(&peers[0], NOW), None);
    assert_eq!(plan.sample(8).len(), 2);
    assert!(plan.join(peers[1], NOW) && !plan.is_stuck());
    let batch = plan.take(&peers[1], NOW).unwrap();
    assert_eq!(batch.files, [1, 2]);
    let came = plan.answered(&peers[1], batch.id, &[Said::Whole, Said::NotHere]);
    assert_eq!(came, [(1, 0)]);
    assert!(plan.is_stuck() && !plan.is_over());
    assert_eq!(plan.open(), 1);
}

#[test]
fn what_a_peer_that_leaves_was_asked_for_is_asked_again_and_a_liar_stays_away() {
    let (mut plan, liar) = with_giver(100);
    let batch = plan.take(&liar, NOW).unwrap();
    assert_eq!(batch.files.len(), 99);
    plan.leave(&liar, true);
    assert!(!plan.join(liar, NOW));
    assert_eq!(plan.answered(&liar, batch.id, &[Said::Whole]), []);
    let other = PeerId::random();
    assert!(plan.join(other, NOW));
    assert_eq!(
        plan.take(&other, NOW).unwrap().files,
        (1..65).collect::<Vec<_>>()
    );
}

#[test]
fn work_is_shared_and_what_is_slow_is_asked_of_another() {
    let (mut plan, slow) = with_giver(401);
    let fast = PeerId::random();
    assert!(plan.join(fast, NOW));
    let held = plan.take(&slow, NOW).unwrap();
    assert_eq!(held.files.len(), 100, "a quarter");
    let first = plan.take(&fast, NOW).unwrap();
    plan.answered(&fast, first.id, &vec![Said::Whole; first.files.len()]);
    while let Some(batch) = plan.take(&fast, NOW) {
        plan.answered(&fast, batch.id, &vec![Said::Whole; batch.files.len()]);
    }
    assert_eq!(plan.open(), 100);
    let later = NOW + STEAL_AFTER;
    let mut came = 0;
    while let Some(batch) = plan.take(&fast, later) {
        came += plan
            .answered(&fast, batch.id, &vec![Said::Whole; batch.files.len()])
            .len();
    }
    assert_eq!((came, plan.is_over()), (100, true));
    // It comes a second time, and counts once.
    assert_eq!(plan.answered(&slow, held.id, &[Said::Whole; 100]), []);
    assert!(plan.is_over());
}

#[test]
fn a_peer_that_has_nothing_is_left_alone() {
    let (mut plan, peer) = (plan(1000), PeerId::random());
    assert!(plan.join(peer, NOW));
    let mut asked = 0;
    while let Some(batch) = plan.take(&peer, NOW) {
        asked += batch.files.len();
        plan.answered(&peer, batch.id, &vec![Said::NotHere; batch.files.len()]);
    }
    assert_eq!(asked, FRUITLESS);
    assert!(plan.is_useless(&peer) && plan.is_stuck());
    assert_eq!((plan.sample(8).len(), plan.open()), (8, 1000));
}

#[test]
fn a_request_that_is_refused_is_made_again() {
    let (mut plan, peer) = with_giver(10);
    let batch = plan.take(&peer, NOW).unwrap();
    plan.refused(&peer, batch.id);
    assert_eq!(plan.asked(&peer, batch.id), None);
    assert_eq!(plan.take(&peer, NOW).unwrap().files, batch.files);
}

#[test]
fn only_so_many_are_asked() {
    let mut plan = plan(10);
    let joined = (0..20).filter(|_| plan.join(PeerId::random(), NOW)).count();
    assert_eq!((joined, plan.peers()), (MAX_PEERS, MAX_PEERS));
}

#[test]
fn what_is_known_to_be_small_is_not_settled_by_who_says_it_is_larger() {
    let sought = |is_small| Sought {
        address: Address::of(b"file"),
        is_small,
    };
    for (is_small, open) in [(true, 1), (false, 0)] {
        let (mut plan, peer) = (Plan::new([sought(is_small)]), PeerId::random());
        assert!(plan.join(peer, NOW));
        let batch = plan.take(&peer, NOW).unwrap();
        plan.answered(&peer, batch.id, &[Said::Larger]);
        assert_eq!((plan.open(), plan.is_stuck()), (open, true));
    }
}

#[test]
fn whoever_gives_nothing_makes_room_when_others_wait() {
    let mut plan = plan(2000);
    let peers: Vec<PeerId> = (0..MAX_PEERS).map(|_| PeerId::random()).collect();
    for (at, peer) in (0..).zip(&peers) {
        assert!(plan.join(*peer, NOW + Duration::from_secs(at)));
    }
    let given = plan.take(&peers[0], NOW).unwrap();
    plan.answered(&peers[0], given.id, &[Said::Whole]);
    assert!(!plan.join(PeerId::random(), NOW));
    assert_eq!(plan.who_makes_room(NOW + SEAT_PATIENCE), None);
    let later = NOW + SEAT_PATIENCE + Duration::from_secs(5);
    assert_eq!(plan.who_makes_room(later), Some(peers[1]));
    plan.leave(&peers[1], false);
    assert_eq!(plan.who_makes_room(later), None, "there is room");
}

#[test]
fn a_request_is_refused_once() {
    let (mut plan, peer) = with_giver(10);
    let batch = plan.take(&peer, NOW).unwrap();
    assert!(plan.refused(&peer, batch.id));
    assert!(!plan.refused(&peer, batch.id) && !plan.refused(&peer, 99));
}

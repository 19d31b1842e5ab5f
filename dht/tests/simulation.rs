//! The simulator itself: that its networks work, that its model follows the announcer, and that both notice
//! what goes wrong.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation
)]

#[path = "../examples/network/measure.rs"]
mod measure;
#[path = "../examples/network/model/mod.rs"]
mod model;
#[path = "../examples/network/options.rs"]
mod options;
#[path = "../examples/network/plot.rs"]
mod plot;
#[path = "../examples/network/real/mod.rs"]
mod real;
#[path = "../examples/network/table.rs"]
mod table;

mod common;

use casnode_dht::Profile;
use common::{LONG, eventually};
use model::calibration::Calibration;
use model::days::{Days, Plan, tell};
use model::network::Network;
use options::Options;
use rand::SeedableRng;
use rand::rngs::StdRng;
use real::hostile::Kind;
use real::keyspace::keys;
use real::scenarios::setup;
use real::world::World;

fn options(args: &[&str]) -> Options {
    Options::read(args.iter().map(ToString::to_string)).unwrap()
}

async fn world(nodes: usize, hostile: Vec<Kind>) -> World {
    let options = options(&["--rtt", "4", "--gone", "refused"]);
    let mut setup = setup(&options, nodes).unwrap();
    setup.hostile = hostile;
    let world = World::start(setup, StdRng::seed_from_u64(1)).await.unwrap();
    world.settle(LONG).await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_with_filled_tables_announces_and_finds() {
    let mut world = world(24, Vec::new()).await;
    let dht = world.dht(0).unwrap();
    // Keys are placed by lookups: its own table need not have everybody by then.
    eventually("most are known", || async {
        dht.provide_status().network_peers >= 20
    })
    .await;
    let keys = keys(100, 1);
    dht.schedule(keys.clone()).await.unwrap();
    let complete = || keys.iter().all(|key| world.copies(key, 0) == (20, 20, 20));
    eventually("20 copies at the right places", || async { complete() }).await;
    let before = world.traffic();
    let search = world.find(7, keys[3], LONG).await;
    assert!(search.first.is_some());
    assert!(world.traffic().since(before).sent_bytes > 0);
    // Who is gone is gone: its records with it, and nobody holds more.
    world.leave(7);
    assert!(world.dht(7).is_none());
    assert!(keys.iter().all(|key| world.copies(key, 0).0 >= 19));
    assert!(world.find(7, keys[3], LONG).await.first.is_none());
    let newcomer = world.arrive().await.unwrap();
    let dht = world.dht(newcomer).unwrap();
    assert!(dht.connected_within(LONG).await > 0);
    eventually("the newcomer finds", || async {
        world.find(newcomer, keys[5], LONG).await.first.is_some()
    })
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_nodes_take_part_and_honest_ones_find_nevertheless() {
    let kinds = vec![Kind::Empty, Kind::Liar];
    let world = world(24, kinds).await;
    assert_eq!(world.honest().len(), 22);
    let key = keys(1, 2)[0];
    let dht = world.dht(0).unwrap();
    // The two may be among the closest; they hold nothing. On a busy machine one of the others may not be reached at once.
    eventually("all honest ones of the closest hold it", || async {
        let announced = dht.announce_file(key, vec![key[0]], LONG).await;
        assert!(announced.unwrap().peers > 0);
        let (all, right, of) = world.copies(&key, 0);
        all >= right && right >= 18 && of == 20
    })
    .await;
    let search = world.find(9, key, LONG).await;
    assert!(search.first.is_some());
    world.stop().await;
}

async fn days(hours: u32, churn: f64, follows_churn: bool, restart: bool) -> Days {
    let network = Network::new(200, churn, 0.002, StdRng::seed_from_u64(3)).unwrap();
    let plan = Plan {
        keys: keys(1000, 4),
        hours,
        follows_churn,
        restart,
        profile: Profile::Home,
        samples: 200,
    };
    tell(network, Calibration::default(), &plan).await.unwrap()
}

#[tokio::test]
async fn in_the_model_all_is_found_while_renewal_follows_the_churn_and_much_is_lost_when_not() {
    let good = days(12, 0.3, true, true).await;
    assert_eq!(good.hours.len(), 12);
    let found: usize = good.hours.iter().map(|hour| hour.found).sum();
    assert!(found >= 12 * 200 - 2, "{found}");
    let bad = days(12, 0.3, false, false).await;
    let last = bad.hours.last().unwrap();
    assert!(last.found < last.looked_for && last.copies < good.hours[11].copies / 2);
}

#[tokio::test]
async fn in_the_model_one_lookup_serves_many_keys_and_nothing_is_sent_early() {
    let quiet = days(6, 0.0, true, true).await;
    assert!(quiet.first.lookups < 60, "{}", quiet.first.lookups);
    assert!(quiet.first.messages >= 180);
    let again: u64 = quiet.hours[1..].iter().map(|hour| hour.messages).sum();
    assert_eq!(again, 0, "a restart included");
    let last = quiet.hours.last().unwrap();
    assert_eq!(last.found, last.looked_for);
}

#[test]
fn what_cannot_be_asked_is_said() {
    let wrong = |args: &[&str]| Options::read(args.iter().map(ToString::to_string));
    assert!(wrong(&["--nodes"]).is_err());
    assert!(wrong(&["--nodez", "3"]).is_err());
    assert!(wrong(&["idle", "join"]).is_err());
    let good = options(&["idle", "--nodes", "1_000,50"]);
    assert_eq!(good.list::<usize>("nodes", &[]).unwrap(), [1000, 50]);
    assert!(
        good.get::<usize>("nodes", 1).is_err(),
        "two where one is meant"
    );
}

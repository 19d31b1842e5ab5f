//! Processes killed at random moments: while they open, rebuild, store, remove, collect.

use std::fs;
use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::child::Stage;
use crate::number;

/// Most of the time that a writer gets; short lives end within opening or rebuilding.
const LONG_MS: u64 = 300;
const SHORT_MS: u64 = 40;

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let kills = number("CASNODE_CRASH_KILLS", 12);
    let seed = number("CASNODE_CRASH_SEED", rand::rng().random());
    println!("CASNODE_CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let stage = Stage::new();
    let (mut slowest_ms, mut acknowledged, mut rebuilt) = (0, 0, 0);
    for kill in 0..kills {
        // The index is lost, or to be built anew: the writer is killed meanwhile, or after.
        let mut role = "write";
        if kill > 0 && random.random_ratio(1, 3) {
            rebuilt += 1;
            if random.random() {
                role = "rebuild";
            } else {
                fs::remove_dir_all(stage.store().join("index")).unwrap();
            }
        }
        let longest_ms = if random.random() { SHORT_MS } else { LONG_MS };
        let life = Duration::from_micros(random.random_range(0..longest_ms * 1000));
        let child = stage.start(role, "");
        std::thread::sleep(life);
        stage.kill(child);
        let checked = stage.finish("check", "");
        assert!(!checked.said.contains("panicked"), "{}", checked.said);
        slowest_ms = slowest_ms.max(checked.opened_ms);
        acknowledged = checked.acknowledged;
    }
    println!(
        "{kills} kills, {rebuilt} indexes built anew: {acknowledged} promises kept, slowest open {slowest_ms} ms"
    );
    assert!(acknowledged >= kills, "too few promises to mean anything");
    stage.finish("check", "");
    let emptied = stage.finish_empty();
    assert!(!emptied.said.contains("panicked"), "{}", emptied.said);
}

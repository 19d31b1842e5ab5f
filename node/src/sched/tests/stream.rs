//! Streams.

use super::*;

#[test]
fn sequential_is_in_order() {
    let mut sched = scheduler(50, Order::Sequential, &[], 3);
    join(&mut sched, 0, full(50));
    let asked: Vec<u32> = asked(&mut sched, Mono::default())
        .into_iter()
        .map(|(_, index)| index)
        .collect();
    assert_eq!(asked, (0..8).collect::<Vec<_>>());
}

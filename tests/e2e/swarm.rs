//! Sharing as the command line shows it: limits, swarms, and for how long what was fetched is served.

use crate::harness::Home;

#[test]
fn a_rate_without_its_unit_is_refused_with_advice() {
    let home = Home::new();
    for (words, advice) in [
        (
            &["daemon", "--no-mdns", "--max-up", "10"][..],
            "10MiB/s or 10Mbit/s",
        ),
        (
            &["daemon", "--no-mdns", "--max-down", "10MiB"],
            "write 10MiB/s",
        ),
        (&["limits", "--up", "10"], "10MiB/s or 10Mbit/s"),
        (&["limits", "--down", "10Mb/s"], "Mbit/s"),
    ] {
        home.call(words).run().exits(2).says(advice);
    }
    home.call(["limits"]).run().exits(1).says("no daemon runs");
}

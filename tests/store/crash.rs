//! Stores whose process is killed at any moment, whose files are torn, whose disk is full.
//!
//! The test binary is its own child: with `CASNODE_CRASH_CHILD` set it writes to a store until it is
//! killed, or opens one and checks it. `scripts/crash-suite.sh` and `scripts/power-cut.sh` use it, too.
//!
//! | variable | |
//! |---|---|
//! | `CASNODE_CRASH_KILLS` | processes to kill, 12 by default |
//! | `CASNODE_TORN_TAILS` | files to tear, 5 of each kind by default |
//! | `CASNODE_CRASH_SEED` | chooses the moments |
//! | `CASNODE_CRASH_OPEN_LIMIT_MS` | fail when a store takes longer to open |

#![allow(clippy::unwrap_used, missing_docs)]

mod child;
mod full_disk;
mod kills;
mod limit;
mod story;
mod torn;

/// Not a test of its own: the child of the tests. Without the variable there is nothing to do.
#[test]
fn child() {
    child::run();
}

/// A number from the environment.
fn number(variable: &str, default: u64) -> u64 {
    let value = std::env::var(variable).ok();
    value.map_or(default, |value| {
        let number = value.parse();
        number.unwrap_or_else(|_| panic!("{variable}={value} is not a number"))
    })
}

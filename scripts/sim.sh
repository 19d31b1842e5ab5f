#!/bin/sh
# Swarms in virtual time: the invariants over ten thousand seeds, then every scenario with its figures and plots.
#
#   scripts/sim.sh [FROM..TO]     other seeds than 0..10000
#
# The plots are in target/sim. The exit status is not 0 when an invariant broke or a figure was missed.
set -eu
cd "$(dirname "$0")/.."

seeds=${1:-0..10000}
status=0
CASNODE_SIM_SEEDS="$seeds" cargo test --release -p casnode-node --test sim || status=$?
cargo run --release -p casnode-node --example sim -- --scenario all || status=$?
exit "$status"

#!/usr/bin/env bash
# The store's fault tests in their long form: processes killed with SIGKILL at random moments of storing, removing,
# collecting and rebuilding; torn ends of packs and of the index; a disk that is full at every step (needs the right
# to mount a tmpfs). `cargo test` runs the same with fewer kills.
#
#   scripts/crash-suite.sh [--kills 200] [--torn 50] [--cases 10000] [--seed N] [--open-limit-ms 2000]
#
# --cases: random operations with power cuts against a model, in memory; so many sequences of up to 60.
# --torn counts each kind: behind what was acknowledged, within the last file, in the index. Without --seed another
# one is chosen each time, and printed; the moments of a kill are never quite the same twice.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

kills=200 torn=50 cases=10000 open_limit_ms=2000 seed=""
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help)
            usage
            exit 0
            ;;
        --kills | --torn | --cases | --seed | --open-limit-ms)
            if ! [[ "${2:-}" =~ ^[0-9]+$ ]]; then
                echo "crash-suite.sh: $1 takes a number" >&2
                exit 2
            fi
            case "$1" in
                --kills) kills="$2" ;;
                --torn) torn="$2" ;;
                --cases) cases="$2" ;;
                --seed) seed="$2" ;;
                *) open_limit_ms="$2" ;;
            esac
            shift
            ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
    shift
done

seed="${seed:-$((RANDOM << 15 | RANDOM))}"
export CASNODE_CRASH_KILLS="$kills" CASNODE_TORN_TAILS="$torn" CASNODE_CRASH_SEED="$seed"
export CASNODE_CRASH_OPEN_LIMIT_MS="$open_limit_ms"

echo "$kills kills, $torn torn ends of each kind, seed $seed; a store must open within $open_limit_ms ms"
# One after the other: neither the disk nor the processors are shared while an open is timed.
if ! output=$(cargo test --locked --package casnode-cas --test crash -- --nocapture --test-threads=1 2>&1); then
    printf '%s\n' "$output"
    echo "FAILED; the same moments again: scripts/crash-suite.sh --kills $kills --torn $torn --seed $seed" >&2
    exit 1
fi
grep --extended-regexp '^\.?(test .* )?[0-9]+ (kills|torn|files stored)|^skipped|^test result' <<<"$output"

echo "$cases cases of random operations against a model"
if ! output=$(CASNODE_MODEL_CASES="$cases" cargo test --locked --package casnode-cas --lib store::tests::model 2>&1); then
    printf '%s\n' "$output"
    exit 1
fi
grep --extended-regexp '^test result' <<<"$output"
echo "PASSED in $SECONDS s"

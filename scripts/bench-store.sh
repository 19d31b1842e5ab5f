#!/usr/bin/env bash
# What the store costs, beside the tools that do a part of its work, on this machine and this disk.
#
#   scripts/bench-store.sh [--quick] [--json FILE] [--dir DIR] [FIGURE...]
#
# --quick      a quarter of the bytes or less, median of 3 runs instead of 5
# --json FILE  the figures, the machine and every single run, too
# --dir DIR    where to work (default: a temporary folder; needs about 8 GiB, on the disk that is to be measured)
# FIGURE...    only these: store memory chunks read space again delta
#
# Each figure stands beside its target and beside what it was compared with. Baselines and store take turns
# (cp, b3sum, store, cp, b3sum, store …) with the source in the page cache, and the medians are compared: only the
# ratios of one run mean anything, a disk's and a virtual machine's mood changes by the minute. Processor time and
# bytes written are what the kernel accounts to the process (getrusage). Bytes on disk are allocated blocks of packs
# and index; the store's reserve, a constant of 32 MiB for emergencies, is left out and named in the notes. As root
# the page cache is dropped for cold reads; otherwise they are skipped. restic and desync are measured if installed.
#
# CASNODE_BINARY=PATH  use this binary instead of building one
#
# Missing a target is no failure: the exit code is 0 unless something breaks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
    -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
esac
for tool in python3 b3sum cargo; do
    command -v "$tool" >/dev/null || {
        echo "bench-store.sh: no $tool here" >&2
        exit 1
    }
done

binary=$(scripts/cluster.sh binary)
target=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
    cargo build --quiet --release --locked --package casnode-cas --example store_bench --target "$target" >&2
target_dir=$(cargo metadata --format-version 1 --no-deps --locked |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
exec python3 scripts/bench_store.py --binary "$binary" \
    --store-bench "$target_dir/$target/release/examples/store_bench" "$@"

#!/usr/bin/env bash
# A day in the life of a small node, in a minute: files are stored, fetched from another node, removed, pinned and
# unpinned, and collected, in a random order and several at a time, under a limit they do not all fit in. Now and
# then the node is killed and comes back.
#
#   scripts/life.sh [--seconds 60] [--seed N] [--max-store-mib 256] [--workers 3]
#
# Meanwhile and in the end: the store's bytes on disk are within the limit, every pinned file is there and right,
# every fetched copy is right, a store that cannot fit says so (exit 13), and `verify` finds nothing.
#
# CASNODE_BINARY=PATH  use this binary instead of building one
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
    -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
esac
for tool in python3 b3sum; do
    command -v "$tool" >/dev/null || {
        echo "life.sh: no $tool here" >&2
        exit 1
    }
done
binary=$(scripts/cluster.sh binary)
exec python3 scripts/life.py --binary "$binary" "$@"

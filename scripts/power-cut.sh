#!/usr/bin/env bash
# Power cuts, simulated: nothing that the store acknowledged may be lost.
#
#   scripts/power-cut.sh [--cuts 50] [--seed N] [--size-mib 512]
#
# kill -9 keeps the page cache and proves nothing about syncs. Here a process stores, removes and collects on an
# ext4 image, and writes what was acknowledged to a log outside. At a random moment the file system is shut down
# without a flush of its journal (EXT4_IOC_SHUTDOWN), the process is killed, the image is unmounted, mounted again
# (which replays the journal), and the store is opened and checked against the log. The shutdown races with the one
# sync that is under way, so the last acknowledgement of each writing thread does not count. Every second life is a
# short one, so that opening is cut, too; half of them write with direct I/O, half through the page cache.
#
# Needs root, loop devices and ext4; says which is missing, and exits with 0, where it cannot run. Runs in a mount
# namespace of its own, and leaves no mount and no loop device behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

skip() {
    echo "SKIPPED: $1"
    exit 0
}

case "${1:-}" in
    -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
esac
[ "$(uname -s)" = Linux ] || skip "this is no Linux"
[ "$(id -u)" -eq 0 ] || skip "only root can mount"
for tool in losetup mkfs.ext4 mount umount unshare python3 cargo; do
    command -v "$tool" >/dev/null || skip "no $tool here"
done
unshare --mount true 2>/dev/null || skip "no right to a mount namespace"
losetup --find >/dev/null 2>&1 || skip "no loop device"

binary=$(cargo test --locked --package casnode-cas --test crash --no-run --message-format=json |
    python3 -c '
import json, sys
paths = [it["executable"] for it in map(json.loads, sys.stdin) if it.get("executable") and it["target"]["name"] == "crash"]
print(paths[-1])')

# The namespace takes the mounts with it even if all else fails.
exec unshare --mount --propagation private python3 scripts/power_cut.py --binary "$binary" "$@"

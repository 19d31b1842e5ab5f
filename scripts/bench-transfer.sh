#!/usr/bin/env bash
# One provider, one downloader, one machine: what casnode costs beside the programs that people use today.
#
#   scripts/bench-transfer.sh [--rows LIST] [OPTION...]
#
# Rows (--rows takes some of them, comma separated, or all; without it all but 16GiB):
#   1GiB, 4GiB   one file over 127.0.0.1, file to file: casnode as it is by default (which keeps the output itself where
#                no blocks are shared), with --copy and with --no-keep, sendme, rqbit, libtorrent, aria2 (BitTorrent),
#                nginx + curl, and a plain program (`casnode bench --only floor`)
#   peers        eight casnode providers of 1 GiB at once over one: processor time a byte
#   small        10,000 files of 10 KiB: casnode `get --list`, rqbit, libtorrent, sendme, nginx + one curl
#   idle         a daemon with a million chunks in its store: memory and share of a core over 60 s
#   first-byte   round trips until a `get` from a provider it is told of has its first byte
#   16GiB        a file with holes, both sides with --memory 256MiB: peak memory, and that the copy is equal
#
# --binary PATH             the casnode to measure (default: target/release/casnode); several times: they take turns, and
#                           targets are judged for the first
# --with LIST               sendme, rqbit, libtorrent, aria2, nginx, or none (default: whatever is installed)
# --runs N                  rounds in which all programs take turns (default 3)
# --size SIZE               size of the file, or of all files together, e.g. 64MiB, instead of the row's
# --dir DIR                 where files go (default: the temporary folder); four times the size must fit
# --libtorrent-python PATH  a Python that has libtorrent (or LIBTORRENT_PYTHON; default: the system's)
# --chunks N                how many chunks the store of `idle` gets (default 1,000,000: 4 GiB of disk, some minutes)
# --json FILE               every run with all its figures, and the targets
#
# The clock runs from the start of the downloader's process to its end. Before it, the provider is up and has the file,
# everything dirty is synced, and all that can be asked for is in the page cache. Every copy is compared with the
# original. aria2 waits 2 s before it asks anyone; that is in its time. Memory is that of the larger process of a side:
# anonymous, and resident, whose peak the kernel forgets when the clock starts.
#
# The end of the output lists every target with what was seen. Missing one is no failure.
# Exit codes: 0 done, 1 a run failed, 2 usage, 77 cannot run here (needs Linux).
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

# leave CODE MESSAGE
leave() {
    echo "bench-transfer.sh: $2" >&2
    exit "$1"
}

dir="${TMPDIR:-/tmp}"
arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help)
            usage
            exit 0
            ;;
        --dir)
            [ $# -gt 1 ] || leave 2 "--dir takes a folder"
            dir="$2"
            shift
            ;;
        --dir=*) dir="${1#--dir=}" ;;
        *) arguments+=("$1") ;;
    esac
    shift
done
[ "$(uname -s)" = Linux ] || leave 77 "cannot run here: memory and processor time are read from Linux's /proc"
for tool in python3 cmp diff; do
    command -v "$tool" >/dev/null || leave 77 "cannot run here: no $tool"
done
[ -d "$dir" ] || leave 2 "no folder $dir"

folder=$(mktemp -d "$dir/casnode-transfer.XXXXXX")
bench=""

clean_up() {
    # It ends what it has started.
    [ -z "$bench" ] || ! kill -TERM "$bench" 2>/dev/null || wait "$bench" || true
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

python3 -B "$here/lab/transfer.py" --folder "$folder" "${arguments[@]}" &
bench=$!
status=0
wait "$bench" || status=$?
bench=""
exit "$status"

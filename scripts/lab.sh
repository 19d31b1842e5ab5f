#!/usr/bin/env bash
# Real daemons on a network of one machine's own making, and the programs that people use today beside them.
#
#   scripts/lab.sh [SCENARIO...] [OPTION...]
#
#   gather     4 providers of 200 Mbit/s -> 1 downloader, 1 GiB: how much of the lines is used
#   unequal    8 providers of 50, 100 ... 400 Mbit/s -> 1 downloader, 1 GiB
#   spread     1 seed, 8 downloaders, 200 Mbit/s upload each, 256 MiB, all at once: until the last one has it
#   loopback   1 provider -> 1 downloader over 127.0.0.1, 1 GiB: what the program itself costs
#   all        gather, unequal and spread (the default)
#
# --binary PATH   the casnode to measure (default: target/release/casnode); several times: they take turns
# --swarm MODE    fair or trusted (default), for binaries that know it
# --with LIST     aria2, aria2-http, libtorrent, or none, comma separated (default: whatever is installed)
# --runs N        rounds in which all programs take turns (default 3); medians are shown, and every run
# --size SIZE     size of the file, e.g. 64MiB, instead of the scenario's
# --dir DIR       where files and data directories go (default: the temporary folder). A tmpfs such as /dev/shm leaves
#                 the disk out, for all programs alike: the documented figures use it.
# --json FILE     every run with all its figures
#
# Each host is a network namespace with `tc tbf` on what it sends. `tcp` in the tables is plain TCP over the same
# lines: what they can carry. The clock runs from the start of all `casnode get` to the exit of the last one. Every
# copy is compared with the original.
#
# Everything lives in namespaces of this run only (mounts, network, processes), which the kernel takes down with the
# lab's first process: no process and no interface is left behind, whatever happens. Its folder is removed, too, unless
# this script itself is killed with -9. One lab at a time runs on a machine.
#
# Exit codes: 0 done, 1 a run failed, 2 usage, 77 cannot run here (needs root, `ip netns` and `tc`).
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

# leave CODE MESSAGE
leave() {
    echo "lab.sh: $2" >&2
    exit "$1"
}

# Prints why the lab cannot run here, or nothing.
why_not() {
    if [ "$(uname -s)" != Linux ]; then
        echo "network namespaces are a thing of Linux"
    elif [ "$(id -u)" -ne 0 ]; then
        echo "needs root, for network namespaces (sudo scripts/lab.sh ...)"
    elif ! ip netns list >/dev/null 2>&1; then
        echo "'ip netns' does not work here (package iproute2)"
    fi
    for tool in tc python3 unshare setpriv flock cmp; do
        command -v "$tool" >/dev/null || echo "no $tool here"
    done
}

# end_process PID: asks first.
end_process() {
    kill -TERM "$1" || return 0
    for _ in {1..20}; do
        kill -0 "$1" || return 0
        sleep 0.1
    done
    kill -KILL "$1" || true
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
reason=$(why_not | head -n 1)
[ -z "$reason" ] || leave 77 "cannot run here: $reason"
[ -d "$dir" ] || leave 2 "no folder $dir"

# A lock on a file that is there on every machine with a lab: nothing to leave behind.
exec 9<"$(command -v tc)"
flock --nonblock 9 || leave 1 "another lab runs on this machine"

folder=$(mktemp -d "$dir/casnode-lab.XXXXXX")
lab=""

clean_up() {
    # The lab is process 1 of its own namespace: the kernel ends all others with it, and unshare ends after that.
    local first=""
    if [ -n "$lab" ]; then
        read -r first <"/proc/$lab/task/$lab/children" || true
        end_process "${first:-"$lab"}" 2>/dev/null
        wait "$lab" || true
    fi
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Should this shell be killed, its child is, too, and with it all the rest.
setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child --mount-proc \
    python3 -B "$here/lab" --folder "$folder" "${arguments[@]}" &
lab=$!
status=0
wait "$lab" || status=$?
lab=""
exit "$status"

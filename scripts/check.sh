#!/usr/bin/env bash
# Every check of the project, one after the other; CI runs this same script.
#
#   scripts/check.sh                 all steps
#   scripts/check.sh STEP...         only these, in this order
#   scripts/check.sh --list          the steps and what each does
#
# Stops at the first step that fails, and says which. The times are printed at the end.
# `demo` and `cluster` share one release build; they are the slow ones.
# CASNODE_SKIP_DENY=REASON skips `deny` and says why (for machines that cannot install cargo-deny).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

STEPS=(fmt layers deny clippy doc test install web demo cluster)

describe() {
    case "$1" in
        fmt) echo "cargo fmt --check" ;;
        layers) echo "the arrows between the crates, after a self-test of the check" ;;
        deny) echo "cargo deny: licences, bans, sources; advisories where their database can be had" ;;
        clippy) echo "cargo clippy, every target, warnings are errors" ;;
        doc) echo "rustdoc with private items, warnings are errors" ;;
        test) echo "cargo test --workspace" ;;
        install) echo "install.sh into a folder, and what a node tells Prometheus" ;;
        web) echo "the node's page in a headless Chromium, where that is installed" ;;
        demo) echo "casnode demo on a small file, with the release binary" ;;
        cluster) echo "scripts/cluster.sh test, where Docker runs" ;;
        *) return 1 ;;
    esac
}

# Notes of steps that ran only in part, for the closing table.
note=""

step_fmt() { cargo fmt --all --check; }

step_layers() { scripts/check-layers.sh; }

step_deny() {
    if [ -n "${CASNODE_SKIP_DENY:-}" ]; then
        note="SKIPPED: $CASNODE_SKIP_DENY"
        return 0
    fi
    local deny
    if ! deny=$(scripts/cargo-deny.sh --path); then
        echo "cargo-deny is not installed; scripts/cargo-deny.sh --install builds it (a few minutes, once)" >&2
        return 1
    fi
    "$deny" --locked check --hide-inclusion-graph licenses bans sources
    if timeout 120 "$deny" --locked fetch db >/dev/null 2>&1; then
        "$deny" --locked check --disable-fetch advisories
    else
        note="advisories SKIPPED: their database cannot be fetched here; licences, bans and sources were checked"
    fi
}

step_clippy() { cargo clippy --locked --workspace --all-targets -- -D warnings; }

step_doc() {
    RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings" cargo doc --locked --workspace --no-deps --document-private-items
}

# The README's command, word for word.
step_test() { cargo test --workspace; }

step_install() {
    cargo build --locked -p casnode-cli
    scripts/check-install.sh
    scripts/check-metrics.sh
    local skipped=()
    command -v promtool >/dev/null || skipped+=(promtool)
    command -v systemd-analyze >/dev/null || skipped+=(systemd-analyze)
    [ "${#skipped[@]}" -eq 0 ] || note="without ${skipped[*]}, which is not installed"
}

step_web() {
    cargo build --locked -p casnode-cli
    local status=0
    scripts/check-web.sh || status=$?
    [ "$status" -ne 3 ] || { note="SKIPPED: chromium and chromium-driver are not installed"; status=0; }
    return "$status"
}

step_demo() {
    local binary
    binary=$(scripts/cluster.sh binary)
    # Large enough that a provider can be killed in the middle of a download.
    with_random_file 96 timeout 600 "$binary" demo --nodes 5 |
        awk '{ print; fflush() } /was killed when/ { killed = 1 } END { exit !killed }'
}

step_cluster() {
    local reason
    if ! reason=$(scripts/cluster.sh available 2>&1); then
        note="SKIPPED: $reason"
        return 0
    fi
    # As a test of the workspace, so that its result line counts it; with the same packages selected as in
    # `test`, so that nothing is compiled again.
    local binary
    binary=$(scripts/cluster.sh binary)
    CASNODE_BINARY="$binary" CASNODE_CLUSTER_TEST=1 cargo test --locked --workspace --test cluster
}

# with_random_file MIB COMMAND...: runs the command with such a file as its last argument.
with_random_file() (
    local mib="$1"
    shift
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    head -c "$((mib * 1024 * 1024))" /dev/urandom >"$folder/random-${mib}MiB.bin"
    "$@" "$folder/random-${mib}MiB.bin"
)

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

report() {
    local status=$?
    [ "${#done_steps[@]}" -gt 0 ] || return 0
    echo
    echo "== steps"
    printf '%s\n' "${done_steps[@]}"
    if [ "$status" -ne 0 ]; then
        echo "== FAILED in step '${current:-?}' (exit $status); to run it alone: scripts/check.sh ${current:-}"
    else
        echo "== all of these passed in $SECONDS s"
    fi
}

main() {
    local selected=()
    while [ $# -gt 0 ]; do
        case "$1" in
            -h | --help) usage; return 0 ;;
            --list)
                for step in "${STEPS[@]}"; do printf '%-8s %s\n' "$step" "$(describe "$step")"; done
                return 0
                ;;
            *)
                if ! describe "$1" >/dev/null; then
                    echo "check.sh: no step '$1'; the steps are: ${STEPS[*]}" >&2
                    return 2
                fi
                selected+=("$1")
                ;;
        esac
        shift
    done
    [ "${#selected[@]}" -gt 0 ] || selected=("${STEPS[@]}")

    export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}" RUST_BACKTRACE="${RUST_BACKTRACE:-1}"
    trap report EXIT
    for current in "${selected[@]}"; do
        echo
        echo "== $current: $(describe "$current")"
        local started=$SECONDS row=${#done_steps[@]}
        note=""
        done_steps+=("$(printf '%-8s %5s    %s' "$current" "-" "FAILED")")
        "step_$current" </dev/null
        done_steps[row]=$(printf '%-8s %4d s  %s' "$current" "$((SECONDS - started))" "${note:-ok}")
        echo "${done_steps[row]}"
    done
}

done_steps=()
current=""
main "$@"

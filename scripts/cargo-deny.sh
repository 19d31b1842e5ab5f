#!/usr/bin/env bash
# The one version of cargo-deny that the checks use, kept outside the work tree.
#
#   scripts/cargo-deny.sh --install   build it from the registry when it is not there yet, print its path
#   scripts/cargo-deny.sh --path      print its path, or fail
#
# Exit code of --install: 0 there, 1 the build failed, 3 the registry is out of reach.
set -euo pipefail

VERSION=0.20.2
ROOT="${CASNODE_TOOLS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/casnode-tools}/cargo-deny-$VERSION"
BINARY="$ROOT/bin/cargo-deny"

is_right() { [ -x "$1" ] && [ "$("$1" --version 2>/dev/null)" = "cargo-deny $VERSION" ]; }

path() {
    local found
    if is_right "$BINARY"; then
        echo "$BINARY"
    elif found=$(command -v cargo-deny) && is_right "$found"; then
        echo "$found"
    else
        return 1
    fi
}

install() {
    path && return 0
    local log
    log=$(mktemp)
    trap 'rm -f "$log"' RETURN
    echo "building cargo-deny $VERSION (once; kept in $ROOT)" >&2
    # An unoptimised build without debug information takes a fifth of the time of a release build, and the
    # checks take a few seconds with either.
    if CARGO_PROFILE_DEV_DEBUG=0 RUSTFLAGS='' cargo install --locked --debug --root "$ROOT" \
        --target-dir "$ROOT/build" "cargo-deny@$VERSION" >"$log" 2>&1; then
        rm -rf "$ROOT/build"
        path
        return
    fi
    tail -n 25 "$log" >&2
    rm -rf "$ROOT/build"
    if grep -qiE 'could not resolve host|failed to download|download of .* failed|network (error|failure)|failed to (query|update) .*(registry|index)|unable to update registry|connection (refused|timed out)|timeout was reached' "$log"; then
        return 3
    fi
    return 1
}

case "${1:-}" in
    --path) path ;;
    --install) install ;;
    *)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
        exit 2
        ;;
esac

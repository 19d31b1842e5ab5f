#!/usr/bin/env bash
# Checks scripts/install.sh in a folder of its own, the files that it puts in place, and that --uninstall leaves nothing.
#
#   scripts/check-install.sh [BINARY]    the debug binary unless another is named
#
# What promtool (Debian: prometheus) and systemd-analyze (Debian: systemd) can tell is asked of them where they are there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

binary=${1:-${CARGO_TARGET_DIR:-target}/debug/casnode}
[ -x "$binary" ] || { echo "check-install.sh: $binary is not there: cargo build, or name another" >&2; exit 2; }
export CASNODE_CONFIG=none
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
prefix="$folder/prefix"

fail() {
    echo "check-install.sh: $1" >&2
    exit 1
}

there() { [ -s "$prefix/$1" ] || fail "$1 is missing or empty"; }

scripts/install.sh --prefix "$prefix" --systemd --binary "$binary"
for file in bin/casnode share/man/man1/casnode.1 share/man/man1/casnode-get.1 share/man/man1/casnode-daemon.1 \
    share/bash-completion/completions/casnode share/zsh/site-functions/_casnode \
    share/fish/vendor_completions.d/casnode.fish share/casnode/grafana.json share/casnode/alerts.yml \
    share/casnode/config.toml etc/casnode/config.toml lib/systemd/system/casnode.service \
    lib/systemd/system/casnode.socket; do
    there "$file"
done
"$prefix/bin/casnode" --version
bash -n "$prefix/share/bash-completion/completions/casnode"
"$prefix/bin/casnode" config check "$prefix/etc/casnode/config.toml"
# With every key in use, too.
sed 's/^#\([a-z-]* = \)/\1/' "$prefix/share/casnode/config.toml" >"$folder/all.toml"
"$prefix/bin/casnode" config check "$folder/all.toml"
grep -q "$prefix/bin/casnode daemon" "$prefix/lib/systemd/system/casnode.service" || fail "the unit starts another binary"
python3 -m json.tool "$prefix/share/casnode/grafana.json" >/dev/null

if command -v promtool >/dev/null; then
    promtool check rules "$prefix/share/casnode/alerts.yml"
else
    echo "SKIPPED: promtool is not installed; the alerts were not checked"
fi
if command -v systemd-analyze >/dev/null; then
    # The documentation and units of the system that it refers to need not be here.
    said=$(systemd-analyze verify --man=no "$prefix"/lib/systemd/system/casnode.{service,socket} 2>&1) || fail "$said"
    if echo "$said" | grep casnode; then fail "systemd-analyze verify has remarks"; fi
    if systemd-analyze security --help 2>/dev/null | grep -q -- --offline; then
        systemd-analyze security --offline=yes --threshold=20 "$prefix/lib/systemd/system/casnode.service" | tail -1
    fi
else
    echo "SKIPPED: systemd-analyze is not installed; the units were not checked"
fi

# A second time nothing changes, and a config file in use is left alone.
echo 'memory = "128MiB"' >>"$prefix/etc/casnode/config.toml"
before=$(sort "$prefix/share/casnode/installed")
scripts/install.sh --prefix "$prefix" --systemd --binary "$binary" >/dev/null
[ "$before" = "$(sort "$prefix/share/casnode/installed")" ] || fail "the second time other files were put in place"
grep -q 128MiB "$prefix/etc/casnode/config.toml" || fail "a config file in use was replaced"

scripts/install.sh --prefix "$prefix" --uninstall
left=$(cd "$prefix" && find . -type f)
[ "$left" = ./etc/casnode/config.toml ] || fail "--uninstall left: $left"
if scripts/install.sh --prefix "$prefix" --uninstall 2>/dev/null; then fail "there was nothing to uninstall"; fi
echo "what install.sh puts in place is right, and goes again"

#!/usr/bin/env bash
# Puts casnode in place: binary, man pages, completions, dashboard, alerts and an example of the config file; with
# --systemd the service as well. What was put in place is remembered, and --uninstall takes it away again.
#
#   scripts/install.sh [--prefix DIR] [--systemd] [--binary FILE]
#   scripts/install.sh --uninstall [--prefix DIR]
#
#   --prefix DIR    where to [/usr/local]; a config file in use is /etc/casnode/config.toml below /usr and /usr/local,
#                   else DIR/etc/casnode/config.toml
#   --systemd       units too, in DIR/lib/systemd/system; they are not started
#   --binary FILE   this one [built by cargo, as people ship it]
#   --uninstall     removes what was put in place; a config file that was changed stays, and so does what is stored
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

prefix=/usr/local
systemd=""
binary=""
uninstall=""

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage; exit 0 ;;
        --prefix) [ $# -gt 1 ] || fail "--prefix needs a folder" 2; prefix=$2; shift ;;
        --binary) [ $# -gt 1 ] || fail "--binary needs a file" 2; binary=$2; shift ;;
        --systemd) systemd=yes ;;
        --uninstall) uninstall=yes ;;
        *) usage >&2; fail "there is no option '$1'" 2 ;;
    esac
    shift
done
case "$prefix" in
    /*) prefix=${prefix%/} ;;
    *) prefix="$PWD/$prefix" ;;
esac
case "$prefix" in
    "" | /usr | /usr/local) config=/etc/casnode/config.toml ;;
    *) config="$prefix/etc/casnode/config.toml" ;;
esac
share="$prefix/share/casnode"
list="$share/installed"

# put FILE TO [MODE]: one file, remembered.
put() {
    install -D -m "${3:-644}" "$1" "$2"
    echo "$2" >>"$work/installed"
}

# fill FILE TO: a unit, with the paths of this prefix.
fill() {
    sed -e "s|/usr/local/bin/casnode|$prefix/bin/casnode|g" -e "s|/etc/casnode/config.toml|$config|g" "$1" >"$work/unit"
    put "$work/unit" "$2"
}

remove() {
    [ -f "$list" ] || fail "nothing that this script put in place is in $prefix"
    local file
    while IFS= read -r file; do rm -f -- "$file"; done < <(grep -vxF "$config" "$list")
    if [ -f "$config" ] && cmp -s "$config" "$here/scripts/install/config.toml"; then
        rm -f -- "$config"
        rmdir -- "$(dirname "$config")" 2>/dev/null || true
    elif [ -f "$config" ]; then
        echo "$config was changed, and stays"
    fi
    rm -f -- "$list"
    rmdir -- "$share" 2>/dev/null || true
    echo "removed from $prefix"
}

if [ -n "$uninstall" ]; then
    remove
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "$binary" ]; then
    (cd "$here" && cargo build --locked --profile dist -p casnode-cli)
    binary="${CARGO_TARGET_DIR:-$here/target}/dist/casnode"
fi
[ -x "$binary" ] || fail "$binary is no program"

"$binary" man "$work/man"
for shell in bash zsh fish; do "$binary" completions "$shell" >"$work/$shell"; done

put "$binary" "$prefix/bin/casnode" 755
for page in "$work"/man/*.1; do put "$page" "$prefix/share/man/man1/$(basename "$page")"; done
put "$work/bash" "$prefix/share/bash-completion/completions/casnode"
put "$work/zsh" "$prefix/share/zsh/site-functions/_casnode"
put "$work/fish" "$prefix/share/fish/vendor_completions.d/casnode.fish"
for file in grafana.json alerts.yml config.toml; do put "$here/scripts/install/$file" "$share/$file"; done
if [ -n "$systemd" ]; then
    for unit in casnode.service casnode.socket; do
        fill "$here/scripts/install/$unit" "$prefix/lib/systemd/system/$unit"
    done
    # One that is there is somebody's.
    [ -e "$config" ] || put "$here/scripts/install/config.toml" "$config"
fi
# Of an earlier version, too: all of it goes with --uninstall.
if [ -f "$list" ]; then cat "$list" >>"$work/installed"; fi
sort -u "$work/installed" >"$work/sorted"
install -D -m 644 "$work/sorted" "$list"

echo "casnode is in $prefix/bin; $(wc -l <"$list") files are listed in $list"
if [ -n "$systemd" ]; then
    echo "next: systemctl daemon-reload && systemctl enable --now casnode"
fi

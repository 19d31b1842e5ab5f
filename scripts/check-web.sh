#!/usr/bin/env bash
# Uses the node's page as a person would, in a headless Chromium: stores by upload, gets by hash, watches the map fill.
#
#   scripts/check-web.sh [BINARY]             BINARY: casnode; target/debug/casnode unless said otherwise
#   scripts/check-web.sh --screenshots DIR    pictures of each view as well, light and dark, wide and narrow
#   CHROMIUM=PROGRAM CHROMEDRIVER=PROGRAM     which browser; else chromium and chromedriver of the PATH
#
# Exit code: 0 the page did what it should, 1 it did not, 3 there is no such browser here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for program in "${CHROMIUM:-chromium}" "${CHROMEDRIVER:-chromedriver}"; do
    if ! command -v "$program" >/dev/null; then
        echo "check-web.sh: $program is not installed (Debian: chromium and chromium-driver)" >&2
        exit 3
    fi
done
exec python3 -B scripts/web/check.py "$@"

#!/usr/bin/env bash
# Checks what a node tells Prometheus, at /metrics and by `casnode metrics`: by `promtool check metrics`, and that each
# metric that the dashboard and the alerts name is there.
#
#   scripts/check-metrics.sh [BINARY]    the debug binary unless another is named
#
# Without promtool (Debian: prometheus) its part is skipped, and said so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

binary=${1:-${CARGO_TARGET_DIR:-target}/debug/casnode}
[ -x "$binary" ] || { echo "check-metrics.sh: $binary is not there: cargo build, or name another" >&2; exit 2; }
export CASNODE_CONFIG=none
folder=$(mktemp -d)
daemon=""
trap 'if [ -n "$daemon" ]; then kill "$daemon" 2>/dev/null || true; wait "$daemon" 2>/dev/null || true; fi; rm -rf "$folder"' EXIT

"$binary" --data-dir "$folder/data" --max-store 1GiB daemon --no-mdns --listen /ip4/127.0.0.1/tcp/0 --http 127.0.0.1:0 --json \
    >"$folder/ready" 2>"$folder/log" &
daemon=$!
for _ in $(seq 600); do
    [ -s "$folder/ready" ] && break
    kill -0 "$daemon" 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done
"$binary" --data-dir "$folder/data" metrics >"$folder/by-command"
python3 - "$folder/ready" >"$folder/by-http" <<'PY'
import json, sys, urllib.request
with open(sys.argv[1]) as ready:
    http = json.load(ready)["http"]
with urllib.request.urlopen(f"http://{http}/metrics", timeout=30) as answer:
    kind = answer.headers["Content-Type"]
    if not kind.startswith("text/plain; version=0.0.4"):
        sys.exit(f"/metrics is {kind}")
    sys.stdout.write(answer.read().decode())
PY

for way in by-http by-command; do
    if command -v promtool >/dev/null; then
        said=$(promtool check metrics <"$folder/$way" 2>&1) || { echo "$said" >&2; exit 1; }
        if [ -n "$said" ]; then echo "$said" >&2; exit 1; fi
        echo "promtool has no remark on $(grep -c '^# TYPE' "$folder/$way") metrics ($way)"
    else
        echo "SKIPPED: promtool is not installed; metrics $way were not checked"
    fi
    sed -n 's/^# TYPE \([^ ]*\) .*/\1/p' "$folder/$way" | sort -u >"$folder/there-$way"
done
diff "$folder/there-by-http" "$folder/there-by-command" || { echo "/metrics and the command do not tell the same" >&2; exit 1; }

grep -ohE 'casnode_[a-z0-9_]+' scripts/install/grafana.json scripts/install/alerts.yml | sort -u >"$folder/named"
missing=$(comm -23 "$folder/named" "$folder/there-by-http")
if [ -n "$missing" ]; then
    echo "the dashboard or the alerts name metrics that there are not:" >&2
    echo "$missing" >&2
    exit 1
fi
echo "the dashboard and the alerts name $(wc -l <"$folder/named") metrics, and all of them are there"

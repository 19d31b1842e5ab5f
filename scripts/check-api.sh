#!/usr/bin/env bash
# Sends a daemon what its own description allows and forbids, by schemathesis: nothing may look like a bug (500, a
# status or an answer that is not described).
#
#   scripts/check-api.sh [BINARY]        BINARY: casnode; target/debug/casnode unless said otherwise
#   SCHEMATHESIS=/path/to/schemathesis   where it is; else on the PATH (pip install schemathesis)
#   CHECK_API_SECONDS=N                  time for fuzzing (60)
#
# Exit code: 0 nothing was found, 1 something was, 3 schemathesis is not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

binary=$(realpath "${1:-target/debug/casnode}")
tool=${SCHEMATHESIS:-$(command -v schemathesis || true)}
if [ -z "$tool" ]; then
    echo "check-api.sh: schemathesis is not installed (pip install schemathesis)" >&2
    exit 3
fi

folder=$(mktemp -d)
daemon=""
leave() {
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$folder"
}
trap leave EXIT

# What the daemon says of itself is its first line.
mkfifo "$folder/status"
cd "$folder"
"$binary" daemon --data-dir "$folder/data" --no-mdns --listen /ip4/127.0.0.1/tcp/0 --http 127.0.0.1:0 --json \
    >"$folder/status" 2>"$folder/log" &
daemon=$!
read -r status <"$folder/status"
http=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["http"])' "$status")
token=$(cat "$folder/data/api.token")

# Failures of the network and of the disk have statuses of their own, which are no bugs.
cat >"$folder/schemathesis.toml" <<'TOML'
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 502, 503, 504, 507]
TOML

curl -sf -H "Authorization: Bearer $token" "http://$http/v1/openapi.json" >"$folder/openapi.json"
"$tool" --config-file "$folder/schemathesis.toml" run "$folder/openapi.json" --url "http://$http" \
    -H "Authorization: Bearer $token" --max-time "${CHECK_API_SECONDS:-60}" --request-timeout 60 \
    --phases examples,coverage,fuzzing --generation-database none --continue-on-failure \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance
kill -0 "$daemon" || { cat "$folder/log" >&2; exit 1; }

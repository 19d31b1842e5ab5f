#!/usr/bin/env bash
# A casnode cluster in containers: one bootstrap node and three or more storage nodes. Needs Docker with
# `docker compose` or docker-compose, Rust to build the binary, and no registry.
#
#   scripts/cluster.sh up [--scale N]     build, start, wait until every node is healthy (default 3 nodes)
#   scripts/cluster.sh down               stop it and remove its containers, network and data
#   scripts/cluster.sh test [--scale N]   bring up a cluster of its own, store, get, kill a provider in the
#                                         middle of a get, scale up; always takes everything down
#   scripts/cluster.sh binary             build the static binary, print its path
#   scripts/cluster.sh available          exit 0 if the cluster can run here, else say why not
#
# CASNODE_BINARY=PATH   use this static binary instead of building one
# CASNODE_IMAGE=NAME    name of the image (default casnode:local)
# CASNODE_PROJECT=NAME  name of the compose project (default casnode)
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PROJECT="${CASNODE_PROJECT:-casnode}"
export CASNODE_IMAGE="${CASNODE_IMAGE:-casnode:local}"
HEALTH_DEADLINE_S=180
COMPOSE_DEADLINE_S=240

say() { printf '%s\n' "$*" >&2; }
die() {
    say "cluster.sh: $*"
    exit 1
}

# bounded SECONDS COMMAND...: every wait has an end; in the foreground group, so that Ctrl-C reaches it.
bounded() {
    local seconds="$1"
    shift
    timeout --foreground --kill-after=5 "$seconds" "$@"
}

# ------------------------------------------------------------------------------------------ the engine

compose_command=()
find_compose() {
    if docker compose version >/dev/null 2>&1; then
        compose_command=(docker compose)
    elif command -v docker-compose >/dev/null; then
        compose_command=(docker-compose)
    else
        return 1
    fi
}

# Prints why the cluster cannot run here, or nothing.
why_not() {
    if ! command -v docker >/dev/null; then
        echo "no docker here"
    elif ! bounded 20 docker info >/dev/null 2>&1; then
        echo "docker is installed, but its engine does not answer (docker info)"
    elif ! find_compose; then
        echo "neither 'docker compose' nor docker-compose here"
    elif [ "$(bounded 20 docker info --format '{{.OSType}}')" != linux ]; then
        echo "the engine does not run Linux containers"
    elif ! command -v python3 >/dev/null; then
        echo "no python3 here (it reads the JSON answers)"
    fi
}

need_engine() {
    local reason
    reason=$(why_not)
    [ -z "$reason" ] || die "$reason"
    find_compose
}

# compose ARGUMENTS...: quiet unless it fails. An explicit file and project: nothing of the caller's
# environment or folder changes what is meant.
compose() {
    local log status=0
    log=$(mktemp)
    bounded "$COMPOSE_DEADLINE_S" "${compose_command[@]}" --project-name "$PROJECT" --project-directory "$ROOT" \
        --file "$ROOT/docker-compose.yml" "$@" >"$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        say "${compose_command[*]} $1 failed (exit $status):"
        cat "$log" >&2
    fi
    rm -f "$log"
    return "$status"
}

# containers SERVICE: ids of its containers, in the order of their numbers.
containers() {
    docker ps --all --no-trunc --filter "label=com.docker.compose.project=$PROJECT" \
        --filter "label=com.docker.compose.service=$1" \
        --format '{{.Label "com.docker.compose.container-number"}} {{.ID}}' | sort -n | cut -d' ' -f2
}

# name_of CONTAINER: as people see it.
name_of() { docker inspect --format '{{.Name}}' "$1" | tr -d /; }

# ------------------------------------------------------------------------------------- binary and image

host_target() { rustc -vV | sed -n 's/^host: //p'; }

is_static() { ! LC_ALL=C readelf --program-headers --wide "$1" | grep -q INTERP; }

binary() {
    if [ -n "${CASNODE_BINARY:-}" ]; then
        [ -x "$CASNODE_BINARY" ] || die "CASNODE_BINARY=$CASNODE_BINARY is not an executable file"
        realpath "$CASNODE_BINARY"
        return
    fi
    command -v cargo >/dev/null || die "no cargo here; install Rust, or give CASNODE_BINARY a static casnode"
    local target folder
    target=$(host_target)
    case "$target" in
        *-linux-*) ;;
        *) die "cannot build a Linux binary on $target; with a registry at hand: docker build -t $CASNODE_IMAGE ." ;;
    esac
    # An explicit --target keeps the flag away from build scripts and procedural macros, which cannot be static.
    (
        cd "$ROOT"
        RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
            cargo build --release --locked --package casnode-cli --bin casnode --target "$target"
    ) >&2
    folder=$(cd "$ROOT" && cargo metadata --format-version 1 --no-deps --locked |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    echo "$folder/$target/release/casnode"
}

# The image is the last stage of the Dockerfile; what it takes from the build stage comes from here.
image() (
    built=$(binary)
    is_static "$built" || die "$built is linked dynamically; an image from scratch cannot run it"
    context=$(mktemp -d)
    trap 'rm -rf "$context"' EXIT
    mkdir -p "$context/image/bin" "$context/image/own/data" "$context/image/own/tmp"
    chmod 0700 "$context"/image/own/*
    # Line tables are four fifths of the binary; functions keep their names in backtraces.
    strip --strip-debug -o "$context/image/bin/casnode" "$built"
    chmod 0755 "$context/image/bin/casnode"
    sed -n '/^FROM scratch$/,$p' "$ROOT/Dockerfile" |
        sed 's,^COPY --from=build \(.*\)/image/,COPY \1image/,' >"$context/Dockerfile"
    if [ "$(grep -c '^COPY .*image/' "$context/Dockerfile")" -ne 2 ] || grep -q -e --from "$context/Dockerfile"; then
        die "the last stage of the Dockerfile has changed: adapt 'image' in scripts/cluster.sh"
    fi
    bounded 300 docker build --quiet --tag "$CASNODE_IMAGE" "$context" >"$context.log" 2>&1 || {
        cat "$context.log" >&2
        rm -f "$context.log"
        die "docker build failed"
    }
    rm -f "$context.log"
)

# ---------------------------------------------------------------------------------------------- the nodes

# json EXPRESSION: evaluates it over `it`, the last JSON line of standard input.
json() {
    python3 -c '
import json, sys
lines = [line for line in sys.stdin.read().splitlines() if line.strip()]
if not lines:
    sys.exit("no JSON line in the answer")
it = json.loads(lines[-1])
count = lambda value: value if isinstance(value, int) else len(value)
print(eval(sys.argv[1]))' "$1"
}

# on CONTAINER SECONDS ARGUMENTS...: one casnode command inside a container.
on() {
    local container="$1" seconds="$2"
    shift 2
    bounded "$seconds" docker exec "$container" casnode "$@"
}

# A node is ready when Docker calls it healthy and it is connected to at least one other.
is_ready() {
    local state peers
    state=$(docker inspect --format '{{.State.Status}}/{{.State.Health.Status}}' "$1" 2>/dev/null) || return 1
    [ "$state" = running/healthy ] || return 1
    peers=$(on "$1" 15 --json status 2>/dev/null | json 'count(it["peers"])' 2>/dev/null) || return 1
    [ "$peers" -ge 1 ]
}

# wait_ready CONTAINER...: all of them, or fails when the deadline has passed.
wait_ready() {
    local deadline=$((SECONDS + HEALTH_DEADLINE_S)) waiting=("$@") still
    while :; do
        still=()
        for id in "${waiting[@]}"; do is_ready "$id" || still+=("$id"); done
        [ "${#still[@]}" -gt 0 ] || return 0
        waiting=("${still[@]}")
        if [ "$SECONDS" -ge "$deadline" ]; then
            for id in "${waiting[@]}"; do
                say "not ready after $HEALTH_DEADLINE_S s: $(name_of "$id") is $(docker inspect \
                    --format '{{.State.Status}}, health {{.State.Health.Status}}' "$id")"
            done
            return 1
        fi
        sleep 1
    done
}

# start_nodes N: brings the project to N storage nodes and waits for all of them.
start_nodes() {
    local ids
    # compose itself waits for the bootstrap node's health before it starts the others.
    compose up --detach --no-build --no-recreate --scale "node=$1"
    mapfile -t ids < <(containers bootstrap && containers node)
    [ "${#ids[@]}" -eq "$(($1 + 1))" ] || die "${#ids[@]} containers are there instead of $(($1 + 1))"
    wait_ready "${ids[@]}"
}

take_down() { compose down --volumes --remove-orphans --timeout "${1:-20}"; }

print_logs() {
    for id in $(containers bootstrap) $(containers node); do
        say "---- last lines of $(name_of "$id") ($(docker inspect --format '{{.State.Status}}, exit {{.State.ExitCode}}' "$id"))"
        bounded 20 docker logs --tail 60 "$id" >&2 || true
    done
}

# -------------------------------------------------------------------------------------------- the commands

up() {
    need_engine
    image
    if ! start_nodes "$scale"; then
        print_logs
        die "the cluster did not come up; its containers are left for you to look at (scripts/cluster.sh down removes them)"
    fi
    local first last address
    first=$(name_of "$(containers node | head -n 1)")
    last=$(name_of "$(containers node | tail -n 1)")
    address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(containers bootstrap)")
    cat <<EOF
$scale storage nodes and a bootstrap node are healthy.

  docker exec -i $first casnode store - --name FILE <FILE    prints the address
  docker exec $last casnode get ADDRESS -o - >COPY
  docker exec $first casnode peers
  casnode get ADDRESS --bootstrap /ip4/$address/tcp/4101     from this host
  scripts/cluster.sh down                                    removes it all, the data too
EOF
}

down() {
    need_engine
    take_down
}

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

main() {
    local command="${1:-}"
    [ $# -eq 0 ] || shift
    scale=3
    while [ $# -gt 0 ]; do
        case "$1" in
            --scale)
                scale="${2:-}"
                shift
                ;;
            --scale=*) scale="${1#--scale=}" ;;
            *)
                usage >&2
                exit 2
                ;;
        esac
        shift
    done
    if ! [[ "$scale" =~ ^[1-9][0-9]?$ ]]; then
        say "cluster.sh: --scale takes a number of storage nodes from 1 to 99"
        exit 2
    fi
    case "$command" in
        up) up ;;
        down) down ;;
        test)
            # shellcheck source=tests/cluster/acts.sh
            . "$ROOT/tests/cluster/acts.sh"
            run_acts
            ;;
        binary) binary ;;
        available)
            local reason
            reason=$(why_not)
            [ -z "$reason" ] || {
                echo "$reason"
                exit 1
            }
            ;;
        -h | --help) usage ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
}

main "$@"

# shellcheck shell=bash
# The acts of `scripts/cluster.sh test`, which sources this file. One line per act on standard output;
# the first act that fails ends the run, prints the nodes' logs, and takes everything down.

# Big enough that a get of it is still under way when a provider is killed.
SMALL_MIB=64
BIG_MIB=512
# While the big get begins, its providers get this share of a core, so that it takes seconds on any machine.
SLOW_CPU_QUOTA_US=30000
GET_DEADLINE_S=240

run_acts() {
    need_engine
    [ "$scale" -ge 3 ] || die "the test needs at least 3 storage nodes"
    PROJECT="casnode-test-$$"
    CASNODE_IMAGE="casnode:test-$$"
    work=$(mktemp -d)
    passed=0 act_name="prepare" detail="" taken_down=no getter_pid=""
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    act "image from the static binary, no registry" act_image
    act "bootstrap and $scale nodes become healthy" act_up
    act "store $SMALL_MIB MiB on node 1" act_store
    act "get it on node 2" act_get
    act "the DHT names nodes 1 and 2 as providers" act_providers
    act "get on node 3 takes from both" act_get_from_both
    act "node 1 is killed in the middle of a get" act_kill_a_provider
    act "node 1 comes back with its data" act_come_back
    act "scaled to $((scale + 1)) nodes, the new one gets the file" act_scale_up
    act "everything is taken down" act_down
    echo "cluster test: all $passed acts passed in $SECONDS s"
}

# act NAME FUNCTION: errexit holds inside, so any failing command fails the act.
act() {
    act_name="$1" detail=""
    local started=$EPOCHREALTIME
    "$2"
    passed=$((passed + 1))
    awk -v name="$act_name" -v from="$started" -v to="$EPOCHREALTIME" -v detail="$detail" \
        'BEGIN { printf "PASS  %-52s %6.1f s  %s\n", name, to - from, detail }'
}

# In a file, because it may be said inside a command substitution.
fail() {
    echo "$*" >"$work/why"
    exit 1
}

finish() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    if [ "$status" -ne 0 ]; then
        echo "FAIL  $act_name: $(cat "$work/why" 2>/dev/null || echo "exit $status")"
        [ "$status" -ge 128 ] || print_logs
    fi
    if [ -n "$getter_pid" ]; then kill "$getter_pid" 2>/dev/null || true; fi
    if [ "$taken_down" = no ]; then take_down 1 || true; fi
    docker image rm --force "$CASNODE_IMAGE" >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$status"
}

# ------------------------------------------------------------------------------------------------ helpers

random_file() { head -c "$(($2 * 1024 * 1024))" /dev/urandom >"$1"; }

# BLAKE3 of a file by a program that is not casnode, or nothing where there is none.
blake3_of() {
    if command -v b3sum >/dev/null; then
        b3sum --no-names "$1"
    else
        python3 -c '
import sys
try:
    from blake3 import blake3
except ImportError:
    sys.exit()
print(blake3(open(sys.argv[1], "rb").read()).hexdigest())' "$1"
    fi
}

# store_on CONTAINER FILE: prints the address.
store_on() {
    local address
    address=$(bounded "$GET_DEADLINE_S" docker exec -i "$1" casnode -q store - --name "$(basename "$2")" <"$2")
    [[ "$address" =~ ^[0-9a-f]{64}$ ]] || fail "store printed '$address' instead of an address"
    echo "$address"
}

# same_bytes CONTAINER PATH FILE: the file inside the container is, byte for byte, the one here.
same_bytes() {
    rm -f "$work/copy"
    bounded 180 docker cp "$1:$2" "$work/copy" >/dev/null
    cmp "$work/copy" "$3" || fail "the copy on $(name_of "$1") differs from what was stored"
    rm -f "$work/copy"
}

volumes_of() { docker inspect --format '{{range .Mounts}}{{println .Name}}{{end}}' "$@" | grep .; }

peer_id() { on "$1" 15 --json status | json 'it["peer_id"]'; }

# wait_provides CONTAINER ADDRESS PEER...: until the DHT, asked there, names all these peers.
wait_provides() {
    local container="$1" address="$2" deadline=$((SECONDS + 60)) answer="" missing
    shift 2
    while :; do
        answer=$(on "$container" 45 providers "$address" 2>/dev/null) || true
        missing=""
        for peer in "$@"; do [[ "$answer" == *"$peer"* ]] || missing="$peer"; done
        [ -n "$missing" ] || return 0
        [ "$SECONDS" -lt "$deadline" ] || fail "providers of $address do not name $missing after 60 s, but: ${answer:-nobody}"
        sleep 1
    done
}

# bytes_from PEER <GET_JSON: what a get had from this peer.
bytes_from() { json "sum(p['bytes'] for p in it['providers'] if p['peer'] == '$1')"; }

mib() { echo "$((($1 + 524288) / 1048576)) MiB"; }

# --------------------------------------------------------------------------------------------------- acts

act_image() {
    image
    detail="$(docker image inspect --format '{{.Size}}' "$CASNODE_IMAGE" | awk '{ printf "%.0f MB", $1 / 1e6 }')"
}

act_up() {
    start_nodes "$scale"
    mapfile -t nodes < <(containers node)
    peer_1=$(peer_id "${nodes[0]}")
    peer_2=$(peer_id "${nodes[1]}")
    mapfile -t volumes < <(volumes_of "$(containers bootstrap)" "${nodes[@]}")
    [ "${#volumes[@]}" -eq "$((scale + 1))" ] || fail "${#volumes[@]} data volumes for $((scale + 1)) containers"
    detail="${compose_command[*]}"
}

act_store() {
    random_file "$work/small.bin" "$SMALL_MIB"
    small=$(store_on "${nodes[0]}" "$work/small.bin")
    local expected
    expected=$(blake3_of "$work/small.bin")
    if [ -z "$expected" ]; then
        detail="$small (no b3sum here to compare with)"
    elif [ "$expected" = "$small" ]; then
        detail="$small, as b3sum says"
    else
        fail "the address is $small, but the file's BLAKE3 is $expected"
    fi
}

act_get() {
    on "${nodes[1]}" "$GET_DEADLINE_S" -q get "$small" -o /tmp/small.bin >/dev/null
    same_bytes "${nodes[1]}" /tmp/small.bin "$work/small.bin"
}

act_providers() { wait_provides "${nodes[2]}" "$small" "$peer_1" "$peer_2"; }

act_get_from_both() {
    local from_1 from_2
    on "${nodes[2]}" "$GET_DEADLINE_S" -q --json get "$small" -o /tmp/small.bin >"$work/get.json"
    same_bytes "${nodes[2]}" /tmp/small.bin "$work/small.bin"
    from_1=$(bytes_from "$peer_1" <"$work/get.json")
    from_2=$(bytes_from "$peer_2" <"$work/get.json")
    if [ "$from_1" -eq 0 ] || [ "$from_2" -eq 0 ]; then
        fail "node 1 gave $from_1 bytes and node 2 $from_2: $(cat "$work/get.json")"
    fi
    detail="$(mib "$from_1") from node 1, $(mib "$from_2") from node 2"
}

# limit_cpu QUOTA_US CONTAINER...: of a period of 100 ms; -1 lifts it. Where the engine cannot, it does not.
limit_cpu() {
    local quota="$1"
    shift
    docker update --cpu-period 100000 --cpu-quota "$quota" "$@" >/dev/null 2>&1 || true
}

stored_bytes() { on "${nodes[2]}" 15 --json status | json 'it["stored_bytes"]'; }

act_kill_a_provider() {
    local size=$((BIG_MIB * 1048576)) before now status=0 from_1 from_2
    random_file "$work/big.bin" "$BIG_MIB"
    big=$(store_on "${nodes[0]}" "$work/big.bin")
    on "${nodes[1]}" "$GET_DEADLINE_S" -q get "$big" -o - | cmp - "$work/big.bin"
    wait_provides "${nodes[2]}" "$big" "$peer_1" "$peer_2"

    before=$(stored_bytes)
    limit_cpu "$SLOW_CPU_QUOTA_US" "${nodes[0]}" "${nodes[1]}"
    on "${nodes[2]}" "$GET_DEADLINE_S" --json get "$big" -o /tmp/big.bin >"$work/get.json" 2>"$work/get.log" &
    getter_pid=$!
    while :; do
        now=$(stored_bytes)
        [ "$((now - before))" -lt "$((size / 10))" ] || break
        kill -0 "$getter_pid" 2>/dev/null || fail "the get ended before a provider could be killed: $(cat "$work/get.log")"
    done
    docker kill "${nodes[0]}" >/dev/null
    kill -0 "$getter_pid" 2>/dev/null || fail "the get was over before the provider was killed: use a bigger file"
    limit_cpu -1 "${nodes[1]}"

    wait "$getter_pid" || status=$?
    getter_pid=""
    [ "$status" -eq 0 ] || fail "the get ended with exit $status: $(tail -n 5 "$work/get.log")"
    same_bytes "${nodes[2]}" /tmp/big.bin "$work/big.bin"
    from_1=$(bytes_from "$peer_1" <"$work/get.json")
    from_2=$(bytes_from "$peer_2" <"$work/get.json")
    [ "$from_2" -gt 0 ] || fail "node 2 gave nothing: $(cat "$work/get.json")"
    detail="$BIG_MIB MiB, killed after $(mib "$((now - before))"): $(mib "$from_1") from node 1, $(mib "$from_2") from node 2"
}

act_come_back() {
    limit_cpu -1 "${nodes[0]}"
    docker start "${nodes[0]}" >/dev/null
    wait_ready "${nodes[0]}"
    [ "$(peer_id "${nodes[0]}")" = "$peer_1" ] || fail "node 1 came back under another peer id"
    on "${nodes[0]}" 60 ls >"$work/ls"
    grep -q "${small:0:10}" "$work/ls" && grep -q "${big:0:10}" "$work/ls" || fail "files are missing: $(cat "$work/ls")"
    on "${nodes[0]}" "$GET_DEADLINE_S" -q get "$big" -o - | cmp - "$work/big.bin"
}

act_scale_up() {
    start_nodes "$((scale + 1))"
    local newcomer
    newcomer=$(containers node | tail -n 1)
    on "$newcomer" "$GET_DEADLINE_S" -q get "$small" -o /tmp/small.bin >/dev/null
    same_bytes "$newcomer" /tmp/small.bin "$work/small.bin"
    mapfile -t -O "${#volumes[@]}" volumes < <(volumes_of "$newcomer")
}

act_down() {
    take_down
    taken_down=yes
    [ -z "$(containers bootstrap)$(containers node)" ] || fail "containers are left"
    [ -z "$(docker network ls --quiet --filter "label=com.docker.compose.project=$PROJECT")" ] || fail "a network is left"
    for volume in "${volumes[@]}"; do
        ! docker volume inspect "$volume" >/dev/null 2>&1 || fail "volume $volume is left"
    done
}

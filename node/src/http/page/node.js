// Node: where it and its peers are on the ring of keys, what it stores, how announcing stands.
const RADIUS = 92;

/** Peers that the ring and the table show. */
const MAX_PEERS = 500;

/** Where a key is on the ring: its first 32 bits as a part of a full turn, beginning above. */
function onRing(keyHex, radius) {
  const turn = (Number.parseInt(keyHex.slice(0, 8), 16) / 2 ** 32) * 2 * Math.PI;
  return { x: radius * Math.sin(turn), y: -radius * Math.cos(turn) };
}

function dot({ key, peer, words }) {
  const { x, y } = onRing(key, RADIUS);
  const kind = peer ? "peer" : "self";
  return svg("circle", { class: kind, cx: x.toFixed(2), cy: y.toFixed(2), r: peer ? 3.6 : 5.5, "data-peer": peer }, svg("title", {}, words));
}

function drawScale() {
  const lines = [];
  for (let digit = 0; digit < 16; digit += 1) {
    const turn = (digit / 16) * 2 * Math.PI;
    const [sin, cos] = [Math.sin(turn), -Math.cos(turn)];
    const isQuarter = digit % 4 === 0;
    const length = isQuarter ? 8 : 4;
    lines.push(svg("line", { x1: (sin * (RADIUS - length)).toFixed(2), y1: (cos * (RADIUS - length)).toFixed(2), x2: (sin * RADIUS).toFixed(2), y2: (cos * RADIUS).toFixed(2) }));
    if (isQuarter) lines.push(svg("text", { x: (sin * 108).toFixed(2), y: (cos * 108 + 3).toFixed(2) }, `${digit.toString(16)}0…`));
  }
  byId("ring-scale").replaceChildren(svg("circle", { r: RADIUS }), ...lines);
}

function drawRing(status, peers) {
  const dots = peers.map((peer) => ({ key: peer.dht_key, peer: peer.peer, words: `${short(peer.peer)} at ${peer.dht_key.slice(0, 8)}…` }));
  if (status.dht_key) dots.push({ key: status.dht_key, peer: null, words: `This node at ${status.dht_key.slice(0, 8)}…` });
  keyed(byId("ring-dots"), dots, (each) => each.peer ?? "self", dot);
  byId("ring").setAttribute("aria-label", `This node and ${counted(peers.length, "peer")} on the ring of keys`);
  byId("ring-count").textContent = count(peers.length);
  byId("ring-word").textContent = peers.length === 1 ? "peer" : "peers";
}

/** A row and its dot belong together. */
function light(peer, is) {
  for (const each of byId("ring-dots").children) if (each.dataset.peer === peer) each.classList.toggle("lit", is);
}

function peerRow(peer) {
  const connection = [peer.transport, peer.outbound ? "dialled by us" : "dialled by it"].filter(Boolean).join(", ");
  return element("tr", { "data-peer": peer.peer, onpointerenter: () => light(peer.peer, true), onpointerleave: () => light(peer.peer, false) },
    element("td", { class: "address" }, element("code", { title: peer.peer }, short(peer.peer))),
    element("td", { class: "address" }, element("code", {}, (peer.addrs[0] ?? "").split("/p2p/")[0])),
    element("td", { title: peer.cipher }, connection),
    element("td", { class: "number", "data-label": "round trip" }, peer.rtt_ms === null || peer.rtt_ms === undefined ? "–" : `${peer.rtt_ms} ms`));
}

function drawQuota(status) {
  const limit = status.max_store_bytes;
  const bar = byId("quota");
  bar.hidden = !limit;
  if (limit) Object.assign(bar, { max: limit, value: Math.min(limit, status.disk_bytes) });
  bar.classList.toggle("high", Boolean(limit) && status.disk_bytes > 0.9 * limit);
  facts(byId("store-facts"), [
    ["On disk", limit ? `${bytes(status.disk_bytes)} of ${bytes(limit)}` : `${bytes(status.disk_bytes)}, no limit set`],
    ["Files", `${count(status.files)}, of which ${count(status.pinned_files)} pinned`],
    ["Chunks", `${count(status.chunks)}, ${bytes(status.stored_bytes)}`],
    ["To be given back", status.reclaimable_bytes ? bytes(status.reclaimable_bytes) : null],
    ["State", status.read_only ? "read only" : null],
  ]);
}

function drawAnnouncing(provide) {
  Object.assign(byId("announced"), { max: Math.max(1, provide.keys), value: provide.done });
  facts(byId("announce-facts"), [
    ["Announced", `${count(provide.done)} of ${counted(provide.keys, "key")}`],
    ["Due now", count(provide.due)],
    ["Failed", provide.failed ? counted(provide.failed, "key") : null],
    ["Latest", provide.last_success_unix_ms ? ago(provide.last_success_unix_ms) : "not yet"],
  ]);
  const { behind } = provide;
  byId("behind").hidden = !behind;
  byId("behind").replaceChildren(...(behind ? prose([`${behind.what}: ${behind.why}`, behind.next].map(sentence).join(" ")) : []));
}

async function refreshNode() {
  const [status, { peers }, provide, limits] = await Promise.all([
    call("status"), call("peers"), call("provide_status", { address: null }), call("limits", { change: null }),
  ]);
  const shown = peers.slice(0, MAX_PEERS);
  drawRing(status, shown);
  tiles(byId("node-tiles"), [
    ["Peers", count(status.peers), status.network_peers ? `of about ${count(status.network_peers)} nodes` : null],
    ["Taking", rate(limits.down_now_bytes_per_s), limits.down_bytes_per_s ? `at most ${rate(limits.down_bytes_per_s)}` : null],
    ["Sending", rate(limits.up_now_bytes_per_s), limits.up_bytes_per_s ? `at most ${rate(limits.up_bytes_per_s)}` : null],
  ]);
  facts(byId("node-facts"), [
    ["Peer id", [status.peer_id]],
    ["Network", status.network],
    ["Part in the DHT", status.dht_mode && `${status.dht_mode}, ${status.dht_serving ? "holds records for others" : "holds nothing for others"}`],
    ["Listens on", [[...new Set(status.listen.map((addr) => addr.split("/p2p/")[0]))].join("\n")]],
    ["Version", status.version],
  ]);
  drawQuota(status);
  drawAnnouncing(provide);
  keyed(byId("peers").tBodies[0], shown, (peer) => peer.peer, peerRow);
  byId("peers").hidden = shown.length === 0;
  byId("no-peers").hidden = shown.length !== 0;
  byId("more-peers").hidden = peers.length <= MAX_PEERS;
  byId("more-peers").textContent = `${count(peers.length - shown.length)} more are not shown.`;
}

// Swarm: the chunks of a file by how rare they are, and its peers.

/** Colours are in the style, for light and for dark; they run from warm to cold, which everybody can tell apart. */
const RARITY = [
  { least: 0, colour: "--none", words: "no copy known" },
  { least: 1, colour: "--one", words: "one copy" },
  { least: 2, colour: "--two", words: "two copies" },
  { least: 3, colour: "--few", words: "three or four" },
  { least: 5, colour: "--many", words: "five or more" },
];
const PALE = 0.22;
const GAP = 1;
const CELL = { least: 4, most: 26 };
const MAP_HEIGHT = 230;

/** Swarms that are offered, of the files that were stored last. */
const MAX_OFFERED = 500;

const swarmView = { address: null, name: null, map: null };

const rarityOf = (copies) => RARITY.findLast((step) => copies >= step.least);

/** Squares as large as fit: how many are in a row, and their length in pixels of the page. */
function layOut(cells, width) {
  const fitting = Math.floor(Math.sqrt((width * MAP_HEIGHT) / Math.max(1, cells)));
  const cell = Math.max(CELL.least, Math.min(CELL.most, fitting));
  return { cell, columns: Math.max(1, Math.floor(width / cell)) };
}

/** A cell is filled from below by the share of its chunks that are here; its colour says how rare the rarest of them is. */
function drawMap() {
  const canvas = byId("chunk-map");
  const map = swarmView.map;
  const cells = map ? map.copies.length : 0;
  const width = canvas.parentElement.clientWidth;
  canvas.hidden = cells === 0;
  if (cells === 0 || width === 0) return;
  const { cell, columns } = layOut(cells, width);
  const density = window.devicePixelRatio || 1;
  const height = Math.ceil(cells / columns) * cell;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  const pen = canvas.getContext("2d");
  pen.scale(width ? canvas.width / width : 1, canvas.height / height);
  const style = getComputedStyle(document.documentElement);
  const colours = new Map(RARITY.map((step) => [step, style.getPropertyValue(step.colour)]));
  for (let index = 0; index < cells; index += 1) {
    const x = (index % columns) * cell;
    const y = Math.floor(index / columns) * cell;
    const side = cell - GAP;
    const filled = side * (map.here[index] / map.chunksOf(index));
    pen.fillStyle = colours.get(rarityOf(map.copies[index]));
    pen.globalAlpha = PALE;
    pen.fillRect(x, y, side, side - filled);
    pen.globalAlpha = 1;
    pen.fillRect(x, y + side - filled, side, filled);
  }
  Object.assign(canvas.dataset, { cell, columns, cells });
}

function drawLegend() {
  const sample = (name) => element("i", { class: `sample ${name}`, "aria-hidden": "true" });
  const steps = RARITY.map((step) => element("li", {}, sample(step.colour.slice(2)), step.words));
  byId("legend").replaceChildren(...steps, element("li", {}, sample("pale"), "pale: not here"));
}

function between(peer) {
  const words = [];
  if (peer.chokes_us === false) words.push("it serves us");
  if (peer.chokes_us === true) words.push("we wait for it");
  if (peer.choked_by_us === false && peer.interested_in_us) words.push("we serve it");
  if (peer.choked_by_us === true && peer.interested_in_us) words.push("it waits for us");
  if (peer.snubs_us) words.push("silent for a minute");
  return words.join(", ") || "–";
}

function share(part, whole) {
  return element("span", { class: "share" }, element("progress", { value: part, max: Math.max(1, whole), "aria-label": "Has" }), percent(part, whole));
}

function swarmPeerRow({ peer, chunks }) {
  const isKnown = peer.have_chunks !== null && peer.have_chunks !== undefined;
  return element("tr", { "data-peer": peer.peer },
    element("td", { class: "address" }, element("code", { title: peer.peer }, short(peer.peer))),
    element("td", {}, isKnown ? share(peer.have_chunks, chunks) : "not said"),
    element("td", { class: "number", "data-label": "sends" }, rate(peer.down_bytes_per_s)),
    element("td", { class: "number", "data-label": "takes" }, rate(peer.up_bytes_per_s)),
    element("td", {}, between(peer)));
}

/** The files to choose from, and the one that is shown, whether it is among them or not. */
function offerFiles() {
  const offered = listing.files.filter((file) => !file.directory).slice(0, MAX_OFFERED);
  const { address, name } = swarmView;
  if (address && !offered.some((file) => file.address === address)) offered.unshift({ address, name });
  swarmView.address = address ?? offered[0]?.address ?? null;
  const select = byId("swarm-file");
  keyed(select, offered.map((file) => ({ address: file.address, title: titleOf(file) })), (file) => file.address,
    (file) => element("option", { value: file.address }, file.title));
  if (swarmView.address) select.value = swarmView.address;
  byId("swarm-form").hidden = offered.length === 0;
}

function drawSwarm(swarm) {
  const { map, chunks } = swarm;
  const last = map.copies.length - 1;
  swarmView.map = { ...map, chunksOf: (cell) => (cell === last ? chunks - last * map.chunks_per_cell : map.chunks_per_cell) };
  drawMap();
  const canvas = byId("chunk-map");
  Object.assign(canvas.dataset, { here: swarm.chunks_here, chunks });
  canvas.setAttribute("aria-label", `${percent(swarm.chunks_here, chunks)} of ${counted(chunks, "chunk")} are here`);
  byId("map-words").textContent = map.chunks_per_cell > 1 ? `A square is ${counted(map.chunks_per_cell, "chunk")}: how much of it is here, and the rarest of it.` : "A square is a chunk.";
  const sum = (field) => swarm.peers.reduce((all, peer) => all + peer[field], 0);
  tiles(byId("swarm-tiles"), [
    ["Here", percent(swarm.chunks_here, chunks), `${count(swarm.chunks_here)} of ${counted(chunks, "chunk")}`],
    ["Copies known", swarm.copies.toFixed(2), "of the rarest chunk"],
    ["Fetching", rate(sum("down_bytes_per_s")), `${bytes(swarm.down_bytes)} so far`],
    ["Sending", rate(sum("up_bytes_per_s")), `${bytes(swarm.up_bytes)} so far`],
  ]);
  facts(byId("swarm-facts"), [
    ["Address", [swarm.address]],
    ["Size", bytes(swarm.bytes)],
    ["Served", swarm.seed.over ? "no more" : swarm.seed.policy],
  ]);
  const peers = swarm.peers.map((peer) => ({ peer, chunks }));
  keyed(byId("swarm-peers").tBodies[0], peers, ({ peer }) => peer.peer, swarmPeerRow);
  byId("swarm-peers").hidden = swarm.peers.length === 0;
  sayOfSwarm(swarm.peers.length ? "" : "Nobody fetches it from this node just now, and this node fetches it from nobody.");
}

function sayOfSwarm(text) {
  byId("no-swarm").textContent = text;
  byId("no-swarm").hidden = text === "";
}

async function refreshSwarm() {
  const { address } = swarmView;
  if (!address) {
    byId("swarm-body").hidden = true;
    sayOfSwarm("Nothing is stored here yet, so there is no swarm to see.");
    return;
  }
  let swarm;
  try {
    swarm = await call("swarm_status", { address });
  } catch (error) {
    // A file that is looked for is not here yet.
    if (error.kind !== "not_found") throw error;
  }
  if (address !== swarmView.address) return;
  byId("swarm-body").hidden = !swarm;
  if (swarm) drawSwarm(swarm);
  else sayOfSwarm("Nothing of it is here yet. It is shown as soon as its list of chunks has come.");
}

function showSwarm(address, name) {
  Object.assign(swarmView, { address, name });
  showView("swarm");
}

function setUpSwarm() {
  drawLegend();
  byId("swarm-form").addEventListener("submit", (event) => event.preventDefault());
  byId("swarm-file").addEventListener("change", (event) => {
    Object.assign(swarmView, { address: event.target.value, name: null });
    refreshSwarm().catch(unanswered);
  });
  new ResizeObserver(drawMap).observe(byId("chunk-map").parentElement);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
}

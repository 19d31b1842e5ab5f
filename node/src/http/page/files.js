// Files: what is stored here.

/** Rows that are shown before somebody asks for more. */
const PAGE_ROWS = 500;

/** Stored files are opened from here alone: beyond this machine the gateway wants the token, which a link cannot show. */
const OPENS = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(location.hostname);

/** A list that only lacks chunks is old after this. */
const PATIENCE_MS = 10_000;

const listing = { files: [], shown: PAGE_ROWS, figures: "", chunks: 0, askedAt: 0 };

const titleOf = (file) => file.name ?? short(file.address);

function openLink(address, name, isDirectory) {
  if (isDirectory) return `/b3/${address}/`;
  return `/b3/${address}${name ? `?filename=${encodeURIComponent(name)}` : ""}`;
}

/** Words that open a file in a tab of its own, where that can be. */
function opening(words, address, name, isDirectory) {
  if (!OPENS) return element("bdi", {}, words);
  return element("a", { href: openLink(address, name, isDirectory), target: "_blank", rel: "noopener noreferrer" }, element("bdi", {}, words));
}

function marks(file) {
  const all = [];
  if (file.directory) all.push(counted(file.directory.files, "file"));
  if (file.state !== "complete") all.push(file.state);
  if (file.pinned) all.push("pinned");
  if (file.in_place) all.push(file.source_state && file.source_state !== "intact" ? `in place, ${file.source_state}` : "in place");
  return all.map((mark) => element("span", { class: mark === "partial" ? "mark warn" : "mark" }, mark));
}

function fileRow(file) {
  const press = (words, label, act) => element("button", { type: "button", "aria-label": `${label} ${titleOf(file)}`, onclick: act }, words);
  return element("tr", { "data-address": file.address },
    element("td", { class: "name" }, opening(`${titleOf(file)}${file.directory ? "/" : ""}`, file.address, file.name, file.directory), " ", ...marks(file)),
    element("td", { class: "number" }, bytes(file.directory?.bytes ?? file.bytes)),
    element("td", { class: "when" }, ago(file.stored_unix_ms)),
    element("td", { class: "address" }, element("code", { title: file.address }, short(file.address))),
    element("td", { class: "acts" },
      press("Copy", "Copy the address of", (event) => copy(file.address, event.currentTarget)), " ",
      press("Swarm", "Show the swarm of", () => showSwarm(file.address, file.name))));
}

function wanted() {
  const text = byId("filter").value.trim().toLowerCase();
  if (!text) return listing.files;
  return listing.files.filter((file) => file.address.startsWith(text) || file.name?.toLowerCase().includes(text));
}

function drawFiles() {
  const found = wanted();
  const shown = found.slice(0, listing.shown);
  const more = found.length - shown.length;
  keyed(byId("files").tBodies[0], shown, (file) => file.address, fileRow);
  byId("files").hidden = shown.length === 0;
  byId("files-head").hidden = listing.files.length === 0;
  byId("files-count").textContent = found.length === listing.files.length ? count(found.length) : `${count(found.length)} of ${count(listing.files.length)}`;
  byId("more").hidden = more === 0;
  byId("more-words").textContent = `${count(more)} more. A filter finds them sooner.`;
  byId("more-files").textContent = `Show ${count(Math.min(more, PAGE_ROWS))} of them`;
  byId("no-files").hidden = listing.files.length !== 0;
  byId("none-found").hidden = listing.files.length === 0 || found.length !== 0;
}

async function listFiles() {
  listing.askedAt = performance.now();
  const { files } = await call("ls");
  listing.files = files.sort((a, b) => b.stored_unix_ms - a.stored_unix_ms);
  drawFiles();
}

/** Asks for the list again when the node's own figures say that it is another one; while chunks come, not each time. */
async function listIfChanged({ files, pinned_files, chunks }) {
  const figures = [files, pinned_files].join();
  const isLater = performance.now() - listing.askedAt > PATIENCE_MS;
  if (figures === listing.figures && (chunks === listing.chunks || !isLater)) return;
  await listFiles();
  Object.assign(listing, { figures, chunks });
}

function setUpFiles() {
  byId("filter").addEventListener("input", () => {
    listing.shown = PAGE_ROWS;
    drawFiles();
  });
  byId("more-files").addEventListener("click", () => {
    listing.shown += PAGE_ROWS;
    drawFiles();
  });
}

// Work in hand: storing what is dropped, getting what is pasted.
const HEX = /^[0-9a-fA-F]{64}$/;
const PHASES = {
  connecting: "connecting to the network", planning: "looking for room", importing: "storing", publishing: "telling the network",
  finding: "looking for somebody who has it", fetching: "fetching", verifying: "checking what is here", repairing: "repairing",
  collecting: "making room", seeding: "serving",
};

/** A browser has six connections to a server: this many downloads leave some for the rest of the page. */
const MAX_GETS = 3;

/** Work that has ended and is still shown. */
const MAX_ENDED = 50;

/** The address and hints in what somebody pasted: bare hex, a casnode: link, or an address of a gateway. */
function parseAddress(text) {
  const bare = text.trim();
  if (HEX.test(bare)) return { address: bare.toLowerCase(), name: null, link: bare.toLowerCase() };
  const link = /^casnode:([0-9a-fA-F]{64})(?:\?(.*))?$/.exec(bare);
  if (link) return { address: link[1].toLowerCase(), name: new URLSearchParams(link[2] ?? "").get("n"), link: bare };
  const gateway = /^https?:\/\/[^/]+\/b3\/([0-9a-fA-F]{64})\/?(?:[?#].*)?$/.exec(bare);
  return gateway ? { address: gateway[1].toLowerCase(), name: null, link: gateway[1].toLowerCase() } : null;
}

/** Bytes a second, smoothed over some seconds. */
function speedometer() {
  let last = null;
  let speed = 0;
  return (done) => {
    const now = performance.now();
    if (!last || done < last.done) {
      last = { now, done };
      return speed;
    }
    const seconds = (now - last.now) / 1000;
    if (seconds < 0.25) return speed;
    const measured = (done - last.done) / seconds;
    speed = speed === 0 ? measured : speed + (1 - Math.exp(-seconds / 3)) * (measured - speed);
    last = { now, done };
    return speed;
  };
}

/** A row that shows how a piece of work goes. */
function job(title, knownBytes) {
  const bar = element("progress", { max: 1, "aria-label": title });
  const words = element("p", { class: "words" }, "waiting for its turn");
  const figure = element("span", { class: "figure" });
  const acts = element("span", { class: "acts" });
  const ending = new AbortController();
  const cancel = element("button", { type: "button", "aria-label": `Cancel ${title}`, onclick: () => ending.abort() }, "Cancel");
  acts.append(cancel);
  const row = element("li", { "data-state": "runs" }, element("bdi", { class: "name" }, title), figure, acts, bar, words);
  const speed = speedometer();
  byId("jobs").prepend(row);
  byId("work").hidden = false;

  const show = (kind, event) => {
    if (kind === "warning") words.replaceChildren(...prose(sentence(event.message)));
    if (kind !== "progress") return;
    const total = event.total_bytes ?? (event.phase === "importing" ? knownBytes : null);
    const from = event.sources && event.phase === "fetching" ? ` from ${counted(event.sources, "peer")}` : "";
    words.textContent = [`${PHASES[event.phase] ?? event.phase}${from}`, event.detail].filter(Boolean).join(": ");
    const now = speed(event.done_bytes);
    figure.textContent = total ? `${bytes(event.done_bytes)} of ${bytes(total)}${now >= 1 ? ` · ${bytes(Math.round(now))}/s` : ""}` : "";
    if (total) bar.value = event.done_bytes / total;
    else bar.removeAttribute("value");
  };
  const end = (state, said, ...buttons) => {
    row.dataset.state = state;
    bar.remove();
    words.setAttribute("role", "status"); // the end is worth being read out, not each step
    words.replaceChildren(...said);
    const gone = element("button", { type: "button", "aria-label": `Dismiss ${title}`, onclick: () => dismiss(row) }, "Dismiss");
    acts.replaceChildren(...buttons, gone);
    forgetOld();
  };
  const failed = (error) => {
    const isOwn = error.name === "AbortError";
    if (isOwn) figure.textContent = "";
    end(isOwn ? "cancelled" : "failed", isOwn ? ["Cancelled. What was fetched is kept."] : prose(told(error)));
  };
  return { show, end, failed, acts, figure, signal: ending.signal };
}

function dismiss(row) {
  row.remove();
  byId("work").hidden = byId("jobs").children.length === 0;
}

function forgetOld() {
  const ended = [...byId("jobs").children].filter((row) => row.dataset.state !== "runs");
  ended.slice(MAX_ENDED).forEach(dismiss);
}

function button(words, act) {
  return element("button", { type: "button", onclick: act }, words);
}

/** Runs so many at a time; the others wait in their order. */
function queue(places) {
  let free = places;
  const waiting = [];
  const next = () => {
    while (free > 0 && waiting.length > 0) {
      free -= 1;
      waiting.shift()().finally(() => {
        free += 1;
        next();
      });
    }
  };
  return (work) => {
    waiting.push(work);
    next();
  };
}

const uploads = queue(1);
const downloads = queue(MAX_GETS);

/** What ends before its turn came needs none. */
async function inTurn(work, act) {
  try {
    if (work.signal.aborted) throw new DOMException("cancelled", "AbortError");
    await act();
  } catch (error) {
    work.failed(error);
  }
  await Promise.all([listFiles(), summarise()]).catch(() => {}); // the next look tells what is wrong
}

function storeFiles(files) {
  for (const file of files) {
    const work = job(file.name, file.size);
    uploads(() => inTurn(work, async () => {
      const report = await upload(file, work.show, work.signal);
      const saved = report.saved_bytes ? `; ${bytes(report.saved_bytes)} of it were here already` : "";
      work.figure.textContent = bytes(report.bytes);
      work.end("done", ["Stored as ", element("code", { class: "address" }, report.address), saved],
        button("Copy", (event) => copy(report.address, event.currentTarget)), button("Swarm", () => showSwarm(report.address, file.name)));
    }));
  }
}

function getWanted(wanted) {
  const title = wanted.name ?? short(wanted.address);
  const work = job(title, null);
  work.acts.prepend(button("Swarm", () => showSwarm(wanted.address, wanted.name)), " ");
  downloads(() => inTurn(work, async () => {
    const fields = { address: wanted.link, output: "nowhere" };
    const report = await callWithEvents("get", fields, work.show, work.signal);
    const open = (isDirectory) => (OPENS ? [": ", opening("open it", wanted.address, wanted.name, isDirectory)] : []);
    if (report.result === "directory") {
      work.figure.textContent = "";
      work.end("done", ["A directory. Its files are fetched when they are opened", ...open(true)]);
      return;
    }
    work.figure.textContent = bytes(report.bytes);
    const brought = report.fetched_bytes ? `Got ${bytes(report.fetched_bytes)} from ${counted(report.providers.length, "peer")}` : "All of it was here";
    work.end("done", [brought, ...open(false)], button("Swarm", () => showSwarm(wanted.address, wanted.name)));
  }));
}

/** Folders come as files that cannot be read. */
function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.());
  const folders = entries.filter((entry) => entry?.isDirectory).map((entry) => entry.name);
  for (const name of folders) {
    job(name, null).end("failed", ["A browser does not give a folder away as one. Store it with: ", element("code", {}, `casnode store ${name}`)]);
  }
  return [...transfer.files].filter((file) => !folders.includes(file.name));
}

function setUpDrop() {
  const drop = byId("drop");
  const over = (is) => drop.classList.toggle("over", is);
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files") && !byId("views").hidden;
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    over(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) over(false);
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    over(false);
    showView("files");
    storeFiles(dropped(event.dataTransfer));
  });
  byId("upload").addEventListener("change", (event) => {
    storeFiles([...event.target.files]);
    event.target.value = "";
  });
}

function sayAddress(text) {
  byId("get-error").textContent = text;
  byId("address").setAttribute("aria-invalid", String(text !== ""));
}

function setUpGet() {
  const field = byId("address");
  field.addEventListener("input", () => sayAddress(""));
  byId("get-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = parseAddress(field.value);
    if (!wanted) {
      sayAddress("This is no address: one has 64 hex digits, as b3sum prints them, or is a casnode: link.");
      return;
    }
    field.value = "";
    getWanted(wanted);
  });
  document.addEventListener("paste", (event) => {
    const text = event.clipboardData?.getData("text") ?? "";
    if (event.target.closest?.("input, textarea") || !parseAddress(text) || byId("views").hidden) return;
    event.preventDefault();
    showView("files");
    field.value = text.trim();
    sayAddress("");
    field.focus();
  });
}

function setUpWork() {
  setUpDrop();
  setUpGet();
  window.addEventListener("beforeunload", (event) => {
    const runs = [...byId("jobs").children].some((row) => row.dataset.state === "runs");
    if (runs) event.preventDefault();
  });
}

// Small things for building the page. Text of files and peers is only ever set as text.
const byId = (id) => document.getElementById(id);

/** An element with attributes, listeners ("on…") and children (nodes or text). */
function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

/** Sentences as children: what is between backticks is a command, and looks like one. */
function prose(text) {
  return text.split("`").map((part, place) => (place % 2 === 1 ? element("code", {}, part) : part));
}

/** Children for items. One whose item is as it was stays the same node, so that a selection or the focus in it does, too. */
function keyed(parent, items, keyOf, build) {
  const before = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  const after = items.map((item) => {
    const text = JSON.stringify(item);
    const old = before.get(keyOf(item));
    if (old?.madeOf === text) return old;
    const node = build(item);
    node.dataset.key = keyOf(item);
    node.madeOf = text;
    return node;
  });
  const isSame = after.length === parent.children.length && after.every((node, place) => node === parent.children[place]);
  if (!isSame) parent.replaceChildren(...after);
}

/** Terms and what is to be said of them: text, or for a code its text in a list. Rows without anything are left out. */
function facts(list, rows) {
  const said = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  keyed(list, said, ([term]) => term, ([term, value]) => element("div", {},
    element("dt", {}, term),
    element("dd", {}, Array.isArray(value) ? element("code", {}, ...value) : value)));
}

/** Large figures with what they are. */
function tiles(list, rows) {
  keyed(list, rows, ([term]) => term, ([term, value, more]) => element("div", { class: "tile" },
    element("dt", {}, term), element("dd", {}, value, more ? element("small", {}, ` ${more}`) : null)));
}

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];

function bytes(number) {
  let unit = 0;
  let value = number;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  if (unit === 0) return `${value} ${value === 1 ? "byte" : "bytes"}`;
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${UNITS[unit]}`;
}

const rate = (bytesPerS) => (bytesPerS ? `${bytes(bytesPerS)}/s` : "–");
const short = (id) => (id.length > 18 ? `${id.slice(0, 8)}…${id.slice(-6)}` : id);
const count = (number) => number.toLocaleString("en");
const counted = (number, word) => `${count(number)} ${number === 1 ? word : `${word}s`}`;
const percent = (part, whole) => `${whole ? Math.floor((100 * part) / whole) : 100} %`;

function ago(unixMs) {
  const seconds = Math.max(0, Math.round((Date.now() - unixMs) / 1000));
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(unixMs).toLocaleDateString("en", { year: "numeric", month: "short", day: "numeric" });
}

/** Runs a step again and again while its view is seen, one at a time. */
function every(ms, view, step) {
  let runs = false;
  const tick = async () => {
    if (runs || view.hidden || view.parentElement.hidden || document.hidden) return;
    runs = true;
    try {
      await step();
      answered();
    } catch (error) {
      unanswered(error);
    } finally {
      runs = false;
    }
  };
  setInterval(tick, ms);
  document.addEventListener("visibilitychange", tick);
}

/** Copies, and says so on the button. Where the browser forbids it, the text is shown to be copied by hand. */
async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    prompt("Copy it from here:", text);
    return;
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

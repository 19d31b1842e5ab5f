// The local API, as docs/API.md describes it. The token comes in the link's fragment, which no server and no log sees.
const TOKEN_KEY = "casnode-token";
const TOKEN = /^[0-9a-fA-F]{64}$/;

/** How long the events of an upload that broke off are waited for: they say why. */
const LAST_WORDS_MS = 2000;

/** An error in its three parts. */
class ApiError extends Error {
  constructor({ kind, what, why, next }, status) {
    super(why ? `${what}: ${why}` : what);
    Object.assign(this, { kind, what, why, next, status });
  }

  /** All of it, as sentences. */
  get sentences() {
    return [this.message, this.next].filter(Boolean).map(sentence).join(" ");
  }
}

function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

/** What a person is told of any failure. */
const told = (error) => (error instanceof ApiError ? error.sentences : sentence(String(error.message ?? error)));

/** Takes the token out of the link, so that it is neither seen nor bookmarked; whether there was one. */
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (location.hash) history.replaceState(null, "", location.pathname);
  if (!token) return false;
  useToken(token);
  return true;
}

function useToken(text) {
  const token = text.trim();
  // What has another form would only be refused, or be no header at all.
  if (TOKEN.test(token)) sessionStorage.setItem(TOKEN_KEY, token);
  else sessionStorage.removeItem(TOKEN_KEY);
}

const hasToken = () => sessionStorage.getItem(TOKEN_KEY) !== null;
const forgetToken = () => sessionStorage.removeItem(TOKEN_KEY);

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (hasToken()) headers.Authorization = `Bearer ${sessionStorage.getItem(TOKEN_KEY)}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const next = "see whether the daemon still runs: `casnode status`";
    throw new ApiError({ kind: "failure", what: "the node does not answer", why: "", next }, 0);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new ApiError(body.error ?? { kind: "failure", what: "the node refused", why: response.statusText, next: "" }, response.status);
}

const JSON_BODY = { "Content-Type": "application/json" };

/** One call, answered when it has ended. */
async function call(op, fields = {}) {
  const response = await request(`/v1/${op}`, { method: "POST", headers: JSON_BODY, body: JSON.stringify(fields) });
  return response.json();
}

/** Reads server-sent events to the last one: returns the result, throws the error. */
async function followEvents(response, onEvent) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const { name, data } of blocks.map(parseEvent)) {
      if (name === "result") return data;
      if (name === "error") throw new ApiError(data.error ?? data, 200);
      if (data) onEvent(name, data);
    }
  }
  const next = "try again: what was fetched is kept";
  throw new ApiError({ kind: "failure", what: "the node broke off", why: "the connection ended", next }, 0);
}

function parseEvent(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  return { name, data: data.length ? JSON.parse(data.join("\n")) : null };
}

/** One call with its events. */
async function callWithEvents(op, fields, onEvent, signal) {
  const headers = { ...JSON_BODY, Accept: "text/event-stream" };
  const response = await request(`/v1/${op}`, { method: "POST", headers, body: JSON.stringify(fields), signal });
  return followEvents(response, onEvent);
}

/** Stores a file of the browser's; its events come over a second connection, by the call's name. */
async function upload(file, onEvent, signal) {
  const name = `page-${randomName()}`;
  const following = request(`/v1/calls/${name}/events`, { signal }).then((response) => followEvents(response, onEvent));
  const why = following.then(() => null, (error) => error);
  const path = `/v1/content?name=${encodeURIComponent(file.name)}`;
  try {
    const response = await request(path, { method: "PUT", body: file, headers: { "Casnode-Call": name }, signal });
    return await response.json();
  } catch (error) {
    if (error.status !== 0) throw error;
    // A refusal that came in the middle of the body is lost to the browser; the events have it.
    const late = new Promise((resolve) => { setTimeout(resolve, LAST_WORDS_MS); });
    throw (await Promise.race([why, late])) ?? error;
  }
}

function randomName() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The tabs, the token, and the beginning.
const VIEWS = ["files", "swarm", "node"];
const REFRESH = { files: summarise, swarm: refreshSwarm, node: refreshNode };

function showView(name) {
  for (const view of VIEWS) {
    const is = view === name;
    byId(`view-${view}`).hidden = !is;
    byId(`tab-${view}`).setAttribute("aria-selected", String(is));
    byId(`tab-${view}`).tabIndex = is ? 0 : -1;
  }
  if (name === "swarm") offerFiles();
  REFRESH[name]().then(answered, unanswered);
}

/** The line above, and the list of files when it is another one. */
async function summarise() {
  const status = await call("status");
  byId("summary").textContent = `${counted(status.peers, "peer")} · ${counted(status.files, "file")} · ${bytes(status.stored_bytes)}`;
  await listIfChanged(status);
}

function answered() {
  byId("notice").hidden = true;
}

/** What fails again and again is said above, once. */
function unanswered(error) {
  if (error.status === 401) {
    askToken(hasToken());
    return;
  }
  byId("notice").replaceChildren(...prose(told(error)));
  byId("notice").hidden = false;
}

function askToken(wasRefused) {
  forgetToken();
  byId("views").hidden = true;
  byId("tabs").hidden = true;
  byId("summary").textContent = "";
  byId("token-form").hidden = false;
  byId("token-error").textContent = wasRefused ? "This is not the token of this node. It may have been typed wrongly, or be another node's." : "";
  byId("token").setAttribute("aria-invalid", String(wasRefused));
  byId("token").value = "";
  byId("token").focus();
}

/** Shows the node to whoever has its token. */
async function begin() {
  if (!hasToken()) {
    askToken(false);
    return;
  }
  try {
    await summarise();
  } catch (error) {
    unanswered(error);
    if (error.status === 401) return;
  }
  byId("token-form").hidden = true;
  byId("views").hidden = false;
  byId("tabs").hidden = false;
  showView("files");
}

function setUpTabs() {
  VIEWS.forEach((view, place) => {
    const tab = byId(`tab-${view}`);
    tab.addEventListener("click", () => showView(view));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = VIEWS[(place + step + VIEWS.length) % VIEWS.length];
      showView(next);
      byId(`tab-${next}`).focus();
    });
  });
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(byId("token").value);
  if (hasToken()) begin();
  else askToken(true);
});
// A link of `casnode web` that is opened where this page is loads nothing anew.
window.addEventListener("hashchange", () => {
  if (takeToken()) begin();
});
setUpTabs();
setUpFiles();
setUpWork();
setUpSwarm();
drawScale();
every(2000, byId("views"), summarise);
every(1000, byId("view-swarm"), refreshSwarm);
every(2000, byId("view-node"), refreshNode);
takeToken();
begin();

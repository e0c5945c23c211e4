// The page: what is asked, when, and of whom.

import { Lanes } from "./lanes.js";
import { Live } from "./live.js";
import { Runs } from "./runs.js";
import { bytes, element, json, onTokenNeeded, request, useToken } from "./server.js";

/// Time between two looks at the state of the server.
const STATUS_MS = 5000;
/// Time between two rounds of questions.
const ROUND_MS = 100;

const $ = (id) => document.getElementById(id);

const lanes = new Lanes($("lanes"), $("legend"), $("finding"));
const live = new Live($("charts"), $("keys"));
const runs = new Runs({ section: $("runs"), one: $("run"), other: $("against"), table: $("cells"), about: $("about") });
let photograph = null;
let limit = Infinity;
let asking = null;

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const say = (text) => { $("said").textContent = text; };

// --- the photograph

function choose(file, name, sample) {
  if (file.size > limit) {
    say(`${name} has ${bytes(file.size)}; this server takes ${bytes(limit)} (--max-input-bytes)`);
    return;
  }
  photograph = file;
  const before = $("photo").src;
  $("photo").src = URL.createObjectURL(file);
  if (before.startsWith("blob:")) URL.revokeObjectURL(before);
  for (const button of $("samples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.sample === sample));
  }
  say(`${name}, ${bytes(file.size)}`);
  restart();
}

async function chooseSample(name) {
  const file = await (await request(`/page/files/${name}`)).blob();
  choose(file, name, name);
}

$("samples").addEventListener("click", (event) => {
  const name = event.target.closest("button")?.dataset.sample;
  if (name) chooseSample(name).catch((error) => say(error.message));
});
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) choose(file, file.name, null);
  $("file").value = "";
});
const dragged = (event) => event.dataTransfer?.types.includes("Files");
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    if (!dragged(event)) return;
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  if (!dragged(event)) return;
  event.preventDefault();
  $("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) choose(file, file.name, null);
});
$("photo").addEventListener("error", () => {
  // The server reads formats that this browser does not show.
  $("photo").alt = "This browser cannot show the photograph";
});

// --- asking

/// Asks all lanes; again and again while that is wished. A new question ends the one before it.
async function ask() {
  asking?.abort();
  const mine = asking = new AbortController();
  $("ask").setAttribute("aria-disabled", "true");
  try {
    do {
      if (!photograph) return;
      await lanes.ask(photograph, chosen("connection"), chosen("payload"), mine.signal);
      if ($("again").checked) await new Promise((resolve) => setTimeout(resolve, ROUND_MS));
    } while ($("again").checked && !mine.signal.aborted);
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  } finally {
    if (asking === mine) {
      asking = null;
      $("ask").removeAttribute("aria-disabled");
    }
  }
}

/// Another photograph or setting: the answers so far are of another question.
function restart() {
  lanes.forget();
  ask();
}

$("ask").addEventListener("click", () => { if (!asking) ask(); });
$("again").addEventListener("change", () => { if ($("again").checked && !asking) ask(); });
for (const input of document.querySelectorAll(".switch input")) input.addEventListener("change", restart);

// --- the server

const READY = { READY: "warm", LOADING: "loading", UNLOADING: "unloading", UNAVAILABLE: "unavailable" };

function models(services) {
  const row = (service, model, index, count) => {
    const state = READY[model.state] ?? "on disk";
    const took = model.load_s === undefined ? "" : `, loaded in ${model.load_s.toFixed(1)} s`;
    const where = model.effective_provider ?? "–";
    const more = [model.precision && `in ${model.precision}`, model.gpu].filter(Boolean).join(", ");
    const why = model.reason ?? model.provider_reason ?? "the first choice";
    const kind = model.state === "READY" ? (model.provider_reason ? "fallback" : "good") : "bad";
    const name = index ? [] : [element("th", { scope: "rowgroup", rowspan: String(count) }, service.name)];
    return element("tr", {}, ...name, element("td", { class: "once" }, `${model.name}${model.version ? `, version ${model.version}` : ""}`),
      element("td", {}, element("span", { class: `chip ${kind}` }, kind === "fallback" ? "warm, fell back" : state), took),
      element("td", { class: "once" }, where, more && ` ${more}`),
      element("td", { class: "why" }, model.state === "READY" || model.reason ? why : "–"));
  };
  const rows = services.flatMap((service) => service.models.map((model, index) => row(service, model, index, service.models.length)));
  $("models").replaceChildren(...rows);
}

/// The state of the server, which a screen reader hears when it changes.
function tell(text, good) {
  if ($("server").textContent === text) return;
  $("server").textContent = text;
  $("server").className = good ? "quiet good" : "quiet bad";
}

/// Looks at the server for ever; asks the first question when it is ready.
async function watch() {
  let asked = false;
  for (;;) {
    if (!document.hidden) {
      try {
        const status = await json("/page/status");
        const ready = status.lanes.filter((lane) => lane.ready).length;
        limit = status.max_input_bytes;
        lanes.show(status.lanes);
        live.show(status.lanes);
        models(status.services);
        await runs.look();
        tell(`${status.server} · ${ready} of ${status.lanes.length} lanes ready`, ready === status.lanes.length);
        if (ready && !asked) {
          asked = true;
          await chooseSample("astronaut.jpg");
        }
      } catch (error) {
        tell(error.message, false);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, STATUS_MS));
  }
}

onTokenNeeded(() => { $("token").hidden = false; });
$("token").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken($("token-text").value.trim());
  $("token").hidden = true;
  $("token-text").value = "";
  restart();
});

// Where there is room for it.
$("explained").open = matchMedia("(min-width: 1081px)").matches;
live.run();
watch();

// One card for each lane: where the time of its answers went, its classes, and what was sent.

import { bytes, element, json, median, milliseconds } from "./server.js";

/// Answers of one lane that the times are medians of.
const MAX_ANSWERS = 25;

/// The parts of a request, in their order. `parse` of a photograph decodes and prepares it, which is compute.
const PARTS = [
  ["connect", "opening the connection", "transport"],
  ["network", "the way there and back, and the client", "transport"],
  ["receive", "reading the request", "transport"],
  ["prepare", "preparing the tensor, in the client", "compute"],
  ["parse", "from the request to the tensor", null],
  ["queue", "waiting for the model", "compute"],
  ["gather", "joining a batch", "compute"],
  ["copy_in", "copying the input", "compute"],
  ["infer", "the model's run", "compute"],
  ["copy_out", "copying the output", "compute"],
  ["encode", "writing the answer", "transport"],
];

/// The milliseconds of each part of an answer; they add up to its `total_ms`, but for `prepare`.
function parts(answer) {
  const times = Object.fromEntries(answer.stages.map(({ name, ms }) => [name, ms]));
  const known = answer.stages.reduce((sum, { ms }) => sum + ms, answer.connect_ms);
  times.connect = answer.connect_ms;
  times.network = Math.max(0, answer.total_ms - known);
  times.prepare = answer.payload === "jpeg" ? 0 : answer.prepare_ms;
  return times;
}

const isTransport = (name, side, payload) => (side ?? (payload === "jpeg" ? "compute" : "transport")) === "transport";

export class Lanes {
  #place;
  #legend;
  #finding;
  #cards = new Map();

  constructor(place, legend, finding) {
    this.#place = place;
    this.#legend = legend;
    this.#finding = finding;
    legend.replaceChildren(...PARTS.map(([name, meaning]) => {
      const key = element("i", { class: `part ${name}` });
      return element("li", { title: meaning }, key, name.replace("_", " "));
    }));
  }

  /// The lanes that the server has, with their states.
  show(lanes) {
    for (const lane of lanes) {
      if (!this.#cards.has(lane.name)) {
        const card = new Card(lane);
        this.#cards.set(lane.name, card);
        this.#place.append(card.root);
      }
      this.#cards.get(lane.name).state(lane);
    }
  }

  /// Drops the answers: another photograph or another setting is asked.
  forget() {
    for (const card of this.#cards.values()) card.forget();
    this.#finding.hidden = true;
  }

  /// Asks each lane in turn.
  async ask(photograph, connection, payload, signal) {
    for (const [name, card] of this.#cards) {
      card.asking();
      const began = performance.now();
      const path = `/page/ask?lane=${name}&connection=${connection}&payload=${payload}`;
      try {
        const answer = await json(path, { method: "POST", body: photograph, signal });
        card.answered(answer, performance.now() - began);
      } catch (error) {
        if (error.name === "AbortError") { card.root.removeAttribute("aria-busy"); throw error; }
        card.failed(error.message);
      }
      this.#scale();
    }
  }

  /// One scale for the transport of all lanes, another for their compute.
  #scale() {
    const cards = [...this.#cards.values()].filter((card) => card.times);
    const longest = (side) => Math.max(0, ...cards.map((card) => card.times[side]));
    for (const card of cards) card.draw(longest("transport"), longest("compute"));
    this.#legend.hidden = !cards.length;
    this.#finding.hidden = cards.length < 2;
    if (cards.length < 2) return;
    const by = (compare) => [...cards].sort(compare);
    const [least, ...others] = by((a, b) => a.times.transport - b.times.transport);
    const most = others.at(-1);
    const mean = (side) => cards.reduce((sum, card) => sum + card.times[side], 0) / cards.length;
    const share = 100 * mean("transport") / (mean("transport") + mean("compute"));
    this.#finding.replaceChildren(
      element("b", {}, `Transport is ${share.toFixed(share < 9.5 ? 1 : 0)}\u00a0% of the time`),
      ` over these lanes: from ${milliseconds(least.times.transport)} (${least.name}) to ` +
      `${milliseconds(most.times.transport)} (${most.name}); compute is ${milliseconds(mean("compute"))} on average.`,
    );
  }
}

class Card {
  #answers = [];
  #total = element("span", { class: "total" });
  #count = element("span", { class: "quiet" });
  #bars = { transport: new Bar("Transport"), compute: new Bar("Compute") };
  #classes = element("ol", { class: "classes" });
  #facts = element("dl", { class: "facts" });
  #note = element("p", { class: "quiet note" }, "not asked yet");

  constructor({ name }) {
    this.name = name;
    this.times = null;
    const head = element("h3", {}, element("b", { class: name }, name), this.#total);
    this.root = element("article", { class: "lane", "data-lane": name }, head,
      this.#bars.transport.root, this.#bars.compute.root, this.#note, this.#classes, this.#facts, this.#count);
    this.#clear();
  }

  state({ ready, tls }) {
    this.root.classList.toggle("unready", !ready);
    if (!this.times && !this.root.classList.contains("failed")) this.#say(ready ? `not asked yet${tls ? ", speaks TLS" : ""}` : "loading its models");
  }

  asking() { this.root.setAttribute("aria-busy", "true"); }

  forget() {
    this.#answers = [];
    this.times = null;
    this.root.classList.remove("failed");
    delete this.root.dataset.connection;
    this.#clear();
    this.#say("not asked yet");
  }

  #clear() {
    this.#total.textContent = "";
    this.#count.textContent = "";
    this.#classes.replaceChildren();
    this.#facts.replaceChildren();
    for (const bar of Object.values(this.#bars)) bar.root.hidden = true;
  }

  #say(text) { this.#note.textContent = text; this.#note.hidden = !text; }

  failed(message) {
    this.root.removeAttribute("aria-busy");
    this.root.classList.add("failed");
    this.#answers = [];
    this.times = null;
    this.#clear();
    this.#say(message);
  }

  answered(answer, browser_ms) {
    this.root.removeAttribute("aria-busy");
    this.root.classList.remove("failed");
    this.#answers.push({ ...answer, browser_ms, parts: parts(answer) });
    if (this.#answers.length > MAX_ANSWERS) this.#answers.shift();
    const of = (read) => median(this.#answers.map(read));
    const times = PARTS.map(([name, meaning, side]) => ({
      name, meaning, ms: of(({ parts }) => parts[name] ?? 0),
      side: isTransport(name, side, answer.payload) ? "transport" : "compute",
    }));
    const sum = (side) => times.filter((part) => part.side === side).reduce((sum, part) => sum + part.ms, 0);
    this.times = { parts: times, transport: sum("transport"), compute: sum("compute") };
    this.#say("");
    this.#total.textContent = milliseconds(of(({ total_ms }) => total_ms));
    this.#classes.replaceChildren(...answer.classes.map(({ label, index, score }) => {
      const share = element("i");
      share.style.width = `${Math.max(1, score * 100)}%`;
      const percent = `${(score * 100).toFixed(1)}\u00a0%`;
      return element("li", {}, element("span", {}, label ?? `class ${index}`), element("span", {}, percent), share);
    }));
    const weak = answer.classes.length && answer.classes[0].score < 0.05;
    if (weak) this.#classes.append(element("li", { class: "quiet" }, "no class above 5 %, as from random weights"));
    const fact = (name, value) => [element("dt", {}, name), element("dd", {}, value)];
    const prepared = answer.payload === "jpeg" ? "" : `, ${milliseconds(of(({ prepare_ms }) => prepare_ms))} to prepare`;
    const where = answer.effective_provider.replace("ExecutionProvider", "") + (answer.precision ? ` in ${answer.precision}` : "");
    this.#facts.replaceChildren(
      ...fact("sent", `${bytes(answer.sent_bytes)} as ${answer.payload.toUpperCase()}${prepared}`),
      ...fact("received", bytes(answer.received_bytes)),
      ...fact("ran on", where + (answer.gpu ? `, ${answer.gpu}` : "") + (answer.provider_reason ? ", fell back" : "")),
      ...fact("model", `${answer.model}, version ${answer.version}`),
      ...fact("browser", `waited ${milliseconds(of(({ browser_ms }) => browser_ms))}`),
    );
    this.root.dataset.connection = answer.connection;
    const n = this.#answers.length;
    this.#count.textContent = n === 1 ? "one answer" : `medians of the last ${n} answers`;
  }

  draw(transport, compute) {
    this.#bars.transport.draw(this.times.parts.filter(({ side }) => side === "transport"), transport);
    this.#bars.compute.draw(this.times.parts.filter(({ side }) => side === "compute"), compute);
  }
}

/// Parts laid end to end.
class Bar {
  #name;
  #value = element("span");
  #track = element("div", { class: "track" });

  constructor(name) {
    this.#name = name;
    const head = element("div", { class: "bar-head" }, element("span", {}, name), this.#value);
    this.root = element("div", { class: "bar-of", role: "img" }, head, this.#track);
  }

  draw(parts, longest) {
    const sum = parts.reduce((sum, { ms }) => sum + ms, 0);
    this.#value.textContent = milliseconds(sum);
    const shown = parts.filter(({ ms }) => ms > 0);
    this.#track.replaceChildren(...shown.map(({ name, meaning, ms }) => {
      const piece = element("i", { class: `part ${name}`, title: `${name}: ${milliseconds(ms)}, ${meaning}` });
      piece.style.width = `${longest ? 100 * ms / longest : 0}%`;
      return piece;
    }));
    const told = shown.map(({ name, ms }) => `${name} ${milliseconds(ms)}`).join(", ");
    this.root.setAttribute("aria-label", `${this.#name} ${milliseconds(sum)}: ${told}`);
    this.root.hidden = false;
  }
}

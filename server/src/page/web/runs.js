// The runs of the benchmark: one, or one against another.

import { element, hasToken, json } from "./server.js";

const NONE = "–";

/// What two cells must share to be compared.
const variant = ({ lane, load, connection, payload, transport }) =>
  [lane, loaded(load), connection, payload, transport].filter(Boolean).join(" · ");

/// A load in words: `serial, batch 1`, `concurrent, concurrency 4`.
function loaded(load) {
  const { kind, ...parameters } = load;
  return [kind.replaceAll("_", " "), ...Object.entries(parameters)
    .filter(([, value]) => value !== null && typeof value !== "object")
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`)].join(", ");
}

const known = (estimate) => Number.isFinite(estimate?.value);
const shown = (estimate) => {
  if (!known(estimate)) return NONE;
  const { value, low, high } = estimate;
  const digits = value < 10 ? 2 : value < 100 ? 1 : 0;
  const interval = Number.isFinite(low) ? ` (${low.toFixed(digits)} to ${high.toFixed(digits)})` : "";
  return [value.toFixed(digits), element("small", { class: "quiet" }, interval)];
};

/// How much one value is of the other, and whether their intervals lie apart.
function ratio(one, other) {
  if (!known(one) || !known(other)) return NONE;
  const apart = one.high < other.low || one.low > other.high;
  return element("span", { class: apart ? "apart" : "quiet" }, `${(one.value / other.value).toFixed(2)}×`);
}

const METRICS = [
  ["p50, ms", (cell) => cell.latency_ms?.p50],
  ["p99, ms", (cell) => cell.latency_ms?.p99],
  ["images a second", (cell) => cell.images_per_s],
];

export class Runs {
  #section;
  #one;
  #other;
  #table;
  #about;
  #reports = new Map();

  constructor({ section, one, other, table, about }) {
    [this.#section, this.#one, this.#other, this.#table, this.#about] = [section, one, other, table, about];
    for (const select of [one, other]) select.addEventListener("change", () => this.#show());
  }

  /// Looks for runs; the section appears with the first.
  async look() {
    const names = await json("/page/runs");
    this.#section.hidden = !names.length;
    for (const [select, none] of [[this.#one, false], [this.#other, true]]) {
      const before = [...select.options].map(({ value }) => value).filter(Boolean);
      if (before.join() === names.join()) continue;
      const chosen = select.value;
      const options = names.map((name) => element("option", { value: name }, when(name)));
      select.replaceChildren(...(none ? [element("option", { value: "" }, "nothing")] : []), ...options);
      if (names.includes(chosen)) select.value = chosen;
      this.#show();
    }
  }

  async #report(name) {
    if (!this.#reports.has(name)) this.#reports.set(name, json(`/page/runs/${name}/report.json`));
    return this.#reports.get(name);
  }

  async #show() {
    const names = [this.#one.value, this.#other.value].filter(Boolean);
    if (!names.length) return;
    try {
      const reports = await Promise.all(names.map((name) => this.#report(name)));
      this.#about.replaceChildren(...names.map((name, index) => about(name, reports[index])));
      this.#table.replaceChildren(...(reports.length === 1 ? one(reports[0]) : compared(...reports)));
    } catch (error) {
      for (const name of names) this.#reports.delete(name);
      this.#table.replaceChildren(element("caption", {}, error.message));
    }
  }
}

/// `20261129T090002Z` as a time in UTC.
function when(name) {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z(.*)$/.exec(name);
  return parts ? `${parts[1]}-${parts[2]}-${parts[3]} ${parts[4]}:${parts[5]}:${parts[6]} UTC${parts[7]}` : name;
}

function about(name, report) {
  const { settings, environment, warnings, elapsed_s } = report;
  const machine = [environment?.cpu, `${environment?.cores} cores`, ...(environment?.gpus ?? [])].join(", ");
  const told = `${settings?.model} · ${machine} · ${elapsed_s?.toFixed(0)} s · ${warnings?.length ?? 0} warnings`;
  const page = hasToken()
    ? element("span", { class: "quiet" }, ` · its own page, ${name}/report.html, cannot be opened with a token`)
    : element("a", { href: `/page/runs/${name}/report.html`, target: "_blank", rel: "noopener" }, "the whole report");
  return element("p", { class: "quiet" }, element("b", {}, when(name)), ` · ${told}`, hasToken() ? null : " · ", page);
}

const head = (...names) => element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name))));
const row = (name, lane, ...values) => element("tr", {}, element("th", { scope: "row", class: lane }, name),
  ...values.map((value) => element("td", {}, ...[value].flat())));

function one(report) {
  const rows = report.cells.map((cell) => row(variant(cell), cell.lane, ...METRICS.map(([, read]) => shown(read(cell)))));
  return [head("Lane", ...METRICS.map(([name]) => name)), element("tbody", {}, ...rows)];
}

/// The cells that both runs have, side by side.
function compared(first, second) {
  const others = new Map(second.cells.map((cell) => [variant(cell), cell]));
  const pairs = first.cells.map((cell) => [cell, others.get(variant(cell))]).filter(([, other]) => other);
  const values = ([cell, other]) => METRICS.flatMap(([, read]) => [shown(read(cell)), shown(read(other)), ratio(read(cell), read(other))]);
  const rows = pairs.map((pair) => row(variant(pair[0]), pair[0].lane, ...values(pair)));
  if (!rows.length) rows.push(row("The runs have no lane under the same load in common.", ""));
  return [head("Lane", ...METRICS.flatMap(([name]) => [name, "the other", "ratio"])), element("tbody", {}, ...rows)];
}

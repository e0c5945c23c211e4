// What the services do: their metrics, read again and again, as charts of the last minutes.

import { element, request, samples } from "./server.js";

/// Time between two readings, and the readings that a chart shows.
const INTERVAL_MS = 2000;
const MAX_READINGS = 150;

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 360;
const HEIGHT = 150;
const LEFT = 40;
const BOTTOM = 18;
const TOP = 8;

const REQUESTS = "quintet_request_summary_us";

function svg(name, attributes = {}, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const number = (value) => (Number.isInteger(value) ? String(value) : value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));
const percent = (value) => `${(100 * value).toFixed(0)} %`;

/// A scale's end: 1, 2 or 5 times a power of ten.
function above(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((end) => end >= value);
}

class Chart {
  #series = new Map();
  #plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  #now = element("p", { class: "now" });

  constructor(title, print = number, top = null) {
    this.title = title;
    this.print = print;
    this.top = top;
    this.root = element("figure", {}, element("figcaption", {}, title), this.#plot, this.#now);
  }

  /// Adds the values of one reading: `[name, class, value]`; one without a number is a gap.
  add(at, values) {
    for (const [name, style, value] of values) {
      if (!this.#series.has(name)) this.#series.set(name, { style, points: [] });
      this.#series.get(name).points.push([at, value]);
    }
    for (const { points } of this.#series.values()) while (points.length > MAX_READINGS) points.shift();
    this.#draw(at, values);
  }

  #draw(now, values) {
    const all = [...this.#series.values()].flatMap(({ points }) => points);
    const first = Math.min(...all.map(([at]) => at));
    const span = Math.max(now - first, 30_000);
    const top = this.top ?? above(Math.max(...all.map(([, value]) => value).filter(Number.isFinite), 0));
    const x = (at) => LEFT + (WIDTH - LEFT - 4) * (1 - (now - at) / span);
    const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
    const drawn = [];
    for (const share of [0, 0.5, 1]) {
      const value = share * top;
      drawn.push(svg("path", { class: "grid", d: `M${LEFT} ${y(value)}H${WIDTH - 4}` }));
      drawn.push(svg("text", { class: "end", x: LEFT - 5, y: y(value) + 4 }, this.print === percent ? percent(value) : String(+value.toPrecision(3))));
    }
    const seconds = Math.round(span / 1000);
    drawn.push(svg("text", { x: LEFT, y: HEIGHT - 3 }, seconds < 120 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`));
    drawn.push(svg("text", { class: "end", x: WIDTH - 4, y: HEIGHT - 3 }, "now"));
    for (const { style, points } of this.#series.values()) {
      let path = "";
      let pen = "M";
      for (const [at, value] of points) {
        if (!Number.isFinite(value)) { pen = "M"; continue; }
        path += `${pen}${x(at).toFixed(1)} ${y(Math.min(value, top)).toFixed(1)}`;
        pen = "L";
      }
      const group = svg("g", { class: style });
      if (path) group.append(svg("path", { class: "line", d: path }));
      const last = points.at(-1);
      if (last && Number.isFinite(last[1])) group.append(svg("circle", { class: "mark", r: 2.5, cx: x(last[0]), cy: y(Math.min(last[1], top)) }));
      drawn.push(group);
    }
    this.#plot.replaceChildren(...drawn);
    const told = values.map(([name, style, value]) => [name, style, Number.isFinite(value) ? this.print(value) : "–"]);
    this.#plot.setAttribute("aria-label", `${this.title}: ${told.map(([name, , value]) => `${name} ${value}`).join(", ")}`);
    this.#now.replaceChildren(...told.map(([name, style, value]) =>
      element("span", { class: style }, element("b", {}, value), ` ${name}`)));
  }
}

/// The metrics of one service at one time.
class Reading {
  constructor(text) { this.samples = samples(text); }

  sum(name, labels = {}) {
    const fits = (sample) => sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value);
    const found = this.samples.filter(fits);
    return found.length ? found.reduce((sum, { value }) => sum + value, 0) : NaN;
  }

  mean(name) {
    const found = this.samples.filter((sample) => sample.name === name);
    return found.reduce((sum, { value }) => sum + value, 0) / found.length;
  }
}

export class Live {
  #lanes = [];
  #before = null;
  #charts = {
    rate: new Chart("Requests a second"),
    p50: new Chart("p50 of the last minute, ms"),
    p99: new Chart("p99 of the last minute, ms"),
    queue: new Chart("Requests waiting for the model"),
    batch: new Chart("Images in a run"),
    use: new Chart("Use of processor and GPU", percent, 1),
  };

  constructor(place, keys) {
    place.replaceChildren(...Object.values(this.#charts).map(({ root }) => root));
    this.keys = keys;
  }

  /// The lanes whose metrics are read.
  show(lanes) {
    this.#lanes = lanes;
    this.keys.replaceChildren(...lanes.map(({ name }) =>
      element("li", { class: name }, element("i", { class: `line ${name}` }), name)));
  }

  async run() {
    for (;;) {
      // A page that nobody sees asks for nothing.
      if (!document.hidden && this.#lanes.length) await this.#read().catch(() => { this.#before = null; });
      await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    }
  }

  async #read() {
    const names = [...new Set(this.#lanes.map(({ service }) => service))];
    const texts = await Promise.all(names.map(async (name) => (await request(`/page/metrics/${name}`)).text()));
    const services = new Map(names.map((name, index) => [name, new Reading(texts[index])]));
    const now = { at: performance.now(), services };
    this.#draw(now, this.#before);
    this.#before = now;
  }

  #draw(now, before) {
    const { at, services } = now;
    const since = (service, name, labels) => {
      const earlier = before?.services.get(service)?.sum(name, labels);
      // A series that has appeared since then has counted from nothing.
      return before ? services.get(service).sum(name, labels) - (Number.isFinite(earlier) ? earlier : 0) : NaN;
    };
    const seconds = before ? (at - before.at) / 1000 : NaN;
    const of = (values) => this.#lanes.map((lane) => [lane.name, lane.name, values(lane)]);
    const rate = ({ service, protocol }) => {
      const count = since(service, `${REQUESTS}_count`, { protocol });
      return before ? (Number.isFinite(count) ? Math.max(0, count / seconds) : 0) : NaN;
    };
    const quantile = (quantile) => ({ service, protocol }) =>
      services.get(service).sum(REQUESTS, { protocol, quantile }) / 1000;
    this.#charts.rate.add(at, of(rate));
    this.#charts.p50.add(at, of(quantile("0.5")));
    this.#charts.p99.add(at, of(quantile("0.99")));
    const each = (values) => [...services.keys()].map((name) => [name, `${name === "jpeg" ? name : `${name}-http`}`, values(name)]);
    this.#charts.queue.add(at, each((name) => services.get(name).sum("nv_inference_pending_request_count")));
    this.#charts.batch.add(at, each((name) => since(name, "nv_inference_count") / since(name, "nv_inference_exec_count")));
    const machine = services.values().next().value;
    const use = [["processor", "processor", machine.sum("nv_cpu_utilization")]];
    const gpu = machine.mean("nv_gpu_utilization");
    if (Number.isFinite(gpu)) use.push(["GPU", "trt-http", gpu]);
    this.#charts.use.add(at, Number.isFinite(gpu) ? use : [...use, ["GPU: none", "quiet", NaN]]);
  }
}

// Requests to this server, and what its texts and numbers look like.

let token = null;
let askForToken = () => {};

export function onTokenNeeded(ask) { askForToken = ask; }
export function useToken(text) { token = text; }
export const hasToken = () => token !== null;

/// A failed request, with the server's own words.
export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

export async function request(path, options = {}) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "the server does not answer");
  }
  if (response.ok) return response;
  if (response.status === 401) askForToken();
  const text = await response.text();
  let message = `status ${response.status}`;
  try { message = JSON.parse(text).error ?? message; } catch { /* not the server's JSON */ }
  throw new Refused(response.status, message);
}

export const json = async (path, options) => (await request(path, options)).json();

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/// The samples of a text in Prometheus's format: `{name, labels, value}`.
export function samples(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const parts = line.startsWith("#") ? null : LINE.exec(line);
    if (!parts) continue;
    const labels = {};
    for (const [, name, value] of (parts[2] ?? "").matchAll(LABEL)) labels[name] = value;
    found.push({ name: parts[1], labels, value: Number(parts[3]) });
  }
  return found;
}

/// An element with classes, attributes and children; texts are never read as HTML.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value; else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function milliseconds(ms) {
  const digits = ms < 1 ? 2 : ms < 100 ? 1 : 0;
  return `${ms.toFixed(digits)}\u00a0ms`;
}

export function bytes(count) {
  if (count < 1000) return `${count}\u00a0B`;
  return count < 1e6 ? `${(count / 1e3).toFixed(count < 1e4 ? 1 : 0)}\u00a0kB` : `${(count / 1e6).toFixed(1)}\u00a0MB`;
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// The live state: one stream of server-sent events, for as long as the page can be seen. It is read
// by hand, because EventSource does not tell why a stream is refused.

import { problemOf } from "./api.js";

const RETRY = 2000; // Milliseconds between two attempts to connect.
const KEPT = 90; // Samples of a curve.

/** What the page knows. A new object for each change, so that it is seen. */
export const live = {
  connection: "connecting", // connecting, live, away, refused, or stopping
  refusal: null, // The problem, while refused.
  state: null,
  series: {},
  every: 10,
  stop: null, // The seconds that a stop may take, by its parts, and `at`, the moment it was told.
};

const listeners = new Set();
let running = null;

/** Calls `listener` after each change; returns a function that ends this. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function set(changed) {
  Object.assign(live, changed);
  for (const listener of listeners) listener();
}

/** Begins, or begins anew after a refusal. */
export function connect() {
  running?.abort();
  running = new AbortController();
  follow(running.signal);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) running?.abort();
  else connect();
});

async function follow(signal) {
  while (!signal.aborted) {
    try {
      const response = await fetch("live", { signal, cache: "no-store" });
      if (response.status === 401 || response.status === 403) {
        set({ connection: "refused", refusal: await problemOf(response) });
        return;
      }
      if (response.ok && (await read(response.body, signal))) continue;
    } catch {
      // The service is away, or the page is hidden.
    }
    if (signal.aborted) return;
    if (live.connection !== "stopping") set({ connection: "away" });
    await new Promise((done) => setTimeout(done, RETRY));
  }
}

/** Reads a stream to its end; says whether to ask again at once. */
async function read(body, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done || signal.aborted) return false;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      if (take(event) === "again") return true;
    }
  }
}

function take(event) {
  const fields = Object.fromEntries(
    event.split("\n").map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 2)];
    }),
  );
  const data = JSON.parse(fields.data);
  switch (fields.event) {
    case "state":
      set({ connection: "live", refusal: null, stop: null, state: data });
      break;
    case "change":
      set({ state: merge(live.state, data) });
      break;
    case "series":
      set({ series: data.plugins, every: data.every });
      break;
    case "sample":
      set({ series: appended(live.series, data) });
      break;
    case "stopping":
      set({ connection: "stopping", stop: { ...data, at: Date.now() } });
  }
  return fields.event;
}

/** A JSON merge patch (RFC 7396); the document itself is left as it was. */
export function merge(document, patch) {
  if (patch === null || typeof patch !== "object" || Array.isArray(patch)) return patch;
  const isObject = document !== null && typeof document === "object" && !Array.isArray(document);
  const merged = isObject ? { ...document } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete merged[name];
    else merged[name] = merge(merged[name], value);
  }
  return merged;
}

const CURVES = ["in", "out", "waiting", "busy"];

/** The curves with one sample more. */
function appended(series, sample) {
  const names = new Set([...Object.keys(series), ...Object.keys(sample)]);
  const result = {};
  for (const name of names) {
    result[name] = {};
    CURVES.forEach((curve, index) => {
      const before = series[name]?.[curve] ?? new Array(KEPT).fill(0);
      result[name][curve] = [...before.slice(1 - KEPT), sample[name]?.[index] ?? 0];
    });
  }
  return result;
}

// Small parts that several views share.

import { html, useEffect, useRef, useState } from "./preact.js";
import { words } from "./format.js";

const GOOD = new Set(["running", "ready"]);
const BAD = new Set(["failed", "not_ready"]);
const QUIET = new Set(["disabled", "stopped"]);

/** The tone of a status: good, bad, quiet, or warn for all that is in between. */
export function tone(status, isLooping = false) {
  if (BAD.has(status) || isLooping) return "bad";
  if (GOOD.has(status)) return "good";
  return QUIET.has(status) ? "quiet" : "warn";
}

/** Whether a plugin crashes again and again. */
export const isLooping = (plugin) => (plugin.starts ?? 0) >= 3 && plugin.error !== undefined;

/** The address of the dead letters of a plugin. */
export const lettersOf = (plugin) => `#/dead-letters/${encodeURIComponent(plugin)}`;

export const Status = ({ status, tone: given, text }) => html`
  <span class="status ${given ?? tone(status)}">
    <span class="dot" aria-hidden="true"></span>${text ?? words(status)}
  </span>`;

/** A curve of the last quarter of an hour, at most 45 points. */
export function Curve({ values, label, most, isLarge }) {
  const width = 90;
  const height = 20;
  const look = isLarge ? "curve large" : "curve";
  if (!values?.some((value) => value > 0)) {
    return html`<svg class=${look} viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" aria-hidden="true">
      <path class="flat" d="M0 ${height - 1}H${width}" />
    </svg>`;
  }
  const step = Math.max(1, Math.ceil(values.length / 45));
  const points = [];
  for (let end = values.length; end > 0; end -= step) {
    points.unshift(Math.max(...values.slice(Math.max(0, end - step), end)));
  }
  const top = Math.max(most ?? 0, ...points);
  const at = points.map((value, index) => {
    const x = (index / (points.length - 1 || 1)) * width;
    return `${x.toFixed(1)} ${(height - 1 - (value / top) * (height - 3)).toFixed(1)}`;
  });
  return html`<svg class=${look} viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" role="img" aria-label=${label}>
    <path class="area" d="M0 ${height}L${at.join("L")}L${width} ${height}Z" />
    <path class="line" d="M${at.join("L")}" />
  </svg>`;
}

export const Message = ({ kind = "note", children }) => html`
  <p class="message ${kind}" role=${kind === "bad" ? "alert" : "status"}>${children}</p>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

/** A dialog that asks before something is done; `act` gets the reason, and may raise a problem. */
export function Confirm({ question, about, verb, isGrave, act, close }) {
  const dialog = useRef(null);
  const reason = useRef(null);
  const [fault, setFault] = useState(null);
  const [isBusy, setBusy] = useState(false);
  useEffect(() => dialog.current.showModal(), []);
  async function submit(event) {
    event.preventDefault();
    setBusy(true);
    try {
      await act(reason.current.value.trim());
      close();
    } catch (problem) {
      setFault(problem.message);
      setBusy(false);
    }
  }
  return html`
    <dialog ref=${dialog} onClose=${close} aria-labelledby="question">
      <form onSubmit=${submit}>
        <h2 id="question">${question}</h2>
        <p>${about}</p>
        <label>Reason, for the log
          <input ref=${reason} name="reason" autocomplete="off" placeholder="optional" />
        </label>
        ${fault && html`<${Message} kind="bad">${fault}<//>`}
        <div class="buttons">
          <button type="button" onClick=${() => dialog.current.close()}>Cancel</button>
          <button class=${isGrave ? "grave" : "main"} disabled=${isBusy}>${verb}</button>
        </div>
      </form>
    </dialog>`;
}

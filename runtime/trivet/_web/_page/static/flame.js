// A flame graph of a profile in speedscope's file format.

import { html, useMemo, useRef, useState } from "./preact.js";
import { seconds, share } from "./format.js";

const HEIGHT = 22; // Pixels of a row.
const NARROWEST = 0.5; // Percent of the width from which a call is drawn.

/** The calls as a tree, by the frames of the samples; what takes longest comes first. */
function treeOf({ shared: { frames }, profiles: [{ samples, weights }] }) {
  const root = { id: 0, frame: { name: "all" }, weight: 0, within: new Map(), above: null };
  let number = 0;
  samples.forEach((stack, index) => {
    let call = root;
    call.weight += weights[index];
    for (const frame of stack) {
      let next = call.within.get(frame);
      if (!next) {
        number += 1;
        next = { id: number, frame: frames[frame], weight: 0, within: new Map(), above: call };
        call.within.set(frame, next);
      }
      next.weight += weights[index];
      call = next;
    }
  });
  return root;
}

const below = (call) => [...call.within.values()].sort((a, b) => b.weight - a.weight);

/** The calls around `chosen`, each as wide as all, and those within it by their time. */
function placed(chosen) {
  const found = [];
  for (let call = chosen.above; call; call = call.above) found.unshift({ call, x: 0, width: 100 });
  found.forEach((each, row) => { each.row = row; });
  const ahead = [{ call: chosen, x: 0, width: 100, row: found.length }];
  while (ahead.length) {
    const each = ahead.pop();
    found.push(each);
    let { x } = each;
    for (const call of below(each.call)) {
      const width = (call.weight / chosen.weight) * 100;
      if (width >= NARROWEST) ahead.push({ call, x, width, row: each.row + 1 });
      x += width;
    }
  }
  return found;
}

const place = ({ file, line }) => (file ? `${file}:${line}` : "");

/** The call to which an arrow leads. */
function neighbour(call, key) {
  if (key === "ArrowUp") return call.above;
  if (key === "ArrowDown") return below(call)[0];
  if (!call.above || !["ArrowLeft", "ArrowRight"].includes(key)) return null;
  const beside = below(call.above);
  return beside[beside.indexOf(call) + (key === "ArrowRight" ? 1 : -1)];
}

export function Flame({ document }) {
  const root = useMemo(() => treeOf(document), [document]);
  const [chosen, choose] = useState(root);
  const [current, setCurrent] = useState(root);
  const graph = useRef(null);
  const found = placed(chosen);
  const rows = Math.max(...found.map(({ row }) => row)) + 1;
  function press(event, call) {
    const next = neighbour(call, event.key);
    if (event.key === "Enter" || event.key === " ") choose(call);
    else if (event.key === "Escape") choose(root);
    else if (next) graph.current.querySelector(`[data-call="${next.id}"]`)?.focus();
    else return;
    event.preventDefault();
  }
  const label = ({ frame, weight }) =>
    [frame.name, place(frame), seconds(weight), share(weight / root.weight)].filter(Boolean).join(", ");
  return html`
    <section aria-label="Flame graph">
      <svg class="flame" ref=${graph} width="100%" height=${rows * HEIGHT} role="group" aria-label="Calls">
        ${found.map(({ call, x, width, row }) => html`
          <svg key=${call.id} data-call=${call.id} x="${x}%" y=${row * HEIGHT} width="${width}%" height=${HEIGHT - 1}
            class=${call.frame.file ? "" : "rest"} role="button" aria-label=${label(call)} aria-pressed=${call === chosen}
            tabindex=${call === current ? 0 : -1} onFocus=${() => setCurrent(call)}
            onMouseEnter=${() => setCurrent(call)} onClick=${() => choose(call)} onKeyDown=${(event) => press(event, call)}>
            <rect width="100%" height="100%" /><text x="5" y="15">${call.frame.name}</text>
          </svg>`)}
      </svg>
      <dl class="pairs">
        <div><dt>Call</dt><dd><code>${current.frame.name}</code></dd></div>
        <div><dt>Line</dt><dd><code>${place(current.frame) || "–"}</code></dd></div>
        <div><dt>Time</dt><dd>${seconds(current.weight)}, ${share(current.weight / root.weight)}</dd></div>
      </dl>
    </section>`;
}

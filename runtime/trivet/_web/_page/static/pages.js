// The pages that plugins' authors have written: cards in the view of a plugin, and views of their own.
// All that comes from them is data, and each text is text.

import { html } from "./preact.js";
import { count } from "./format.js";
import { useAnswer } from "./answers.js";
import { Curve, Empty, Message } from "./parts.js";

const EVERY = 5000; // Milliseconds between two looks at a page that can be seen.
const ON_CARD = 5; // Rows of a table on a card.

const addressOf = (plugin, page) => `#/plugins/${encodeURIComponent(plugin)}/${encodeURIComponent(page)}`;

const useParts = (plugin, page) =>
  useAnswer(`plugins/${encodeURIComponent(plugin)}/pages/${encodeURIComponent(page)}`, {}, "", EVERY);

export const Cards = ({ plugin, pages }) => pages.length > 0 && html`
  <div class="columns cards">${pages.map((page) => html`<${Card} key=${page.name} plugin=${plugin} page=${page} />`)}</div>`;

function Card({ plugin, page }) {
  const found = useParts(plugin, page.name);
  return html`
    <section aria-label=${page.title}>
      <h2><a href=${addressOf(plugin, page.name)}>${page.title}</a></h2>
      <${Parts} ...${found} rows=${ON_CARD} />
    </section>`;
}

/** A page in a view of its own. */
export function PluginPage({ plugin, page }) {
  const found = useParts(plugin, page);
  return html`
    <section class="head"><div>
      <p class="back"><a href="#/plugins/${encodeURIComponent(plugin)}">${plugin}</a></p>
      <h1>${found.answer?.title ?? page}</h1>
    </div></section>
    <section class="page"><${Parts} ...${found} rows=${Infinity} /></section>`;
}

function Parts({ answer, problem, rows }) {
  if (problem) return html`<${Message} kind="bad">${problem.message}<//>`;
  if (!answer) return html`<${Empty}>Loading …<//>`;
  const { parts, not_shown: others } = answer;
  if (!parts.length && !others) return html`<${Empty}>It has nothing to show now.<//>`;
  return html`
    ${parts.map((part, index) => html`<${Part} key=${index} part=${part} rows=${rows} />`)}
    <${Rest} number=${others} of="more parts" />`;
}

/** The number of what is left out, if anything is. */
const Rest = ({ number, of }) => number > 0 && html`<p class="faint rest">${count(number)} ${of}.</p>`;

function Part({ part, rows }) {
  switch (part.kind) {
    case "text":
      return html`<p class="prose">${part.text}</p>`;
    case "facts":
      return html`<dl class="pairs own">${part.facts.map(([name, value]) => html`
        <div key=${name}><dt>${name}</dt><dd>${shown(value)}</dd></div>`)}</dl>
        <${Rest} number=${part.not_shown} of="more facts" />`;
    case "curve":
      return html`<figure>
        <figcaption><span>${part.label}</span><strong>${shown(part.values.at(-1))}</strong></figcaption>
        <${Curve} values=${part.values} label=${part.label} isLarge />
        <${Rest} number=${part.not_shown} of="earlier values" /></figure>`;
    default:
      return html`<${Table} part=${part} most=${rows} />`;
  }
}

/** A value: a number as people write it, and nothing for none. */
const shown = (value) => {
  if (typeof value === "number") return Number.isInteger(value) ? count(value) : String(Number(value.toPrecision(6)));
  return value === null || value === undefined ? "" : String(value);
};

function Table({ part, most }) {
  const rows = part.rows.slice(0, most);
  const others = part.not_shown + part.rows.length - rows.length;
  const isNumber = part.columns.map((_, index) => rows.length > 0 && rows.every((row) => typeof row[index] === "number"));
  const look = (index) => (isNumber[index] ? "number" : "");
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label=${part.columns.join(", ")}><table>
      <thead><tr>${part.columns.map((name, index) => html`<th scope="col" class=${look(index)}>${name}</th>`)}</tr></thead>
      <tbody>${rows.map((row) => html`
        <tr>${row.map((value, index) => html`<td class=${look(index)}>${shown(value)}</td>`)}</tr>`)}</tbody>
    </table></div>
    <${Rest} number=${others} of="more rows" />`;
}

// What runs, what is not well, and what to do about it first.

import { html, useState } from "./preact.js";
import { count, duration, rate, seconds, share } from "./format.js";
import { Curve, Empty, isLooping, lettersOf, Status, tone } from "./parts.js";

const SHOWN = 50; // Plugins of one page of the table.

export function Overview({ live }) {
  const { state, series } = live;
  return html`
    <h1 class="hidden">Overview</h1>
    <${Totals} state=${state} />
    <${Advice} state=${state} />
    <${Plugins} state=${state} series=${series} />`;
}

const sum = (plugins, name) => plugins.reduce((total, plugin) => total + (plugin[name] ?? 0), 0);

function Totals({ state }) {
  const plugins = Object.values(state.plugins);
  const up = plugins.filter((plugin) => ["running", "degraded"].includes(plugin.status)).length;
  const waiting = sum(plugins, "queued") + sum(plugins, "in_flight") + sum(plugins, "backing_off");
  const facts = [
    ["Plugins up", `${up} of ${plugins.length}`],
    ["Events in", `${rate(sum(plugins, "in"))}/s`],
    ["Events out", `${rate(sum(plugins, "out"))}/s`],
    ["Waiting", count(waiting)],
    ["Loop busy", share(state.busy)],
    ["Serving for", duration(state.at - state.since)],
  ];
  return html`
    <dl class="totals">
      ${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}
    </dl>`;
}

function Advice({ state }) {
  const all = state.advice;
  const [isLong, setLong] = useState(false);
  if (!all.length) {
    return html`<section class="advice" aria-label="What to do first">
      <p class="fine"><${Status} tone="good" text="All is well." /></p>
    </section>`;
  }
  const shown = isLong ? all : all.slice(0, 6);
  return html`
    <section class="advice" aria-labelledby="advice">
      <h2 id="advice">What to do first</h2>
      <ol>
        ${shown.map((each) => html`
          <li class=${each.level}>
            <strong>${each.about}</strong>
            <span>${each.remedy}</span>
            ${each.plugin && html`<${Where} ...${each} />`}
          </li>`)}
      </ol>
      ${shown.length < all.length && html`
        <button class="more" onClick=${() => setLong(true)}>
          Show ${all.length - shown.length} more
        </button>`}
    </section>`;
}

function Where({ plugin, view }) {
  if (view === "dead-letters") return html`<a href=${lettersOf(plugin)}>Open the dead letters of ${plugin}</a>`;
  if (view === "stalls") return html`<a href="#/stalls">Open the stalls</a>`;
  return html`<a href=${link(plugin)}>Open ${plugin}</a>`;
}

export const link = (plugin) => `#/plugins/${encodeURIComponent(plugin)}`;

const URGENCY = ["bad", "warn", "quiet", "good"];

/** The plugins whose name or status has the text, those that are not well first. */
function chosen(plugins, text) {
  const wanted = text.trim().toLowerCase();
  return Object.entries(plugins)
    .filter(([name, { status }]) => `${name} ${status}`.toLowerCase().includes(wanted))
    .map(([name, plugin]) => ({ name, plugin, tone: tone(plugin.status, isLooping(plugin)) }))
    .sort((a, b) => URGENCY.indexOf(a.tone) - URGENCY.indexOf(b.tone) || (a.name < b.name ? -1 : 1));
}

function Plugins({ state, series }) {
  const [text, setText] = useState("");
  const [shown, setShown] = useState(SHOWN);
  const found = chosen(state.plugins, text);
  const number = Object.keys(state.plugins).length;
  return html`
    <section aria-labelledby="plugins">
      <header class="bar">
        <h2 id="plugins">Plugins</h2>
        ${number > 5 && html`
          <input type="search" placeholder="Name or status" aria-label="Plugins by name or status"
            value=${text} onInput=${(event) => setText(event.target.value)} />`}
      </header>
      ${!found.length && html`<${Empty}>${number ? "No plugin matches." : "No plugin is active."}<//>`}
      ${found.length > 0 && html`
        <div class="scroll"><table>
          <thead>
            <tr>
              <th scope="col">Plugin</th>
              <th scope="col">Status</th>
              <th scope="col" class="number">In/s</th>
              <th scope="col" class="number middle">Out/s</th>
              <th scope="col" class="number">Waiting</th>
              <th scope="col" class="number middle">Oldest</th>
              <th scope="col" class="number wide"><abbr title="Seconds of half of the attempts, and of 99 percent of them, in the last 10 seconds">p50 / p99</abbr></th>
              <th scope="col" class="number wide">Busy</th>
              <th scope="col" class="number wide">Restarts</th>
            </tr>
          </thead>
          <tbody>
            ${found.slice(0, shown).map((each) => html`
              <${Row} key=${each.name} ...${each} at=${state.at} curves=${series[each.name] ?? {}} />`)}
          </tbody>
        </table></div>`}
      ${found.length > shown && html`
        <button class="more" onClick=${() => setShown(shown + SHOWN)}>
          Show ${Math.min(SHOWN, found.length - shown)} of ${found.length - shown} more
        </button>`}
    </section>`;
}

function Row({ name, plugin, tone, at, curves }) {
  const waiting = (plugin.queued ?? 0) + (plugin.in_flight ?? 0) + (plugin.backing_off ?? 0);
  const hasInbox = plugin.queued !== undefined;
  const none = html`<span class="faint">–</span>`;
  const measured = (kind, value, label, most) => html`
    <span class="measure"><${Curve} values=${curves[kind]} label=${label} most=${most} />
      <span>${value}</span></span>`;
  return html`
    <tr>
      <th scope="row"><a href=${link(name)}>${name}</a></th>
      <td><${Status} status=${plugin.status} tone=${tone}
          text=${isLooping(plugin) ? "crash loop" : undefined} />
        ${plugin.paused && html` <span class="tag">paused</span>`}
        ${plugin.dropping && html` <span class="tag bad">drops events</span>`}
        ${plugin.critical && html` <span class="tag">critical</span>`}</td>
      <td class="number">${hasInbox ? measured("in", rate(plugin.in), "events in") : none}</td>
      <td class="number middle">${hasInbox ? measured("out", rate(plugin.out), "events out") : none}</td>
      <td class="number">${hasInbox ? measured("waiting", count(waiting), "events waiting") : none}</td>
      <td class="number middle">${plugin.oldest ? duration(Math.max(0, at - plugin.oldest)) : none}</td>
      <td class="number wide">${plugin.p99 ? `${seconds(plugin.p50)} / ${seconds(plugin.p99)}` : none}</td>
      <td class="number wide">${measured("busy", share(plugin.busy), "share of the loop", 0.02)}</td>
      <td class="number wide ${plugin.restarts ? "" : "faint"}">${count(plugin.restarts)}</td>
    </tr>`;
}

// One plugin: how it is, what it does right now, and the orders of an operator.

import { html, useEffect, useState } from "./preact.js";
import { ask } from "./api.js";
import { count, duration, moment, rate, seconds, share, words } from "./format.js";
import { useAnswer } from "./answers.js";
import { Waiting } from "./inbox.js";
import { Cards, PluginPage } from "./pages.js";
import { Confirm, Curve, Empty, isLooping, lettersOf, Message, Status, tone } from "./parts.js";

/** The orders: when each may be given, and what the question says. */
const ORDERS = [
  { verb: "Restart", path: "restart", may: (plugin) => plugin.status !== "disabled",
    about: "It ends and starts again; its inbox stays, and its failures are forgotten." },
  { verb: "Reload code", path: "reload", may: (plugin) => plugin.status !== "disabled",
    about: "Its file is imported anew. The old code runs on if the new one does not start." },
  { verb: "Pause", path: "pause", may: (plugin) => plugin.queued !== undefined && !plugin.paused,
    about: "It runs on, but no event is handed to it until it is resumed." },
  { verb: "Resume", path: "resume", may: (plugin) => plugin.paused, about: "Its events are handed to it again." },
  { verb: "Disable", path: "disable", may: (plugin) => plugin.status !== "disabled", isGrave: true,
    about: "It ends with all that need it, and stays so until it is enabled. Events in memory are refused." },
  { verb: "Enable", path: "enable", may: (plugin) => plugin.status === "disabled", about: "It starts again." },
];

export function Plugin({ live, parts: [name, page] }) {
  const plugin = live.state.plugins[name];
  const mayAll = live.state.client.may.admin;
  if (!plugin) return html`<${Empty}>No plugin is named ${name}. <a href="#/">All plugins</a><//>`;
  if (page && mayAll) return html`<article><${PluginPage} plugin=${name} page=${page} /></article>`;
  return html`
    <article>
      <${Head} name=${name} plugin=${plugin} mayAll=${mayAll} />
      <${Curves} plugin=${plugin} curves=${live.series[name] ?? {}} />
      ${mayAll
        ? html`<${Account} name=${name} plugin=${plugin} at=${live.state.at} />`
        : html`<${Message}>Its errors, log, tasks and settings need a token with the scope
            <code>admin</code>.<//>`}
    </article>`;
}

function Head({ name, plugin, mayAll }) {
  const [order, setOrder] = useState(null);
  const act = (reason) =>
    ask(`plugins/${encodeURIComponent(name)}/${order.path}`, { method: "POST", query: { reason } });
  return html`
    <section class="head">
      <div>
        <p class="back"><a href="#/">Plugins</a></p>
        <h1>${name}</h1>
        <p class="line">
          <${Status} status=${plugin.status} tone=${tone(plugin.status, isLooping(plugin))} />
          ${isLooping(plugin) && html`<span class="tag bad">crash loop</span>`}
          ${plugin.paused && html`<span class="tag warn">paused</span>`}
          ${plugin.critical && html`<span class="tag">critical</span>`}
          ${plugin.durable && html`<span class="tag">durable</span>`}
          <span class="faint">${plugin.class}</span>
        </p>
        ${plugin.trouble && html`<p>${plugin.trouble}</p>`}
        ${plugin.remedy && html`<p>What to do: ${plugin.remedy}</p>`}
        ${plugin.waits_for && html`<p>Waits for <a href="#/plugins/${encodeURIComponent(plugin.waits_for)}">${plugin.waits_for}</a>.</p>`}
      </div>
      ${mayAll && html`<div class="buttons">
        ${ORDERS.filter(({ may }) => may(plugin)).map((each) => html`
          <button key=${each.path} onClick=${() => setOrder(each)}>${each.verb}</button>`)}
      </div>`}
      ${order && html`<${Confirm} question="${order.verb}: ${name}?" about=${order.about} verb=${order.verb}
        isGrave=${order.isGrave} act=${act} close=${() => setOrder(null)} />`}
    </section>`;
}

function Curves({ plugin, curves }) {
  const waiting = (plugin.queued ?? 0) + (plugin.in_flight ?? 0) + (plugin.backing_off ?? 0);
  const all = [
    ["in", "Events in", `${rate(plugin.in)}/s`],
    ["out", "Events out", `${rate(plugin.out)}/s`],
    ["waiting", "Waiting", count(waiting)],
    ["busy", "Loop busy", share(plugin.busy)],
  ].filter(([kind]) => kind === "busy" || plugin.queued !== undefined);
  return html`
    <section class="curves" aria-label="The last 15 minutes">
      ${all.map(([kind, label, value]) => html`
        <figure key=${kind}>
          <figcaption><span>${label}</span><strong>${value}</strong></figcaption>
          <${Curve} values=${curves[kind]} label="${label}, the last 15 minutes" isLarge />
        </figure>`)}
    </section>`;
}

function Account({ name, plugin, at }) {
  const path = `plugins/${encodeURIComponent(name)}`;
  const { answer, problem, again } = useAnswer(path, {}, `${plugin.status} ${plugin.since} ${plugin.paused}`);
  if (problem) return html`<${Message} kind="bad">${problem.message}<//>`;
  if (!answer) return html`<${Empty}>Loading …<//>`;
  return html`
    ${answer.error && html`<${Fault} error=${answer.error} />`}
    <${Cards} plugin=${name} pages=${answer.pages} />
    <div class="columns">
      <${Facts} plugin=${plugin} account=${answer} at=${at} />
      ${answer.inbox && html`<${Inbox} name=${name} inbox=${answer.inbox} plugin=${plugin} at=${at} />`}
    </div>
    ${answer.inbox && html`<${Waiting} path=${path} />`}
    <${History} history=${answer.history} at=${at} />
    <${Log} path=${path} level=${answer.log_level} chosen=${again} />
    <${Tasks} name=${name} />
    <${Settings} settings=${answer.settings} />
    <${Routes} routes=${answer.routes} />`;
}

const Fault = ({ error }) => html`
  <section aria-labelledby="fault">
    <h2 id="fault">Last error</h2>
    <${Message} kind="bad">${error.summary}<//>
    <details><summary>Traceback</summary><pre tabindex="0">${error.traceback}</pre></details>
  </section>`;

/** A list of names and values; those without a value are left out. */
const Pairs = ({ title, pairs }) => html`
  <section aria-label=${title}>
    <h2>${title}</h2>
    <dl class="pairs">
      ${pairs.filter(([, value]) => value !== undefined && value !== null && value !== "").map(([label, value]) => html`
        <div key=${label}><dt>${label}</dt><dd>${value}</dd></div>`)}
    </dl>
  </section>`;

const plugins = (names) => names.map((name, index) => html`
  ${index ? ", " : ""}<a href="#/plugins/${encodeURIComponent(name)}">${name}</a>`);

function Facts({ plugin, account, at }) {
  const { distribution, version } = account.version;
  return html`<${Pairs} title="Life" pairs=${[
    [words(plugin.status), `for ${duration(Math.max(0, at - plugin.since))}`],
    ["Starts again in", account.retry_in === null ? null : duration(account.retry_in)],
    ["Restarts", count(plugin.restarts)],
    ["Needs", account.needs.length ? plugins(account.needs) : null],
    ["Needed by", account.needed_by.length ? plugins(account.needed_by) : null],
    ["Held the loop at most", plugin.longest === undefined ? null : seconds(plugin.longest)],
    ["Listens to", account.listens_to.join(", ")],
    ["From", distribution ? `${distribution}${version ? ` ${version}` : ""}` : null],
  ]} />`;
}

const ALWAYS = new Set(["accepted", "handled", "queued", "in_flight", "failed"]);

function Inbox({ name, inbox, plugin, at }) {
  const counted = { ...inbox, queued: plugin.queued, in_flight: plugin.in_flight, backing_off: plugin.backing_off,
    handled: plugin.handled, failed: plugin.failed, dead_lettered: plugin.dead_lettered };
  const shown = Object.entries(counted).filter(([fate, value]) => value || ALWAYS.has(fate));
  const dead = plugin.dead_lettered ? html`<a href=${lettersOf(name)}>${count(plugin.dead_lettered)}</a>` : null;
  return html`<${Pairs} title="Inbox" pairs=${[
    ["Room", plugin.room ? `${count(plugin.room)} events` : "no limit in number"],
    ["Oldest event", plugin.oldest ? duration(Math.max(0, at - plugin.oldest)) : null],
    ["Half of the attempts take", plugin.p50 ? seconds(plugin.p50) : null],
    ["99 percent take", plugin.p99 ? seconds(plugin.p99) : null],
    ["Handlers are busy", plugin.handling ? `${share(plugin.handling)} of the time` : null],
    ...shown.map(([fate, value]) => [words(fate), fate === "dead_lettered" ? dead : count(value)]),
  ]} />`;
}

const DRAWN = 30; // Statuses in the timeline.

function History({ history, at }) {
  if (!history.length) return null;
  const now = Math.max(at, Date.parse(history.at(-1).since) / 1000 + 0.001);
  const spans = history.slice(-DRAWN).map((each, index, all) => {
    const since = Date.parse(each.since) / 1000;
    const until = index + 1 < all.length ? Date.parse(all[index + 1].since) / 1000 : now;
    return { ...each, since, lasted: Math.max(0, until - since) };
  });
  const start = spans[0].since;
  const width = 1000 / (now - start);
  return html`
    <section aria-labelledby="history">
      <h2 id="history">History</h2>
      <svg class="timeline" viewBox="0 0 1000 16" preserveAspectRatio="none" aria-hidden="true">
        ${spans.map((each) => html`<rect class=${tone(each.status)} x=${(each.since - start) * width} y="0" height="16"
          width=${Math.max(2, each.lasted * width)}><title>${words(each.status)}</title></rect>`)}
      </svg>
      <div class="scroll low" tabindex="0" role="region" aria-label="Statuses"><table>
        <thead><tr><th scope="col">Status</th><th scope="col">Since</th><th scope="col" class="number">For</th>
          <th scope="col">Reason</th></tr></thead>
        <tbody>${spans.toReversed().map((each) => html`
          <tr key=${each.since}><td><${Status} status=${each.status} /></td><td class="stay">${moment(each.since)}</td>
            <td class="number">${duration(each.lasted)}</td><td>${each.reason}</td></tr>`)}</tbody>
      </table></div>
    </section>`;
}

const LEVELS = ["default", "debug", "info", "warning", "error"];

function Log({ path, level, chosen }) {
  const { answer, problem } = useAnswer(`${path}/log`, {}, "", 2000);
  const [fault, setFault] = useState(null);
  async function choose(event) {
    try {
      await ask(`${path}/log-level`, { method: "POST", query: { level: event.target.value } });
      setFault(null);
      chosen();
    } catch (refused) {
      setFault(refused.message);
    }
  }
  const lines = answer?.lines ?? [];
  return html`
    <section aria-labelledby="log">
      <header class="bar">
        <h2 id="log">Log</h2>
        <label class="inline">Lines from
          <select onChange=${choose} value=${level ?? "default"}>
            ${LEVELS.map((each) => html`<option value=${each}>${each === "default" ? "the program's level" : each}</option>`)}
          </select></label>
      </header>
      ${(fault ?? problem?.message) && html`<${Message} kind="bad">${fault ?? problem.message}<//>`}
      ${lines.length
        ? html`<ol class="log" tabindex="0" aria-label="Lines, the last one first">
            ${lines.toReversed().map((line, index) => html`<li key=${lines.length - index} class=${line.level}>${line.text}</li>`)}</ol>`
        : answer && html`<${Empty}>It has logged nothing yet.<//>`}
    </section>`;
}

function Tasks({ name }) {
  const { answer, problem } = useAnswer("tasks", { plugin: name }, "", 2000);
  if (problem) return html`<${Message} kind="bad">${problem.message}<//>`;
  const found = answer?.plugins[name] ?? { count: 0, tasks: [] };
  return html`
    <section aria-labelledby="tasks">
      <h2 id="tasks">Tasks <span class="faint">${count(found.count)}</span></h2>
      ${!found.tasks.length && answer && html`<${Empty}>It has no task now.<//>`}
      <ul class="tasks">${found.tasks.map((task, index) => html`
        <li key=${index} class="depth-${Math.min(task.depth, 6)}">
          <details><summary>
            <code>${task.name.split(".").at(-1)}</code>
            <span class="faint">${task.age === null ? "" : duration(task.age)}</span>
            ${task.cancelled && html`<span class="tag warn">cancelled</span>`}
            ${task.deadline !== null && html`<span class="tag">ends within ${duration(task.deadline)}</span>`}
            <span class="at">${place(task.at)}</span>
          </summary><pre tabindex="0">${task.name + "\n" + task.stack.join("\n")}</pre></details>
        </li>`)}</ul>
    </section>`;
}

/** `file.py:12 in run`, without the directories. */
const place = (at) => at.replace(/^.*\//, "");

const Settings = ({ settings }) => settings.length > 0 && html`
  <section aria-labelledby="settings">
    <h2 id="settings">Settings</h2>
    <div class="scroll" tabindex="0" role="region" aria-label="All settings"><table>
      <thead><tr><th scope="col">Key</th><th scope="col">Value</th><th scope="col">From</th></tr></thead>
      <tbody>${settings.map(({ key, value, origin, source }) => html`
        <tr key=${key}><td><code>${key}</code></td><td><code>${JSON.stringify(value)}</code></td>
          <td class=${origin === "default" ? "faint" : ""}>${origin}${source ? ` ${source}` : ""}</td></tr>`)}</tbody>
    </table></div>
  </section>`;

const Routes = ({ routes }) => routes.length > 0 && html`
  <section aria-labelledby="routes">
    <h2 id="routes">Routes</h2>
    <div class="scroll"><table>
      <thead><tr><th scope="col">Path</th><th scope="col">Methods</th><th scope="col">Scope</th></tr></thead>
      <tbody>${routes.map((route) => html`
        <tr key=${route.path}><td><code>${route.path}</code></td><td>${route.methods.join(", ")}</td><td>${route.scope}</td></tr>`)}</tbody>
    </table></div>
  </section>`;

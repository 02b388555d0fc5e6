// Events that were given up: found, understood, delivered again or deleted.

import { html, useState } from "./preact.js";
import { ask } from "./api.js";
import { useAnswer } from "./answers.js";
import { count, moment } from "./format.js";
import { Confirm, Empty, Message } from "./parts.js";

const PAGE = 200; // Dead letters that are asked for at once.
const PART = 200; // Numbers in one request: an address has a greatest length.

/** The dead letters; a name in the address chooses those of one plugin. */
export function DeadLetters({ live, parts: [plugin] }) {
  const [filter, setFilter] = useState({ plugin });
  const [chosen, setChosen] = useState(new Set());
  const [order, setOrder] = useState(null);
  const [said, setSaid] = useState(null);
  const [limit, setLimit] = useState(PAGE);
  const { may } = live.state.client;
  const { answer, problem, again } = useAnswer(may.admin ? "dead-letters" : "", { ...filter, limit });
  if (!may.admin) {
    return html`<h1>Dead letters</h1>
      <${Message}>Dead letters need a token with the scope <code>admin</code>.<//>`;
  }
  const letters = answer?.dead_letters ?? [];
  const isFiltered = Object.values(filter).some((value) => value);
  const all = () => [{ ...filter, until: [filter.until, afterAll(letters)].filter(Boolean).sort()[0] }];
  const each = (word) => `${count(word)} dead letter${word === 1 ? "" : "s"}`;

  async function act(reason) {
    try {
      while (order.queries.length) {
        const query = { ...order.queries[0], reason };
        const answered = await ask(`dead-letters/${order.path}`, { method: "POST", query });
        order.queries.shift(); // If a later part fails, another try begins with that.
        order.number += answered.count;
      }
      setSaid(`${order.done} ${each(order.number)}.`);
    } finally {
      if (order.number) setChosen(new Set());
      again();
    }
  }
  const propose = (path, queries, number) => setOrder({
    path,
    queries,
    number: 0,
    isGrave: path === "purge",
    verb: path === "purge" ? "Delete" : "Replay",
    done: path === "purge" ? "Deleted" : "Delivered again:",
    question: path === "purge" ? `Delete ${each(number)} for ever?` : `Replay ${each(number)}?`,
    about: path === "purge" ? "Nobody can bring them back." : "Each is delivered again to the plugin that could not handle it.",
  });
  const selection = () => portions([...chosen]).map((numbers) => ({ number: numbers.join(",") }));
  return html`
    <header class="bar">
      <h1>Dead letters</h1>
      ${answer?.count > 0 && html`<div class="buttons">
        ${chosen.size > 0 && html`
          <button onClick=${() => propose("replay", selection(), chosen.size)}>Replay ${chosen.size} selected</button>
          <button onClick=${() => propose("purge", selection(), chosen.size)}>Delete ${chosen.size} selected</button>`}
        <button class="main" onClick=${() => propose("replay", all(), answer.count)}>Replay all ${count(answer.count)}</button>
        <button onClick=${() => propose("purge", all(), answer.count)}>Delete all ${count(answer.count)}</button>
      </div>`}
    </header>
    <${Filter} state=${live.state} filter=${filter} setFilter=${(next) => { setFilter(next); setChosen(new Set()); setLimit(PAGE); }} />
    ${said && html`<${Message} kind="good">${said}<//>`}
    ${problem && html`<${Message} kind="bad">${problem.message}<//>`}
    ${answer && !letters.length && html`<${Empty}>${isFiltered ? "No dead letter matches." : "There is no dead letter."}<//>`}
    ${groups(letters).map(([reason, members]) => html`
      <${Group} key=${reason} reason=${reason} letters=${members} chosen=${chosen} setChosen=${setChosen} />`)}
    ${answer?.next && limit < 1000 && html`
      <button class="more" onClick=${() => setLimit(1000)}>Show more of ${count(answer.count)}</button>`}
    ${order && html`<${Confirm} ...${order} act=${act} close=${() => setOrder(null)} />`}`;
}

/** The moment after the letters that are seen, by the service's clock: later ones are left alone. */
function afterAll(letters) {
  const last = Math.max(...letters.map(({ died_at: at }) => Date.parse(at)));
  return new Date(last + 1).toISOString();
}

/** The numbers, in parts of which each fits into a request. */
function portions(numbers) {
  const count = Math.ceil(numbers.length / PART);
  return Array.from({ length: count }, (_, at) => numbers.slice(at * PART, (at + 1) * PART));
}

/** The letters by their error, the most frequent first; numbers make no other error of it. */
function groups(letters) {
  const found = new Map();
  for (const letter of letters) {
    const error = letter.reason.replace(/\d+/g, "…");
    found.set(error, [...(found.get(error) ?? []), letter]);
  }
  return [...found.entries()]
    .map(([error, members]) => [members.every(({ reason }) => reason === members[0].reason) ? members[0].reason : error, members])
    .sort(([, a], [, b]) => b.length - a.length);
}

const moment_of = (text) => (text ? new Date(text).toISOString() : "");

function Filter({ state, filter, setFilter }) {
  function submit(event) {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target.form ?? event.target));
    setFilter({ ...given, since: moment_of(given.since), until: moment_of(given.until) });
  }
  // A plugin that is not active any more may be in the address.
  const plugins = [...new Set([...Object.keys(state.plugins), filter.plugin])].filter(Boolean).sort();
  return html`
    <form class="filter" onSubmit=${submit} onChange=${submit} aria-label="Which dead letters">
      <label>Error has the text <input name="text" type="search" /></label>
      <label>Plugin <select name="plugin" value=${filter.plugin ?? ""}><option value="">any</option>
        ${plugins.map((name) => html`<option value=${name}>${name}</option>`)}</select></label>
      <label>Event <input name="event" autocomplete="off" placeholder="any" /></label>
      <label>Since <input name="since" type="datetime-local" /></label>
      <label>Until <input name="until" type="datetime-local" /></label>
      <button>Search</button>
    </form>`;
}

function Group({ reason, letters, chosen, setChosen }) {
  const numbers = letters.map((letter) => letter.number);
  const isWhole = numbers.every((number) => chosen.has(number));
  function toggle(which, isOn) {
    const next = new Set(chosen);
    for (const number of which) {
      if (isOn) next.add(number);
      else next.delete(number);
    }
    setChosen(next);
  }
  return html`
    <section class="group">
      <h2><input type="checkbox" checked=${isWhole} aria-label="All with this error"
          onChange=${(event) => toggle(numbers, event.target.checked)} />
        <span>${reason}</span> <span class="tag">${count(letters.length)}</span></h2>
      <ul>${letters.map((letter) => html`
        <li key=${letter.number}>
          <input type="checkbox" checked=${chosen.has(letter.number)} aria-label="Dead letter ${letter.number}"
            onChange=${(event) => toggle([letter.number], event.target.checked)} />
          <${Letter} letter=${letter} />
        </li>`)}</ul>
    </section>`;
}

function Letter({ letter }) {
  const [isOpen, setOpen] = useState(false);
  return html`
    <details onToggle=${(event) => setOpen(event.target.open)}>
      <summary><strong>${letter.event}</strong> <span>for ${letter.plugin}</span>
        <span class="faint">${moment(letter.died_at)}</span>
        <span class="faint">${letter.attempts} attempt${letter.attempts === 1 ? "" : "s"}</span>
        <span class="faint code">${letter.id}</span></summary>
      ${isOpen && html`<${Detail} number=${letter.number} />`}
    </details>`;
}

function Detail({ number }) {
  const { answer, problem } = useAnswer(`dead-letters/${number}`, {});
  const [isShown, setShown] = useState(false);
  if (problem) return html`<${Message} kind="bad">${problem.message}<//>`;
  if (!answer) return html`<${Empty}>Loading …<//>`;
  return html`
    <ol class="failures">${answer.failures.map((failure) => html`
      <li><span class="faint">${moment(failure.at)}</span> ${failure.error}</li>`)}</ol>
    <pre tabindex="0" aria-label="The envelope">${JSON.stringify(answer.envelope, null, 1)}</pre>
    ${isShown
      ? html`<pre class="payload" tabindex="0" aria-label="The payload">${JSON.stringify(answer.payload, null, 1)}</pre>`
      : html`<p><button onClick=${() => setShown(true)}>Show the payload</button></p>`}`;
}

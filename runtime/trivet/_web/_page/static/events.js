// Event types: who listens to them, and a form that publishes one.

import { html, useState } from "./preact.js";
import { ask } from "./api.js";
import { useAnswer } from "./answers.js";
import { count } from "./format.js";
import { link } from "./overview.js";
import { Empty, Message } from "./parts.js";

export function Events({ live }) {
  const { may } = live.state.client;
  const contract = useAnswer("../asyncapi.json", {});
  const known = useAnswer(may.admin ? "events" : "", {}, Object.keys(live.state.plugins).join(), 5000);
  const [name, setName] = useState(null);
  if (contract.problem) return html`<${Message} kind="bad">${contract.problem.message}<//>`;
  if (!contract.answer) return html`<${Empty}>Loading …<//>`;
  const types = described(contract.answer, known.answer?.events, live.state.unrouted);
  return html`
    <h1>Events</h1>
    <section><div class="scroll"><table>
      <thead><tr><th scope="col">Event</th><th scope="col">Listeners</th><th scope="col" class="number">Unrouted</th>
        <th scope="col" class="middle">From clients</th>${may.ingest && html`<th scope="col"><span class="hidden">Publish</span></th>`}</tr></thead>
      <tbody>${types.map((type) => html`
        <tr key=${type.name}>
          <th scope="row">${type.name}</th>
          <td>${type.listeners.length
            ? type.listeners.map((plugin, index) => html`${index ? ", " : ""}<a href=${link(plugin)}>${plugin}</a>`)
            : html`<span class="faint">nobody</span>`}</td>
          <td class="number ${type.unrouted ? "" : "faint"}">${count(type.unrouted)}</td>
          <td class="middle">${type.isOpen ? "yes" : html`<span class="faint">no</span>`}</td>
          ${may.ingest && html`<td class="number">${type.isOpen && html`
            <button onClick=${() => setName(type.name)} aria-label="Publish ${type.name}">Publish …</button>`}</td>`}
        </tr>`)}</tbody>
    </table></div></section>
    ${name && html`<${Form} key=${name} name=${name} schemas=${contract.answer.components} close=${() => setName(null)} />`}`;
}

/** The event types, from the contract, and from what only an operator may know. */
function described(contract, known, unrouted) {
  const listeners = {};
  for (const operation of Object.values(contract.operations)) {
    for (const { $ref } of operation.messages) {
      const event = $ref.split("/").at(-1);
      if (operation.channel.$ref === `#/channels/${event}`) {
        listeners[event] = [...(listeners[event] ?? []), operation.tags[0].name];
      }
    }
  }
  return Object.keys(contract.components.messages).sort().map((name) => ({
    name,
    listeners: known?.[name]?.listeners ?? listeners[name] ?? [],
    unrouted: unrouted[name] ?? 0,
    isOpen: known?.[name]?.from_outside ?? Boolean(contract.channels[name]?.address),
  }));
}

/** A schema without references and alternatives that are null. */
function plain(schema, schemas) {
  const name = schema.$ref?.split("/").at(-1);
  if (name) return plain(schemas[name] ?? {}, schemas);
  const others = schema.anyOf?.filter((each) => each.type !== "null");
  return others?.length === 1 ? { ...plain(others[0], schemas), isOptional: true } : schema;
}

const TEXT = { string: true, integer: true, number: true };

function Form({ name, schemas, close }) {
  const schema = plain(schemas.messages[name].payload, schemas.schemas);
  const fields = Object.entries(schema.properties ?? {}).map(([field, given]) => ({
    field,
    schema: plain(given, schemas.schemas),
    isRequired: (schema.required ?? []).includes(field),
    default: given.default,
  }));
  const [said, setSaid] = useState(null);
  async function submit(event) {
    event.preventDefault();
    try {
      const body = JSON.stringify(read(new FormData(event.target), fields));
      const answer = await ask(`../events/${encodeURIComponent(name)}`, { method: "POST", body, query: { wait: "true" } });
      setSaid({ kind: "good", text: `Published: ${JSON.stringify(answer)}` });
    } catch (problem) {
      setSaid({ kind: "bad", text: problem.message });
    }
  }
  return html`
    <section class="publish" aria-labelledby="publish">
      <h2 id="publish">Publish ${name}</h2>
      ${schema.description && html`<p class="faint">${schema.description}</p>`}
      <form onSubmit=${submit}>
        ${fields.map((each) => html`<${Field} key=${each.field} ...${each} />`)}
        ${!fields.length && html`<p class="faint">It has no fields.</p>`}
        ${said && html`<${Message} kind=${said.kind}>${said.text}<//>`}
        <div class="buttons"><button type="button" onClick=${close}>Close</button><button class="main">Publish</button></div>
      </form>
    </section>`;
}

/** One of some values, each as JSON in the form; nothing is chosen at first where nothing need be. */
function Choice({ name, values, isRequired }) {
  const texts = values.map((value) => JSON.stringify(value));
  const [chosen, choose] = useState(isRequired ? texts[0] : "");
  return html`<select name=${name} value=${chosen} onChange=${(event) => choose(event.target.value)}>
    ${(isRequired ? texts : ["", ...texts]).map((text, index) => html`
      <option key=${text} value=${text}>${text && String(values.at(index - (isRequired ? 0 : 1)))}</option>`)}
  </select>`;
}

function Field({ field, schema, isRequired, default: given }) {
  const about = schema.description ?? "";
  const label = html`${field}${isRequired ? "" : " (optional)"}`;
  const values = schema.enum ?? (schema.type === "boolean" ? [true, false] : null);
  if (values) return html`<label>${label} <${Choice} name=${field} values=${values} isRequired=${isRequired} /></label>`;
  const hint = given === undefined || given === null ? "" : String(given);
  if (TEXT[schema.type]) {
    const isNumber = schema.type !== "string";
    return html`<label>${label} <input name=${field} type=${isNumber ? "number" : "text"} step=${schema.type === "number" ? "any" : "1"}
      required=${isRequired} placeholder=${schema.format ?? hint} title=${about} autocomplete="off" /></label>`;
  }
  return html`<label>${label}, as JSON <textarea name=${field} rows="3" required=${isRequired} title=${about}></textarea></label>`;
}

/** The event in the form; a field that is left empty is left out. */
function read(data, fields) {
  const event = {};
  for (const { field, schema } of fields) {
    const text = data.get(field);
    if (text === "" || text === null) continue;
    event[field] = schema.type === "string" && !schema.enum ? text : JSON.parse(text);
  }
  return event;
}

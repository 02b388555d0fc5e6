// The events that a plugin has before it: what it works on, what failed and is tried again, what waits.

import { html, useState } from "./preact.js";
import { count, duration, seconds } from "./format.js";
import { useAnswer } from "./answers.js";
import { Empty, Message, Status } from "./parts.js";

const TONES = { in_flight: "good", backing_off: "warn", queued: "quiet" };

/** The event's state in words: `attempt 2 of 5 in 4 s`. */
function told(event) {
  const of = event.max_attempts === null ? "" : ` of ${event.max_attempts}`;
  const attempt = `attempt ${event.attempt}${of}`;
  if (event.fate === "queued") return event.attempt > 1 ? `${attempt} waits` : "";
  if (event.fate === "in_flight") return event.lasted === undefined ? attempt : `${attempt}, for ${brief(event.lasted)}`;
  return event.retry_in === null ? `${attempt} after the next start` : `${attempt} in ${brief(event.retry_in)}`;
}

const brief = (value) => (value < 10 ? seconds(value) : duration(value));

export function Waiting({ path }) {
  const [open, setOpen] = useState(null);
  const { answer, problem } = useAnswer(`${path}/inbox`, { payload: open ?? undefined }, "", 2000);
  if (problem) return html`<${Message} kind="bad">${problem.message}<//>`;
  const events = answer?.events ?? [];
  return html`
    <section aria-labelledby="before">
      <h2 id="before">Events in its inbox <span class="faint">the oldest first</span></h2>
      ${!events.length && answer && html`<${Empty}>No event waits.<//>`}
      ${events.length > 0 && html`
        <div class="scroll high" tabindex="0" role="region" aria-label="All that are shown"><table class="before">
          <thead><tr><th scope="col">Event</th><th scope="col">State</th><th scope="col" class="number middle">Age</th>
            <th scope="col"><span class="hidden">Payload</span></th></tr></thead>
          <tbody>${events.map((event) => html`
            <${Row} key=${event.id + event.source} event=${event} isOpen=${event.id === open}
              toggle=${() => setOpen(event.id === open ? null : event.id)} />`)}</tbody>
        </table></div>`}
      ${answer?.not_shown > 0 && html`
        <p class="faint rest">${count(answer.not_shown)} more${answer.on_disk > 0 ? `, ${count(answer.on_disk)} of them on disk` : ""}.</p>`}
    </section>`;
}

function Row({ event, isOpen, toggle }) {
  return html`
    <tr>
      <td><strong>${event.type}</strong> <code class="faint">${event.id}</code>
        ${event.key !== undefined && html` <span class="tag">key ${event.key}</span>`}
        ${event.error !== null && html`<span class="failure">${event.error}</span>`}
        ${isOpen && html`<${Payload} event=${event} />`}</td>
      <td><${Status} status=${event.fate} tone=${TONES[event.fate]} /> <span class="faint">${told(event)}</span></td>
      <td class="number middle">${brief(event.age)}</td>
      <td class="number"><button class="quiet" aria-expanded=${isOpen} onClick=${toggle}
        aria-label="${isOpen ? "Hide" : "Show"} the payload of ${event.id}">${isOpen ? "Hide" : "Payload"}</button></td>
    </tr>`;
}

function Payload({ event }) {
  if (event.payload_left_out) return html`<${Message}>Not shown: ${event.payload_left_out}.<//>`;
  if (event.payload === undefined) return html`<p class="faint">Loading …</p>`;
  return html`<pre tabindex="0">${JSON.stringify(event.payload, null, 2)}</pre>`;
}

// The plugins that have held the event loop, and the profile of each time that was too long.

import { html } from "./preact.js";
import { useAnswer } from "./answers.js";
import { Flame } from "./flame.js";
import { duration, moment, seconds } from "./format.js";
import { link } from "./overview.js";
import { Empty, Message, Status } from "./parts.js";

export function Stalls({ live, parts: [number] }) {
  const mayAll = live.state.client.may.admin;
  if (number) return mayAll ? html`<${One} number=${number} />` : html`<${NotAllowed} />`;
  const found = Object.entries(live.state.plugins)
    .filter(([, plugin]) => plugin.longest !== undefined)
    .sort(([, a], [, b]) => (b.stalled ?? 0) - (a.stalled ?? 0) || b.longest - a.longest);
  return html`
    <h1>Stalls</h1>
    <p class="faint">One event loop runs all plugins. A plugin that holds it for 50 ms keeps the others waiting.</p>
    ${!found.length && html`<${Empty}>The event loop is not measured: <code>[stalls]</code> is off.<//>`}
    ${found.length > 0 && (mayAll ? html`<${Kept} key=kept since=${found.map(([, { stalled }]) => stalled)} />` : html`<${NotAllowed} />`)}
    ${found.length > 0 && html`<section aria-labelledby="longest">
      <h2 id="longest">By plugin</h2>
      <div class="scroll"><table>
      <thead><tr><th scope="col">Plugin</th><th scope="col" class="number">Longest</th><th scope="col">Held the loop</th></tr></thead>
      <tbody>${found.map(([name, plugin]) => html`<tr key=${name}>
        <th scope="row"><a href=${link(name)}>${name}</a></th>
        <td class="number">${seconds(plugin.longest)}</td>
        <td>${plugin.stalled
          ? html`<${Status} tone="warn" text=${`${duration(Math.max(0, live.state.at - plugin.stalled))} ago`} />`
          : html`<span class="faint">not lately</span>`}</td></tr>`)}</tbody>
    </table></div></section>`}`;
}

const NotAllowed = () => html`<${Message}>The profiles of stalls need a token with the scope <code>admin</code>.<//>`;

/** The stalls that have a profile; asked for anew when a plugin has held the loop again. */
function Kept({ since }) {
  const { answer, problem } = useAnswer("stalls", {}, JSON.stringify(since), 5000);
  if (problem) return html`<${Message} kind="bad">${problem.message}<//>`;
  if (!answer?.stalls.length) return null;
  return html`<section aria-labelledby="kept">
    <h2 id="kept">The last ones</h2>
    <div class="scroll"><table>
      <thead><tr><th scope="col">Plugin</th><th scope="col" class="number">Held for</th><th scope="col">When</th>
        <th scope="col" class="middle">Meanwhile</th><th scope="col">Line</th></tr></thead>
      <tbody>${answer.stalls.map((each) => html`<tr key=${each.number}>
        <th scope="row"><a href="#/stalls/${each.number}">${each.plugin}, stall ${each.number}</a></th>
        <td class="number">${seconds(each.seconds)}</td><td class="stay">${moment(each.began)}</td>
        <td class="middle">${each.doing}</td><td><code title=${each.at}>${each.at.split("/").at(-1)}</code></td></tr>`)}</tbody>
    </table></div></section>`;
}

function One({ number }) {
  const path = `stalls/${encodeURIComponent(number)}`;
  const { answer, problem } = useAnswer(path, {});
  if (problem) return html`<${Message} kind="bad">${problem.message}. <a href="#/stalls">All stalls</a><//>`;
  if (!answer) return html`<${Empty}>Loading …<//>`;
  return html`
    <section class="head">
      <div>
        <p class="back"><a href="#/stalls">Stalls</a></p>
        <h1>${answer.name}</h1>
        <p class="faint">The calls within the plugin while it held the event loop, the outermost on top. The width of a
          call is its time. Press or click one to see only what is within it; the arrow keys go from call to call.</p>
      </div>
      <div class="buttons">
        <a href=${path} download="stall-${number}.speedscope.json">Download for speedscope</a>
      </div>
    </section>
    <${Flame} document=${answer} />`;
}

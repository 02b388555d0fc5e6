// The program's connections with brokers, and the plugins that have held the event loop.

import { html } from "./preact.js";
import { useAnswer } from "./answers.js";
import { duration, seconds } from "./format.js";
import { link } from "./overview.js";
import { Empty, isLooping, Message, Status, tone } from "./parts.js";

export function Brokers({ live }) {
  const { answer, problem } = useAnswer("../asyncapi.json", {});
  if (problem) return html`<${Message} kind="bad">${problem.message}<//>`;
  if (!answer) return html`<${Empty}>Loading …<//>`;
  const found = Object.entries(answer.operations)
    .filter(([name]) => name in answer.channels)
    .map(([name, operation]) => ({ name, operation, channel: answer.channels[name], plugin: operation.tags[0].name }));
  return html`
    <h1>Brokers</h1>
    ${!found.length && html`<${Empty}>No plugin tells of a connection with a broker.<//>`}
    ${found.length > 0 && html`<section><div class="scroll"><table>
      <thead><tr><th scope="col">Plugin</th><th scope="col">Status</th><th scope="col">Does</th><th scope="col">Address</th>
        <th scope="col">Server</th><th scope="col">Trouble</th></tr></thead>
      <tbody>${found.map(({ name, operation, channel, plugin }) => {
        const state = live.state.plugins[plugin] ?? { status: "stopped" };
        const server = (channel.servers ?? []).map(({ $ref }) => answer.servers[$ref.split("/").at(-1)]);
        return html`<tr key=${name}>
          <th scope="row"><a href=${link(plugin)}>${plugin}</a></th>
          <td><${Status} status=${state.status} tone=${tone(state.status, isLooping(state))} /></td>
          <td>${operation.action}s</td><td><code>${channel.address}</code></td>
          <td>${server.map(({ protocol, host }) => html`<code>${protocol}://${host}</code> `)}</td>
          <td>${state.trouble ?? state.error ?? ""}</td></tr>`;
      })}</tbody>
    </table></div></section>`}`;
}

export function Stalls({ live }) {
  const found = Object.entries(live.state.plugins)
    .filter(([, plugin]) => plugin.longest !== undefined)
    .sort(([, a], [, b]) => (b.stalled ?? 0) - (a.stalled ?? 0) || b.longest - a.longest);
  return html`
    <h1>Stalls</h1>
    <p class="faint">One event loop runs all plugins. A plugin that holds it for 50 ms keeps the others waiting; the log has
      the line of its code.</p>
    ${!found.length && html`<${Empty}>The event loop is not measured: <code>[stalls]</code> is off.<//>`}
    ${found.length > 0 && html`<section><div class="scroll"><table>
      <thead><tr><th scope="col">Plugin</th><th scope="col" class="number">Longest</th><th scope="col">Held the loop</th></tr></thead>
      <tbody>${found.map(([name, plugin]) => html`<tr key=${name}>
        <th scope="row"><a href=${link(name)}>${name}</a></th>
        <td class="number">${seconds(plugin.longest)}</td>
        <td>${plugin.stalled
          ? html`<${Status} tone="warn" text=${`${duration(Math.max(0, live.state.at - plugin.stalled))} ago`} />`
          : html`<span class="faint">not lately</span>`}</td></tr>`)}</tbody>
    </table></div></section>`}`;
}

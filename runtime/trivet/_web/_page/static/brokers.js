// The program's connections with brokers.

import { html } from "./preact.js";
import { useAnswer } from "./answers.js";
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

// Giving a token, once for a session.

import { html, useState } from "./preact.js";
import { signIn } from "./api.js";
import { Message } from "./parts.js";

/** The form. `why` tells why a token is wanted; `done` is called when there is a session. */
export function SignIn({ why, done }) {
  const [fault, setFault] = useState(null);
  const [isBusy, setBusy] = useState(false);
  async function submit(event) {
    event.preventDefault();
    setBusy(true);
    let found;
    try {
      found = await signIn(new FormData(event.target).get("token"));
    } catch {
      found = "The service cannot be reached.";
    }
    setBusy(false);
    setFault(found);
    if (found === null) done();
  }
  return html`
    <section class="sign-in" aria-labelledby="sign-in">
      <h1 id="sign-in">Sign in</h1>
      <p>Give a token of this service, from <code>[[tokens]]</code> of its settings. To look around
        it needs the scope <code>read</code>; to change anything, <code>admin</code>.</p>
      ${why && html`<p class="faint">Why: ${why}.</p>`}
      <form onSubmit=${submit}>
        <label>Token
          <input type="password" name="token" required autofocus autocomplete="current-password" />
        </label>
        ${fault && html`<${Message} kind="bad">${fault}<//>`}
        <div class="buttons"><button class="main" disabled=${isBusy}>Sign in</button></div>
      </form>
    </section>`;
}

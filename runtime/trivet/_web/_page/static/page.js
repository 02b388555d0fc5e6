// The page: its frame, and the view that the address names after the `#`.

import { html, render, useEffect, useLayoutEffect, useState } from "./preact.js";
import { signOut } from "./api.js";
import { duration } from "./format.js";
import { Brokers } from "./brokers.js";
import { DeadLetters } from "./dead-letters.js";
import { Events } from "./events.js";
import { connect, live, onChange } from "./live.js";
import { Overview } from "./overview.js";
import { Message, Status } from "./parts.js";
import { Plugin } from "./plugin.js";
import { SignIn } from "./sign-in.js";
import { Stalls } from "./stalls.js";

function SignInView() {
  const done = () => {
    location.hash = "#/";
    connect();
  };
  return html`<${SignIn} done=${done} />`;
}

const VIEWS = [
  { path: "", title: "Overview", view: Overview },
  { path: "plugins", title: "Plugin", view: Plugin, isHidden: true },
  { path: "dead-letters", title: "Dead letters", view: DeadLetters },
  { path: "events", title: "Events", view: Events },
  { path: "brokers", title: "Brokers", view: Brokers },
  { path: "stalls", title: "Stalls", view: Stalls },
  { path: "sign-in", title: "Sign in", view: SignInView, isHidden: true },
];

/** A part of an address as it was before it was encoded; a text that is not encoded as it is. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The parts of the address after the `#`: the first names the view. */
const parts = () => location.hash.replace(/^#\/?/, "").split("/").map(decoded);

function Page() {
  const [, redraw] = useState(0);
  // Not `useEffect`, which waits for a frame: a refusal that came before it would never be shown.
  useLayoutEffect(() => {
    const again = () => redraw((number) => number + 1);
    const forget = onChange(again);
    const moved = () => {
      again();
      window.scrollTo(0, 0);
    };
    window.addEventListener("hashchange", moved);
    return () => {
      forget();
      window.removeEventListener("hashchange", moved);
    };
  }, []);
  const [name, ...rest] = parts();
  const known = VIEWS.find((each) => each.path === name) ?? VIEWS[0];
  const { state, connection } = live;
  document.title = state ? `${known.title} · ${state.service}` : "Trivet";
  if (connection === "refused") {
    // At the first visit the form says enough.
    const why = state || live.refusal.status !== 401 ? live.refusal.message : null;
    return html`<${Frame} current=${null}><${SignIn} why=${why} done=${connect} /><//>`;
  }
  return html`
    <${Frame} current=${known}>
      <${Connection} />
      ${state ? html`<${known.view} key=${location.hash} live=${live} parts=${rest} />` : html`<p class="empty">Loading …</p>`}
    <//>`;
}

function Frame({ current, children }) {
  const { state, connection } = live;
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top">
      <a class="name" href="#/"><${Logo} /><span>${state?.service ?? "Trivet"}</span></a>
      ${state && current && html`
        <span class="overall"><${Overall} /></span>
        <nav aria-label="Views">
          ${VIEWS.filter((each) => !each.isHidden).map((each) => html`
            <a href="#/${each.path}" aria-current=${each === current ? "page" : undefined}>${each.title}</a>`)}
        </nav>
        ${connection !== "refused" && html`<${Session} />`}`}
    </header>
    <main id="main" tabindex="-1">${children}</main>
    ${state && html`<footer>Trivet ${state.version}</footer>`}`;
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

const Logo = () => html`
  <svg viewBox="0 0 32 32" class="logo" aria-hidden="true">
    <ellipse cx="16" cy="10" rx="13" ry="5.5" /><path d="M6 13 3.5 28M26 13l2.5 15M16 16v13" />
  </svg>`;

function Overall() {
  const status = live.connection === "live" ? live.state.status : live.connection;
  const texts = { away: "no connection", connecting: "connecting" };
  return html`<${Status} status=${status} text=${texts[status]} />`;
}

function Session() {
  const { token, has_tokens: hasTokens } = live.state.client;
  if (token === undefined) {
    return hasTokens ? html`<a class="session" href="#/sign-in">Sign in</a>` : null;
  }
  async function leave() {
    await signOut();
    connect();
  }
  return html`<button class="quiet session" onClick=${leave} title="Signed in with the token ${token}">Sign out</button>`;
}

function Connection() {
  const { connection, stop, state } = live;
  if (connection === "away") {
    return html`<${Message} kind="warn">The service cannot be reached. What you see is as it was; the
      page tries again every two seconds.<//>`;
  }
  if (connection === "stopping" && stop) return html`<${Stop} stop=${stop} />`;
  if (state?.reasons.length) {
    return html`<${Message} kind="bad">Not ready: ${state.reasons.join("; ")}.<//>`;
  }
  return null;
}

/** The progress of a stop, by the limits of its parts. */
function Stop({ stop }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const passed = (now - stop.at) / 1000;
  const stages = [
    ["Requests may finish", stop.requests],
    ["Inboxes are drained", stop.inboxes],
    ["Plugins close", stop.plugins],
  ];
  return html`
    <section class="stop" role="status" aria-label="The stop">
      <h2>The service stops</h2>
      <p>It ends in ${duration(Math.max(0, stop.plugins - passed))} at the latest, sooner if nothing hangs.
        When it is back, this page goes on by itself.</p>
      <ol>${stages.map(([name, limit]) => html`
        <li class=${passed >= limit ? "over" : ""}>
          <span>${name}</span> <progress max=${limit || 1} value=${Math.min(passed, limit || 1)}
            aria-label=${name}></progress> <span>within ${duration(limit)}</span>
        </li>`)}</ol>
    </section>`;
}

const page = document.getElementById("page");
page.replaceChildren(); // What it shows until the scripts are there.
render(html`<${Page} />`, page);
connect();

// Requests to the service. Every address is relative to the page's own, so that the page works
// wherever a proxy has put it.

/** An answer that is no success, with the service's own words. */
export class Problem extends Error {
  constructor(status, detail, facts = {}) {
    super(detail);
    this.status = status;
    this.facts = facts;
  }
  /** Whether another token might help. */
  get needsToken() {
    return this.status === 401 || this.status === 403;
  }
}

const SIGNED_OUT = "you are not signed in, or your session has ended";

/** The problem in a response. The service tells programs how to send a token; a person signs in. */
export async function problemOf(response) {
  const facts = await response.json().catch(() => ({}));
  const detail = response.status === 401 ? SIGNED_OUT : facts.detail;
  return new Problem(response.status, detail ?? `the answer was ${response.status}`, facts);
}

/** The JSON document of an answer; raises a `Problem`. */
export async function ask(path, { method = "GET", body, query = {} } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  const search = given.length ? `?${new URLSearchParams(given)}` : "";
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(path + search, { method, headers, body, cache: "no-store" });
  } catch {
    throw new Problem(0, "the service cannot be reached");
  }
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

/** Gives a token for a session; says what is wrong with it, or null. */
export async function signIn(token) {
  const body = new URLSearchParams({ token });
  // The answer to a good token leads elsewhere, where this page need not go.
  const answer = await fetch("../sign-in", { method: "POST", body, redirect: "manual" });
  if (answer.type === "opaqueredirect") return null;
  return answer.status === 429
    ? "Too many unknown tokens came from your address. Wait a while, then try again."
    : "The service does not know this token. See that the whole of it was copied, and nothing else.";
}

/** Ends the session. */
export async function signOut() {
  await fetch("../sign-out", { method: "POST", redirect: "manual" });
}

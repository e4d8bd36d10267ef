// Transport: to the server behind the page, if there is one. What cannot be sent waits in the store and is tried again.

const TIMEOUT_MS = 15000;
const RETRY_MS = [1000, 2000, 4000, 8000, 15000, 30000]; // then every 30 s; at once when the browser is back on line
let connection = "idle"; // idle, sending, offline, refused (an answer was not accepted), gone (the session is not known)
let failures = 0;
let retryTimer = null;
let whenConnectionChanges = () => {};

/** One request; `{status, body}`. Rejects when the server cannot be reached. */
async function ask(method, path, body, token = state?.token) {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), TIMEOUT_MS);
  try {
    const reply = await fetch(new URL(path, document.baseURI), {
      method, signal: stop.signal, cache: "no-store", credentials: "omit",
      headers: { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    return { status: reply.status, body: await reply.json().catch(() => null), wait_s: Number(reply.headers.get("Retry-After")) };
  } finally {
    clearTimeout(timer);
  }
}

/** Joins the study; the key of an error in words, or null when `state` is there. */
async function join(invite) {
  let reply;
  try {
    reply = await ask("POST", "api/join", { study_version: STUDY.version, invite, language, consent: { given: true, adult: true, at: now() } }, null);
  } catch {
    return "error_network";
  }
  if (reply.status !== 200) return { 403: "error_invite", 409: "error_full", 429: "error_limit" }[reply.status] ?? "error_network";
  const { rater, slot, token, trials, practice, session } = reply.body;
  state = newState({ rater, slot, token, trials, practice });
  if (session) adopt(session);
  save();
  return null;
}

/** Goes on with what the server has of a personal invitation, begun elsewhere. */
function adopt(session) {
  for (const answer of session.answers) state.answers[answer.trial] = answer;
  state.skipped = session.environment.skipped ?? [];
  Object.assign(state, { attributes: session.attributes, consent: session.consent, started_at: session.started_at, finished_at: session.finished_at });
  state.environment = { ...session.environment, ...environment() };
  if (session.answers.length) state.step = "trials";
  if (session.finished_at) state.step = "done";
  state.practised = numRated() > 0 || state.practice === 0;
  state.rested = numRated();
}

const numWaiting = () => (state ? state.unsent.length : 0);
const hasWork = () => state && COLLECTED && (state.unsent.length > 0 || state.changes > state.changesSent);

/** Sends what waits, in order. Harmless to call at any time, and to repeat: the server takes the same answer twice as once. */
async function deliver() {
  clearTimeout(retryTimer);
  if (connection === "sending" || connection === "gone") return;
  while (hasWork()) {
    setConnection("sending");
    let reply;
    const trial = state.unsent[0];
    const changes = state.changes;
    try {
      reply = trial
        ? await ask("PUT", `api/answers/${encodeURIComponent(trial)}`, state.answers[trial])
        : await ask("PUT", "api/session", { ...sessionJson(), answers: undefined });
    } catch {
      reply = { status: 0 };
    }
    if (!state) return setConnection("idle"); // withdrawn meanwhile
    if (reply.status === 401) return setConnection("gone");
    if (reply.status === 0 || reply.status === 429 || reply.status >= 500) return later(reply.wait_s);
    failures = 0;
    if (reply.status !== 200) state.refused = true; // kept on the device and in the file, not tried for ever
    if (trial) state.unsent = state.unsent.filter((id) => id !== trial);
    else state.changesSent = changes;
    save();
  }
  setConnection(state?.refused ? "refused" : "idle");
}

function later(wait_s) {
  const wait_ms = wait_s > 0 ? wait_s * 1000 : RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
  failures += 1;
  setConnection("offline");
  retryTimer = setTimeout(deliver, wait_ms * (0.75 + Math.random() / 2)); // spread, so that not all come back at once
}

function setConnection(what) {
  connection = what;
  whenConnectionChanges();
}

addEventListener("online", () => {
  failures = 0;
  deliver();
});

/** Deletes the session everywhere; the key of an error in words, or null. */
async function withdraw() {
  if (COLLECTED) {
    try {
      const { status } = await ask("DELETE", "api/session");
      if (status !== 200 && status !== 401) return status === 429 ? "error_limit" : "error_network";
    } catch {
      return "error_network";
    }
  }
  forget();
  return null;
}

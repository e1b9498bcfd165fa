/* Requests to the endpoint server, and messages for its errors. */

const API = "/api/2.0/serving-endpoints";
const MOST_TRIES = 20;
/** Seconds between two tries, if the server asks for less. A model takes some seconds to start. */
const LONGEST_PAUSE = 5;
const STATE_TIMEOUT = 10_000;
const WORD_TIMEOUT = 60_000;
/** Milliseconds after which the page explains why a prediction may take long. */
const SLOW = 2_000;

export const NOTHING_LIVE = "Nothing is live yet: the first pipeline run that takes a version live creates the endpoint.";

/** The reason why there is no prediction, as a message for people. */
export class Refusal extends Error {
  /** `token`: another token is needed. `final`: trying again cannot help. */
  constructor(words, { token = false, final = false } = {}) {
    super(words);
    this.token = token;
    this.final = final;
  }
}

/** The name with which a person has signed in before the page. Empty: the server knows nobody, and asks for its token. */
export const signedInAs = document.querySelector("meta[name=signed-in-as]").content;

/** The token. It is kept while this tab is open. */
export const key = {
  get() {
    try {
      return sessionStorage.getItem("token") ?? this.kept;
    } catch {
      return this.kept;
    }
  },
  set(token) {
    this.kept = token;
    try {
      sessionStorage.setItem("token", token);
    } catch {
      // This browser stores nothing, so the token is lost when the page is loaded again.
    }
  },
  kept: null,
};

/** The names of all endpoints, and the details of the wanted one, or of the first if the wanted one does not exist. */
export async function look(wanted) {
  const names = read(await send(API, { signal: AbortSignal.timeout(STATE_TIMEOUT) })).endpoints.map((endpoint) => endpoint.name);
  if (!names.length) return { names, endpoint: null };
  const name = names.includes(wanted) ? wanted : names[0];
  const path = `${API}/${encodeURIComponent(name)}`;
  return { names, endpoint: read(await send(path, { signal: AbortSignal.timeout(STATE_TIMEOUT) })) };
}

/** The review desk: what waits, and the classes. */
export async function desk() {
  return read(await send("/reviews", { signal: AbortSignal.timeout(STATE_TIMEOUT) }));
}

/** The file of a photo that waits, or with `form` "picture" a JPEG of it. */
export async function keptPhoto(sha256, form = "photo") {
  const got = await send(`/reviews/${sha256}/${form}`, { signal: AbortSignal.timeout(STATE_TIMEOUT) }, "blob");
  if (got.status !== 200) throw refusal(got.status);
  return got.content;
}

/** Send a word about a photo; resolves to what was said about it. */
export async function review(word) {
  const headers = { "Content-Type": "application/json" };
  return read(await send("/reviews", { method: "POST", headers, body: JSON.stringify(word), signal: AbortSignal.timeout(WORD_TIMEOUT) }));
}

/** The state of an endpoint as a sentence. */
export function describe(endpoint) {
  if (!endpoint) return NOTHING_LIVE;
  const [active, pending] = [endpoint.config, endpoint.pending_config].map((config) => config?.served_entities?.[0]);
  const why = (entity) => (entity.state?.deployment_state_message ? ` (${entity.state.deployment_state_message})` : "");
  const parts = [];
  if (active) parts.push(`${endpoint.state.ready === "READY" ? "ready" : "not ready"}, version ${active.entity_version}${why(active)}`);
  if (pending && endpoint.state.config_update === "UPDATE_FAILED") {
    parts.push(`version ${pending.entity_version} could not be started${why(pending)}`);
  } else if (pending) {
    parts.push(active ? `updating to version ${pending.entity_version}` : `version ${pending.entity_version} is starting`);
  }
  return `${endpoint.name}: ${parts.join("; ") || "not ready"}`;
}

/** Size in bytes of the request for a file of `fileBytes` bytes. */
export function requestBytes(fileBytes) {
  return body("").length + 4 * Math.ceil(fileBytes / 3);
}

/**
 * Request a prediction for one photo in base64, with `explain` also where the damage was seen. Try again while the server is busy or a
 * model starts; `waiting` gets a message.
 */
export async function ask(name, image, waiting, explain = false) {
  const request = { method: "POST", headers: { "Content-Type": "application/json" }, body: body(image, explain) };
  for (let tries = 1; ; tries += 1) {
    const slow = setTimeout(() => waiting("Still waiting. A model that was scaled to zero takes some seconds to start."), SLOW);
    const began = performance.now();
    const got = await send(`/serving-endpoints/${encodeURIComponent(name)}/invocations`, request).finally(() => clearTimeout(slow));
    const milliseconds = performance.now() - began;
    if ((got.status === 429 || got.status === 503) && tries < MOST_TRIES) {
      const pause = Math.max(Number(got.headers.get("Retry-After")) || 1, Math.min(tries, LONGEST_PAUSE));
      const what = got.status === 429 ? "The server is busy with other requests" : "The model is not ready: it is starting";
      waiting(`${what}. Trying again in ${pause} s (${tries} of ${MOST_TRIES - 1}).`);
      await new Promise((resolve) => setTimeout(resolve, pause * 1000));
      continue;
    }
    const row = read(got).predictions?.[0];
    if (typeof row?.label !== "string") throw new Refusal("The answer of the endpoint has no class: it serves another kind of model.");
    const probabilities = Object.entries(row)
      .filter(([column]) => column.startsWith("probability_"))
      .map(([column, probability]) => [column.slice("probability_".length), probability]);
    const { classes, review, map } = row; // models of earlier releases have none of them
    return { label: row.label, probabilities, classes, review, map, servedBy: got.headers.get("served-model-name"), milliseconds };
  }
}

function body(image, explain = false) {
  return JSON.stringify({ dataframe_records: [{ image }], ...(explain ? { params: { explain } } : {}) });
}

function theToken() {
  const token = key.get();
  if (!token) throw new Refusal("The server needs its token.", { token: true });
  // A header cannot hold other characters: fetch would fail as if the server did not answer.
  if (!/^[\x21-\x7e]+$/.test(token)) throw refusal(403);
  return token;
}

async function send(path, options, form = "text") {
  const headers = signedInAs ? options.headers : { ...options.headers, Authorization: `Bearer ${theToken()}` };
  const credentials = signedInAs ? "same-origin" : "omit";
  try {
    const response = await fetch(path, { ...options, headers, cache: "no-store", credentials, redirect: "error" });
    return { status: response.status, headers: response.headers, content: await response[form]() };
  } catch {
    throw new Refusal("The server does not answer. Check whether car-damage serve is still running.");
  }
}

function read({ status, content }) {
  let value = null;
  try {
    value = JSON.parse(content);
  } catch {
    // A body that is not JSON is handled by its status below.
  }
  if (status === 200 && value) return value;
  throw refusal(status, String(value?.message ?? ""));
}

function refusal(status, said = "") {
  // MLflow repeats the input in front of the message of the model.
  const reason = said.replace(/^[^]*\brow \d+: /, "").trim();
  const end = reason ? `: ${reason}` : ".";
  switch (status) {
    case 400:
    case 415:
      return new Refusal(`The server cannot use this file${end}`, { final: true });
    case 401:
      return new Refusal("The server needs its token.", { token: true });
    case 403:
      return new Refusal("This is not the server's token. It may be incomplete, or belong to another server.", { token: true });
    case 404:
      return new Refusal(`Nothing is live under this name${end}`);
    case 413:
      return new Refusal("The file is too large for the server.", { final: true });
    case 429:
      return new Refusal("The server was busy with other requests for too long.");
    case 500:
      return new Refusal(`The model failed on this photo${end}`);
    case 503:
      return new Refusal(`No model answers${end}`);
    case 504:
      return new Refusal("The model took too long for this photo.");
    default:
      return new Refusal(`This page does not understand the server's answer (status ${status})${end}`);
  }
}

// Requests to the server.

const token = document.querySelector("meta[name=slim-token]").content;

/** An address with the token, which a notebook's frame has to send by itself. */
export const url = path => (token ? `${path}${path.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}` : path);

/** A failed request, explained in a sentence; the status is 0 where the server cannot be reached. */
export class RequestError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function request(path, options) {
  let response;
  try {
    response = await fetch(url(path), {credentials: "same-origin", ...options});
  } catch {
    throw new RequestError("The annotator cannot be reached. Is slim still running?", 0);
  }
  if (response.ok) return response;
  const text = await response.text();
  let message = text;
  try {
    message = JSON.parse(text).error ?? text;
  } catch { /* plain text */ }
  throw new RequestError(message, response.status);
}

export const getBytes = async path => (await request(path)).arrayBuffer();

/** What the server says as JSON, or null where it has nothing new. */
export async function getJson(path) {
  const response = await request(path);
  return response.status === 204 ? null : response.json();
}

export const postJson = async (path, body) =>
  (await request(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)})).json();

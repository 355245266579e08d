// The line to the server: reading, and posts that wait in the browser until the server has them on its disk.

import {follow} from "./follow.js";

const token = document.querySelector("meta[name=slim-token]").content;
const RETRY = [400, 800, 1600, 3000];

export const url = path => (token ? `${path}${path.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}` : path);

/** What went wrong, in words that the server or we found for it. */
export class Trouble extends Error {
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
    throw new Trouble("The annotator cannot be reached. Is slim still running?", 0);
  }
  if (response.ok) return response;
  const text = await response.text();
  let message = text;
  try {
    message = JSON.parse(text).error ?? text;
  } catch { /* plain words */ }
  throw new Trouble(message, response.status);
}

export const getJson = async path => (await request(path)).json();
export const getBytes = async path => (await request(path)).arrayBuffer();
export const postJson = async (path, body) =>
  (await request(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)})).json();

/** A name that no other post has; without crypto.randomUUID, which plain http beyond localhost lacks. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), byte => byte.toString(16).padStart(2, "0")).join("");
}

/** localStorage, or memory where the browser refuses it, as in some notebooks. */
export const shelf = (() => {
  try {
    localStorage.setItem("slim:probe", "1");
    localStorage.removeItem("slim:probe");
    return {
      get: key => localStorage.getItem(key),
      set: (key, value) => localStorage.setItem(key, value),
      remove: key => localStorage.removeItem(key),
      keys: () => Object.keys(localStorage),
      lasts: true,
    };
  } catch {
    const kept = new Map();
    return {get: key => kept.get(key) ?? null, set: (key, value) => kept.set(key, value), remove: key => kept.delete(key), keys: () => [...kept.keys()], lasts: false};
  }
})();

/** Posts in the order in which they were made. Each lies on the shelf under a name of its own until it is saved. */
export class Outbox {
  constructor(run, annotator, tell) {
    this.prefix = `slim:${run}:${annotator}:`;
    this.annotator = annotator;
    this.tell = tell;
    this.count = 0;
    this.failures = 0;
    this.busy = null;
    this.timer = 0;
    this.last = 0; // the server's number of this annotator's last row
  }

  waiting() {
    return shelf.keys().filter(key => key.startsWith(this.prefix)).sort();
  }

  posts() {
    return this.waiting().map(key => JSON.parse(shelf.get(key)));
  }

  put(posts) {
    for (const post of posts) {
      const place = `${Date.now().toString().padStart(15, "0")}-${String(this.count++).padStart(6, "0")}`;
      const full = {key: newKey(), ...post};
      shelf.set(`${this.prefix}${place}-${full.key}`, JSON.stringify(full));
    }
    this.say();
    this.flush();
  }

  say(trouble = null) {
    this.tell({waiting: this.waiting().length, failing: this.failures > 0, trouble});
  }

  /** Send what waits; resolves once nothing waits, or sending has failed. */
  flush() {
    clearTimeout(this.timer);
    this.busy ??= this.send().finally(() => { this.busy = null; });
    return this.busy;
  }

  async send() {
    for (let keys = this.waiting(); keys.length; keys = this.waiting()) {
      const batch = keys.slice(0, 500);
      const posts = batch.map(key => shelf.get(key)).filter(Boolean).map(text => JSON.parse(text));
      try {
        this.last = (await postJson("api/posts", {annotator: this.annotator, posts})).last[this.annotator] ?? this.last;
      } catch (error) {
        this.failures += 1;
        this.say(error);
        this.timer = setTimeout(() => this.flush(), RETRY[Math.min(this.failures, RETRY.length) - 1]);
        return;
      }
      batch.forEach(key => shelf.remove(key));
      this.failures = 0;
      this.say();
    }
    this.say();
  }
}

/** News from the server, for as long as the page is open; all tabs share one stream where the browser can do that. */
export function listen(onNews, onBack) {
  const address = new URL(url("api/events"), location.href).href;
  try {
    const {port} = new SharedWorker("static/shared.js", {type: "module"});
    port.onmessage = ({data}) => (data.news ? onNews(data.news) : onBack());
    port.postMessage(address);
  } catch { // a browser without it, or one that refuses it within a notebook
    follow(address, onNews, onBack);
  }
}

// Answers wait in the browser until the server has them on its disk.

import {postJson} from "./http.js";

const BATCH = 500; // posts in one request
const BAD_POST = 400; // status of an answer that the server will never take
export const BAD_NAME = 422; // and of a name

/** A name that no other post has, without crypto.randomUUID, which plain http has on localhost only. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), byte => byte.toString(16).padStart(2, "0")).join("");
}

/** localStorage, or memory where the browser refuses it, as in some notebooks. */
export const storage = (() => {
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
    const items = new Map();
    return {get: key => items.get(key) ?? null, set: (key, value) => items.set(key, value), remove: key => items.delete(key), keys: () => [...items.keys()], lasts: false};
  }
})();

/** Posts in the order in which they were made, each stored under a key of its own until the server has saved it. */
export class Outbox {
  constructor(run, annotator, onChange, onRefused) {
    this.prefix = `slim:${run}:`; // before the name of who answered
    this.annotator = annotator;
    this.onChange = onChange;
    this.onRefused = onRefused;
    this.count = 0;
    this.failing = false;
    this.busy = null;
    this.last = 0; // the number of the last row of this annotator on the server that this tab knows
    this.known = new Set(); // keys of the waiting posts that this tab knows; other tabs add some as well
  }

  /** Keys of what waits in this browser, also of somebody who answered under another name before. */
  waiting() {
    return storage.keys().filter(key => key.startsWith(this.prefix)).sort();
  }

  nameIn(key) {
    return key.slice(this.prefix.length, key.lastIndexOf(":"));
  }

  /** What waits of this annotator, as posts that this tab knows from now on. */
  posts() {
    return this.waiting().filter(key => this.nameIn(key) === this.annotator).map(key => {
      this.known.add(key);
      return JSON.parse(storage.get(key));
    });
  }

  put(posts) {
    for (const post of posts) {
      const place = `${Date.now().toString().padStart(15, "0")}-${String(this.count++).padStart(6, "0")}`;
      const full = {key: newKey(), ...post};
      const key = `${this.prefix}${this.annotator}:${place}-${full.key}`;
      storage.set(key, JSON.stringify(full));
      this.known.add(key);
    }
    this.report();
    this.flush();
  }

  report(error = null) {
    this.onChange({waiting: this.waiting().length, failing: this.failing, error});
  }

  drop(key) {
    storage.remove(key);
    this.known.delete(key);
  }

  /** Keep a post that the server refuses out of the others' way. */
  setAside(key, error) {
    const text = storage.get(key);
    if (!text) return; // another tab has done so
    storage.set(`refused:${key}`, text);
    this.drop(key);
    this.onRefused(error);
  }

  /** Send a post under this name that waits under one that the server refuses. */
  take(key) {
    const text = storage.get(key);
    if (text) storage.set(`${this.prefix}${this.annotator}${key.slice(key.lastIndexOf(":"))}`, text);
    this.drop(key);
  }

  /** Send what waits; resolves once nothing waits, or sending has failed. */
  flush() {
    this.busy ??= this.send().finally(() => { this.busy = null; });
    return this.busy;
  }

  async send() {
    let most = BATCH;
    for (let keys = this.waiting(); keys.length; keys = this.waiting()) {
      const annotator = this.nameIn(keys[0]);
      const batch = keys.filter(key => this.nameIn(key) === annotator).slice(0, most);
      const posts = batch.map(key => storage.get(key)).filter(Boolean).map(text => JSON.parse(text));
      try {
        const {last} = await postJson("api/posts", {annotator, posts});
        if (batch.every(key => this.known.has(key))) this.last = last[this.annotator] ?? this.last;
      } catch (error) {
        if (error.status === BAD_POST && batch.length > 1) most = 1; // each by itself, to find it
        else if (error.status === BAD_POST) this.setAside(batch[0], error);
        else if (error.status === BAD_NAME && annotator !== this.annotator) batch.forEach(key => this.take(key));
        else {
          this.failing = true;
          this.report(error);
          return;
        }
        continue;
      }
      batch.forEach(key => this.drop(key));
      this.failing = false;
      this.report();
    }
    this.failing = false;
    this.report();
  }
}

// Answers wait in the browser until the server has them on its disk.

import {postJson} from "./http.js";

const BATCH = 500; // posts in one request

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
  constructor(run, annotator, onChange) {
    this.prefix = `slim:${run}:${annotator}:`;
    this.annotator = annotator;
    this.onChange = onChange;
    this.count = 0;
    this.failing = false;
    this.busy = null;
    this.last = 0; // the number of the last row of this annotator on the server that this tab knows
    this.known = new Set(); // keys of the waiting posts that this tab knows; other tabs add some as well
  }

  waiting() {
    return storage.keys().filter(key => key.startsWith(this.prefix)).sort();
  }

  /** What waits, as posts that this tab knows from now on. */
  posts() {
    return this.waiting().map(key => {
      this.known.add(key);
      return JSON.parse(storage.get(key));
    });
  }

  put(posts) {
    for (const post of posts) {
      const place = `${Date.now().toString().padStart(15, "0")}-${String(this.count++).padStart(6, "0")}`;
      const full = {key: newKey(), ...post};
      const key = `${this.prefix}${place}-${full.key}`;
      storage.set(key, JSON.stringify(full));
      this.known.add(key);
    }
    this.report();
    this.flush();
  }

  report(error = null) {
    this.onChange({waiting: this.waiting().length, failing: this.failing, error});
  }

  /** Send what waits; resolves once nothing waits, or sending has failed. */
  flush() {
    this.busy ??= this.send().finally(() => { this.busy = null; });
    return this.busy;
  }

  async send() {
    for (let keys = this.waiting(); keys.length; keys = this.waiting()) {
      const batch = keys.slice(0, BATCH);
      const posts = batch.map(key => storage.get(key)).filter(Boolean).map(text => JSON.parse(text));
      try {
        const {last} = await postJson("api/posts", {annotator: this.annotator, posts});
        if (batch.every(key => this.known.has(key))) this.last = last[this.annotator] ?? this.last;
      } catch (error) {
        this.failing = true;
        this.report(error);
        return;
      }
      for (const key of batch) {
        storage.remove(key);
        this.known.delete(key);
      }
      this.failing = false;
      this.report();
    }
    this.failing = false;
    this.report();
  }
}

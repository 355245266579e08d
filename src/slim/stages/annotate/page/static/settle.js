// Disagreements: each photo with everybody's answer, settled by one key, or by pointing at the object.

import {aim, leave} from "./crosshair.js";
import {$, bold, make} from "./elements.js";
import {getJson} from "./http.js";
import {map, photo} from "./pictures.js";
import {draw, fieldOver, inWords} from "./place.js";
import {listen} from "./pointing.js";

const list = $("cases"), title = $("settle-title"), text = $("settle-text");
const ANSWERS = {core: "Core", spurious: "Spurious", unsure: "Unsure"}, KEYS = {core: "C", spurious: "S", unsure: "U"};

export class Settle {
  constructor(onSettle, describe) {
    this.onSettle = onSettle; // (index, answer or "undone", place)
    this.describe = describe;
    this.cases = [];
    this.at = 0;
    this.changes = 0; // number of answers in this view so far
    this.history = []; // images settled in this view, oldest first
    this.watch = new IntersectionObserver(entries => entries.forEach(entry => entry.isIntersecting && this.fill(entry.target)), {rootMargin: "600px"});
    list.addEventListener("click", event => {
      const at = [...list.children].indexOf(event.target.closest("li")), button = event.target.closest("button");
      if (at >= 0 && button) this.settle(at, button.dataset.settle);
    });
    listen(list, (place, field) => this.settle([...list.children].indexOf(field.closest("li")), "spurious", place));
    list.addEventListener("focusin", event => this.rove([...list.children].indexOf(event.target.closest("li"))));
  }

  /** Load the disagreements, and stay at the same one. */
  async load() {
    const changes = this.changes;
    const {differences} = await getJson("api/differences");
    if (this.changes !== changes) return; // outdated by an answer, after which they are loaded again
    if (list.querySelector(".cross, .draft")) return; // somebody is pointing
    const before = this.cases[this.at]?.index; // now, since a key may have moved on meanwhile
    this.cases = differences;
    const open = this.cases.findIndex(one => !one.settled), same = this.cases.findIndex(one => one.index === before);
    this.at = Math.max(same >= 0 ? same : open, 0);
    const focused = document.activeElement, held = list.contains(focused);
    this.show();
    if (!held) return;
    this.go(this.at);
    if (same >= 0) list.children[same].querySelector(`[data-settle=${focused.dataset.settle}]`)?.focus({preventScroll: true});
  }

  show() {
    const left = this.cases.filter(one => !one.settled).length, n = this.cases.length;
    title.textContent = n === 0 ? "No disagreements" : left ? `People disagree about ${n} ${n === 1 ? "photo" : "photos"}` : "All disagreements are settled";
    $("settle-keys").hidden = n === 0;
    text.textContent = n ? "The answer that you settle on counts; everybody’s own answer is kept." : "Photos to which people give different answers appear here.";
    const kept = new Map([...list.children].map(item => [Number(item.dataset.index), item.querySelector(".pair")]));
    list.replaceChildren(...this.cases.map(one => this.item(one, kept.get(one.index))));
    this.rove(this.at);
  }

  item(one, pair) {
    const item = make("li", one.settled ? "case settled" : "case");
    item.dataset.index = one.index;
    item.tabIndex = -1;
    item.setAttribute("aria-label", this.describe(one));
    const votes = make("ul", "votes", ...one.votes.map(([name, answer, place]) => make("li", "", make("i", `mark ${answer}`), bold(name), ` ${answer}`, ...this.pointed(place))));
    const notes = one.notes.map(([name, note]) => make("p", "", bold(name), ` flagged it: ${note || "no note"}`));
    const buttons = Object.entries(ANSWERS).map(([answer, name]) => {
      const button = make("button", answer, make("i", `mark ${answer}`), name, make("kbd", "", KEYS[answer]));
      button.type = "button";
      button.dataset.settle = answer;
      button.setAttribute("aria-pressed", String(one.settled?.[0] === answer));
      return button;
    });
    const state = make("p", "state", one.settled ? `Settled by ${one.settled[1]}` : "Not settled yet", ...this.pointed(one.settled?.[2]));
    if (!pair) {
      pair = make("div", "pair", make("div", "frame wait"), make("div", "frame wait"));
      pair.dataset.index = one.index;
      this.watch.observe(pair);
    }
    this.drawPlaces(pair, one);
    item.append(pair, make("div", "details", make("p", "facts", this.describe(one)), votes, ...notes, make("div", "verdict", ...buttons), state));
    return item;
  }

  /** Where somebody pointed, as a sign and in words that are read out. */
  pointed(place) {
    return place ? [make("i", "pointed"), make("span", "unseen", `, object at ${inWords(place)}`)] : [];
  }

  /** Everybody's places with their names, and the one that settles it. */
  drawPlaces(pair, one) {
    if (!one) return;
    const marks = one.votes.map(([name, , place]) => ({name, place}));
    if (one.settled) marks.push({name: "settled", place: one.settled[2], kind: "final"});
    pair.querySelectorAll(".field").forEach(field => draw(field, marks));
  }

  async fill(pair) {
    this.watch.unobserve(pair);
    const {index} = pair.dataset, [left, right] = pair.children;
    try {
      const [bare, below, colours] = await Promise.all([photo(index), photo(index), map(index)]);
      left.replaceChildren(bare, fieldOver(bare));
      right.replaceChildren(below, colours, fieldOver(below));
      left.className = right.className = "frame";
      this.drawPlaces(pair, this.cases.find(one => one.index === Number(index)));
    } catch {
      left.className = right.className = "frame broken";
    }
  }

  rove(at) {
    if (at < 0) return;
    this.at = at;
    [...list.children].forEach((item, i) => {
      item.tabIndex = i === at ? 0 : -1;
      item.toggleAttribute("aria-current", i === at);
    });
  }

  go(at) {
    const item = list.children[Math.min(Math.max(at, 0), this.cases.length - 1)];
    item?.focus({preventScroll: true});
    item?.scrollIntoView({block: "nearest"});
  }

  /** Settle a case; the same answer again, unless it comes with a place, takes it back. */
  settle(at, answer, place = null) {
    const one = this.cases[at];
    if (!one) return;
    leave();
    const again = !place && one.settled?.[0] === answer;
    this.history = this.history.filter(index => index !== one.index);
    if (!again) this.history.push(one.index);
    one.settled = again ? null : [answer, "you", place];
    this.changes += 1;
    this.onSettle(one.index, again ? "undone" : answer, place);
    const order = this.cases.map((_, i) => (at + 1 + i) % this.cases.length), next = again ? at : order.find(i => !this.cases[i].settled) ?? at;
    this.show();
    this.go(next);
  }

  undo() {
    const at = this.cases.findIndex(one => one.index === this.history.at(-1));
    if (at >= 0) this.settle(at, this.cases[at].settled[0]);
  }

  /** Point by keyboard. */
  aim() {
    const at = this.at, fields = [...list.children[at]?.querySelectorAll(".field") ?? []];
    aim(fields, this.cases[at]?.settled?.[2], place => this.settle(at, "spurious", place));
  }

  /** Handle a key; true where it has a meaning. */
  key(key, answer) {
    if (answer) this.settle(this.at, answer);
    else if (key === "x") this.aim();
    else if (key === "ArrowDown" || key === "ArrowRight") this.go(this.at + 1);
    else if (key === "ArrowUp" || key === "ArrowLeft") this.go(this.at - 1);
    else return false;
    return true;
  }
}

// Where people differ: each such photo with what everybody said, settled by one key.

import {$, bold, make} from "./elements.js";
import {getJson} from "./link.js";
import {photos} from "./pictures.js";

const list = $("cases"), title = $("settle-title"), text = $("settle-text");
const ANSWERS = {core: "Core", spurious: "Spurious", unsure: "Unsure"}, KEYS = {core: "C", spurious: "S", unsure: "U"};

export class Settle {
  constructor(onSettle, describe) {
    this.onSettle = onSettle; // (index, answer or "undone")
    this.describe = describe;
    this.cases = [];
    this.at = 0;
    this.given = 0; // how many answers were given here
    this.done = []; // indices settled here, the last one last
    this.watch = new IntersectionObserver(entries => entries.forEach(entry => entry.isIntersecting && this.fill(entry.target)), {rootMargin: "600px"});
    list.addEventListener("click", event => {
      const at = [...list.children].indexOf(event.target.closest("li")), button = event.target.closest("button");
      if (at >= 0 && button) this.settle(at, button.dataset.settle);
    });
    list.addEventListener("focusin", event => this.rove([...list.children].indexOf(event.target.closest("li"))));
  }

  /** Read the differences anew, and stay where we were; what comes too late for an answer given here is not shown. */
  async load() {
    const before = this.cases[this.at]?.index, given = this.given;
    const {differences} = await getJson("api/differences");
    if (this.given !== given) return; // the news of that answer loads them again
    this.cases = differences;
    const open = this.cases.findIndex(one => !one.settled), same = this.cases.findIndex(one => one.index === before);
    this.at = Math.max(same >= 0 ? same : open, 0);
    const held = list.contains(document.activeElement);
    this.show();
    if (held) this.go(this.at);
  }

  show() {
    const left = this.cases.filter(one => !one.settled).length, n = this.cases.length;
    title.textContent = n === 0 ? "Nobody differs" : left ? `People differ about ${n} ${n === 1 ? "photo" : "photos"}` : "All differences are settled";
    $("settle-keys").hidden = n === 0;
    text.textContent = n ? "The answer that settles a photo counts; what everybody said stays." : "Where two people answer differently about a photo, it comes here.";
    const kept = new Map([...list.children].map(item => [Number(item.dataset.index), item.querySelector(".pair")]));
    list.replaceChildren(...this.cases.map(one => this.item(one, kept.get(one.index))));
    this.rove(this.at);
  }

  item(one, pair) {
    const item = make("li", one.settled ? "case settled" : "case");
    item.dataset.index = one.index;
    item.tabIndex = -1;
    item.setAttribute("aria-label", this.describe(one));
    const votes = make("ul", "votes", ...one.votes.map(([name, answer]) => make("li", "", make("i", `mark ${answer}`), bold(name), ` ${answer}`)));
    const notes = one.notes.map(([name, note]) => make("p", "", bold(name), ` flagged it: ${note || "no note"}`));
    const buttons = Object.entries(ANSWERS).map(([answer, name]) => {
      const button = make("button", answer, make("i", `mark ${answer}`), name, make("kbd", "", KEYS[answer]));
      button.type = "button";
      button.dataset.settle = answer;
      button.setAttribute("aria-pressed", String(one.settled?.[0] === answer));
      return button;
    });
    const state = make("p", "state", one.settled ? `Settled by ${one.settled[1]}` : "Not settled");
    if (!pair) {
      pair = make("div", "pair", make("div", "frame wait"), make("div", "frame wait"));
      pair.dataset.index = one.index;
      this.watch.observe(pair);
    }
    item.append(pair, make("div", "said", make("p", "facts", this.describe(one)), votes, ...notes, make("div", "verdict", ...buttons), state));
    return item;
  }

  async fill(pair) {
    this.watch.unobserve(pair);
    const [photo, map] = pair.children;
    try {
      const picture = await photos.get(Number(pair.dataset.index)).ready, layer = picture.layer();
      picture.drawMap(layer, 0.75, 0.5);
      photo.replaceChildren(picture.element());
      map.replaceChildren(picture.element(), layer);
      photo.className = map.className = "frame";
    } catch {
      photo.className = map.className = "frame broken";
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

  settle(at, answer) {
    const one = this.cases[at];
    if (!one) return;
    const again = one.settled?.[0] === answer;
    this.done = this.done.filter(index => index !== one.index);
    if (!again) this.done.push(one.index);
    one.settled = again ? null : [answer, "you"];
    this.given += 1;
    this.onSettle(one.index, again ? "undone" : answer);
    const order = this.cases.map((_, i) => (at + 1 + i) % this.cases.length), next = again ? at : order.find(i => !this.cases[i].settled) ?? at;
    this.show();
    this.go(next);
  }

  undo() {
    const at = this.cases.findIndex(one => one.index === this.done.at(-1));
    if (at >= 0) this.settle(at, this.cases[at].settled[0]);
  }

  /** Take a key; true where it meant something. */
  key(key, answer) {
    if (answer) this.settle(this.at, answer);
    else if (key === "ArrowDown" || key === "ArrowRight") this.go(this.at + 1);
    else if (key === "ArrowUp" || key === "ArrowLeft") this.go(this.at - 1);
    else return false;
    return true;
  }
}

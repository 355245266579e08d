// The grid: mark photos by click, drag, range or keys, and mark all others as core with one key.

import {$, make} from "./elements.js";
import {thumbnail} from "./pictures.js";

const tiles = $("tiles");
const NAMES = {core: "Core", spurious: "Spurious", unsure: "Unsure"};

export class Grid {
  constructor(onMark) {
    this.onMark = onMark; // (indices, answer or "undone")
    this.brush = "spurious";
    this.cards = [];
    this.focus = 0;
    this.dragging = null;
    this.watch = new IntersectionObserver(entries => entries.forEach(entry => entry.isIntersecting && this.fill(entry.target)), {rootMargin: "400px"});
    tiles.addEventListener("pointerdown", event => this.press(event));
    tiles.addEventListener("pointerover", event => this.drag(event));
    addEventListener("pointerup", () => { this.dragging = null; });
    tiles.addEventListener("focusin", event => {
      const at = this.place(event.target);
      if (at >= 0) this.rove(at);
    });
    tiles.addEventListener("click", event => {
      if (event.detail === 0) this.toggle(this.place(event.target)); // by Enter, or a screen reader
    });
    tiles.addEventListener("dragstart", event => event.preventDefault());
  }

  /** Show these cards; answers is a Map from index. */
  show(cards, answers, describe) {
    this.answers = answers;
    this.describe = describe;
    const same = cards.length === this.cards.length && cards.every((card, i) => card.index === this.cards[i].index);
    if (!same) {
      this.cards = cards;
      this.watch.disconnect();
      tiles.replaceChildren(...cards.map(() => this.tile()));
      this.focus = 0;
    }
    [...tiles.children].forEach((tile, at) => {
      tile.dataset.at = at;
      tile.tabIndex = at === this.focus ? 0 : -1;
      if (!same) this.watch.observe(tile);
    });
    this.refresh();
  }

  tile() {
    const tile = make("button", "tile", make("div", "frame wait"), make("span", "tag", make("i"), make("span")));
    tile.type = "button";
    return tile;
  }

  async fill(tile) {
    this.watch.unobserve(tile);
    const frame = tile.firstChild;
    try {
      frame.replaceChildren(...await thumbnail(this.cards[tile.dataset.at].index));
      frame.className = "frame";
    } catch {
      frame.className = "frame broken";
    }
  }

  refresh() {
    [...tiles.children].forEach((tile, at) => {
      const card = this.cards[at], answer = this.answers.get(card.index) ?? "";
      tile.dataset.answer = answer;
      tile.className = `tile ${answer}`;
      tile.setAttribute("aria-label", `${at + 1}, ${this.describe(card)}, ${answer || "no answer"}`);
      tile.setAttribute("aria-pressed", String(answer !== ""));
      tile.lastChild.firstChild.className = `mark ${answer}`;
      tile.lastChild.lastChild.textContent = NAMES[answer] ?? "";
    });
  }

  place(element) {
    const tile = element.closest?.(".tile");
    return tile ? Number(tile.dataset.at) : -1;
  }

  rove(at) {
    tiles.children[this.focus]?.setAttribute("tabindex", "-1");
    this.focus = at;
    tiles.children[at]?.setAttribute("tabindex", "0");
  }

  mark(places, answer) {
    const indices = places.map(at => this.cards[at].index).filter(index => (this.answers.get(index) ?? "undone") !== answer);
    if (indices.length) this.onMark(indices, answer);
    this.refresh();
  }

  toggle(at, answer = this.brush) {
    if (at < 0) return null;
    const value = this.answers.get(this.cards[at].index) === answer ? "undone" : answer;
    this.mark([at], value);
    return value;
  }

  press(event) {
    const at = this.place(event.target);
    if (at < 0 || event.button !== 0) return;
    if (event.shiftKey) {
      const [from, to] = [Math.min(this.anchor ?? this.focus, at), Math.max(this.anchor ?? this.focus, at)];
      this.mark(Array.from({length: to - from + 1}, (_, i) => from + i), this.brush);
    } else {
      this.dragging = {value: this.toggle(at)};
      this.anchor = at;
      event.target.releasePointerCapture?.(event.pointerId);
    }
    tiles.children[at].focus({preventScroll: true});
  }

  drag(event) {
    const at = this.place(event.target);
    if (this.dragging && at >= 0 && event.buttons === 1 && event.pointerType !== "touch") this.mark([at], this.dragging.value);
  }

  /** Handle a key; true where it has a meaning. */
  key(event) {
    const columns = getComputedStyle(tiles).gridTemplateColumns.split(" ").length;
    const steps = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -Infinity, End: Infinity};
    if (event.key in steps) {
      const before = this.focus, last = this.cards.length - 1;
      let at = before + steps[event.key];
      if (Math.abs(steps[event.key]) === columns && (at < 0 || at > last)) at = before;
      at = Math.min(Math.max(at, 0), last);
      if (event.shiftKey) this.mark([before, at], this.brush);
      tiles.children[at]?.focus();
      return true;
    }
    return false;
  }
}

// The grid: mark photos by click, drag, range or keys, and mark all others as core with one key.

import {aim} from "./crosshair.js";
import {$, make} from "./elements.js";
import {thumbnail} from "./pictures.js";
import {draw, fieldOver, inWords} from "./place.js";
import {listen} from "./pointing.js";

const tiles = $("tiles");
const NAMES = {core: "Core", spurious: "Spurious", unsure: "Unsure"};

export class Grid {
  constructor(onMark) {
    this.onMark = onMark; // (indices, answer or "undone", place)
    this.brush = "spurious"; // or another answer, or "point"
    this.cards = [];
    this.focus = 0;
    this.anchor = null; // where a range begins: the tile that was marked by itself last
    this.dragging = null;
    this.touched = false;
    this.watch = new IntersectionObserver(entries => entries.forEach(entry => entry.isIntersecting && this.fill(entry.target)), {rootMargin: "400px"});
    tiles.addEventListener("pointerdown", event => this.press(event));
    tiles.addEventListener("pointerover", event => this.drag(event));
    addEventListener("pointerup", () => { this.dragging = null; });
    tiles.addEventListener("focusin", event => {
      const at = this.at(event.target);
      if (at >= 0) this.rove(at);
    });
    tiles.addEventListener("click", event => {
      const at = this.at(event.target);
      const byKey = event.detail === 0; // by Enter, or a screen reader
      if (at < 0 || (!byKey && !this.touched)) return;
      if (this.brush !== "point") this.toggle(at);
      else if (byKey) this.aim(at);
    });
    listen(tiles, (place, field) => this.point(this.at(field), place), () => this.brush === "point");
    tiles.addEventListener("dragstart", event => event.preventDefault());
  }

  /** Show these cards; answers and places are Maps from index. */
  show(cards, {answers, places}, describe) {
    Object.assign(this, {answers, places});
    this.describe = describe;
    const same = cards.length === this.cards.length && cards.every((card, i) => card.index === this.cards[i].index);
    if (!same) {
      const focused = this.cards[this.focus]?.index, held = tiles.contains(document.activeElement);
      this.cards = cards;
      this.watch.disconnect();
      tiles.replaceChildren(...cards.map(() => this.tile()));
      const kept = cards.findIndex(card => card.index === focused);
      this.focus = Math.max(kept, 0);
      this.anchor = null;
      if (held) tiles.children[kept]?.focus({preventScroll: true});
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
      const images = await thumbnail(this.cards[tile.dataset.at].index);
      frame.replaceChildren(...images, fieldOver(images[0]));
      frame.className = "frame";
      this.drawPlace(tile);
    } catch {
      frame.className = "frame broken";
    }
  }

  refresh() {
    tiles.classList.toggle("pointing", this.brush === "point");
    [...tiles.children].forEach((tile, at) => {
      const card = this.cards[at], answer = this.answers.get(card.index) ?? "", place = this.places.get(card.index);
      tile.dataset.answer = answer;
      tile.className = `tile ${answer}`;
      tile.setAttribute("aria-label", `${at + 1}, ${this.describe(card)}, ${answer || "no answer"}${place ? `, object at ${inWords(place)}` : ""}`);
      this.drawPlace(tile);
      tile.setAttribute("aria-pressed", String(answer !== ""));
      tile.lastChild.firstChild.className = `mark ${answer}`;
      tile.lastChild.lastChild.textContent = NAMES[answer] ?? "";
    });
  }

  drawPlace(tile) {
    const field = tile.querySelector(".field");
    if (field) draw(field, [{place: this.places.get(this.cards[tile.dataset.at].index)}]);
  }

  /** Which tile an element belongs to, or -1. */
  at(element) {
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

  point(at, place) {
    this.onMark([this.cards[at].index], "spurious", place);
    this.refresh();
  }

  /** Point by keyboard: the cross-hair lies over the tile, which is a button and may hold no other control. */
  aim(at) {
    const field = tiles.children[at].querySelector(".field");
    if (!field) return;
    const over = make("div", "over"), box = field.getBoundingClientRect(), all = tiles.parentElement.getBoundingClientRect();
    Object.assign(over.style, {left: `${box.left - all.left}px`, top: `${box.top - all.top}px`, width: `${box.width}px`, height: `${box.height}px`});
    tiles.after(over);
    aim([over], this.places.get(this.cards[at].index), place => this.point(at, place), () => over.remove());
  }

  /** The answer that a mark means. */
  get answer() {
    return this.brush === "point" ? "spurious" : this.brush;
  }

  toggle(at, answer = this.answer) {
    if (at < 0) return null;
    this.anchor = at;
    const value = this.answers.get(this.cards[at].index) === answer ? "undone" : answer;
    this.mark([at], value);
    return value;
  }

  press(event) {
    const at = this.at(event.target);
    this.touched = event.pointerType === "touch"; // which may scroll: it marks once it is a click
    if (at < 0 || event.button !== 0 || this.touched || this.brush === "point") return;
    if (event.shiftKey) {
      this.anchor ??= at;
      const from = Math.min(this.anchor, at), to = Math.max(this.anchor, at);
      this.mark(Array.from({length: to - from + 1}, (_, i) => from + i), this.answer);
    } else {
      this.dragging = {value: this.toggle(at)};
      event.target.releasePointerCapture?.(event.pointerId);
    }
    tiles.children[at].focus({preventScroll: true});
  }

  drag(event) {
    const at = this.at(event.target);
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
      if (event.shiftKey) this.mark([before, at], this.answer);
      tiles.children[at]?.focus();
      return true;
    }
    return false;
  }
}

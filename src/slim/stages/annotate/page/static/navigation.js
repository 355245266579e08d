// Navigation between queries, and between views.

import {expect} from "./card.js";
import {$} from "./elements.js";
import {showError} from "./notices.js";
import {render, renderDone} from "./render.js";
import {current, next, open, parts, restartClock, state} from "./state.js";

const AHEAD = 5; // images loaded before they are needed

export function go(to) {
  state.done = false;
  state.at = to;
  restartClock();
  render();
  prefetch();
}

/** Load the images that are likely to come next. */
export function prefetch() {
  const wanted = [];
  for (let i = 1; i <= state.queue.length && wanted.length < AHEAD; i++) {
    const card = state.queue[(state.at + i) % state.queue.length];
    if (open(card)) wanted.push(card.index);
  }
  const before = state.queue[state.at - 1];
  if (before) wanted.push(before.index);
  wanted.forEach(expect);
}

export function advance() {
  state.done = false;
  const to = next(state.at + (current() && !open(current()) ? 1 : 0));
  if (to < 0) return stop();
  go(to);
}

/** Show the summary of the answers. */
export function stop() {
  if (!state.done && state.view === "one") $("done").style.minHeight = `${$("one").offsetHeight}px`; // so that nothing below moves
  state.done = true;
  renderDone();
  render();
  if (state.view !== "one") return;
  reveal("done-title");
  $("done-title").focus({preventScroll: true});
}

/** Go to a query that was picked elsewhere on the page, and scroll it into view. */
export function visit(at) {
  setView("one");
  go(at);
  reveal("question");
}

const reveal = id => $(id).scrollIntoView({block: "nearest"});

export function skip() {
  const card = current();
  if (!card) return;
  if (!open(card)) return state.at + 1 < state.queue.length ? go(state.at + 1) : advance();
  state.skipped.add(card.index);
  const to = next(state.at + 1);
  if (to === state.at || state.queue.filter(open).every(one => state.skipped.has(one.index))) {
    state.skipped.clear();
    return stop();
  }
  go(to);
}

export const back = () => (state.done ? go(state.queue.length - 1) : state.at > 0 && go(state.at - 1));
export const review = () => (next(0) < 0 ? back() : advance());

export function setView(view) {
  if (state.view === view) return;
  state.view = view;
  restartClock();
  if (view === "settle") {
    render();
    openSettle();
  } else if (view === "grid") {
    state.klass = state.queue[state.at]?.y ?? 0;
    render();
  } else advance();
}

async function openSettle() {
  try {
    await parts.outbox.flush();
    await parts.settle.load();
    parts.settle.go(parts.settle.at);
  } catch (error) {
    showError("The disagreements could not be loaded", error);
  }
}

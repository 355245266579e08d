// From one query to the next, and from one view to another.

import {expect} from "./card.js";
import {$} from "./elements.js";
import {trouble} from "./notices.js";
import {paint, paintDone} from "./paint.js";
import {current, next, open, parts, restartClock, state} from "./state.js";

const AHEAD = 5; // images made before they are needed

export function go(to) {
  state.done = false;
  state.at = to;
  restartClock();
  paint();
  ahead();
}

/** Make the images that are likely to come next. */
function ahead() {
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

/** Show what was answered. */
export function stop() {
  if (!state.done && state.view === "one") $("done").style.minHeight = `${$("one").offsetHeight}px`; // nothing below moves
  state.done = true;
  paintDone();
  paint();
  if (state.view !== "one") return;
  reveal("done-title");
  $("done-title").focus({preventScroll: true});
}

/** Go to a query that somebody has picked elsewhere on the page, and bring it into sight. */
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
    paint();
    openSettle();
  } else if (view === "grid") {
    state.klass = state.queue[state.at]?.y ?? 0;
    paint();
  } else advance();
}

async function openSettle() {
  try {
    await parts.outbox.flush();
    await parts.settle.load();
    parts.settle.go(parts.settle.at);
  } catch (error) {
    trouble("The differences did not come", error);
  }
}

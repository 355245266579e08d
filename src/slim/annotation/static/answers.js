// What becomes of an answer.

import {$} from "./elements.js";
import {advance, go} from "./moves.js";
import {paint, paintAround, paintGrid} from "./paint.js";
import {current, inGrid, keep, open, restartClock, spent, state} from "./state.js";

export function answer(kind) {
  const card = current();
  if (!card) return;
  state.skipped.delete(card.index);
  keep([{index: card.index, answer: kind, seconds: spent()}]);
  advance();
}

export function undo() {
  const index = state.history.at(-1);
  if (index === undefined) return;
  keep([{index, answer: "undone"}]);
  if (state.view === "grid") return paint();
  const at = state.queue.findIndex(card => card.index === index);
  if (at >= 0) go(at);
}

export function flag() {
  const card = current(), dialog = $("flagging");
  if (!card) return;
  $("note").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  $("note").focus();
  dialog.onclose = () => {
    if (dialog.returnValue !== "keep") return;
    keep([{index: card.index, answer: "flag", note: $("note").value.trim()}]);
    advance();
  };
}

/** The same answer, or none, for several images of the grid. */
export function markMany(indices, kind) {
  const each = spent() / indices.length;
  keep(indices.map(index => ({index, answer: kind, seconds: kind === "undone" ? 0 : each})));
  restartClock();
  paintAround();
  paintGrid();
}

export function acceptRest() {
  const rest = inGrid().filter(open).map(card => card.index);
  if (!rest.length) return;
  markMany(rest, "core");
  const other = state.queue.find(open);
  if (other) {
    state.klass = other.y;
    paint();
  }
}

/** The answer that settles what people differ about. */
export function settled(index, kind) {
  keep([{index, answer: kind, seconds: kind === "undone" ? 0 : spent(), settles: true}]);
  restartClock();
}

// Answering: one image, many at once, or a disagreement; and undoing it.

import {$} from "./elements.js";
import {advance, go} from "./navigation.js";
import {render, renderSurroundings, renderGrid} from "./render.js";
import {current, inGrid, open, post, restartClock, secondsSpent, state} from "./state.js";

export function answer(kind) {
  const card = current();
  if (!card) return;
  state.skipped.delete(card.index);
  post([{index: card.index, answer: kind, seconds: secondsSpent()}]);
  advance();
}

export function undo() {
  const index = state.history.at(-1);
  if (index === undefined) return;
  post([{index, answer: "undone"}]);
  if (state.view === "grid") return render();
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
    post([{index: card.index, answer: "flag", note: $("note").value.trim()}]);
    advance();
  };
}

/** Give several images of the grid the same answer, or take their answers back. */
export function markMany(indices, kind) {
  const each = secondsSpent() / indices.length;
  post(indices.map(index => ({index, answer: kind, seconds: kind === "undone" ? 0 : each})));
  restartClock();
  renderSurroundings();
  renderGrid();
}

export function acceptRest() {
  const rest = inGrid().filter(open).map(card => card.index);
  if (!rest.length) return;
  markMany(rest, "core");
  const other = state.queue.find(open);
  if (other) {
    state.klass = other.y;
    render();
  }
}

/** Settle a disagreement. */
export function settle(index, kind) {
  post([{index, answer: kind, seconds: kind === "undone" ? 0 : secondsSpent(), settles: true}]);
  restartClock();
}

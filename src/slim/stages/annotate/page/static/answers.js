// Answering: one image, many at once, or a disagreement; and undoing it.

import {fields} from "./card.js";
import {aim} from "./crosshair.js";
import {$} from "./elements.js";
import {advance, go} from "./navigation.js";
import {render, renderSurroundings, renderGrid} from "./render.js";
import {current, inGrid, open, post, restartClock, secondsSpent, state} from "./state.js";

/** Answer the image that is shown; the place is where its object lies. */
export function answer(kind, place = null) {
  const card = current();
  if (!card) return;
  state.skipped.delete(card.index);
  post([{index: card.index, answer: kind, seconds: secondsSpent(), place}]);
  advance();
}

/** The object is elsewhere: so the attention is spurious. */
export const point = place => answer("spurious", place);

/** Point by keyboard. */
export function aimAtObject() {
  const card = current();
  if (card) aim(fields.filter(field => field.isConnected), state.places.get(card.index), point);
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
export function markMany(indices, kind, place = null) {
  const each = secondsSpent() / indices.length;
  post(indices.map(index => ({index, answer: kind, seconds: kind === "undone" ? 0 : each, place})));
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
export function settle(index, kind, place = null) {
  post([{index, answer: kind, seconds: kind === "undone" ? 0 : secondsSpent(), settles: true, place}]);
  restartClock();
}

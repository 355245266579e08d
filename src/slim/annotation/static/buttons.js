// What each button, slider and choice does.

import {acceptRest, answer, flag, undo} from "./answers.js";
import {adjust} from "./card.js";
import {$} from "./elements.js";
import {more, toggleLasso} from "./more.js";
import {back, review, setView, skip, stop, visit} from "./moves.js";
import {paint, paintGrid} from "./paint.js";
import {parts, state} from "./state.js";

const ACTIONS = {
  back, forward: skip, undo, flag, rest: acceptRest, "many-undo": undo, review, stop,
  "view-one": () => setView("one"), "view-grid": () => setView("grid"), "view-settle": () => setView("settle"),
  lasso: () => toggleLasso(), reset: () => parts.space.reset(),
};

for (const [id, act] of Object.entries(ACTIONS)) $(id).addEventListener("click", act);

document.querySelectorAll(".answer").forEach(button => button.addEventListener("click", event => {
  if (event.detail) button.blur(); // after the mouse, the space key means unsure again
  answer(button.dataset.answer);
}));
document.querySelectorAll("[data-brush]").forEach(button => button.addEventListener("click", () => {
  parts.grid.brush = button.dataset.brush;
  paintGrid();
}));
document.querySelectorAll("[data-note]").forEach(button => button.addEventListener("click", () => {
  $("note").value = button.dataset.note;
  $("flag-keep").focus();
}));
$("many-class").addEventListener("click", event => {
  if (!event.target.dataset.class) return;
  state.klass = Number(event.target.dataset.class);
  paint();
});
$("strip").addEventListener("click", event => {
  const button = event.target.closest("button");
  if (button?.dataset.more) more(Number(button.dataset.more));
  else if (button) visit(Number(button.dataset.at));
});
$("opacity").addEventListener("input", event => adjust({opacity: event.target.value / 100}));
$("threshold").addEventListener("input", event => adjust({threshold: event.target.value / 100}));
$("colour").addEventListener("change", event => parts.space.setMode(event.target.value));

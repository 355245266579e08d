// Buttons, sliders and menus.

import {acceptRest, aimAtObject, answer, flag, point, undo} from "./answers.js";
import {setThreshold} from "./card.js";
import {$} from "./elements.js";
import {more, toggleLasso} from "./extend_queue.js";
import {back, prefetch, review, setView, skip, stop, visit} from "./navigation.js";
import {listen} from "./pointing.js";
import {render, renderGrid} from "./render.js";
import {parts, state} from "./state.js";

const ACTIONS = {
  back, forward: skip, undo, flag, point: aimAtObject, rest: acceptRest, "many-undo": undo, review, stop,
  "view-one": () => setView("one"), "view-grid": () => setView("grid"), "view-settle": () => setView("settle"),
  lasso: () => toggleLasso(), reset: () => parts.space.reset(),
};

for (const [id, act] of Object.entries(ACTIONS)) $(id).addEventListener("click", act);

document.querySelectorAll(".answer").forEach(button => button.addEventListener("click", event => {
  if (event.detail) button.blur(); // otherwise the space bar would press it again instead of answering unsure
  answer(button.dataset.answer);
}));
document.querySelectorAll("[data-brush]").forEach(button => button.addEventListener("click", () => {
  parts.grid.brush = button.dataset.brush;
  renderGrid();
}));
document.querySelectorAll("[data-note]").forEach(button => button.addEventListener("click", () => {
  $("note").value = button.dataset.note;
  $("flag-keep").focus();
}));
listen($("panels"), point);
$("many-class").addEventListener("click", event => {
  if (!event.target.dataset.class) return;
  if (event.detail) event.target.blur();
  state.klass = Number(event.target.dataset.class);
  render();
});
$("strip").addEventListener("click", event => {
  const button = event.target.closest("button");
  if (event.detail) button?.blur();
  if (button?.dataset.more) more(Number(button.dataset.more));
  else if (button) visit(Number(button.dataset.at));
});
$("opacity").addEventListener("input", event => $("panels").style.setProperty("--opacity", event.target.value / 100));
$("threshold").addEventListener("input", event => setThreshold(event.target.value));
$("threshold").addEventListener("change", prefetch);
$("colour").addEventListener("change", event => parts.space.setMode(event.target.value));

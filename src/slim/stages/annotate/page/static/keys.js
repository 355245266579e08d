// Keyboard shortcuts.

import {acceptRest, aimAtObject, answer, flag, undo} from "./answers.js";
import {$} from "./elements.js";
import {back, setView, skip} from "./navigation.js";
import {renderGrid} from "./render.js";
import {current, parts, state} from "./state.js";

const ANSWERS = {c: "core", 1: "core", s: "spurious", 0: "spurious", u: "unsure", " ": "unsure"};

const busy = () => document.querySelector("dialog[open]") !== null || state.name === null || state.ended;
const typing = target => target.matches?.("input:not([type=range]), select, textarea");
const bare = on => [$("panels"), $("cases")].forEach(holder => holder.classList.toggle("bare", on));

addEventListener("keydown", event => {
  if (busy() || typing(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "h") return bare(true);
  if (event.repeat && (key in ANSWERS || key === "x")) return; // holding a key down gives one answer
  const onButton = event.target.matches?.("button, a, input") && (key === " " || key === "Enter");
  if (onButton) return; // the browser presses it
  if (act(key, event)) event.preventDefault();
});

addEventListener("keyup", event => {
  if (event.key.toLowerCase() === "h") bare(false);
});

/** Handle a key; true where it has a meaning. */
function act(key, event) {
  const {grid, settle} = parts;
  if (key === "g") return setView(state.view === "grid" ? "one" : "grid"), true;
  if (key === "d" && !$("view-settle").hidden) return setView(state.view === "settle" ? "one" : "settle"), true;
  if (key === "z") return state.view === "settle" ? settle.undo() : undo(), true;
  if (key === "?") return $("help").click(), true;
  if (state.view === "grid") {
    if (key === "a") return acceptRest(), true;
    if (key in ANSWERS) {
      grid.brush = ANSWERS[key];
      if (event.target.matches(".tile")) grid.toggle(grid.focus, ANSWERS[key]);
      renderGrid();
      return true;
    }
    if (key === "x") {
      grid.brush = "point";
      renderGrid();
      if (event.target.matches(".tile")) grid.aim(grid.focus);
      return true;
    }
    return !event.target.matches("input") && grid.key(event);
  }
  if (event.target.matches("input") && key.startsWith("Arrow")) return false;
  if (state.view === "settle") return settle.key(key, ANSWERS[key]);
  if (key === "ArrowLeft") return back(), true;
  if (key === "ArrowRight") return skip(), true;
  if (key === "f") return flag(), true;
  if (key === "x") return aimAtObject(), true;
  if (key in ANSWERS && current()) return answer(ANSWERS[key]), true;
  return false;
}

// Pointing by keyboard: arrow keys move a cross-hair over the photo, Enter gives the place, Escape leaves.

import {make} from "./elements.js";
import {inWords} from "./place.js";

const STEP = 0.02, LEAP = 0.1; // of the photo's side; with Shift
const MOVES = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
const MIDDLE = {x: 0.5, y: 0.5};

let end = null;

/** Leave the cross-hair, where there is one. */
export const leave = () => end?.();

/** Show a cross-hair on these fields, the first of which takes the keys; onEnd is called however it ends. */
export function aim(fields, start, onPlace, onEnd = () => {}) {
  leave();
  if (!fields.length) return;
  const before = document.activeElement, crosses = fields.map(() => make("div", "cross")), [held, ...others] = crosses;
  let {x, y} = start ?? MIDDLE;
  const show = () => {
    for (const cross of crosses) {
      cross.style.setProperty("--x", x);
      cross.style.setProperty("--y", y);
    }
    held.setAttribute("aria-valuenow", Math.round(100 * x));
    held.setAttribute("aria-valuetext", inWords({x, y}));
  };
  const attributes = {role: "slider", tabindex: 0, "aria-label": "Cross-hair on the object", "aria-valuemin": 0, "aria-valuemax": 100};
  Object.entries(attributes).forEach(([name, value]) => held.setAttribute(name, value));
  others.forEach(cross => cross.setAttribute("aria-hidden", "true"));
  end = () => {
    end = null;
    crosses.forEach(cross => cross.remove());
    document.body.classList.remove("aiming");
    onEnd();
    if (document.activeElement === document.body) before?.focus({preventScroll: true});
  };
  held.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const move = MOVES[event.key], confirms = event.key === "Enter";
    if (!move && !confirms && event.key !== "Escape") return; // the other keys mean what they always mean
    event.preventDefault();
    event.stopPropagation();
    if (move) {
      const step = event.shiftKey ? LEAP : STEP, to = [x + move[0] * step, y + move[1] * step];
      [x, y] = to.map(value => Math.round(1e4 * Math.min(Math.max(value, 0), 1)) / 1e4);
      show();
    } else if (!event.repeat) {
      leave();
      if (confirms) onPlace({x, y, width: 0, height: 0});
    }
  });
  held.addEventListener("blur", () => document.activeElement !== held && leave()); // not where the window lost the focus
  fields.forEach((field, i) => field.append(crosses[i]));
  document.body.classList.add("aiming");
  show();
  held.focus({preventScroll: true});
  held.scrollIntoView({block: "nearest"});
}

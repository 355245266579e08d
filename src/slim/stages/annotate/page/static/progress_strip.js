// Progress: one dot per query, one row per class.

import {$, make} from "./elements.js";

const strip = $("strip");
let stripOf = "";

/** Update the dots; they are rebuilt only when the queue has changed. */
export function renderStrip({queue, answers, places, flags, session}, current) {
  const key = queue.map(card => card.index).join();
  if (key !== stripOf) {
    stripOf = key;
    const {more} = document.activeElement.dataset;
    strip.replaceChildren(...session.classes.map((name, y) => row(queue, name, y, session.space)).filter(Boolean));
    strip.querySelector(`[data-more="${more}"]`)?.focus({preventScroll: true});
  }
  strip.querySelectorAll("button[data-at]").forEach(button => {
    const card = queue[button.dataset.at], answer = answers.get(card.index) ?? (flags.has(card.index) ? "flagged" : "");
    const placed = places.has(card.index);
    button.className = placed ? `${answer} placed` : answer;
    button.setAttribute("aria-label", `${Number(button.dataset.at) + 1}, ${session.classes[card.y]}, ${answer || "no answer"}${placed ? ", object marked" : ""}`);
    button.setAttribute("aria-current", String(card === current));
  });
}

function row(queue, name, y, growing) {
  const places = queue.map((card, at) => [card, at]).filter(([card]) => card.y === y);
  if (!places.length) return null;
  const label = make("span", "", name);
  label.title = name;
  const buttons = places.map(([, at]) => {
    const button = make("button", "", make("i"));
    button.dataset.at = at;
    button.tabIndex = -1;
    return button;
  });
  if (growing) {
    const more = make("button", "more", "+5 more");
    more.dataset.more = y;
    more.setAttribute("aria-label", `Add five more photos of ${name}`);
    buttons.push(more);
  }
  buttons.forEach(button => { button.type = "button"; });
  return make("div", "", label, make("ol", "", ...buttons.map(button => make("li", "", button))));
}

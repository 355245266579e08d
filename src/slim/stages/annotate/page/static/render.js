// Brings the page up to date with the state.

import {show} from "./card.js";
import {leave} from "./crosshair.js";
import {$, bold, make} from "./elements.js";
import {current, inGrid, open, parts, state} from "./state.js";
import {renderStrip} from "./progress_strip.js";
import {className, describe, objectOf, prediction, secondsEach} from "./labels.js";

export function render() {
  leave();
  $("one").hidden = state.view !== "one" || state.done;
  $("many").hidden = state.view !== "grid";
  $("settle").hidden = state.view !== "settle";
  $("done").hidden = state.view !== "one" || !state.done;
  $("view-one").setAttribute("aria-pressed", String(state.view === "one"));
  $("view-grid").setAttribute("aria-pressed", String(state.view === "grid"));
  $("view-settle").setAttribute("aria-pressed", String(state.view === "settle"));
  if (state.view === "grid") renderGrid();
  else if (state.view === "one" && !state.done) renderCard();
  renderSurroundings();
}

/** What surrounds every view: the progress strip, the count and the current point on the map. */
export function renderSurroundings() {
  renderStrip(state, current());
  count();
  if (!parts.space) return;
  parts.space.current = current()?.index ?? -1;
  parts.space.draw();
}

function renderCard() {
  const card = state.queue[state.at];
  $("question").replaceChildren("Does the model look at the ", bold(objectOf(card.y)), " itself?");
  $("object").textContent = objectOf(card.y);
  $("pointing").hidden = false;
  const facts = ["Labelled ", bold(className(card))];
  if (card.predicted !== undefined) {
    const says = bold(prediction(card));
    if (card.predicted !== card.y) says.className = "miss";
    facts.push(" · predicted ", says);
  }
  if (state.flags.has(card.index)) facts.push(" · flagged");
  $("facts").replaceChildren(...facts);
  const answer = state.answers.get(card.index);
  document.querySelectorAll("[data-answer].answer").forEach(button => button.setAttribute("aria-pressed", String(button.dataset.answer === answer)));
  $("back").disabled = state.at === 0;
  $("forward").textContent = open(card) ? "Skip →" : "Next →";
  $("undo").disabled = !state.history.length;
  show(card, describe(card), state.places.get(card.index));
}

function count() {
  const total = state.queue.length, left = state.queue.filter(open).length;
  $("progress").max = Math.max(total, 1);
  $("progress").value = total - left;
  const each = state.history.length ? ` · ${secondsEach()} s each` : "";
  $("count").replaceChildren(`${total - left} of ${total}`, ...(left ? [make("span", "further", ` · ${left} left${each}`)] : []));
}

export function renderGrid() {
  const {grid} = parts, present = state.session.classes.map((name, y) => [name, y]).filter(([, y]) => state.queue.some(card => card.y === y));
  if ($("many-class").children.length !== present.length) { // otherwise the focus would be lost
    $("many-class").replaceChildren(...present.map(([name, y]) => {
      const button = make("button", "", name);
      button.type = "button";
      button.dataset.class = y;
      return button;
    }));
  }
  for (const button of $("many-class").children) button.setAttribute("aria-pressed", String(Number(button.dataset.class) === state.klass));
  $("many-title").replaceChildren("Where does the model look at something other than the ", bold(objectOf(state.klass)), "?");
  document.querySelectorAll("[data-brush]").forEach(button => button.setAttribute("aria-pressed", String(button.dataset.brush === grid.brush)));
  $("many-keys").hidden = grid.brush === "point";
  $("many-point").hidden = grid.brush !== "point";
  const left = inGrid().filter(open).length;
  $("rest").replaceChildren(...(left ? [`Mark the other ${left} as core `, make("kbd", "", "A")] : ["All answered"]));
  $("rest").disabled = !left;
  $("many-undo").disabled = !state.history.length;
  grid.show(inGrid(), state, describe);
}

/** A summary of the answers, once every query has one or the annotator stops. */
export function renderDone() {
  const tally = answer => [...state.answers.values()].filter(value => value === answer).length;
  const left = state.queue.filter(open).length;
  const further = state.session.space ? " If the advice for a class says that more would help, add photos below or pick points on the map." : "";
  $("done-title").textContent = left ? `${left} ${left === 1 ? "query" : "queries"} left` : "All done. Thank you.";
  $("done-text").textContent = left ? "Unanswered queries are ignored. You can come back to them at any time." : `Every query has an answer.${further}`;
  $("review").textContent = left ? "Continue" : "Review answers";
  const figures = [["core", tally("core")], ["spurious", tally("spurious")], ["unsure", tally("unsure")], ["seconds each", state.history.length ? secondsEach() : "–"]];
  $("done-figures").replaceChildren(...figures.map(([name, value]) => make("div", "", make("dt", "", name), make("dd", "", value))));
}

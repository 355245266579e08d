// More queries: the most informative images of a class, or images picked on the map.

import {$} from "./elements.js";
import {postJson} from "./http.js";
import {setView, visit} from "./navigation.js";
import {showError} from "./notices.js";
import {render} from "./render.js";
import {parts, state} from "./state.js";

const LASSO = 12; // images that one lasso adds at most

export async function more(y) {
  try {
    await parts.outbox.flush();
    extend((await postJson("api/more", {y})).queue);
  } catch (error) {
    showError("No photos were added", error);
  }
}

/** Go to the first of these new cards; the next summary may have added them to the queue already. */
function extend(cards) {
  const known = new Set(state.queue.map(card => card.index));
  state.queue = [...state.queue, ...cards.filter(card => !known.has(card.index))];
  if (!cards.length) return;
  if (state.view === "grid") render();
  else visit(state.queue.findIndex(card => card.index === cards[0].index));
}

export async function pick(index) {
  const at = state.queue.findIndex(card => card.index === index);
  if (at >= 0) return visit(at);
  try {
    const {queue} = await postJson("api/add", {index: [index]});
    setView("one");
    extend(queue);
  } catch (error) {
    showError("The photo was not added", error);
  }
}

export async function lassoed(indices) {
  const known = new Set(state.queue.map(card => card.index)), rest = indices.filter(index => !known.has(index));
  const step = Math.max(1, rest.length / LASSO);
  const chosen = Array.from({length: Math.min(LASSO, rest.length)}, (_, i) => rest[Math.floor(i * step)]);
  toggleLasso(false);
  if (!chosen.length) return;
  try {
    extend((await postJson("api/add", {index: chosen})).queue);
    $("legend").append(` ${chosen.length} of ${indices.length} photos added`);
  } catch (error) {
    showError("The photos were not added", error);
  }
}

export function toggleLasso(on = !parts.space.lassoing) {
  parts.space.lassoing = on;
  $("lasso").setAttribute("aria-pressed", String(on));
}

// More queries: the next best ones of a class, or those that somebody picks on the map.

import {$} from "./elements.js";
import {postJson} from "./link.js";
import {setView, visit} from "./moves.js";
import {trouble} from "./notices.js";
import {paint} from "./paint.js";
import {parts, state} from "./state.js";

const LASSO = 12; // images that one lasso adds

export async function more(y) {
  try {
    await parts.outbox.flush();
    extend((await postJson("api/more", {y})).queue);
  } catch (error) {
    trouble("No more photos came", error);
  }
}

/** Add cards to the queue, and go to the first of them. */
function extend(cards) {
  const known = new Set(state.queue.map(card => card.index));
  const fresh = cards.filter(card => !known.has(card.index));
  const first = state.queue.length;
  state.queue = [...state.queue, ...fresh];
  if (!fresh.length) return;
  if (state.view === "grid") paint();
  else visit(first);
}

export async function pick(index) {
  const at = state.queue.findIndex(card => card.index === index);
  if (at >= 0) return visit(at);
  try {
    const {queue} = await postJson("api/add", {index: [index]});
    setView("one");
    extend(queue);
  } catch (error) {
    trouble("The photo was not added", error);
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
    trouble("The photos were not added", error);
  }
}

export function toggleLasso(on = !parts.space.lassoing) {
  parts.space.lassoing = on;
  $("lasso").setAttribute("aria-pressed", String(on));
}

// What others, and other tabs of the same person, have answered meanwhile.

import {$} from "./elements.js";
import {getJson} from "./link.js";
import {advance, setView} from "./moves.js";
import {paint, paintAround} from "./paint.js";
import {current, know, parts, state} from "./state.js";
import {showTrust} from "./trust.js";

export const readSession = name => getJson(`api/session?annotator=${encodeURIComponent(name)}`);

/** Show what all answers together say. */
export function showSummary(summary) {
  showTrust(summary);
  const button = $("view-settle"), left = summary.differing - summary.settled;
  button.hidden = Object.keys(summary.people).length < 2;
  $("differing").textContent = left || "";
  button.setAttribute("aria-label", `Settle: ${left} of ${summary.differing} differences left`);
  if (button.hidden && state.view === "settle") setView("one");
}

export async function news(summary) {
  const {outbox, settle, space} = parts;
  showSummary(summary);
  if (space) await space.renew().catch(() => {});
  await outbox.busy;
  const elsewhere = (summary.last[state.name] ?? 0) > outbox.last; // answers of another tab of this person
  if (elsewhere || summary.queued > state.queue.length) await catchUp();
  if (state.view === "settle" && !outbox.waiting().length) await settle.load().catch(() => {}); // else when they are saved
}

async function catchUp() {
  const session = await readSession(state.name).catch(() => null);
  if (!session) return;
  const before = current();
  know(session);
  if (state.view !== "one") return paint();
  if (!state.done && before && !state.answers.has(before.index)) {
    state.at = state.queue.findIndex(card => card.index === before.index);
    paintAround();
  } else advance();
}

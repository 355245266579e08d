// The page and the server in step: several times a second the page sends what waits and asks for what is new.

import {$} from "./elements.js";
import {getJson} from "./http.js";
import {advance, setView} from "./navigation.js";
import {showError} from "./notices.js";
import {showOutlines} from "./outlines.js";
import {render, renderSurroundings} from "./render.js";
import {adopt, current, parts, state} from "./state.js";
import {showTrust} from "./trust.js";

const INTERVAL = 250, RETRY = 1000; // milliseconds; longer after a failure

export const readSession = name => getJson(`api/session?annotator=${encodeURIComponent(name)}`);

/** Follow the server for as long as the page is open. Short requests leave a browser's six connections to all tabs. */
export async function follow() {
  for (let version = ""; !state.ended;) {
    if (parts.outbox.failing || parts.outbox.waiting().length) await parts.outbox.flush();
    const summary = await getJson(`api/summary?version=${version}`).catch(() => undefined);
    if (summary) {
      version = summary.version;
      await update(summary);
    }
    const failed = summary === undefined || parts.outbox.failing;
    await new Promise(resolve => setTimeout(resolve, failed ? RETRY : INTERVAL));
  }
}

/** Show what all answers say together. */
export function showSummary(summary) {
  showTrust(summary);
  showOutlines(summary.outlines);
  const button = $("view-settle"), left = summary.differing - summary.settled;
  button.hidden = Object.keys(summary.people).length < 2;
  $("differing").textContent = left || "";
  button.setAttribute("aria-label", `Settle: ${left} of ${summary.differing} disagreements left`);
  if (button.hidden && state.view === "settle") setView("one");
}

async function update(summary) {
  const {outbox, settle, space} = parts;
  showSummary(summary);
  if (space) await space.renew().catch(() => {});
  await outbox.busy;
  const elsewhere = (summary.last[state.name] ?? 0) > outbox.last; // answers from another tab of the same person
  if (elsewhere || summary.queued > state.queue.length) await catchUp();
  if (state.view === "settle" && !outbox.waiting().length) await settle.load().catch(() => {});
}

/** Show what the server has, which does not include the post that it has just refused. */
export async function showRefused(error) {
  showError("An answer was refused and set aside", error);
  await parts.outbox.busy;
  await catchUp();
  if (state.view === "settle") await parts.settle.load().catch(() => {});
}

async function catchUp() {
  const session = await readSession(state.name).catch(() => null);
  if (!session) return;
  const before = current();
  adopt(session);
  if (state.view !== "one") return render();
  if (!state.done && before && !state.answers.has(before.index)) {
    state.at = state.queue.findIndex(card => card.index === before.index);
    renderSurroundings();
  } else advance();
}

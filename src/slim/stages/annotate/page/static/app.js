// Starts the page, asks for the annotator's name, and finishes the session.

import {markMany, settle} from "./answers.js";
import "./buttons.js";
import {aspect} from "./card.js";
import {$} from "./elements.js";
import {lassoed, pick} from "./extend_queue.js";
import {Grid} from "./grid.js";
import {postJson, RequestError} from "./http.js";
import "./keys.js";
import {describe} from "./labels.js";
import {advance} from "./navigation.js";
import {showError, showSaved} from "./notices.js";
import {BAD_NAME, Outbox, storage} from "./outbox.js";
import {renderSurroundings} from "./render.js";
import {Settle} from "./settle.js";
import {Space} from "./space.js";
import {adopt, parts, restartClock, state} from "./state.js";
import {follow, readSession, showRefused, showSummary} from "./sync.js";

/** Ask for a name until the server takes it; the empty one is nobody's. */
async function enter(name) {
  let session = null, refusal = null;
  try {
    session = await readSession(name);
  } catch (error) {
    if (error.status !== BAD_NAME) throw error;
    refusal = error;
  }
  if (name && session) return start(name, session);
  const other = introduce();
  if (refusal) showError("This name cannot be used", refusal);
  return enter(await other);
}

async function start(name, session) {
  storage.set("slim:name", name);
  state.name = name;
  $("who").textContent = name;
  parts.outbox = new Outbox(session.run, name, showSaved, showRefused);
  adopt(session);
  state.skipped.clear();
  await setAspect();
  $("side").hidden = !session.summary.classes.length && !session.space;
  $("main").classList.toggle("alone", $("side").hidden);
  $("space-section").hidden = !session.space;
  showSummary(session.summary);
  parts.grid ??= new Grid(markMany);
  parts.settle ??= new Settle(settle, describe);
  advance();
  parts.outbox.flush();
  if (session.space && !parts.space) await openSpace();
}

async function openSpace() {
  if (state.session.environment) $("colour").append(new Option("environment"));
  $("space-n").textContent = state.session.images.toLocaleString("en");
  parts.space = new Space(state.session, {onPick: pick, onLasso: lassoed, answers: () => state.answers});
  await parts.space.load();
  await parts.space.renew();
  renderSurroundings();
}

/** Give the frames the proportions of a typical photo, so that nothing moves from one photo to the next. */
async function setAspect() {
  const first = await Promise.all(state.queue.slice(0, 3).map(card => aspect(card.index)));
  const ratios = first.filter(Boolean).sort((a, b) => a - b);
  const middle = ratios[Math.floor(ratios.length / 2)] ?? 1;
  document.documentElement.style.setProperty("--aspect", Math.min(Math.max(middle, 0.8), 4 / 3).toFixed(3));
}

function introduce() {
  const dialog = $("intro");
  $("name").value = state.name ?? storage.get("slim:name") ?? document.querySelector("meta[name=slim-name]").content;
  dialog.showModal();
  $("start").focus({preventScroll: true});
  dialog.scrollTo(0, 0); // on a small screen, start at the top
  return new Promise(resolve => {
    dialog.onclose = () => resolve($("name").value.trim() || state.name || "somebody");
  });
}

async function finish() {
  await parts.outbox.flush();
  if (parts.outbox.waiting().length) return showError("Some answers are not saved yet", new RequestError("Wait until the page shows “All saved”, then press Done again.", 0));
  try {
    await postJson("api/finish", {});
    $("done-title").textContent = "Done. You can close this page.";
    $("done-text").textContent = "slim continues with your answers.";
    $("saved").dataset.state = "ok";
    document.querySelectorAll("#done button, .strip button, .outlines button").forEach(button => { button.disabled = true; });
    state.ended = true;
  } catch (error) {
    showError("Could not tell slim that you are done", error);
  }
}

$("finish").addEventListener("click", finish);
for (const id of ["who", "help"]) {
  $(id).addEventListener("click", async () => {
    const name = await introduce();
    if (name === state.name) restartClock();
    else await enter(name).catch(error => showError("The name was not changed", error));
  });
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden) state.away = performance.now();
  else state.since += performance.now() - Math.max(state.away, state.since); // the clock may have restarted meanwhile
});
addEventListener("online", () => parts.outbox?.flush());
addEventListener("beforeunload", event => { if (!storage.lasts && parts.outbox?.waiting().length) event.preventDefault(); });

try {
  await enter(storage.get("slim:name") ?? "");
  follow();
} catch (error) {
  showError("The page could not start", error);
  $("saved").dataset.state = "off";
  $("saved").textContent = "Not connected";
}

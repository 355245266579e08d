// The page's beginning and end: whose it is, what is opened, and when it is over.

import {markMany, settled} from "./answers.js";
import "./buttons.js";
import {$} from "./elements.js";
import {Grid} from "./grid.js";
import "./keys.js";
import {listen, Outbox, postJson, shelf, Trouble} from "./link.js";
import {lassoed, pick} from "./more.js";
import {advance} from "./moves.js";
import {news, readSession, showSummary} from "./news.js";
import {tell, trouble} from "./notices.js";
import {paintAround} from "./paint.js";
import {paintScale, photos, prepare} from "./pictures.js";
import {Settle} from "./settle.js";
import {Space} from "./space.js";
import {know, parts, restartClock, state} from "./state.js";
import {describe} from "./words.js";

async function begin() {
  const name = shelf.get("slim:name") ?? "";
  const session = state.session = await readSession(name);
  prepare(session);
  paintScale($("scale"));
  if (name) return enter(name, session);
  await enter(await introduce());
}

async function enter(name, session = null) {
  shelf.set("slim:name", name);
  state.name = name;
  $("who").textContent = name;
  parts.outbox = new Outbox(state.session.run, name, tell);
  session ??= await readSession(name);
  know(session);
  state.skipped.clear();
  await setAspect();
  $("main").classList.toggle("alone", !session.spread.classes.length && !session.space);
  $("side").hidden = !session.spread.classes.length && !session.space;
  $("space-section").hidden = !session.space;
  showSummary(session.spread);
  parts.grid ??= new Grid(markMany);
  parts.settle ??= new Settle(settled, describe);
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
  paintAround();
}

/** Frames as wide as most photos are, so that nothing jumps from one to the next. */
async function setAspect() {
  const first = state.queue.slice(0, 3).map(card => photos.get(card.index).ready.catch(() => null));
  const ratios = (await Promise.all(first)).filter(Boolean).map(p => p.image.naturalWidth / p.image.naturalHeight).sort((a, b) => a - b);
  const middle = ratios[Math.floor(ratios.length / 2)] ?? 1;
  document.documentElement.style.setProperty("--aspect", Math.min(Math.max(middle, 0.8), 4 / 3).toFixed(3));
}

function introduce() {
  const dialog = $("intro");
  $("name").value = state.name ?? shelf.get("slim:name") ?? document.querySelector("meta[name=slim-name]").content;
  dialog.showModal();
  $("start").focus({preventScroll: true});
  dialog.scrollTo(0, 0); // where it is higher than a small screen, from its beginning
  return new Promise(resolve => {
    dialog.onclose = () => resolve($("name").value.trim() || state.name || "somebody");
  });
}

async function finish() {
  await parts.outbox.flush();
  if (parts.outbox.waiting().length) return trouble("Some answers are not saved yet", new Trouble("Wait until the page says “All saved”.", 0));
  try {
    await postJson("api/finish", {});
    $("done-title").textContent = "Done. You can close this page.";
    $("done-text").textContent = "slim goes on with your answers.";
    $("saved").dataset.state = "ok";
    document.querySelectorAll("#done button, .strip button").forEach(button => { button.disabled = true; });
    state.ended = true;
  } catch (error) {
    trouble("slim did not hear that you are done", error);
  }
}

$("finish").addEventListener("click", finish);
for (const id of ["who", "help"]) {
  $(id).addEventListener("click", async () => {
    const name = await introduce();
    if (name !== state.name) await enter(name);
    else restartClock();
  });
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden) state.away = performance.now();
  else if (state.away) state.since += performance.now() - state.away;
});
addEventListener("online", () => parts.outbox?.flush());
addEventListener("beforeunload", event => { if (!shelf.lasts && parts.outbox?.waiting().length) event.preventDefault(); });

try {
  await begin();
  listen(news, () => parts.outbox.flush());
} catch (error) {
  trouble("The page could not begin", error);
  $("saved").dataset.state = "off";
  $("saved").textContent = "Not connected";
}

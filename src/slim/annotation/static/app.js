// The page: what is shown, which keys mean what, and what becomes of an answer.

import {expect, adjust, show} from "./card.js";
import {Grid} from "./grid.js";
import {getJson, listen, Outbox, postJson, shelf, Trouble} from "./link.js";
import {paintScale, photos, prepare} from "./pictures.js";
import {Settle} from "./settle.js";
import {Space} from "./space.js";
import {paintStrip} from "./strip.js";
import {showTrust} from "./trust.js";

const $ = id => document.getElementById(id);
const AHEAD = 5; // images made before they are needed
const LASSO = 12; // images that one lasso adds
const KEYS = {c: "core", 1: "core", s: "spurious", 0: "spurious", u: "unsure", " ": "unsure"};

const state = {
  session: null, queue: [], answers: new Map(), flags: new Set(), history: [], skipped: new Set(),
  at: 0, view: "one", since: performance.now(), seconds: 0, done: false, klass: 0,
};
let outbox, space = null, grid, settle;

// ---------------------------------------------------------------- beginning

async function begin() {
  const name = shelf.get("slim:name") ?? "";
  state.session = await getJson(`api/session?annotator=${encodeURIComponent(name)}`);
  prepare(state.session);
  paintScale($("scale"));
  if (name) return enter(name, state.session);
  await enter(await introduce());
}

async function enter(name, session = null) {
  shelf.set("slim:name", name);
  state.name = name;
  $("who").textContent = name;
  outbox = new Outbox(state.session.run, name, tell);
  session ??= await getJson(`api/session?annotator=${encodeURIComponent(name)}`);
  state.session = session;
  know(session);
  state.skipped.clear();
  await setAspect();
  $("main").classList.toggle("alone", !session.spread.classes.length && !session.space);
  $("side").hidden = !session.spread.classes.length && !session.space;
  $("space-section").hidden = !session.space;
  showTrust(session.spread);
  showDifferences(session.spread);
  grid ??= new Grid(markMany);
  settle ??= new Settle(settled, describe);
  advance();
  outbox.flush();
  if (session.space && !space) await openSpace();
}

/** Take over what the server knows, and the answers that it has not seen yet. */
function know(session) {
  state.queue = session.queue;
  state.answers = new Map(session.answers);
  state.history = session.answers.map(([index]) => index);
  state.flags = new Set(session.flags);
  state.seconds = session.seconds;
  outbox.last = session.spread.last[state.name] ?? 0;
  outbox.posts().forEach(note);
}

async function openSpace() {
  if (state.session.environment) $("colour").append(new Option("environment"));
  $("space-n").textContent = state.session.images.toLocaleString("en");
  space = new Space(state.session, {onPick: pick, onLasso: lassoed, answers: () => state.answers});
  await space.load();
  await space.renew();
  locate();
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
  $("start").focus();
  return new Promise(resolve => {
    dialog.onclose = () => resolve($("name").value.trim() || state.name || "somebody");
  });
}

// ---------------------------------------------------------------- showing

const open = card => !state.answers.has(card.index) && !state.flags.has(card.index);
const current = () => (state.done || state.view !== "one" ? null : state.queue[state.at]);
const className = card => state.session.classes[card.y];

/** What a class is called within a sentence; a number is no name. */
const objectOf = y => (/^[\d\W]+$/.test(state.session.classes[y]) ? "object" : state.session.classes[y].replaceAll("_", " "));

function describe(card) {
  const model = card.predicted === undefined ? "" : `, model says ${state.session.classes[card.predicted]} (${percent(card.confidence)})`;
  return `label ${className(card)}${model}`;
}

const percent = share => `${Math.round(100 * share)} %`;

/** The next image without an answer, those that were skipped last. */
function next(from) {
  const n = state.queue.length, order = Array.from({length: n}, (_, i) => (from + i) % n);
  return order.find(i => open(state.queue[i]) && !state.skipped.has(state.queue[i].index)) ?? order.find(i => open(state.queue[i])) ?? -1;
}

function advance() {
  state.done = false;
  const to = next(state.at + (current() && !open(current()) ? 1 : 0));
  if (to < 0) return finished();
  go(to);
}

function go(to) {
  state.done = false;
  state.at = to;
  state.since = performance.now();
  paint();
  ahead();
}

/** Make the images that are likely to come next. */
function ahead() {
  const wanted = [];
  for (let i = 1; i <= state.queue.length && wanted.length < AHEAD; i++) {
    const card = state.queue[(state.at + i) % state.queue.length];
    if (open(card)) wanted.push(card.index);
  }
  const back = state.queue[state.at - 1];
  if (back) wanted.push(back.index);
  wanted.forEach(expect);
}

function paint() {
  $("one").hidden = state.view !== "one" || state.done;
  $("many").hidden = state.view !== "grid";
  $("settle").hidden = state.view !== "settle";
  $("done").hidden = state.view !== "one" || !state.done;
  $("view-one").setAttribute("aria-pressed", String(state.view === "one"));
  $("view-grid").setAttribute("aria-pressed", String(state.view === "grid"));
  $("view-settle").setAttribute("aria-pressed", String(state.view === "settle"));
  if (state.view === "grid") paintGrid();
  else if (state.view === "one" && !state.done) paintCard();
  paintStrip(state, current());
  count();
  locate();
}

function paintCard() {
  const card = state.queue[state.at];
  $("question").replaceChildren("Does the model look at the ", bold(objectOf(card.y)), " itself?");
  const parts = ["Label ", bold(className(card))];
  if (card.predicted !== undefined) {
    const says = bold(`${state.session.classes[card.predicted]} (${percent(card.confidence)})`);
    if (card.predicted !== card.y) says.className = "miss";
    parts.push(" · the model says ", says);
  }
  if (state.flags.has(card.index)) parts.push(" · flagged");
  $("facts").replaceChildren(...parts);
  const answer = state.answers.get(card.index);
  document.querySelectorAll("[data-answer].answer").forEach(button => button.setAttribute("aria-pressed", String(button.dataset.answer === answer)));
  $("back").disabled = state.at === 0;
  $("forward").textContent = open(card) ? "Skip →" : "Next →";
  $("undo").disabled = !state.history.length;
  show(card.index, describe(card));
}

function bold(text) {
  const element = document.createElement("b");
  element.textContent = text;
  return element;
}

function count() {
  const total = state.queue.length, settled = state.queue.filter(card => !open(card)).length;
  $("progress").max = Math.max(total, 1);
  $("progress").value = settled;
  const each = state.history.length ? ` · ${(state.seconds / state.history.length).toFixed(1)} s each` : "";
  $("count").textContent = total === settled ? `${settled} of ${total}` : `${settled} of ${total} · ${total - settled} left${each}`;
}

function locate() {
  if (!space) return;
  space.current = current()?.index ?? -1;
  space.draw();
}

function finished() {
  if (!state.done && state.view === "one") $("done").style.minHeight = `${$("one").offsetHeight}px`; // nothing below moves
  state.done = true;
  const tally = answer => [...state.answers.values()].filter(value => value === answer).length;
  const left = state.queue.filter(open).length;
  $("done-title").textContent = left ? `${left} still without an answer` : "That is all. Thank you.";
  const further = state.session.space ? " Ask for more below, or pick points on the map, if the sentences beside it say that it helps." : "";
  $("done-text").textContent = left
    ? "They count as not asked. You can come back to them at any time."
    : `Every query has an answer.${further}`;
  const figures = [["core", tally("core")], ["spurious", tally("spurious")], ["unsure", tally("unsure")], ["seconds each", state.history.length ? (state.seconds / state.history.length).toFixed(1) : "–"]];
  $("review").textContent = left ? "Go on judging" : "Look back";
  $("done-figures").replaceChildren(...figures.map(([name, value]) => {
    const group = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = value;
    group.append(dt, dd);
    return group;
  }));
  paint();
  if (state.view === "one") $("done-title").focus({preventScroll: true});
}

// ---------------------------------------------------------------- answering

/** Know of a post before the server does. */
function note({index, answer, seconds = 0, settles = false}) {
  if (settles) return;
  if (answer === "flag") {
    state.flags.add(index);
    return;
  }
  if (state.answers.get(index) === answer) seconds = 0; // it is counted already
  state.history = state.history.filter(one => one !== index);
  if (answer === "undone") state.answers.delete(index);
  else {
    state.answers.set(index, answer);
    state.history.push(index);
    state.seconds += seconds;
  }
}

function keep(posts) {
  posts.forEach(note);
  outbox.put(posts);
}

/** Seconds since the image was shown, the time away from the page left out. */
const spent = () => Math.min((performance.now() - state.since) / 1000, 3600);

function answer(kind) {
  const card = current();
  if (!card) return;
  state.skipped.delete(card.index);
  keep([{index: card.index, answer: kind, seconds: spent()}]);
  advance();
}

function undo() {
  const index = state.history.at(-1);
  if (index === undefined) return;
  keep([{index, answer: "undone"}]);
  if (state.view === "grid") return paint();
  const at = state.queue.findIndex(card => card.index === index);
  if (at >= 0) go(at);
}

function skip() {
  const card = current();
  if (!card) return;
  if (!open(card)) return state.at + 1 < state.queue.length ? go(state.at + 1) : advance();
  state.skipped.add(card.index);
  const to = next(state.at + 1);
  if (to === state.at || state.queue.filter(open).every(one => state.skipped.has(one.index))) {
    state.skipped.clear();
    return finished();
  }
  go(to);
}

const review = () => (next(0) < 0 ? back() : advance());
const back = () => (state.done ? go(state.queue.length - 1) : state.at > 0 && go(state.at - 1));

async function flag() {
  const card = current(), dialog = $("flagging");
  if (!card) return;
  $("note").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  $("note").focus();
  dialog.onclose = () => {
    if (dialog.returnValue !== "keep") return;
    keep([{index: card.index, answer: "flag", note: $("note").value.trim()}]);
    advance();
  };
}

async function more(y) {
  try {
    await outbox.flush();
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
  else go(first);
}

async function pick(index) {
  const at = state.queue.findIndex(card => card.index === index);
  setView("one");
  if (at >= 0) return go(at);
  try {
    extend((await postJson("api/add", {index: [index]})).queue);
  } catch (error) {
    trouble("The photo was not added", error);
  }
}

async function lassoed(indices) {
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

function toggleLasso(on = !space.lassoing) {
  space.lassoing = on;
  $("lasso").setAttribute("aria-pressed", String(on));
}

// ---------------------------------------------------------------- many at once

const inGrid = () => state.queue.filter(card => card.y === state.klass && !state.flags.has(card.index));

function paintGrid() {
  const names = state.session.classes, present = names.map((name, y) => [name, y]).filter(([, y]) => state.queue.some(card => card.y === y));
  $("many-class").replaceChildren(...present.map(([name, y]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.class = y;
    button.textContent = name;
    button.setAttribute("aria-pressed", String(y === state.klass));
    return button;
  }));
  $("many-title").replaceChildren("On which photos does the model look beside the ", bold(objectOf(state.klass)), "?");
  document.querySelectorAll("[data-brush]").forEach(button => button.setAttribute("aria-pressed", String(button.dataset.brush === grid.brush)));
  const left = inGrid().filter(open).length, key = document.createElement("kbd");
  key.textContent = "A";
  $("rest").replaceChildren(left ? `Accept the other ${left} as core ` : "All have an answer ", ...(left ? [key] : []));
  $("rest").disabled = !left;
  $("many-undo").disabled = !state.history.length;
  grid.show(inGrid(), state.answers, describe);
}

function markMany(indices, kind) {
  const each = spent() / indices.length;
  keep(indices.map(index => ({index, answer: kind, seconds: kind === "undone" ? 0 : each})));
  state.since = performance.now();
  count();
  paintStrip(state, current());
  locate();
  paintGrid();
}

function acceptRest() {
  const rest = inGrid().filter(open).map(card => card.index);
  if (!rest.length) return;
  markMany(rest, "core");
  const other = state.queue.find(open);
  if (other) {
    state.klass = other.y;
    paint();
  }
}

// ---------------------------------------------------------------- where people differ

function showDifferences({differing, settled: done, people}) {
  const button = $("view-settle"), left = differing - done;
  button.hidden = Object.keys(people).length < 2;
  $("differing").textContent = left || "";
  button.setAttribute("aria-label", `Settle: ${left} of ${differing} differences left`);
  if (button.hidden && state.view === "settle") setView("one");
}

function settled(index, answer) {
  keep([{index, answer, seconds: answer === "undone" ? 0 : spent(), settles: true}]);
  state.since = performance.now();
}

async function openSettle() {
  try {
    await outbox.flush();
    await settle.load();
    settle.go(settle.at);
  } catch (error) {
    trouble("The differences did not come", error);
  }
}

function setView(view) {
  if (state.view === view) return;
  state.view = view;
  state.since = performance.now();
  if (view === "settle") {
    paint();
    openSettle();
  } else if (view === "grid") {
    state.klass = state.queue[state.at]?.y ?? 0;
    paint();
  } else advance();
}

// ---------------------------------------------------------------- saying

function tell({waiting, failing, trouble: error}) {
  const saved = $("saved");
  if (error && error.status >= 400 && error.status < 500 && error.status !== 403) trouble("An answer was refused", error);
  if (!waiting) {
    saved.dataset.state = "ok";
    saved.textContent = "All saved";
  } else if (failing) {
    saved.dataset.state = "off";
    const where = shelf.lasts ? "kept in this browser" : "kept on this page: leave it open";
    saved.textContent = error?.status === 403 ? `Open the new link: ${waiting} ${where}` : `No connection: ${waiting} ${where}`;
  } else {
    saved.dataset.state = "wait";
    saved.textContent = "Saving";
  }
  saved.title = saved.textContent;
}

function trouble(title, error) {
  $("trouble-title").textContent = title;
  $("trouble-text").textContent = error instanceof Trouble ? error.message : String(error);
  if (!$("trouble").open) $("trouble").showModal();
}

async function news(summary) {
  showTrust(summary);
  showDifferences(summary);
  if (space) await space.renew().catch(() => {});
  await outbox.busy;
  const elsewhere = (summary.last[state.name] ?? 0) > outbox.last; // answers of another tab of this person
  if (elsewhere || summary.queued > state.queue.length) await catchUp();
  if (state.view === "settle" && !outbox.waiting().length) await settle.load().catch(() => {}); // else when they are saved
}

async function catchUp() {
  const session = await getJson(`api/session?annotator=${encodeURIComponent(state.name)}`).catch(() => null);
  if (!session) return;
  const before = current();
  know(session);
  if (state.view !== "one") return paint();
  if (!state.done && before && !state.answers.has(before.index)) {
    state.at = state.queue.findIndex(card => card.index === before.index);
    paintStrip(state, current());
    count();
    locate();
  } else advance();
}

async function finish() {
  await outbox.flush();
  if (outbox.waiting().length) return trouble("Some answers are not saved yet", new Trouble("Wait until the page says “All saved”.", 0));
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

// ---------------------------------------------------------------- hands

const busy = () => document.querySelector("dialog[open]") !== null || state.name === undefined || state.ended;
const typing = target => target.matches?.("input:not([type=range]), select, textarea");
let hidden = null;

addEventListener("keydown", event => {
  if (busy() || typing(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "h") {
    hidden ??= [$("panels"), $("cases")].forEach(holder => holder.classList.add("bare")) ?? true;
    return;
  }
  if (event.repeat && key in KEYS) return; // a key that is held answers once
  const onButton = event.target.matches?.("button, a, input") && (key === " " || key === "Enter");
  if (onButton) return; // presses it, as everywhere
  if (act(key, event)) event.preventDefault();
});

addEventListener("keyup", event => {
  if (event.key.toLowerCase() !== "h") return;
  hidden = null;
  [$("panels"), $("cases")].forEach(holder => holder.classList.remove("bare"));
});

/** Do what a key means; true where it means something. */
function act(key, event) {
  if (key === "g") return setView(state.view === "grid" ? "one" : "grid"), true;
  if (key === "d" && !$("view-settle").hidden) return setView(state.view === "settle" ? "one" : "settle"), true;
  if (key === "z") return state.view === "settle" ? settle.undo() : undo(), true;
  if (key === "?") return $("help").click(), true;
  if (state.view === "grid") {
    if (key === "a") return acceptRest(), true;
    if (key in KEYS) {
      grid.brush = KEYS[key];
      if (event.target.matches(".tile")) grid.toggle(grid.focus, KEYS[key]);
      paintGrid();
      return true;
    }
    return !event.target.matches("input") && grid.key(event);
  }
  if (event.target.matches("input") && key.startsWith("Arrow")) return false;
  if (state.view === "settle") return settle.key(key, KEYS[key]);
  if (key === "ArrowLeft") return back(), true;
  if (key === "ArrowRight") return skip(), true;
  if (key === "f") return flag(), true;
  if (key in KEYS && current()) return answer(KEYS[key]), true;
  return false;
}

document.querySelectorAll(".answer").forEach(button => button.addEventListener("click", event => {
  if (event.detail) button.blur(); // after the mouse, the space key means unsure again
  answer(button.dataset.answer);
}));
document.querySelectorAll("[data-brush]").forEach(button => button.addEventListener("click", () => { grid.brush = button.dataset.brush; paintGrid(); }));
document.querySelectorAll("[data-note]").forEach(button => button.addEventListener("click", () => { $("note").value = button.dataset.note; $("flag-keep").focus(); }));
$("many-class").addEventListener("click", event => { if (event.target.dataset.class) { state.klass = Number(event.target.dataset.class); paint(); } });
$("strip").addEventListener("click", event => {
  const button = event.target.closest("button");
  if (button?.dataset.more) more(Number(button.dataset.more));
  else if (button) { setView("one"); go(Number(button.dataset.at)); }
});
$("opacity").addEventListener("input", event => adjust({opacity: event.target.value / 100}));
$("threshold").addEventListener("input", event => adjust({threshold: event.target.value / 100}));
for (const [id, act] of Object.entries({back, forward: skip, undo, flag, rest: acceptRest, "many-undo": undo, finish, review, stop: finished})) $(id).addEventListener("click", act);
$("view-one").addEventListener("click", () => setView("one"));
$("view-grid").addEventListener("click", () => setView("grid"));
$("view-settle").addEventListener("click", () => setView("settle"));
$("colour").addEventListener("change", event => space.setMode(event.target.value));
$("lasso").addEventListener("click", () => toggleLasso());
$("reset").addEventListener("click", () => space.reset());
for (const id of ["who", "help"]) {
  $(id).addEventListener("click", async () => {
    const name = await introduce();
    if (name !== state.name) await enter(name);
    else state.since = performance.now();
  });
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden) state.away = performance.now();
  else if (state.away) state.since += performance.now() - state.away;
});
addEventListener("online", () => outbox?.flush());
addEventListener("beforeunload", event => { if (!shelf.lasts && outbox?.waiting().length) event.preventDefault(); });

try {
  await begin();
  listen(news, () => outbox.flush());
} catch (error) {
  trouble("The page could not begin", error);
  $("saved").dataset.state = "off";
  $("saved").textContent = "Not connected";
}

// The state of the page: the queries, the answers so far, and which query is shown.

export const state = {
  session: null, name: null, queue: [], answers: new Map(), places: new Map(), flags: new Set(), history: [], skipped: new Set(),
  at: 0, view: "one", since: performance.now(), away: 0, seconds: 0, done: false, ended: false, klass: 0,
};

/** The outbox, and the views that have a state of their own; all are made once the annotator's name is known. */
export const parts = {outbox: null, grid: null, settle: null, space: null};

export const open = card => !state.answers.has(card.index) && !state.flags.has(card.index);
export const current = () => (state.done || state.view !== "one" ? null : state.queue[state.at]);
export const inGrid = () => state.queue.filter(card => card.y === state.klass && !state.flags.has(card.index));

/** The next image without an answer; skipped images come last. */
export function next(from) {
  const n = state.queue.length, order = Array.from({length: n}, (_, i) => (from + i) % n);
  return order.find(i => open(state.queue[i]) && !state.skipped.has(state.queue[i].index)) ?? order.find(i => open(state.queue[i])) ?? -1;
}

/** Seconds since the image was shown, without the time away from the page. */
export const secondsSpent = () => Math.min((performance.now() - state.since) / 1000, 3600);
export const restartClock = () => { state.since = performance.now(); };

/** Adopt the server's state, and add the answers that it does not have yet. */
export function adopt(session) {
  state.session = session;
  state.queue = session.queue;
  state.answers = new Map(session.answers);
  state.places = new Map(session.places);
  state.history = session.answers.map(([index]) => index);
  state.flags = new Set(session.flags);
  state.seconds = session.seconds;
  parts.outbox.last = session.summary.last[state.name] ?? 0;
  parts.outbox.posts().forEach(apply);
}

/** Apply posts here at once, and send them to the server by the outbox. */
export function post(posts) {
  posts.forEach(apply);
  parts.outbox.put(posts);
}

function apply({index, answer, seconds = 0, settles = false, place = null}) {
  if (settles) return;
  if (answer === "flag") {
    state.flags.add(index);
    return;
  }
  if (state.answers.get(index) === answer) seconds = 0; // already counted
  state.history = state.history.filter(one => one !== index);
  state.places.delete(index);
  if (answer === "undone") state.answers.delete(index);
  else {
    state.answers.set(index, answer);
    state.history.push(index);
    if (place) state.places.set(index, place);
    state.seconds += seconds;
  }
}

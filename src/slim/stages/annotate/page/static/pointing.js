// Pointing at the object: a click or a tap gives its place, a drag with a mouse or a pen a box around it.

import {make} from "./elements.js";
import {draw} from "./place.js";

const SIDE = 0.02; // of the photo's side: a shorter drag is a click
const SLACK = {mouse: 4, pen: 6, touch: 10}; // pixels that a hand may move during a click
const LEAST = 0.01; // of a box's thinner side
const TWICE = 350; // milliseconds: the second press of a double click answers nothing

const clip = value => Math.min(Math.max(value, 0), 1);
const short = value => Math.round(value * 1e4) / 1e4;

/** Where a pointer is, relative to a field. */
function at(event, field) {
  const {left, top, width, height} = field.getBoundingClientRect();
  return [clip((event.clientX - left) / width), clip((event.clientY - top) / height)];
}

/** Centre and size of what two opposite ends span. */
function span(a, b) {
  const size = Math.max(Math.abs(a - b), LEAST), middle = (a + b) / 2;
  return [short(Math.min(Math.max(middle, size / 2), 1 - size / 2)), short(size)];
}

function boxBetween([ax, ay], [bx, by]) {
  const [x, width] = span(ax, bx), [y, height] = span(ay, by);
  return {x, y, width, height};
}

/** Call onPlace(place, field) for each place given on one of the fields in an element, while `on` holds. */
export function listen(holder, onPlace, on = () => true) {
  let press = null, last = {field: null, time: -Infinity};
  const drop = () => {
    press?.draft.remove();
    press = null;
  };
  /** Whether an event goes on with a press, on a field that still shows the same photo. */
  const continues = event => event.pointerId === press?.start.pointerId && press.photo === press.field.dataset.photo;
  const isDrag = event => {
    const {field, from, start} = press, to = at(event, field);
    return Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > (SLACK[event.pointerType] ?? 4)
      && Math.max(Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1])) > SIDE;
  };
  holder.addEventListener("pointerdown", event => {
    const field = event.target.closest(".field");
    if (!field || !event.isPrimary || event.button !== 0 || event.ctrlKey || !on()) return;
    if (field === last.field && event.timeStamp - last.time < TWICE) return;
    drop();
    press = {field, photo: field.dataset.photo, start: event, from: at(event, field), draft: make("div", "draft"), dragged: false};
    field.setPointerCapture(event.pointerId);
  });
  holder.addEventListener("pointermove", event => {
    if (!continues(event)) return;
    press.dragged ||= isDrag(event);
    if (!press.dragged) return;
    if (event.pointerType === "touch") return drop(); // it scrolls
    press.field.append(press.draft);
    draw(press.draft, [{place: boxBetween(press.from, at(event, press.field))}]);
  });
  holder.addEventListener("pointerup", event => {
    if (!continues(event)) return drop();
    const {field, from, dragged} = press, [x, y] = from.map(short);
    const place = dragged ? boxBetween(from, at(event, field)) : {x, y, width: 0, height: 0};
    drop();
    last = {field, time: event.timeStamp};
    onPlace(place, field);
  });
  holder.addEventListener("pointercancel", drop);
  holder.addEventListener("contextmenu", drop);
  addEventListener("pointerdown", event => event.isPrimary || drop()); // a second finger zooms
  addEventListener("keydown", event => event.key === "Escape" && drop());
}

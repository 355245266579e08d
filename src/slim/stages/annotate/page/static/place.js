// The place of the object: relative to the photo's own frame, from the left and from the top, and drawn over it.

import {make} from "./elements.js";

const percent = value => `${100 * value}%`;

/** Lay a field exactly over a photo, however its panel is proportioned: there one points, and there places are drawn. */
export function fit(field, image) {
  field.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
  field.dataset.photo = image.src;
  return field;
}

export const fieldOver = image => fit(make("div", "field"), image);

/** A ring, or a box where the place has a size, with the name of whoever gave it. */
function ring({x, y, width = 0, height = 0}, name, kind) {
  const box = width > 0 || height > 0;
  const mark = make("div", `place ${box ? "box" : "ring"} ${kind} ${x > 0.5 ? "right" : "left"} ${y > 0.5 ? "low" : "high"}`);
  mark.style.left = percent(x);
  mark.style.top = percent(y);
  if (box) Object.assign(mark.style, {width: percent(width), height: percent(height)});
  if (name) mark.append(make("b", "", name));
  return mark;
}

/** Draw these places on a field, each with a name and a kind or without, in place of the ones drawn before. */
export function draw(field, marks) {
  field.querySelectorAll(".place").forEach(mark => mark.remove());
  field.append(...marks.filter(({place}) => place).map(({place, name = "", kind = ""}) => ring(place, name, kind)));
}

export const inWords = ({x, y}) => `${Math.round(100 * x)} % from the left, ${Math.round(100 * y)} % from the top`;

// One image at a time: three frames that keep their places, and images that are loaded before they are needed.

import {make} from "./elements.js";
import {isUnreadable, map, photo, spotlight} from "./pictures.js";
import {draw, fit, inWords} from "./place.js";

const frames = ["photo", "map", "spot"].map(name => document.getElementById(`frame-${name}`));
export const fields = frames.map(() => make("div", "field")); // over the photo in each frame
const loaded = new Map(); // index -> a card: what its frames hold, once `ready`
const MOST = 12;
const RETRY = 1500; // milliseconds until a photo is requested again after a lost connection
const shown = {index: -1, alt: "", flat: false, place: null};
let threshold = 50, redrawing = false;

async function load(index) {
  const images = [photo(index), photo(index), map(index, threshold), photo(index), spotlight(index, threshold)];
  const [bare, below, colours, lit, dark] = await Promise.all(images);
  colours.alt = "Attention map over the photo";
  return [[bare], [below, colours], [lit, dark]];
}

/** Load an image that is likely to be shown soon. */
export function expect(index) {
  if (!loaded.has(index)) {
    const card = {ready: load(index), content: null};
    card.ready.then(content => { card.content = content; }, () => loaded.get(index) === card && loaded.delete(index));
    loaded.set(index, card);
    if (loaded.size > MOST) loaded.delete([...loaded.keys()].find(key => key !== shown.index));
  }
  return loaded.get(index);
}

/** Width divided by height of an image; null where it cannot be read. */
export const aspect = index =>
  expect(index).ready.then(([[bare]]) => bare.naturalWidth / bare.naturalHeight, () => null);

const mark = name => frames.forEach(frame => { frame.className = `frame ${name}`; });

function fill(content) {
  mark("");
  const at = shown.place ? `; the object is at ${inWords(shown.place)}` : "";
  content[0][0].alt = `Photo: ${shown.alt}${at}`;
  frames.forEach((frame, i) => {
    draw(fit(fields[i], content[i][0]), [shown]);
    frame.replaceChildren(...content[i], fields[i]);
  });
  frames[2].classList.toggle("flat", shown.flat);
}

/** Show an image, at once where it is loaded, and the place of the object where somebody gave it. */
export async function show({index, flat}, description, place) {
  Object.assign(shown, {index, flat, alt: description, place});
  const card = expect(index);
  if (!card.content) {
    frames.forEach(frame => frame.replaceChildren());
    mark("wait");
    try {
      await card.ready;
    } catch {
      const broken = await isUnreadable(index);
      if (shown.index !== index) return;
      mark(broken ? "broken" : "lost");
      if (!broken) setTimeout(() => shown.index === index && show({index, flat}, description, place), RETRY);
      return;
    }
    if (shown.index !== index || loaded.get(index) !== card) return;
  }
  fill(card.content);
}

/** Draw the attended region from another level on; while the slider moves, one level at a time. */
export async function setThreshold(value) {
  threshold = value;
  if (redrawing || shown.index < 0) return;
  redrawing = true;
  for (let drawn = null; drawn !== threshold;) {
    drawn = threshold;
    loaded.clear();
    const {index} = shown;
    const content = await expect(index).ready.catch(() => null);
    if (content && shown.index === index) fill(content);
  }
  redrawing = false;
}

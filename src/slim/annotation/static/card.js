// One image at a time: three frames that keep their places, filled with layers that were made before they are needed.

import {photos} from "./pictures.js";

const frames = ["photo", "map", "spot"].map(name => document.getElementById(`frame-${name}`));
const look = {opacity: 0.75, threshold: 0.5};
const made = new Map(); // index -> the layers of the three frames, with how they were drawn
const MOST = 12;
const RETRY = 1500; // milliseconds until a photo is asked for again after a lost connection
let shown = null;

async function make(index) {
  const picture = await photos.get(index).ready;
  const images = [picture.image, picture.element(), picture.element()];
  await Promise.all(images.slice(1).map(image => image.decode()));
  const card = {picture, images, map: picture.layer(), spot: picture.layer(), drawn: ""};
  draw(card);
  return card;
}

function draw(card) {
  const now = `${look.opacity} ${look.threshold}`;
  if (card.drawn === now) return;
  card.picture.drawMap(card.map, look.opacity, look.threshold);
  card.picture.drawSpot(card.spot, look.threshold);
  card.drawn = now;
}

/** Make the layers of an image that is likely to come. */
export function expect(index) {
  if (!made.has(index)) {
    const card = {ready: make(index), layers: null};
    card.ready.then(layers => { card.layers = layers; }, () => made.delete(index));
    made.set(index, card);
    if (made.size > MOST) made.delete([...made.keys()].find(key => key !== shown));
  }
  return made.get(index);
}

function fill(layers, description) {
  draw(layers);
  layers.images[0].alt = `Photo: ${description}`;
  layers.map.setAttribute("role", "img");
  layers.map.setAttribute("aria-label", "Attention map over the photo");
  frames[0].replaceChildren(layers.images[0]);
  frames[1].replaceChildren(layers.images[1], layers.map);
  frames[2].replaceChildren(layers.images[2], layers.spot);
  frames[2].classList.toggle("flat", layers.picture.flat);
}

const mark = name => frames.forEach(frame => { frame.className = `frame ${name}`; });

/** Show an image, at once where it was expected. */
export async function show(index, description) {
  shown = index;
  const card = expect(index);
  if (card.layers === null) {
    frames.forEach(frame => frame.replaceChildren());
    mark("wait");
    try {
      await card.ready;
    } catch (error) {
      if (shown !== index) return;
      mark(error.status === 0 ? "lost" : "broken");
      if (error.status === 0) setTimeout(() => shown === index && show(index, description), RETRY);
      return;
    }
    if (shown !== index) return;
  }
  mark("");
  fill(card.layers, description);
}

export function adjust(change) {
  Object.assign(look, change);
  const card = made.get(shown);
  if (card?.layers) draw(card.layers);
}

// Photos, and the layers that the server draws over them.

import {getBytes, url} from "./http.js";
import {state} from "./state.js";

/** The address of a picture; the run in it keeps the browser's cache from mixing up runs. */
const address = (kind, index, options = "") => url(`${kind}/${index}?v=${state.session.run}${options}`);

/** An image element that is ready to be shown. */
async function load(source, name = "") {
  const image = new Image();
  image.alt = "";
  image.className = name;
  image.decoding = "sync";
  image.src = source;
  await image.decode();
  return image;
}

export const photo = index => load(address("photo", index));
export const map = (index, threshold = 50) => load(address("map", index, `&threshold=${threshold}`), "layer colours");
export const spotlight = (index, threshold) => load(address("spotlight", index, `&threshold=${threshold}`), "layer");

/** The address of a small photo with the object outlined, as it was found last. */
export const outline = (index, version) => address("outline", index, `&version=${version}`);

/** Whether the server cannot read a photo that failed to load; false if the connection was lost. */
export const isUnreadable = index => getBytes(`photo/${index}`).then(() => false, error => error.status > 0);

/** A small photo and its map. */
export const thumbnail = index =>
  Promise.all([load(address("photo", index, "&small")), load(address("map", index, "&small"), "layer colours")]);

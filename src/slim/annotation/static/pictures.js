// Photos and attention maps: loaded ahead, and drawn as layers over the photo so that it stays as sharp as it is.

import {getBytes, url} from "./link.js";

const SIDE = 448; // longer side of a layer, in pixels; attention is smooth, the photo below is not touched
const HIDDEN = 24; // grey of what the model does not look at
const EDGE = 0.15; // the attended region fades in between the threshold -+ this
const OPAQUE = 0.93;

let shape = [1, 1];
let run = "";
let lut = new Uint8ClampedArray(256 * 3);

/** Tell the module the maps' shape and the colours from none to most attention. */
export function prepare(session) {
  shape = session.map;
  run = session.run;
  lut = new Uint8ClampedArray(256 * 3);
  const last = session.colours.length - 1;
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * last, low = Math.min(Math.floor(at), last - 1), part = at - low;
    for (let c = 0; c < 3; c++) lut[3 * i + c] = session.colours[low][c] * (1 - part) + session.colours[low + 1][c] * part;
  }
}

const colourAt = level => {
  const i = 3 * Math.round(255 * Math.min(Math.max(level, 0), 1));
  return [lut[i], lut[i + 1], lut[i + 2]];
};

/** Paint the colours from none to most into a canvas one pixel high. */
export function paintScale(canvas) {
  const context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x++) {
    context.fillStyle = `rgb(${colourAt(x / (canvas.width - 1)).join(" ")})`;
    context.clearRect(x, 0, 1, 1);
    context.fillRect(x, 0, 1, 1);
  }
}

/** A map brought to width x height, bilinearly between the centres of its cells, and to the whole of 0..1 again. */
function upsample(bytes, width, height) {
  const [rows, columns] = shape;
  const levels = new Float32Array(width * height);
  const along = (size, cells) => Array.from({length: size}, (_, i) => {
    const at = Math.min(Math.max(((i + 0.5) * cells) / size - 0.5, 0), cells - 1);
    const low = Math.min(Math.floor(at), Math.max(cells - 2, 0));
    return [low, Math.min(low + 1, cells - 1), at - low];
  });
  const across = along(width, columns);
  let least = Infinity, most = -Infinity;
  along(height, rows).forEach(([top, bottom, down], y) => {
    for (let x = 0; x < width; x++) {
      const [left, right, part] = across[x];
      const upper = bytes[top * columns + left] * (1 - part) + bytes[top * columns + right] * part;
      const lower = bytes[bottom * columns + left] * (1 - part) + bytes[bottom * columns + right] * part;
      const level = upper * (1 - down) + lower * down;
      levels[y * width + x] = level;
      if (level < least) least = level;
      if (level > most) most = level;
    }
  });
  const span = most - least;
  for (let i = 0; i < levels.length; i++) levels[i] = span > 1e-6 * most ? (levels[i] - least) / span : 0;
  return levels;
}

/** One image: its decoded photo and its attention, drawn on demand. */
class Picture {
  constructor(index, small) {
    this.index = index;
    this.address = url(`${small ? "thumbnail" : "photo"}/${index}?v=${run}`);
    this.side = small ? 160 : SIDE;
    this.ready = this.load();
    this.ready.catch(() => {});
  }

  async load() {
    const image = this.element(), decoded = image.decode();
    decoded.catch(() => {}); // why it failed is asked below
    const bytes = await getBytes(`map/${this.index}?v=${run}`); // tells a lost connection from a photo that cannot be read
    await decoded;
    const scale = this.side / Math.max(image.naturalWidth, image.naturalHeight);
    this.image = image;
    this.width = Math.max(1, Math.round(image.naturalWidth * scale));
    this.height = Math.max(1, Math.round(image.naturalHeight * scale));
    this.levels = upsample(new Uint8Array(bytes), this.width, this.height);
    this.flat = !this.levels.some(level => level > 0);
    return this;
  }

  element() {
    const image = new Image();
    image.alt = "";
    image.decoding = "sync";
    image.src = this.address;
    return image;
  }

  layer() {
    const canvas = document.createElement("canvas");
    canvas.width = this.width;
    canvas.height = this.height;
    return canvas;
  }

  /** Colour over the photo, clear where the model does not look, and a line around what it attends to. */
  drawMap(canvas, opacity, threshold) {
    const {width, height, levels} = this;
    const context = canvas.getContext("2d"), picture = context.createImageData(width, height), data = picture.data;
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const level = levels[i], colour = 3 * ((level * 255) | 0), alpha = opacity * level;
        const slope = Math.hypot(levels[x + 1 < width ? i + 1 : i] - level, levels[y + 1 < height ? i + width : i] - level);
        const line = threshold > 0 && slope > 0 ? Math.max(0, 1 - Math.abs(level - threshold) / (1.2 * slope)) * 0.9 * Math.min(1, 2 * opacity) : 0;
        data[4 * i] = lut[colour] * (1 - line) + 255 * line;
        data[4 * i + 1] = lut[colour + 1] * (1 - line) + 255 * line;
        data[4 * i + 2] = lut[colour + 2] * (1 - line) + 255 * line;
        data[4 * i + 3] = 255 * Math.max(alpha, line);
      }
    }
    context.putImageData(picture, 0, 0);
  }

  /** Dark over the photo, but where the model looks. */
  drawSpot(canvas, threshold) {
    const context = canvas.getContext("2d"), picture = context.createImageData(this.width, this.height), data = picture.data;
    for (let i = 0; i < this.levels.length; i++) {
      const edge = Math.min(Math.max((this.levels[i] - threshold + EDGE) / (2 * EDGE), 0), 1);
      data[4 * i] = data[4 * i + 1] = data[4 * i + 2] = HIDDEN;
      data[4 * i + 3] = 255 * OPAQUE * (1 - edge * edge * (3 - 2 * edge));
    }
    context.putImageData(picture, 0, 0);
  }
}

/** Pictures that were loaded lately. */
class Album {
  constructor(small, most) {
    this.small = small;
    this.most = most;
    this.kept = new Map();
  }

  get(index) {
    let picture = this.kept.get(index);
    this.kept.delete(index);
    picture ??= new Picture(index, this.small);
    picture.ready.catch(() => this.kept.delete(index)); // tried again when it is asked for again
    this.kept.set(index, picture);
    if (this.kept.size > this.most) this.kept.delete(this.kept.keys().next().value);
    return picture;
  }
}

export const photos = new Album(false, 24);
export const thumbnails = new Album(true, 400);

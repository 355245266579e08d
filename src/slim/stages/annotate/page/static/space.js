// The attention space: one point per photo, drawn by WebGL; hover for a preview, click or lasso to add photos.

import {$, make} from "./elements.js";
import {getBytes} from "./http.js";
import {thumbnail} from "./pictures.js";

const plot = $("plot"), canvas = $("points"), marks = $("marks"), peek = $("peek"), legend = $("legend");
const CELLS = 256; // of the grid in which the point under the pointer is looked up
const NEAR = 12; // pixels
const SAMPLE = 30000; // points that are drawn while the map moves; all of them when it stops
const CLASSES = [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [213, 94, 0], [240, 228, 66]];
const VERTEX = `attribute vec2 place; attribute vec4 tint; uniform vec2 scale; uniform vec2 shift; uniform float size; varying vec4 colour;
void main() { gl_Position = vec4(place * scale + shift, 0., 1.); gl_PointSize = size; colour = tint; }`;
const FRAGMENT = `precision mediump float; varying vec4 colour;
void main() { vec2 d = gl_PointCoord - .5; float r = length(d); if (r > .5) discard; float a = colour.a * smoothstep(.5, .38, r); gl_FragColor = vec4(colour.rgb * a, a); }`;

export class Space {
  constructor(session, {onPick, onLasso, answers}) {
    Object.assign(this, {session, onPick, onLasso, answers});
    this.n = session.images;
    this.mode = "score";
    this.zoom = 1;
    this.middle = [0, 0];
    this.hovered = -1;
    this.current = -1;
    this.lassoing = false;
    this.path = null;
    this.scores = null;
    dark.addEventListener("change", () => this.colour());
  }

  async load() {
    const buffer = await getBytes("api/points"), n = this.n;
    const raw = new Float32Array(buffer, 0, 2 * n);
    this.confidence = new Float32Array(buffer, 8 * n, n);
    this.y = new Uint16Array(buffer, 12 * n, n);
    this.predicted = new Uint16Array(buffer, 14 * n, n);
    this.places = this.fitted(raw);
    this.index();
    if (!this.start()) {
      legend.textContent = "The map of photos needs WebGL, which this browser does not support.";
      return;
    }
    new ResizeObserver(() => this.draw()).observe(plot);
    this.listen();
    this.colour();
  }

  /** The coordinates scaled to -0.94..0.94. */
  fitted(raw) {
    const out = new Float32Array(raw.length);
    for (const axis of [0, 1]) {
      let least = Infinity, most = -Infinity;
      for (let i = axis; i < raw.length; i += 2) {
        least = Math.min(least, raw[i]);
        most = Math.max(most, raw[i]);
      }
      const span = most - least || 1;
      for (let i = axis; i < raw.length; i += 2) out[i] = 0.94 * (2 * (raw[i] - least) / span - 1);
    }
    return out;
  }

  cell(x, y) {
    const clip = value => Math.min(Math.max(Math.floor(((value + 1) / 2) * CELLS), 0), CELLS - 1);
    return clip(y) * CELLS + clip(x);
  }

  /** Sort the points by cell, so that a look-up visits only the cells near the pointer. */
  index() {
    this.first = new Uint32Array(CELLS * CELLS + 1);
    const cells = new Uint32Array(this.n);
    for (let i = 0; i < this.n; i++) this.first[(cells[i] = this.cell(this.places[2 * i], this.places[2 * i + 1])) + 1]++;
    for (let c = 0; c < CELLS * CELLS; c++) this.first[c + 1] += this.first[c];
    const next = this.first.slice();
    this.sorted = new Uint32Array(this.n);
    for (let i = 0; i < this.n; i++) this.sorted[next[cells[i]]++] = i;
  }

  /** A random order, so that its first points are a fair sample. */
  shuffled() {
    const order = Uint32Array.from({length: this.n}, (_, i) => i);
    let seed = 1;
    for (let i = this.n - 1; i > 0; i--) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const other = seed % (i + 1);
      [order[i], order[other]] = [order[other], order[i]];
    }
    return order;
  }

  start() {
    const gl = (this.gl = canvas.getContext("webgl", {antialias: false, premultipliedAlpha: true, preserveDrawingBuffer: true}));
    if (!gl) return false;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.at = Object.fromEntries(["scale", "shift", "size"].map(name => [name, gl.getUniformLocation(program, name)]));
    const bind = (name, parts, kind, normalised) => {
      const buffer = gl.createBuffer(), where = gl.getAttribLocation(program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.enableVertexAttribArray(where);
      gl.vertexAttribPointer(where, parts, kind, normalised, 0, 0);
      return buffer;
    };
    bind("place", 2, gl.FLOAT, false);
    this.order = this.shuffled();
    const places = new Float32Array(2 * this.n);
    this.order.forEach((i, k) => places.set([this.places[2 * i], this.places[2 * i + 1]], 2 * k));
    gl.bufferData(gl.ARRAY_BUFFER, places, gl.STATIC_DRAW);
    this.tints = bind("tint", 4, gl.UNSIGNED_BYTE, true);
    return true;
  }

  async renew() {
    this.scores = new Uint8Array(await getBytes("api/scores"));
    if (this.gl) this.colour();
  }

  async setMode(mode) {
    this.mode = mode;
    if (mode === "environment" && !this.clusters) {
      legend.textContent = "Computing clusters…";
      this.clusters = new Uint8Array(await getBytes("api/clusters"));
    }
    if (this.mode === mode) this.colour();
  }

  tint(i) {
    const quiet = dark.matches ? [92, 98, 108] : [176, 181, 188];
    if (this.mode === "label") return CLASSES[this.y[i] % CLASSES.length];
    if (this.mode === "prediction") return this.predicted[i] === 65535 ? quiet : CLASSES[this.predicted[i] % CLASSES.length];
    if (this.mode === "environment") return this.clusters ? CLASSES[this.clusters[i]] : quiet;
    if (this.mode === "score" && this.scores && this.scores[i] < 255) return scoreColour(this.scores[i] / 254);
    return quiet;
  }

  colour() {
    if (!this.gl) return;
    const tints = new Uint8Array(4 * this.n), faint = this.mode === "answer" ? 120 : 215;
    for (let k = 0; k < this.n; k++) {
      tints.set(this.tint(this.order[k]), 4 * k);
      tints[4 * k + 3] = faint;
    }
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.tints);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, tints, this.gl.DYNAMIC_DRAW);
    this.describe();
    this.draw();
  }

  describe() {
    const item = (colour, text) => {
      const dot = make("i");
      dot.style.background = css(colour);
      return make("span", "", dot, text);
    };
    const glyph = name => make("span", "", make("i", `mark ${name}`), name);
    if (this.mode === "score") {
      const scale = make("b");
      scale.style.background = `linear-gradient(to right, ${scoreColours().map(css).join(", ")})`;
      legend.replaceChildren(make("span", "", "0 (spurious) ", scale, " 1 (core)"));
    } else if (this.mode === "answer") {
      legend.replaceChildren(glyph("core"), glyph("spurious"), glyph("unsure"));
    } else if (this.mode === "environment") {
      if (!this.clusters) return;
      const sizes = this.clusters.reduce((n, cluster) => (n[cluster] = (n[cluster] ?? 0) + 1, n), []);
      legend.replaceChildren(...sizes.map((n, i) => item(CLASSES[i], `${i + 1}: ${n.toLocaleString("en")} photos`)));
    } else {
      const names = this.session.classes, most = CLASSES.length;
      legend.replaceChildren(...names.slice(0, most).map((name, i) => item(CLASSES[i], name)), ...(names.length > most ? [`and ${names.length - most} more, colours repeat`] : []));
    }
  }

  /** Where a point lies on the plot, in CSS pixels. */
  screen(i) {
    const {clientWidth: width, clientHeight: height} = plot;
    return [(((this.places[2 * i] - this.middle[0]) * this.zoom + 1) / 2) * width, ((1 - (this.places[2 * i + 1] - this.middle[1]) * this.zoom) / 2) * height];
  }

  /** The coordinates at a point of the plot. */
  world(x, y) {
    return [((2 * x) / plot.clientWidth - 1) / this.zoom + this.middle[0], (1 - (2 * y) / plot.clientHeight) / this.zoom + this.middle[1]];
  }

  draw() {
    if (!this.gl || this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      const gl = this.gl, ratio = devicePixelRatio || 1, width = Math.round(plot.clientWidth * ratio), height = Math.round(plot.clientHeight * ratio);
      if (!width) return;
      for (const surface of [canvas, marks]) {
        if (surface.width !== width || surface.height !== height) Object.assign(surface, {width, height});
      }
      gl.viewport(0, 0, width, height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniform2f(this.at.scale, this.zoom, this.zoom);
      gl.uniform2f(this.at.shift, -this.middle[0] * this.zoom, -this.middle[1] * this.zoom);
      const base = Math.min(Math.max(260 / Math.sqrt(this.n), 2), 6);
      gl.uniform1f(this.at.size, ratio * Math.min(base * Math.sqrt(this.zoom), 9));
      gl.drawArrays(gl.POINTS, 0, this.moving ? Math.min(this.n, SAMPLE) : this.n);
      this.drawMarks(ratio);
    });
  }

  /** Draw a sample while the map moves, and all points when it stops. */
  move() {
    this.moving = true;
    clearTimeout(this.rest);
    this.rest = setTimeout(() => {
      this.moving = false;
      this.draw();
    }, 140);
    this.hide();
    this.draw();
  }

  drawMarks(ratio) {
    const context = marks.getContext("2d"), style = getComputedStyle(document.body);
    const value = name => style.getPropertyValue(name).trim();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, plot.clientWidth, plot.clientHeight);
    for (const [index, answer] of this.answers()) {
      const [x, y] = this.screen(index);
      context.beginPath();
      if (answer === "spurious") { context.moveTo(x, y - 5.5); context.lineTo(x + 5.5, y); context.lineTo(x, y + 5.5); context.lineTo(x - 5.5, y); context.closePath(); }
      else context.arc(x, y, 4.5, 0, 7);
      context.fillStyle = answer === "unsure" ? value("--page") : value(`--${answer}`);
      context.strokeStyle = answer === "unsure" ? value("--unsure") : value("--page");
      context.lineWidth = answer === "unsure" ? 2 : 1.5;
      context.fill();
      context.stroke();
    }
    for (const [index, radius] of [[this.current, 9], [this.hovered, 7]]) {
      if (index < 0) continue;
      context.beginPath();
      context.arc(...this.screen(index), radius, 0, 7);
      context.lineWidth = 2;
      context.strokeStyle = value("--ink");
      context.stroke();
    }
    if (this.path) {
      context.beginPath();
      this.path.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.closePath();
      context.globalAlpha = 0.12;
      context.fillStyle = value("--core");
      context.fill();
      context.globalAlpha = 1;
      context.strokeStyle = value("--core");
      context.lineWidth = 1.5;
      context.stroke();
    }
  }

  /** The point under the pointer, or -1. */
  pick(x, y) {
    const [left, top] = this.world(x - NEAR, y - NEAR), [right, bottom] = this.world(x + NEAR, y + NEAR);
    const from = this.cell(left, bottom), to = this.cell(right, top);
    let best = -1, least = NEAR * NEAR;
    for (let row = Math.floor(from / CELLS); row <= Math.floor(to / CELLS); row++) {
      for (let k = this.first[row * CELLS + (from % CELLS)], end = this.first[row * CELLS + (to % CELLS) + 1]; k < end; k++) {
        const i = this.sorted[k], [px, py] = this.screen(i), distance = (px - x) ** 2 + (py - y) ** 2;
        if (distance < least) [best, least] = [i, distance];
      }
    }
    return best;
  }

  /** All points within the lasso. */
  within(path) {
    const corners = path.map(([x, y]) => this.world(x, y)), found = [];
    for (let i = 0; i < this.n; i++) {
      const x = this.places[2 * i], y = this.places[2 * i + 1];
      let inside = false;
      for (let a = 0, b = corners.length - 1; a < corners.length; b = a++) {
        const [ax, ay] = corners[a], [bx, by] = corners[b];
        if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
      }
      if (inside) found.push(i);
    }
    return found;
  }

  listen() {
    const at = event => {
      const box = plot.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    let start = null;
    marks.addEventListener("pointerdown", event => {
      marks.setPointerCapture(event.pointerId);
      start = {at: at(event), middle: [...this.middle], moved: false};
      if (this.lassoing || event.shiftKey) this.path = [start.at];
    });
    marks.addEventListener("pointermove", event => {
      const [x, y] = at(event);
      if (!start) return this.hover(x, y);
      start.moved ||= Math.hypot(x - start.at[0], y - start.at[1]) > 4;
      if (this.path) this.path.push([x, y]);
      else if (start.moved) {
        this.middle = [start.middle[0] - (2 * (x - start.at[0])) / plot.clientWidth / this.zoom, start.middle[1] + (2 * (y - start.at[1])) / plot.clientHeight / this.zoom];
        return this.move();
      }
      this.hide();
      this.draw();
    });
    marks.addEventListener("pointerup", event => {
      const path = this.path, moved = start?.moved;
      this.path = start = null;
      this.draw();
      if (path && path.length > 3) this.onLasso(this.within(path));
      else if (!moved) {
        const i = this.pick(...at(event));
        if (i >= 0) this.onPick(i);
      }
    });
    marks.addEventListener("pointerleave", () => this.hide());
    marks.addEventListener("wheel", event => {
      event.preventDefault();
      const [x, y] = at(event), before = this.world(x, y);
      this.zoom = Math.min(Math.max(this.zoom * Math.exp(-event.deltaY / 400), 1), 60);
      const after = this.world(x, y);
      this.middle = this.zoom === 1 ? [0, 0] : [this.middle[0] + before[0] - after[0], this.middle[1] + before[1] - after[1]];
      this.move();
    }, {passive: false});
  }

  reset() {
    this.zoom = 1;
    this.middle = [0, 0];
    this.draw();
  }

  hide() {
    this.hovered = -1;
    peek.hidden = true;
  }

  hover(x, y) {
    const i = this.pick(x, y);
    if (i === this.hovered) return;
    this.hovered = i;
    this.draw();
    if (i < 0) return this.hide();
    const names = this.session.classes, score = this.scores?.[i] ?? 255;
    const lines = [names[this.y[i]]];
    if (this.predicted[i] !== 65535) lines[0] += ` · predicted ${names[this.predicted[i]]} ${Math.round(100 * this.confidence[i])} %`;
    if (score < 255) lines.push(`score ${(score / 254).toFixed(2)}`);
    const [px, py] = this.screen(i), frame = peek.firstElementChild;
    peek.lastElementChild.textContent = lines.join("\n");
    peek.style.left = `${Math.min(Math.max(px - 84, 0), plot.clientWidth - 168)}px`;
    peek.style.top = py > plot.clientHeight / 2 ? "auto" : `${py + 14}px`;
    peek.style.bottom = py > plot.clientHeight / 2 ? `${plot.clientHeight - py + 14}px` : "auto";
    frame.replaceChildren();
    frame.className = "frame wait";
    peek.hidden = false;
    thumbnail(i).then(images => {
      if (this.hovered !== i) return;
      frame.className = "frame";
      frame.replaceChildren(...images);
    }, () => { if (this.hovered === i) frame.className = "frame broken"; });
  }
}

// Scores from orange (spurious) over grey to blue (core), which colour-blind people can tell apart.
const LIGHT = [[201, 90, 18], [196, 196, 190], [0, 99, 168]], DARK = [[242, 140, 79], [98, 102, 110], [95, 180, 240]];
const dark = matchMedia("(prefers-color-scheme: dark)");

const scoreColours = () => (dark.matches ? DARK : LIGHT);
const css = colour => `rgb(${colour.join(" ")})`;

function scoreColour(score) {
  const part = score < 0.5 ? 2 * score : 2 * score - 1, from = score < 0.5 ? 0 : 1, ends = scoreColours();
  return ends[from].map((value, c) => Math.round(value * (1 - part) + ends[from + 1][c] * part));
}

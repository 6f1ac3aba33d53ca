// The explorer: sliders, classes, drawing, the plane of codes, the way between two images.
"use strict";

const model = new Model(SPEC);
const [HEIGHT, WIDTH, CHANNELS] = SPEC.shape;
const IS_IMAGE = SPEC.shape.length === 3;
const COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"];
const byId = (name) => document.getElementById(name);
const held = examplesOf(SPEC.examples);
const state = { z: new Float32Array(SPEC.latents), label: 0, uniform: null, drawing: 0 };

function examplesOf({ count, x, labels }) {
  const size = model.pixels(), values = IS_IMAGE ? decodeBytes(x) : decodeFloats(x);
  return Array.from({ length: count }, (_, i) => {
    const part = values.slice(i * size, (i + 1) * size);
    return { x: IS_IMAGE ? Float32Array.from(part, (value) => value / 255) : part, label: labels[i] };
  });
}

function button(parent, text, onClick) {
  const made = document.createElement("button");
  made.textContent = text;
  made.addEventListener("click", onClick);
  parent.append(made);
  return made;
}

// Pictures

function paint(canvas, x) {
  if (!IS_IMAGE) return paintPoints(canvas, x);
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const context = canvas.getContext("2d"), picture = context.createImageData(WIDTH, HEIGHT);
  for (let i = 0; i < HEIGHT * WIDTH; i++) {
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = 255 * x[i * CHANNELS + (CHANNELS === 3 ? c : 0)];
    picture.data[4 * i + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

const bounds = IS_IMAGE ? null : [0, 1].map((axis) => {
  const values = held.map(({ x }) => x[axis]), low = Math.min(...values), high = Math.max(...values);
  return [low - 0.15 * (high - low), high + 0.15 * (high - low)];
});

function paintPoints(canvas, x) {
  // held-out points, samples of the same class, and the point that the code decodes to
  const size = (canvas.width = canvas.height = 480), context = canvas.getContext("2d");
  const place = (point) => [0, 1].map((axis) => {
    const [low, high] = bounds[axis], share = (point[axis] - low) / (high - low);
    return size * (axis ? 1 - share : share);
  });
  const dot = (point, radius, colour) => {
    context.fillStyle = colour;
    context.beginPath();
    context.arc(...place(point), radius, 0, 7);
    context.fill();
  };
  held.forEach((example) => dot(example.x, 2.5, "#888"));
  samplesOfPoints().forEach((point) => dot(point, 2, "#6cf"));
  context.strokeStyle = "#f90";
  context.beginPath();
  context.ellipse(...place(x), ...[0, 1].map((axis) => size * 2 * SPEC.std / (bounds[axis][1] - bounds[axis][0])), 0, 0, 7);
  context.stroke();
  dot(x, 6, "#f90");
}

const samplesOfPoints = (() => {
  const drawn = new Map();
  return () => {
    if (!drawn.has(state.label)) {
      const codes = Array.from({ length: 300 }, () => model.fromNoise(normals(SPEC.latents), state.label));
      drawn.set(state.label, codes.map((z) => model.decode(z, state.label).map((value) => value + SPEC.std * normals(1)[0])));
    }
    return drawn.get(state.label);
  };
})();

// From a code to an image

function show() {
  const turn = ++state.drawing;
  if (model.window && byId("slowly").checked) return showSlowly(turn);
  paintBoth(model.decode(state.z, state.label, state.uniform));
  byId("image").dataset.turn = turn;
}

function paintBoth(x) {
  paint(byId("image"), x);
  paint(byId("here"), x);
}

function showSlowly(turn) {
  const x = new Float32Array(model.pixels()).fill(0.15);
  const pixels = model.inOrder(model.decoderOutput(state.z, state.label), state.uniform, x);
  const step = () => {
    if (turn !== state.drawing) return;
    for (let i = 0; i < Math.max(1, Math.round(model.pixels() / 260)); i++) {
      if (pixels.next().done) { byId("image").dataset.turn = turn; return paintBoth(x); }
    }
    paintBoth(x);
    requestAnimationFrame(step);
  };
  step();
}

let isWaiting = false;
function refresh() {
  // at most once a frame, however fast a slider moves
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => { isWaiting = false; show(); markPlane(); });
}

function setCode(z) {
  state.z = Float32Array.from(z);
  sliders.forEach(({ input, output, latent }) => {
    input.value = state.z[latent];
    output.textContent = state.z[latent].toFixed(2);
  });
  refresh();
  showStyles();
}

function newTexture() {
  state.uniform = model.window ? noise(model.pixels()) : null;
}

function setLabel(number, { keepStyle = true } = {}) {
  // a learned p(z|y): the noise behind the code goes through the prior of the other class
  const z = keepStyle ? model.fromNoise(model.toNoise(state.z, state.label), number) : state.z;
  state.label = number;
  [...byId("classes").children].forEach((other, i) => other.setAttribute("aria-pressed", String(i === number)));
  setCode(z);
}

function encodeExample({ x, label }) {
  const number = SPEC.classes.length ? label : 0;
  return { z: model.encode(x, number).mean, label: number };
}

function startFrom(example) {
  const { z, label } = encodeExample(example);
  state.z = z;
  setLabel(label, { keepStyle: false });
}

// The code as every class, once it has come to rest
let styles = null;
function showStyles() {
  if (!SPEC.classes.length || !IS_IMAGE) return;
  byId("all").hidden = false;
  clearTimeout(styles);
  const cells = [...byId("styles").children];
  let noise = null;
  const next = (number) => {
    if (number === cells.length) return;
    noise ??= Float32Array.from(model.toNoise(state.z, state.label));
    paint(cells[number].firstChild, model.decode(model.fromNoise(noise, number), number, state.uniform));
    styles = setTimeout(next, 0, number + 1);
  };
  styles = setTimeout(next, 300, 0);
}

const FEW = 16;  // sliders that are seen at once
const sliders = SPEC.order.map((latent, place) => {
  const row = document.createElement("label"), [low, high] = SPEC.ranges[latent];
  row.className = "slider";
  const text = document.createElement("span"), input = document.createElement("input"), output = document.createElement("output");
  text.textContent = SPEC.rates ? `z${latent + 1}, ${SPEC.rates[latent].toFixed(1)} nats` : `z${latent + 1}`;
  Object.assign(input, { type: "range", min: low, max: high, step: (high - low) / 400, value: 0 });
  input.addEventListener("input", () => {
    state.z[latent] = Number(input.value);
    output.textContent = state.z[latent].toFixed(2);
    refresh();
    showStyles();
  });
  row.append(text, input, output);
  byId(place < FEW ? "sliders" : "more-sliders").append(row);
  return { input, output, latent };
});

byId("more").hidden = SPEC.latents <= FEW;

SPEC.classes.forEach((name, number) => {
  button(byId("classes"), name, () => { setLabel(number); });
  const cell = button(byId("styles"), "", () => setLabel(number));
  cell.setAttribute("aria-label", `as ${name}`);
  cell.append(document.createElement("canvas"));
});

byId("random").addEventListener("click", () => {
  newTexture();
  setCode(model.fromNoise(normals(SPEC.latents), state.label));
});
byId("reset").addEventListener("click", () => { setCode(model.fromNoise(new Float32Array(SPEC.latents), state.label)); });
byId("again").addEventListener("click", () => { newTexture(); show(); showStyles(); });
byId("slowly").addEventListener("change", show);
byId("again").hidden = byId("slowly-label").hidden = !model.window;

held.slice(0, IS_IMAGE ? 30 : 0).forEach((example, i) => {
  const cell = button(byId("examples"), "", () => startFrom(example));
  const name = SPEC.names[example.label] ? `, ${SPEC.names[example.label]}` : "";
  cell.setAttribute("aria-label", `held-out example ${i + 1}${name}`);
  cell.append(document.createElement("canvas"));
  paint(cell.firstChild, example.x);
});
if (!IS_IMAGE) byId("examples").previousElementSibling.hidden = true;

// Drawing

function setUpDrawing() {
  const pad = byId("pad"), context = pad.getContext("2d");
  pad.width = pad.height = 280;
  let last = null, isEmpty = true;
  const clear = () => { context.fillStyle = "#000"; context.fillRect(0, 0, 280, 280); isEmpty = true; last = null; };
  const place = (event) => {
    const box = pad.getBoundingClientRect();
    return [(event.clientX - box.left) * 280 / box.width, (event.clientY - box.top) * 280 / box.height];
  };
  pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); last = place(event); line(last, last); });
  pad.addEventListener("pointermove", (event) => { if (last) { const now = place(event); line(last, now); last = now; } });
  for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => { if (last) { last = null; use(); } });
  function line(from, to) {
    Object.assign(context, { strokeStyle: "#fff", lineWidth: 22, lineCap: "round", lineJoin: "round" });
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(to[0] + 0.01, to[1]);
    context.stroke();
    isEmpty = false;
  }
  function use() {
    if (isEmpty) return;
    const x = centred(context.getImageData(0, 0, 280, 280));
    paint(byId("drawn"), x);
    const number = SPEC.classes.length ? mostProbable(x) : 0;
    const { mean } = model.encode(x, number);
    const redrawn = model.decode(mean, number, model.window ? noise(model.pixels()) : null);
    paint(byId("redrawn"), redrawn);
    byId("redrawn").dataset.x = JSON.stringify(Array.from(redrawn, (value) => Math.round(255 * value)));
    byId("redrawn-caption").textContent = SPEC.classes.length ? `encoded and decoded, as ${SPEC.classes[number]}` : "encoded and decoded";
    state.z = mean;
    setLabel(number, { keepStyle: false });
  }
  byId("clear").addEventListener("click", clear);
  clear();
  ["drawn", "redrawn"].forEach((name) => paint(byId(name), new Float32Array(model.pixels())));
}

// As MNIST's digits are made: the box of the drawing scaled to 20 of 28 pixels, its centre of mass in the middle
function centred(picture) {
  const { data, width, height } = picture, at = (row, column) => data[4 * (row * width + column)] / 255;
  let top = height, bottom = -1, left = width, right = -1;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (at(row, column) < 0.5) continue;
      top = Math.min(top, row); bottom = Math.max(bottom, row);
      left = Math.min(left, column); right = Math.max(right, column);
    }
  }
  const side = Math.max(bottom - top, right - left) + 1, scale = side / (Math.min(HEIGHT, WIDTH) * 20 / 28);
  let mass = 0, down = 0, across = 0;
  for (let row = top; row <= bottom; row++) {
    for (let column = left; column <= right; column++) {
      const value = at(row, column);
      mass += value; down += value * row; across += value * column;
    }
  }
  const x = new Float32Array(model.pixels()), steps = Math.max(1, Math.ceil(scale));
  for (let row = 0; row < HEIGHT; row++) {
    for (let column = 0; column < WIDTH; column++) {
      let sum = 0;
      for (let i = 0; i < steps * steps; i++) {
        const y = down / mass + (row - HEIGHT / 2 + (Math.floor(i / steps) + 0.5) / steps) * scale;
        const z = across / mass + (column - WIDTH / 2 + (i % steps + 0.5) / steps) * scale;
        const r = Math.round(y), c = Math.round(z);
        if (r >= 0 && c >= 0 && r < height && c < width) sum += at(r, c);
      }
      const value = sum / (steps * steps);
      for (let channel = 0; channel < CHANNELS; channel++) {
        x[(row * WIDTH + column) * CHANNELS + channel] = SPEC.binary ? Number(value > 0.5) : value;
      }
    }
  }
  return x;
}

// argmax over classes of the bound at the posterior mean: log p(x|z) + log p(z|y) - log q(z|x, y)
function mostProbable(x) {
  const scores = SPEC.classes.map((_, number) => {
    const { mean, logvar } = model.encode(x, number), output = model.decoderOutput(mean, number);
    return model.logLikelihood(x, model.window ? paramsOf(x, output) : output) + model.logPrior(mean, number)
      + 0.5 * logvar.reduce((a, b) => a + b, 0);
  });
  return scores.indexOf(Math.max(...scores));
}

// The parameters of every pixel given the pixels before it: those of x, where `drawPixel` would draw new ones
function paramsOf(x, features) {
  const found = [], copy = x.slice(), draw = model.drawPixel;
  model.drawPixel = (params) => found.push(...params);
  for (const _ of model.inOrder(features, null, copy));
  model.drawPixel = draw;
  return found;
}

// The plane of codes

const codes = (() => {
  const all = decodeHalf(SPEC.codes.means);
  return SPEC.codes.labels.map((label, i) => ({ z: all.subarray(i * SPEC.latents, (i + 1) * SPEC.latents), label }));
})();
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
let plane = null;

// An origin and two directions; `coordinates` are those of the nearest point of the plane
function planeOf(origin, across, up) {
  const aa = dot(across, across), bb = dot(up, up), ab = dot(across, up), determinant = aa * bb - ab * ab || 1e-9;
  return {
    code: (s, t) => Float32Array.from(origin, (value, i) => value + s * across[i] + t * up[i]),
    coordinates: (z) => {
      const from = Array.from(z, (value, i) => value - origin[i]), a = dot(from, across), b = dot(from, up);
      return [(a * bb - b * ab) / determinant, (b * aa - a * ab) / determinant];
    },
  };
}

function setPlane(corners) {
  if (SPEC.latents === 2) plane = planeOf([0, 0], [1, 0], [0, 1]);
  else {
    const [a, b, c] = corners.map((example) => encodeExample(example).z);
    plane = planeOf(a, b.map((value, i) => value - a[i]), c.map((value, i) => value - a[i]));
    plane.corners = [[0, 0], [1, 0], [0, 1]];
  }
  const places = [...codes.map(({ z }) => plane.coordinates(z)), ...(plane.corners || [])];
  plane.range = [0, 1].map((axis) => {
    const values = places.map((place) => place[axis]).sort((a, b) => a - b), cut = Math.floor(values.length / 100);
    const low = Math.min(values[cut], 0), high = Math.max(values[values.length - 1 - cut], SPEC.latents === 2 ? 0 : 1);
    return [low - 0.1 * (high - low), high + 0.1 * (high - low)];
  });
  drawPlane();
}

const MAP = 520;
const onMapAt = ([s, t]) => [[s, 0], [t, 1]].map(([value, axis]) => {
  const [low, high] = plane.range[axis], share = (value - low) / (high - low);
  return MAP * (axis ? 1 - share : share);
});

function drawPlane() {
  const canvas = byId("map"), context = canvas.getContext("2d");
  canvas.width = canvas.height = MAP;
  codes.forEach(({ z, label }) => {
    context.fillStyle = label < 0 && SPEC.names.length ? "#777" : COLOURS[Math.max(label, 0) % COLOURS.length];
    context.beginPath();
    context.arc(...onMapAt(plane.coordinates(z)), 2.2, 0, 7);
    context.fill();
  });
  (plane.corners || []).forEach((corner, i) => {
    const [x, y] = onMapAt(corner);
    context.font = "bold 16px system-ui";
    context.lineWidth = 4;
    context.strokeStyle = "#fff";
    context.strokeText("ABC"[i], x - 5, y + 6);
    context.fillStyle = "#000";
    context.fillText("ABC"[i], x - 5, y + 6);
  });
  plane.picture = context.getImageData(0, 0, MAP, MAP);
  markPlane();
}

function markPlane() {
  if (!plane) return;
  const context = byId("map").getContext("2d"), [x, y] = onMapAt(plane.coordinates(state.z));
  context.putImageData(plane.picture, 0, 0);
  context.strokeStyle = getComputedStyle(document.body).color;
  context.lineWidth = 2;
  context.strokeRect(x - 6, y - 6, 12, 12);
}

function setUpPlane() {
  const map = byId("map");
  const move = (s, t) => setCode(plane.code(s, t));
  const at = (event) => {
    const box = map.getBoundingClientRect();
    const shares = [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
    move(...shares.map((share, axis) => plane.range[axis][0] + share * (plane.range[axis][1] - plane.range[axis][0])));
  };
  map.addEventListener("pointermove", at);
  map.addEventListener("pointerdown", at);
  map.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!steps) return;
    event.preventDefault();
    move(...plane.coordinates(state.z).map((value, axis) => value + steps[axis] * (plane.range[axis][1] - plane.range[axis][0]) / 50));
  });
  byId("plane-text").textContent = SPEC.latents === 2
    ? "The two latents. Each dot is the code of a held-out example. Move over the plane, or use the arrow keys: the image beside it follows."
    : "The plane through three held-out examples A, B and C, with the codes of others as dots at the nearest points. "
      + "Move over it, or use the arrow keys: the image beside it follows.";
  if (SPEC.latents > 2) chooser(byId("corners"), ["A", "B", "C"], setPlane);
  else setPlane([]);
  SPEC.names.forEach((name, i) => {
    const entry = document.createElement("span");
    entry.style.setProperty("--dot", COLOURS[i % COLOURS.length]);
    entry.textContent = name;
    byId("legend").append(entry);
  });
}

// Buttons, each of which goes to the next held-out example
function chooser(parent, names, use) {
  const different = [...new Map(held.map((example) => [example.label, example])).values()];
  const first = different.length < names.length ? held : different;
  const chosen = names.map((_, i) => held.indexOf(first[i % first.length]));
  names.forEach((name, i) => {
    const pick = button(parent, "", () => { do chosen[i] = (chosen[i] + 1) % held.length; while (chosen.indexOf(chosen[i]) !== chosen.lastIndexOf(chosen[i])); label(); use(chosen.map((n) => held[n])); });
    const label = () => { pick.textContent = `${name}: example ${chosen[i] + 1}, next`; };
    label();
  });
  use(chosen.map((n) => held[n]));
}

// Between two images

// As in interpolation.png (White 2016): the direction follows the great circle, the length changes linearly
function slerp(start, end, share) {
  const lengths = [start, end].map((code) => Math.sqrt(dot(code, code)));
  const [a, b] = [start, end].map((code, i) => code.map((value) => value / Math.max(lengths[i], 1e-12)));
  const angle = Math.acos(clip(dot(a, b), -1, 1)), sine = Math.sin(angle);
  if (sine < 1e-3) return start.map((value, i) => (1 - share) * value + share * end[i]);
  const [p, q] = [Math.sin((1 - share) * angle) / sine, Math.sin(share * angle) / sine];
  const length = (1 - share) * lengths[0] + share * lengths[1];
  return a.map((value, i) => length * (p * value + q * b[i]));
}

function setUpBetween() {
  let ends = null, timer = null, isDrawing = false;
  const share = byId("share"), play = byId("play");
  const draw = () => {
    isDrawing = false;
    const t = Number(share.value), number = (t < 0.5 ? ends[0] : ends[1]).label;
    const z = model.fromNoise(slerp(ends[0].noise, ends[1].noise, t), number);
    paint(byId("middle"), model.decode(z, number, state.uniform));
  };
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
  chooser(byId("ends"), ["from", "to"], (examples) => {
    ends = examples.map((example) => {
      const { z, label } = encodeExample(example);
      return { label, noise: model.toNoise(z, label) };
    });
    paint(byId("from"), examples[0].x);
    paint(byId("to"), examples[1].x);
    draw();
  });
  share.addEventListener("input", () => { if (!isDrawing) { isDrawing = true; requestAnimationFrame(draw); } });
  play.addEventListener("click", () => {
    if (timer) return stop();
    play.textContent = "Stop";
    if (Number(share.value) >= 1) share.value = 0;
    timer = setInterval(() => {
      share.value = Number(share.value) + 0.01;
      draw();
      if (Number(share.value) >= 1) stop();
    }, 40);
  });
}

newTexture();
if (held.length && IS_IMAGE) startFrom(held[0]);
else setLabel(0, { keepStyle: false });
if (byId("draw")) setUpDrawing();
if (SPEC.latents > 1) setUpPlane();
byId("plane").hidden = SPEC.latents < 2;
if (IS_IMAGE) setUpBetween();
document.body.dataset.ready = "true";

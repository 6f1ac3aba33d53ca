// The networks of a trained model in plain JavaScript, for one example at a time.
// A map is {data: Float32Array, height, width, channels}, channels last; a vector is a Float32Array.
"use strict";

// Weights

const decodeBytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const decodeFloats = (text) => new Float32Array(decodeBytes(text).buffer);

function decodeHalf(text) {
  // base64 of little-endian float16 -> Float32Array
  const halves = new Uint16Array(decodeBytes(text).buffer);
  const table = new Float32Array(65536);
  for (let half = 0; half < 65536; half++) {
    const exponent = (half >> 10) & 31, fraction = half & 1023, sign = half >> 15 ? -1 : 1;
    if (exponent === 0) table[half] = sign * fraction * 2 ** -24;
    else if (exponent === 31) table[half] = fraction ? NaN : sign * Infinity;
    else table[half] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return Float32Array.from(halves, (half) => table[half]);
}

// Functions

function erf(x) {
  // Abramowitz and Stegun 7.1.26 has too few digits: a series near 0, a continued fraction beyond
  const z = Math.abs(x);
  let value;
  if (z < 2.5) {
    let term = z, sum = z;
    for (let n = 1; n < 60 && term > 1e-17 * sum; n++) { term *= (2 * z * z) / (2 * n + 1); sum += term; }
    value = (2 / Math.sqrt(Math.PI)) * Math.exp(-z * z) * sum;
  } else {
    let tail = 0;
    for (let n = 40; n > 0; n--) tail = n / 2 / (z + tail);
    value = 1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + tail);
  }
  return x < 0 ? -value : value;
}
const normalCdf = (x) => 0.5 * (1 + erf(x / Math.SQRT2));
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const softplus = (x) => (x > 0 ? x + Math.log1p(Math.exp(-x)) : Math.log1p(Math.exp(x)));
const ACTIVATIONS = {
  linear: (x) => x,
  relu: (x) => Math.max(x, 0),
  leaky_relu: (x) => (x > 0 ? x : 0.2 * x),
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
  gelu: (x) => x * normalCdf(x),
};

function activate(values, name) {
  if (name === "linear") return values;
  const f = ACTIVATIONS[name];
  for (let i = 0; i < values.length; i++) values[i] = f(values[i]);
  return values;
}

// Layers: each takes what the layer before gave

function dense(x, layer) {
  // x: a vector, or rows of vectors one after the other
  const { kernel, bias, inputs, outputs } = layer;
  const rows = x.length / inputs, y = new Float32Array(rows * outputs);
  for (let row = 0; row < rows; row++) {
    const to = row * outputs;
    if (bias) y.set(bias, to);
    for (let i = 0; i < inputs; i++) {
      const value = x[row * inputs + i];
      if (value === 0) continue;
      const from = i * outputs;
      for (let j = 0; j < outputs; j++) y[to + j] += value * kernel[from + j];
    }
  }
  return activate(y, layer.activation);
}

function convolution(x, layer) {
  // TensorFlow's "same" padding
  const { kernel, bias, size, stride, outputs } = layer;
  const height = Math.ceil(x.height / stride), width = Math.ceil(x.width / stride);
  const top = Math.max(0, (height - 1) * stride + size - x.height) >> 1;
  const left = Math.max(0, (width - 1) * stride + size - x.width) >> 1;
  const data = new Float32Array(height * width * outputs);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const to = (row * width + column) * outputs;
      if (bias) data.set(bias, to);
      for (let down = 0; down < size; down++) {
        const fromRow = row * stride + down - top;
        if (fromRow < 0 || fromRow >= x.height) continue;
        for (let right = 0; right < size; right++) {
          const fromColumn = column * stride + right - left;
          if (fromColumn < 0 || fromColumn >= x.width) continue;
          accumulate(data, to, x.data, (fromRow * x.width + fromColumn) * x.channels, x.channels,
                     kernel, (down * size + right) * x.channels * outputs, outputs);
        }
      }
    }
  }
  activate(data, layer.activation);
  return { data, height, width, channels: outputs };
}

function accumulate(y, to, x, from, inputs, kernel, start, outputs) {
  for (let i = 0; i < inputs; i++) {
    const value = x[from + i];
    if (value === 0) continue;
    const k = start + i * outputs;
    for (let j = 0; j < outputs; j++) y[to + j] += value * kernel[k + j];
  }
}

function depthToSpace(x) {
  const channels = x.channels / 4, width = 2 * x.width, data = new Float32Array(x.data.length);
  for (let row = 0; row < x.height; row++) {
    for (let column = 0; column < x.width; column++) {
      const from = (row * x.width + column) * x.channels;
      for (let part = 0; part < 4; part++) {
        const to = ((2 * row + (part >> 1)) * width + 2 * column + (part & 1)) * channels;
        for (let c = 0; c < channels; c++) data[to + c] = x.data[from + part * channels + c];
      }
    }
  }
  return { data, height: 2 * x.height, width, channels };
}

function crop(x, { height, width }) {
  const top = (x.height - height) >> 1, left = (x.width - width) >> 1;
  const data = new Float32Array(height * width * x.channels);
  for (let row = 0; row < height; row++) {
    const from = ((row + top) * x.width + left) * x.channels;
    data.set(x.data.subarray(from, from + width * x.channels), row * width * x.channels);
  }
  return { data, height, width, channels: x.channels };
}

function residual(x, layer) {
  const activated = { ...x, data: activate(x.data.slice(), layer.activation) };
  const update = convolution(convolution(activated, layer.conv1), layer.conv2);
  return { ...x, data: x.data.map((value, i) => value + update.data[i]) };
}

function onMap(f) {
  return (x, layer) => (x.data ? { ...x, data: f(x.data, layer), channels: layer.outputs } : f(x, layer));
}

const LAYERS = {
  dense: onMap(dense),
  convolution,
  doubling: (x, layer) => depthToSpace(convolution(x, layer.conv)),
  residual,
  crop,
  flatten: (x) => (x.data ? x.data : x),
  reshape: (x, { height, width, channels }) => ({ data: x.data || x, height, width, channels }),
  pixels: (x, layer) => ({ ...x, data: pixelLayers(x.data, layer), channels: layer.head.outputs }),
};
const apply = (layers, x) => layers.reduce((h, layer) => LAYERS[layer.kind](h, layer), x);

function pixelLayers(h, { hidden, head }, update = (layer, x) => dense(x, layer)) {
  h = activate(h.slice(), "elu");
  for (const layer of hidden) {
    const change = update(layer, h);
    h = activate(change.length === h.length ? change.map((value, i) => value + h[i]) : change, "elu");
  }
  return dense(h, head);
}

function joined(x, oneHot) {
  if (!oneHot) return x;
  const both = new Float32Array(x.length + oneHot.length);
  both.set(x);
  both.set(oneHot, x.length);
  return both;
}

// The model

class Model {
  constructor(spec) {
    this.spec = spec;
    this.shape = spec.shape;
    this.latents = spec.latents;
    const floats = spec.bits === 32 ? decodeFloats(spec.weights.floats) : decodeHalf(spec.weights.floats);
    const whole = new Int8Array(decodeBytes(spec.weights.bytes).buffer);
    const at = (array, [start, length]) => array.subarray(start, start + length);
    // {"$": [start, length]} stands for floats; {"bytes": ..., "scales": ...} for whole numbers, a scale an output
    const filled = (part) => {
      if (part === null || typeof part !== "object") return part;
      if (part.$) return at(floats, part.$);
      if (part.scales) {
        const scales = at(floats, part.scales);
        return Float32Array.from(at(whole, part.bytes), (value, i) => value * scales[i % scales.length]);
      }
      if (Array.isArray(part)) return part.map(filled);
      return Object.fromEntries(Object.entries(part).map(([name, value]) => [name, filled(value)]));
    };
    for (const part of ["encoder", "decoder", "window", "prior", "likelihood"]) this[part] = filled(spec[part]);
  }

  oneHot(number) {
    if (!this.spec.classes.length) return null;
    const row = new Float32Array(this.spec.classes.length);
    row[number] = 1;
    return row;
  }

  encode(x, number) {
    const [height, width, channels] = this.shape;
    const input = this.shape.length === 3 ? { data: x, height, width, channels } : x;
    const features = apply(this.encoder.body, input);
    const label = this.encoder.label ? this.oneHot(number) : null;
    const head = dense(dense(joined(features.data || features, label), this.encoder.hidden), this.encoder.head);
    return { mean: head.slice(0, this.latents),
             logvar: head.slice(this.latents).map((raw) => 15 * Math.tanh(raw / 15)) };
  }

  // Parameters of p(x|z), or the features of a window
  decoderOutput(z, number) {
    const h = apply(this.decoder.layers, joined(z, this.decoder.label ? this.oneHot(number) : null));
    const data = h.data || h;
    return this.decoder.offset ? data.map((value, i) => value + this.decoder.offset[i]) : data;
  }

  // The mean of p(x|z); of a window a draw, pixel by pixel
  decode(z, number, uniform = null) {
    const output = this.decoderOutput(z, number);
    return this.window ? this.drawInOrder(output, uniform || noise(this.pixels())) : this.mean(output);
  }

  pixels() {
    return this.shape.reduce((a, b) => a * b, 1);
  }

  mean(params) {
    const kind = this.likelihood.kind;
    if (kind === "bernoulli") return params.map(sigmoid);
    if (kind !== "logistic") return params;
    const channels = this.shape[this.shape.length - 1], x = new Float32Array(this.pixels());
    for (let i = 0; i < x.length; i++) {
      const [location, scale] = this.logistic(params, x, Math.floor(i / channels), i % channels);
      x[i] = scale * (softplus(location / scale) - softplus((location - 1) / scale));
    }
    return x;
  }

  // A generator of pixels in raster order: yields the number of each pixel that is done, and fills `x`
  *inOrder(features, uniform, x) {
    const [height, width, channels] = this.shape;
    const { reach, mask, kernel, outputs, layers, offset } = this.window;
    const masked = layers.hidden.filter((layer) => layer.places);
    const maps = new Map(masked.map((layer) => [layer, new Float32Array(height * width * layer.inputs)]));
    const perPixel = layers.head.outputs;
    for (let pixel = 0; pixel < height * width; pixel++) {
      const row = Math.floor(pixel / width), column = pixel % width;
      const h = features.slice(pixel * outputs, (pixel + 1) * outputs);
      mask.forEach(([down, right], place) => {
        const r = row + down - reach, c = column + right - reach;
        if (r < 0 || c < 0 || c >= width) return;
        for (let channel = 0; channel < channels; channel++) {
          const value = x[(r * width + c) * channels + channel] - 0.5, from = (place * channels + channel) * outputs;
          for (let j = 0; j < outputs; j++) h[j] += value * kernel[from + j];
        }
      });
      const update = (layer, values) => {
        if (!layer.places) return dense(values, layer);
        maps.get(layer).set(values, pixel * layer.inputs);
        const y = Float32Array.from(layer.bias);
        layer.places.forEach(([down, right], place) => {
          const r = row + down - 1, c = column + right - 1;
          if (r < 0 || c < 0 || c >= width) return;
          accumulate(y, 0, maps.get(layer), (r * width + c) * layer.inputs, layer.inputs,
                     layer.kernel, place * layer.inputs * layer.outputs, layer.outputs);
        });
        return y;
      };
      const params = pixelLayers(h, layers, update);
      for (let j = 0; j < perPixel; j++) params[j] += offset[pixel * perPixel + j];
      this.drawPixel(params, uniform, x, pixel, channels);
      yield pixel;
    }
  }

  drawInOrder(features, uniform) {
    const x = new Float32Array(this.pixels());
    for (const _ of this.inOrder(features, uniform, x));
    return x;
  }

  drawPixel(params, uniform, x, pixel, channels) {
    for (let channel = 0; channel < channels; channel++) {
      const i = pixel * channels + channel, u = uniform[i];
      if (this.likelihood.kind === "bernoulli") {
        x[i] = u < sigmoid(params[channel]) ? 1 : 0;
        continue;
      }
      const [location, scale] = this.logistic(params, x.subarray(pixel * channels), 0, channel);
      const level = clip(location + scale * (Math.log(u) - Math.log1p(-u)), 0, 1);
      x[i] = Math.round(255 * level) / 255;
    }
  }

  // The prior: codes for standard normal noise, and back

  moments(number) {
    const { means, logvars, classes } = this.prior;
    const row = classes > 1 ? number : 0, size = this.latents;
    return [means.subarray(row * size, (row + 1) * size), logvars.subarray(row * size, (row + 1) * size)];
  }

  fromNoise(noise, number) {
    const kind = this.prior.kind, label = this.prior.label ? this.oneHot(number) : null;
    if (kind === "standard") return noise;
    if (kind === "gaussian") {
      const [mean, logvar] = this.moments(number);
      return noise.map((value, i) => mean[i] + Math.exp(0.5 * logvar[i]) * value);
    }
    let z = noise;
    if (kind === "flow") {
      for (const step of [...this.prior.steps].reverse()) {
        const wanted = z.slice().reverse();
        z = new Float32Array(this.latents);
        for (let i = 0; i < this.latents; i++) {
          const [mean, logvar] = this.stepMoments(step, z, label);
          z[i] = mean[i] + Math.exp(0.5 * logvar[i]) * wanted[i];
        }
      }
      return z;
    }
    z = new Float32Array(this.latents);
    for (let i = 0; i < this.latents; i++) {
      z[i] = quantile(noise[i], this.mixture(this.masked(this.prior.network, z, label), i));
    }
    return z;
  }

  toNoise(z, number) {
    const kind = this.prior.kind, label = this.prior.label ? this.oneHot(number) : null;
    if (kind === "standard") return z;
    if (kind === "gaussian") {
      const [mean, logvar] = this.moments(number);
      return z.map((value, i) => (value - mean[i]) * Math.exp(-0.5 * logvar[i]));
    }
    if (kind === "flow") {
      for (const step of this.prior.steps) {
        const [mean, logvar] = this.stepMoments(step, z, label);
        z = z.map((value, i) => (value - mean[i]) * Math.exp(-0.5 * logvar[i])).reverse();
      }
      return z;
    }
    const output = this.masked(this.prior.network, z, label);
    return z.map((value, i) => normalQuantile(cdf(value, this.mixture(output, i))));
  }

  // log p(z|y)
  logPrior(z, number) {
    const kind = this.prior.kind, label = this.prior.label ? this.oneHot(number) : null;
    const logNormal = (value) => -0.5 * (value * value + Math.log(2 * Math.PI));
    let sum = 0;
    if (kind === "mixture") {
      const output = this.masked(this.prior.network, z, label);
      z.forEach((value, i) => {
        const densities = this.mixture(output, i).map(([weight, mean, std]) =>
          Math.log(weight) + logNormal((value - mean) / std) - Math.log(std));
        const largest = Math.max(...densities);
        sum += largest + Math.log(densities.reduce((total, density) => total + Math.exp(density - largest), 0));
      });
      return sum;
    }
    for (const value of this.toNoise(z, number)) sum += logNormal(value);
    if (kind === "gaussian") sum -= 0.5 * this.moments(number)[1].reduce((a, b) => a + b, 0);
    for (const step of kind === "flow" ? this.prior.steps : []) {
      const [mean, logvar] = this.stepMoments(step, z, label);
      sum -= 0.5 * logvar.reduce((a, b) => a + b, 0);
      z = z.map((value, i) => (value - mean[i]) * Math.exp(-0.5 * logvar[i])).reverse();
    }
    return sum;
  }

  // log p(x|z), of `params` for every pixel
  logLikelihood(x, params) {
    const kind = this.likelihood.kind, channels = this.shape[this.shape.length - 1];
    let sum = 0;
    for (let i = 0; i < x.length; i++) {
      if (kind === "bernoulli") sum += x[i] * params[i] - softplus(params[i]);
      else if (kind === "real") sum -= 0.5 * ((x[i] - params[i]) / this.spec.std) ** 2;
      else {
        const [location, scale] = this.logistic(params, x, Math.floor(i / channels), i % channels);
        const [above, below] = [x[i] + 0.5 / 255, x[i] - 0.5 / 255].map((edge) => sigmoid((edge - location) / scale));
        sum += Math.log(Math.max((x[i] > 0.999 ? 1 : above) - (x[i] < 0.001 ? 0 : below), 1e-12));
      }
    }
    return sum;
  }

  // Location and scale of one channel of a pixel; in a window green and blue are shifted by the channels before them
  logistic(params, x, pixel, channel) {
    const channels = this.shape[this.shape.length - 1], isShifted = this.window && channels === 3;
    const from = (isShifted ? 3 : 2) * channels * pixel, before = (number) => x[pixel * channels + number] - 0.5;
    let location = params[from + channel];
    if (isShifted && channel === 1) location += params[from + 6] * before(0);
    if (isShifted && channel === 2) location += params[from + 7] * before(0) + params[from + 8] * before(1);
    return [location, Math.exp(clip(params[from + channels + channel], -7, 7))];
  }

  masked(network, z, label) {
    return dense(joined(dense(joined(z, label), network.first), label), network.last);
  }

  stepMoments(step, z, label) {
    const output = this.masked(step, z, label), bound = this.prior.bound;
    return [output.subarray(0, this.latents),
            output.slice(this.latents).map((raw) => bound * Math.tanh(raw / bound))];
  }

  mixture(output, i) {
    // [weight, mean, std] of each component of p(z_i | ...), from the output of the prior's network
    const num = this.prior.components, size = this.latents;
    const at = (part, component) => output[(part * num + component) * size + i];
    const logits = Array.from({ length: num }, (_, component) => at(0, component));
    const largest = Math.max(...logits), weights = logits.map((logit) => Math.exp(logit - largest));
    const total = weights.reduce((a, b) => a + b);
    return weights.map((weight, component) => [
      weight / total, at(1, component), Math.exp(7.5 * Math.tanh(at(2, component) / 15))]);
  }
}

function quantile(noise, mixture) {
  const below = normalCdf(noise);
  const low = Math.min(...mixture.map(([, mean, std]) => mean - 10 * std));
  const high = Math.max(...mixture.map(([, mean, std]) => mean + 10 * std));
  return bisect((z) => cdf(z, mixture) < below, low, high);
}

function cdf(z, mixture) {
  return mixture.reduce((sum, [weight, mean, std]) => sum + weight * normalCdf((z - mean) / std), 0);
}

const normalQuantile = (probability) => bisect((noise) => normalCdf(noise) < probability, -8, 8);

function bisect(isBelow, low, high) {
  for (let i = 0; i < 40; i++) {
    const middle = 0.5 * (low + high);
    if (isBelow(middle)) low = middle; else high = middle;
  }
  return 0.5 * (low + high);
}

const clip = (value, low, high) => Math.min(Math.max(value, low), high);
const noise = (num) => Float32Array.from({ length: num }, () => Math.max(Math.random(), 1e-7));
const normals = (num) => Float32Array.from({ length: num }, () =>
  Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random()));

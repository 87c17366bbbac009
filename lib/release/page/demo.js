// The page in one file answers itself: the pixels as Pillow resizes them, and the network in float32.
const embedded = (id) => JSON.parse(byId(id).textContent);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const floats = (text) => new Float32Array(bytes(text).buffer);
const network = embedded("network");
const artwork = embedded("artwork");
const drawing = (label) => `data:image/svg+xml,${encodeURIComponent(artwork[label] || "")}`;
const MAX_PIXELS = 25e6; // as of the project's other readers
const FRACTION = 22; // bits after the point of the weights that Pillow resizes with

for (const node of network.nodes.filter((node) => node.levels)) {
  const levels = new Int8Array(bytes(node.levels).buffer);
  const scales = floats(node.scales);
  const each = levels.length / scales.length;
  node.weights = Float32Array.from(levels, (level, k) => level * scales[Math.floor(k / each)]);
  node.bias = floats(node.bias);
}

// --- the network: values have the size [channels, height, width] or [features] ---------------------------------------

// The inputs of each output pixel, zero where they are outside of the image: of four pixels in turns, then of the next.
function patches(node, { size: [, height, width], data }, high, wide) {
  const { shape: [, channels, rows, columns], strides: [down, right], pads: [top, left] } = node;
  const length = channels * rows * columns;
  const output = new Float32Array(4 * Math.ceil((high * wide) / 4) * length);
  for (let pixel = 0; pixel < high * wide; pixel++) {
    const firstRow = Math.floor(pixel / wide) * down - top;
    const firstColumn = (pixel % wide) * right - left;
    let at = (pixel - (pixel % 4)) * length + (pixel % 4);
    for (let channel = 0; channel < channels; channel++) {
      for (let row = firstRow; row < firstRow + rows; row++) {
        for (let column = firstColumn; column < firstColumn + columns; column++, at += 4) {
          if (row >= 0 && row < height && column >= 0 && column < width) {
            output[at] = data[(channel * height + row) * width + column];
          }
        }
      }
    }
  }
  return output;
}

function conv(node, image) {
  const { weights, bias, shape: [filters, channels, rows, columns], strides: [down, right], pads } = node;
  const high = Math.floor((image.size[1] + pads[0] + pads[2] - rows) / down) + 1;
  const wide = Math.floor((image.size[2] + pads[1] + pads[3] - columns) / right) + 1;
  const length = channels * rows * columns;
  const inputs = patches(node, image, high, wide);
  const output = new Float32Array(filters * high * wide);
  for (let pixel = 0; pixel < high * wide; pixel += 4) {
    for (let filter = 0; filter < filters; filter++) {
      let a = bias[filter], b = a, c = a, d = a; // four sums at once: each addition waits for the one before
      for (let k = filter * length, at = pixel * length; k < (filter + 1) * length; k++, at += 4) {
        a += weights[k] * inputs[at];
        b += weights[k] * inputs[at + 1];
        c += weights[k] * inputs[at + 2];
        d += weights[k] * inputs[at + 3];
      }
      output.set([a, b, c, d].slice(0, high * wide - pixel), filter * high * wide + pixel);
    }
  }
  return { size: [filters, high, wide], data: output };
}

function maxPool({ kernel_shape: [rows, columns], strides: [down, right] }, { size, data }) {
  const [channels, height, width] = size;
  const high = Math.floor((height - rows) / down) + 1;
  const wide = Math.floor((width - columns) / right) + 1;
  const output = new Float32Array(channels * high * wide).map((_, place) => {
    const start = (Math.floor(place / wide / high) * height + (Math.floor(place / wide) % high) * down) * width;
    let most = -Infinity;
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        most = Math.max(most, data[start + row * width + (place % wide) * right + column]);
      }
    }
    return most;
  });
  return { size: [channels, high, wide], data: output };
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const vector = (length, value) => ({ size: [length], data: Float32Array.from({ length }, (_, k) => value(k)) });

function averaged(_, { size: [channels], data }) {
  const area = data.length / channels;
  return vector(channels, (channel) => mean(data.subarray(channel * area, (channel + 1) * area)));
}

function gemm({ weights, bias }, { data }) {
  const features = data.length;
  return vector(bias.length, (k) => data.reduce((sum, value, i) => sum + value * weights[k * features + i], bias[k]));
}

const OPERATIONS = {
  Conv: conv,
  MaxPool: maxPool,
  GlobalAveragePool: averaged,
  Gemm: gemm,
  Relu: (_, { size, data }) => ({ size, data: data.map((value) => Math.max(value, 0)) }),
  Add: (_, { size, data }, other) => ({ size, data: data.map((value, k) => value + other.data[k]) }),
  Flatten: (_, { data }) => ({ size: [data.length], data }),
};

function probabilities(image) {
  const values = { [network.input]: image };
  for (const node of network.nodes) {
    values[node.output] = OPERATIONS[node.operation](node, ...node.inputs.map((name) => values[name]));
  }
  const logits = Array.from(values[network.output].data, (logit) => logit / network.temperature);
  const powers = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

// --- pixels: RGBA in rows --------------------------------------------------------------------------------------------

// Which pixels make each resized one, and their weights as whole numbers: antialiased bilinear as in Pillow.
function taps(from, to) {
  const scale = from / to;
  const reach = Math.max(scale, 1);
  return Array.from({ length: to }, (_, k) => {
    const centre = (k + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(from, Math.trunc(centre + reach + 0.5));
    const distance = (i) => Math.abs((i + start - centre + 0.5) * (1 / reach));
    const shares = Array.from({ length: end - start }, (_, i) => Math.max(0, 1 - distance(i)));
    const total = shares.reduce((sum, share) => sum + share, 0);
    return { start, weights: Int32Array.from(shares, (share) => Math.trunc(0.5 + (share / total) * 2 ** FRACTION)) };
  });
}

// One direction. Pixels are `step` bytes apart in it; the lines are `between` bytes apart before, `after` afterwards.
function resampled(data, from, to, lines, step, between, after) {
  const output = new Uint8Array(4 * to * lines);
  const sources = taps(from, to);
  for (let line = 0; line < lines; line++) {
    sources.forEach(({ start, weights }, k) => {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 2 ** (FRACTION - 1);
        let place = line * between + start * step + channel;
        for (let i = 0; i < weights.length; i++, place += step) sum += weights[i] * data[place];
        output[line * after + k * step + channel] = sum >> FRACTION;
      }
    });
  }
  return output;
}

// Pillow 13 starts with the height where that shrinks much more than the width.
function resized({ data, width, height }, size) {
  if (height > size && height - size > 2 * (width - size)) {
    const low = resampled(data, height, size, width, 4 * width, 4, 4);
    return resampled(low, width, size, size, 4, 4 * width, 4 * size);
  }
  const narrow = resampled(data, width, size, height, 4, 4 * width, 4 * size);
  return resampled(narrow, height, size, size, 4 * size, 4, 4);
}

function normalized(pixels, { size, mean, deviation }) {
  const data = Float32Array.from({ length: 3 * size * size }, (_, k) => {
    const channel = Math.floor(k / size / size);
    const unit = Math.fround(pixels[4 * (k % (size * size)) + channel] / 255);
    return Math.fround(unit - Math.fround(mean[channel])) / Math.fround(deviation[channel]);
  });
  return { size: [3, size, size], data };
}

// What is drawn at the top left, as it is stored: no profile of colours is applied. Transparent parts become grey.
function pixelsOf(picture, left, top, width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "rgb(128, 128, 128)";
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, -left, -top);
  return context.getImageData(0, 0, width, height);
}

// --- answers ---------------------------------------------------------------------------------------------------------

function read(pixels) {
  const started = performance.now();
  const found = probabilities(normalized(resized(pixels, network.pixels.size), network.pixels));
  const took = `${(performance.now() - started).toFixed(1)} ms`;
  const order = found.map((_, k) => k).sort((a, b) => found[b] - found[a]);
  const top = order.slice(0, 5).map((k) => ({ label: network.labels[k], probability: found[k] }));
  return { sign: top[0].probability >= network.least_confidence, top, notes: [took] };
}

async function answer(file) {
  let picture;
  try {
    picture = await createImageBitmap(file, { colorSpaceConversion: "none" }); // turned as its EXIF data say
  } catch {
    return { error: "this browser cannot read that file as an image; give a JPEG, PNG or WebP file" };
  }
  const { width, height } = picture;
  if (width * height > MAX_PIXELS) {
    return { error: `an image of ${width} x ${height} pixels; at most ${MAX_PIXELS.toLocaleString("en")} are read` };
  }
  return read(pixelsOf(picture, 0, 0, width, height));
}

// The middle square of what the camera sees, until another image is given.
async function watch() {
  const number = ++latest;
  const video = document.createElement("video");
  Object.assign(video, { muted: true, playsInline: true });
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await video.play();
  } catch {
    return show({ error: "there is no camera that this page may use; allow it, or choose an image" });
  }
  byId("shown").hidden = true;
  byId("shown").before(video);
  while (number === latest) {
    const side = Math.min(video.videoWidth, video.videoHeight);
    show(read(pixelsOf(video, (video.videoWidth - side) / 2, (video.videoHeight - side) / 2, side, side)));
    await new Promise((resolve) => { setTimeout(resolve, 300); });
  }
  video.srcObject.getTracks().forEach((track) => track.stop());
  video.remove();
}

byId("file").accept = "image/*";
const numWeights = network.nodes.reduce((sum, { weights = [] }) => sum + weights.length, 0).toLocaleString("en");
byId("model").textContent =
  `${network.name} knows ${network.labels.length} signs; ${numWeights} weights of 8 bits. Images stay on this device.`;
if (location.protocol === "https:" && navigator.mediaDevices) { // browsers ask for each file anew, and some never
  const button = document.createElement("button");
  Object.assign(button, { className: "button", textContent: "Use the camera", onclick: watch });
  byId("ways").append(button);
}

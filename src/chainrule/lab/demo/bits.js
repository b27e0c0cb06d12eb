// Where the bits go: −log2 p of each pixel as a heat map, and the distributions of one pixel.

const RAMP = [[10, 12, 24], [48, 30, 96], [118, 38, 116], [192, 58, 92], [236, 112, 56], [250, 184, 66], [255, 248, 190]];
const bits = { image: null, entries: null, pixels: null, top: 1 };
let picture, heat, askBits;
const [scoring, looking] = [latest(), latest()];

// Colour of a share of the scale's top, on a square-root scale: few pixels cost much, most next to nothing.
function heatColour(share) {
  const at = Math.sqrt(Math.min(1, Math.max(0, share))) * (RAMP.length - 1);
  const low = Math.min(RAMP.length - 2, Math.floor(at));
  return RAMP[low].map((a, k) => Math.round(a + (RAMP[low + 1][k] - a) * (at - low)));
}

async function scoreNow() {
  const image = chosen.image;
  if (!image) return;
  Object.assign(bits, { image, entries: null, pixels: null });
  paint(picture.canvas, image);
  heat.canvas.getContext("2d").clearRect(0, 0, WIDTH, HEIGHT);
  say("bits-of", `Counting the bits of ${chosen.name} …`);
  const job = scoring(engine.ask("score", { image }));
  try {
    bits.entries = await job.answer;
  } catch (error) {
    return tell("bits-of")(error);
  }
  bits.pixels = Float64Array.from({ length: PIXELS }, (_, pixel) => sumOf(pixelOf(bits.entries, pixel)));
  const sorted = bits.pixels.slice().sort();
  bits.top = Math.max(sorted[Math.floor(0.998 * (PIXELS - 1))], 1e-3);
  paintHeat();
  const total = sumOf(bits.entries);
  say("bits-of", `${capital(chosen.name)} costs ${count(total, 1)} bits: ${count(total / bits.entries.length, 4)} bits/dim.`);
  $("bits").dataset.total = total;
  lookAt(heat.pixel);
}

const sumOf = (numbers) => numbers.reduce((sum, one) => sum + one, 0);
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function paintHeat() {
  const context = heat.canvas.getContext("2d");
  const data = context.createImageData(WIDTH, HEIGHT);
  bits.pixels.forEach((one, pixel) => data.data.set([...heatColour(one / bits.top), 255], pixel * 4));
  context.putImageData(data, 0, 0);
  for (const [id, share] of [["tick-1", 0], ["tick-2", 1 / 4], ["tick-3", 1]]) {
    $(id).textContent = count(share * bits.top, share && bits.top < 10 ? 2 : 0) + (share === 1 ? "+" : "");
  }
}

// Both pictures have the cursor at the same pixel.
function lookAt(pixel) {
  for (const board of [picture, heat]) board.mark(pixel);
  if (!bits.pixels) return;
  const [row, column] = [Math.floor(pixel / WIDTH), pixel % WIDTH];
  const job = looking(engine.ask("look", { image: bits.image, row, column, block: blockAsked() }));
  job.answer.then((found) => showLook(pixel, found), tell("pixel-at"));
}

function showLook(pixel, { distributions, field, weights }) {
  if (!bits.pixels) return; // another picture was chosen meanwhile
  picture.draw("field", outline(field));
  const values = pixelOf(bits.image, pixel);
  $("bars").replaceChildren(...distributions.map((p, c) => bars(p, c, values[c])));
  showWeights(weights);
  const seen = sumOf(field);
  const parts = Array.from(values, (level, c) => `${CHANNEL_NAMES[c]} ${level} (p ${probability(distributions[c][level])})`);
  const where = `Row ${Math.floor(pixel / WIDTH)}, column ${pixel % WIDTH}: ${count(bits.pixels[pixel], 2)} bits`;
  const what = seen === 1 ? "1 earlier pixel" : `${count(seen)} earlier pixels`;
  say("pixel-at", `${where} for ${parts.join(", ")}, given ${seen ? what : "nothing"}.${weights ? mostLookedAt(weights) : ""}`);
}

const probability = (p) => (p > 0.9995 ? "> 0.999" : p < 0.0005 ? "< 0.001" : `= ${count(p, 3)}`);

function bars(p, channel, taken) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = `${CHANNEL_NAMES[channel]}: ${taken}`;
  const note = document.createElement("small");
  note.textContent = `${count(-Math.log2(p[taken]), 2)} bits`;
  caption.append(" ", note);
  const chart = document.createElement("div");
  chart.className = `chart ${CHANNEL_NAMES[channel]}`;
  chart.setAttribute("role", "img");
  const order = Array.from(p.keys()).sort((a, b) => p[b] - p[a]).slice(0, 4);
  chart.setAttribute("aria-label", `Probabilities of ${CHANNEL_NAMES[channel]}: ${order.map((v) => `p ${probability(p[v])} of level ${v}`).join(", ")}`);
  const most = LEVELS > 32 ? Math.max(...p) : 1;
  chart.append(...Array.from(p, (one, level) => bar(one / most, level, level === taken)));
  figure.append(chart, caption);
  return figure;
}

function bar(share, level, taken) {
  const column = document.createElement("span");
  column.className = taken ? "taken" : "";
  const fill = document.createElement("i");
  fill.style.height = `${100 * share}%`;
  column.append(fill);
  if (LEVELS <= 17) column.append(Object.assign(document.createElement("b"), { textContent: level }));
  return column;
}

// Where a model with attention looked, as light above the picture.
function showWeights(weights) {
  if (!weights) return;
  const most = Math.max(...weights);
  paint(picture.canvas, bits.image, (pixel) => 0.25 + 0.75 * Math.sqrt(weights[pixel] / most));
}

function mostLookedAt(weights) {
  const most = weights.indexOf(Math.max(...weights));
  const place = `row ${Math.floor(most / WIDTH)}, column ${most % WIDTH}`;
  return ` Attention went most to ${place}: ${count(100 * weights[most])} %.`;
}

// The block whose attention is shown; null for the mean of all.
const blockAsked = () => ($("block")?.value ? Number($("block").value) : null);

function startBits() {
  picture = new Board($("picture"), { onMove: lookAt });
  heat = new Board($("heat"), { onMove: lookAt });
  $("ramp").style.background = `linear-gradient(to right, ${RAMP.map((rgb) => `rgb(${rgb.join(" ")})`).join(", ")})`;
  $("block")?.addEventListener("change", () => lookAt(heat.pixel));
  askBits = whenSeen($("bits"), scoreNow);
  chosen.listeners.push(() => askBits());
}

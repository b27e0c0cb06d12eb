// Draw: pictures of a seed, pixel by pixel, at a speed to choose.

const sheet = { seed: "0", pictures: [], began: 0, running: null, frame: 0, last: 0 };
const FASTEST = Infinity;

function readSeed() {
  const text = $("seed").value.trim();
  const fits = /^\d{1,20}$/.test(text) && BigInt(text) < 2n ** 64n;
  $("seed").setAttribute("aria-invalid", String(!fits));
  if (!fits) say("drawn", "A seed is a whole number from 0 to 2⁶⁴ − 1: type one.", "problem");
  return fits ? BigInt(text).toString() : null;
}

const asSeed = (text) => (BigInt(text) <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(text) : BigInt(text));

function drawSheet() {
  const seed = readSeed();
  if (seed === null) return;
  stopSheet();
  const number = Number($("number").value);
  sheet.seed = seed;
  sheet.pictures = Array.from({ length: number }, (_, k) => newPicture(k));
  const place = $("sheet");
  place.replaceChildren(...sheet.pictures.map((picture) => picture.button));
  place.dataset.number = number;
  const words = ["chainrule sample", MODEL.quoted, ...(MODEL.sized ? [MODEL.sized] : []), "--exact", `-n ${number}`, `--seed ${seed}`, "-o samples.png"];
  $("command").replaceChildren(...words.flatMap((word, k) => [k ? " " : "", unbroken(word)]));
  say("drawn", number === 1 ? "Drawing a picture …" : `Drawing ${number} pictures …`);
  sheet.began = performance.now();
  sheet.running = engine.ask("draw", { seed: asSeed(seed), count: number }, (part) => {
    Object.assign(sheet.pictures[part.number], { image: part.image, position: part.position });
    if (part.position === PIXELS && part.number === 0 && !busy()) choosePicture(sheet.pictures[0]);
  });
  sheet.running.answer.then(() => sheetDrawn(number), tell("drawn"));
  $("stop").disabled = false;
  sheet.last = performance.now();
  sheet.frame = requestAnimationFrame(showSheet);
}

function unbroken(words) {
  const span = document.createElement("span");
  span.className = words === MODEL.quoted ? "" : "unbroken";
  span.textContent = words;
  return span;
}

function newPicture(k) {
  const label = `Picture ${k + 1} of seed ${sheet.seed}: complete it and see its bits`;
  const picture = { k, image: null, position: 0, shown: 0 };
  return Object.assign(picture, pictureButton(label, () => choosePicture(picture)));
}

function choosePicture(picture) {
  if (picture.position === PIXELS) choose(picture.image, `picture ${picture.k + 1} of seed ${sheet.seed}`);
}

// Whether somebody works on a picture, which a new sheet must not take away.
const busy = () => chosen.byHand || editing.past.length > 0;

function showChosen(image) {
  for (const { button, image: own } of sheet.pictures) button.setAttribute("aria-pressed", String(own === image));
}

function sheetDrawn(number) {
  const seconds = (performance.now() - sheet.began) / 1000;
  sheet.running = null;
  const what = number === 1 ? "1 picture" : `${number} pictures`;
  say("drawn", `Computed ${what} in ${count(seconds, seconds < 10 ? 1 : 0)} s.`);
  $("draw").dataset.seconds = seconds;
}

// What has been computed is shown at the speed that was chosen.
function showSheet(now) {
  const speed = $("speed").value === "0" ? FASTEST : Number($("speed").value);
  const more = speed === FASTEST ? FASTEST : (speed * Math.min(now - sheet.last, 250)) / 1000;
  sheet.last = now;
  let left = 0;
  for (const picture of sheet.pictures) {
    const before = Math.floor(picture.shown);
    picture.shown = Math.min(picture.position, picture.shown + more);
    const shown = Math.floor(picture.shown);
    if (picture.image && (shown > before || picture.painted !== picture.image)) {
      paint(picture.canvas, picture.image, (pixel) => pixel < shown);
      picture.painted = picture.image;
      picture.button.classList.toggle("whole", shown === PIXELS);
    }
    left += shown < PIXELS;
  }
  if (left) sheet.frame = requestAnimationFrame(showSheet);
  else stopSheet();
}

function stopSheet() {
  if (sheet.running) say("drawn", "Stopped.");
  sheet.running?.stop();
  sheet.running = null;
  cancelAnimationFrame(sheet.frame);
  $("stop").disabled = true;
}

async function copyCommand() {
  const text = $("command").textContent;
  try {
    await navigator.clipboard.writeText(text);
    say("copied", "Copied.");
  } catch {
    getSelection().selectAllChildren($("command"));
    say("copied", "Selected: copy it with your keyboard.");
  }
}

function startDrawing() {
  chosen.listeners.push(showChosen);
  $("draw-form").addEventListener("submit", (event) => {
    event.preventDefault();
    drawSheet();
  });
  $("number").addEventListener("change", drawSheet);
  $("another").addEventListener("click", () => {
    const seed = readSeed() ?? "0";
    $("seed").value = ((BigInt(seed) + 1n) % 2n ** 64n).toString();
    drawSheet();
  });
  $("stop").addEventListener("click", stopSheet);
  $("copy").addEventListener("click", copyCommand);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) $("speed").value = "0";
  drawSheet();
}

// Complete: what comes before the first unknown pixel is kept, and what was drawn by hand; the rest is drawn anew.

const COMPLETIONS = 6;
const editing = { image: null, byHand: new Uint8Array(PIXELS), erased: new Uint8Array(PIXELS), past: [], seed: 0 };
const completions = [];
let editor, askCompletions;
const running = latest();

const brush = () => ({
  erases: document.querySelector('input[name="tool"]:checked').value === "erase",
  size: Number($("brush").value),
  levels: document.querySelector('input[name="colour"]:checked').value.split(",").map(Number),
});

// The first pixel, in raster order, that is not known for certain: what comes after it depends on it.
function firstUnknown() {
  const cut = Number($("kept").value) * WIDTH;
  const erased = editing.erased.indexOf(1);
  return erased < 0 ? cut : Math.min(cut, erased);
}

function knownPixels() {
  const first = firstUnknown();
  return editing.byHand.map((byHand, pixel) => Number(byHand || pixel < first));
}

function edit(pixel, first) {
  if (first) remember();
  const { erases, size, levels } = brush();
  const [top, left] = [Math.floor(pixel / WIDTH), pixel % WIDTH].map((at) => at - Math.floor((size - 1) / 2));
  for (let row = Math.max(0, top); row < Math.min(HEIGHT, top + size); row++) {
    for (let column = Math.max(0, left); column < Math.min(WIDTH, left + size); column++) {
      const at = row * WIDTH + column;
      editing.erased[at] = Number(erases);
      editing.byHand[at] = Number(!erases);
      if (!erases) editing.image.set(levels, at * CHANNELS);
    }
  }
  showEditor();
}

const snapshot = () => ({ image: editing.image.slice(), byHand: editing.byHand.slice(), erased: editing.erased.slice() });

function remember() {
  editing.past.push(snapshot());
  if (editing.past.length > 50) editing.past.shift();
  $("undo").disabled = false;
}

function undo() {
  Object.assign(editing, editing.past.pop());
  $("undo").disabled = !editing.past.length;
  showEditor();
  askCompletions();
}

function showEditor() {
  const known = knownPixels();
  paint(editor.canvas, editing.image, (pixel) => (known[pixel] ? 1 : editing.erased[pixel] ? 0 : 0.22));
  const first = firstUnknown();
  const [row, column] = [Math.floor(first / WIDTH), first % WIDTH];
  const edge = column ? `M0 ${row + 1}H${column}V${row}H${WIDTH}` : `M0 ${row}H${WIDTH}`;
  editor.draw("edge", first < PIXELS ? edge : "");
  $("kept-rows").textContent = $("kept").value;
}

function whereInEditor(pixel) {
  if (!editing.image) return;
  const known = knownPixels()[pixel];
  const what = known ? `${editing.byHand[pixel] ? "drawn by hand" : "kept"}: ${inWords(pixelOf(editing.image, pixel))}` : "drawn anew";
  say("editor-at", `Row ${Math.floor(pixel / WIDTH)}, column ${pixel % WIDTH}, ${what}.`);
}

// The colour under the cursor becomes that of the brush; it joins the palette if it is not there.
function pick(pixel) {
  const levels = Array.from(pixelOf(editing.image, pixel));
  const find = () => document.querySelector(`input[name="colour"][value="${levels.join(",")}"]`);
  if (!find()) $("palette").append(swatch(levels));
  find().checked = true;
  document.querySelector('input[name="tool"][value="paint"]').checked = true;
}

function completeNow() {
  if (!editing.image) return;
  const known = knownPixels();
  const unknown = known.reduce((sum, one) => sum + 1 - one, 0);
  if (!unknown) return say("completed", "Nothing is left to draw: erase something, or keep fewer rows.", "problem");
  say("completed", `Drawing ${count(unknown)} of ${count(PIXELS)} pixels, ${COMPLETIONS} times …`);
  const started = editing.image.slice();
  for (const completion of completions) showCompletion(completion, started, known, 0);
  const question = { seed: editing.seed, count: COMPLETIONS, image: started, known };
  const job = running(
    engine.ask("draw", question, ({ number, image, position }) =>
      showCompletion(completions[number], image, known, position),
    ),
  );
  job.answer.then(() => {
    const kept = PIXELS - unknown;
    say("completed", `${COMPLETIONS} completions, each with the same ${count(kept)} pixels kept; seed ${editing.seed}.`);
  }, tell("completed"));
}

function showCompletion(completion, image, known, position) {
  completion.image = image;
  completion.button.disabled = position < PIXELS;
  paint(completion.canvas, image, (pixel) => known[pixel] || pixel < position);
}

function editPicture(image) {
  Object.assign(editing, { image: image.slice(), past: [] });
  editing.byHand.fill(0);
  editing.erased.fill(0);
  $("undo").disabled = true;
  showEditor();
  askCompletions();
}

// All colours where there are few of them; otherwise those that a ramp of each channel and its mixtures give.
function palette() {
  const steps = LEVELS ** CHANNELS <= 64 ? LEVELS : CHANNELS === 1 ? Math.min(LEVELS, 32) : 3;
  const levels = Array.from({ length: steps }, (_, k) => Math.round((k * (LEVELS - 1)) / (steps - 1)));
  let colours = [[]];
  for (let c = 0; c < CHANNELS; c++) colours = levels.flatMap((level) => colours.map((colour) => [...colour, level]));
  if (colours.length > 81) colours = colours.filter((colour) => colour[CHANNELS - 1] === LEVELS - 1);
  return colours;
}

function swatch(levels, k) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "colour", value: levels.join(",") });
  input.checked = k === 0;
  input.setAttribute("aria-label", inWords(levels));
  const show = document.createElement("span");
  show.style.background = css(levels);
  label.append(input, show);
  label.title = inWords(levels);
  return label;
}

function startCompleting() {
  editor = new Board($("editor"), {
    onMove: whereInEditor,
    onPress: edit,
    onRelease: () => { whereInEditor(editor.pixel); askCompletions(); },
  });
  const colours = palette().reverse();
  $("palette").append(...colours.map(swatch));
  $("palette").style.setProperty("--columns", colours.length > 32 ? 16 : Math.min(colours.length, 16));
  for (let k = 0; k < COMPLETIONS; k++) {
    const completion = pictureButton(`Completion ${k + 1}: go on with it`, () =>
      choose(completion.image, `completion ${k + 1}`, true),
    );
    completions.push(completion);
    $("completions").append(completion.button);
  }
  askCompletions = whenSeen($("complete"), completeNow);
  $("kept").addEventListener("input", showEditor);
  $("kept").addEventListener("change", () => askCompletions());
  $("undo").addEventListener("click", undo);
  $("restart").addEventListener("click", () => chosen.image && editPicture(chosen.image));
  $("others").addEventListener("click", () => { editing.seed++; askCompletions(); });
  $("editor").addEventListener("keydown", (event) => event.key === "c" && editing.image && pick(editor.pixel));
  chosen.listeners.push(editPicture);
}

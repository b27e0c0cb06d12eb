// Archives: a .crz is unpacked and its pictures are shown; a picture is packed; refusals are one sentence. Of a model of
// pictures of any size there are no archives here, but the middle of a picture is opened.

const EXTENSION = ".crz";
const opened = { rgba: null };

// The file's pixels, as they are: no colour management, no premultiplied alpha.
async function readPixels(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error(`${file.name} is no picture that this browser reads, and no ${EXTENSION}: give another file`);
  }
  const { width, height } = bitmap;
  if (MODEL.any_size ? width < WIDTH || height < HEIGHT : width !== WIDTH || height !== HEIGHT) {
    throw new Error(`${file.name} is ${width}×${height} pixels (width × height): this ${MODEL.any_size ? "page's" : "model's"} pictures are ${WIDTH}×${HEIGHT}`);
  }
  const context = newCanvas().getContext("2d");
  context.drawImage(bitmap, -((width - WIDTH) >> 1), -((height - HEIGHT) >> 1));
  return context.getImageData(0, 0, WIDTH, HEIGHT).data;
}

// How many pixels are not exactly what their nearest levels show.
function strangers(image, rgba) {
  let found = 0;
  for (let pixel = 0; pixel < PIXELS; pixel++) {
    const shown = colour(pixelOf(image, pixel));
    found += shown.some((value, k) => value !== rgba[pixel * 4 + k]);
  }
  return found;
}

async function take(file) {
  say("archive-said", `Reading ${file.name} …`);
  $("round").hidden = true;
  try {
    if (file.name.toLowerCase().endsWith(EXTENSION)) await takeArchive(file);
    else await takePicture(file);
  } catch (error) {
    tell("archive-said")(error);
  }
}

async function takePicture(file) {
  const rgba = await readPixels(file);
  const image = await engine.ask("read", { rgba, width: WIDTH, height: HEIGHT }).answer;
  const odd = strangers(image, rgba);
  opened.round = () => packPicture(image, file.name, odd);
  if (!odd) return packPicture(image, file.name, 0);
  const many = odd === 1 ? "1 pixel" : `${count(odd)} pixels`;
  say("archive-said", `${file.name} has ${many} in colours that are no levels of this model: it is opened only if they are rounded.`, "problem");
  $("round").hidden = false;
}

async function packPicture(image, name, rounded) {
  const stem = name.replace(/\.[^.]*$/, "");
  const label = rounded ? `${stem}, rounded` : stem;
  choose(image, label, true);
  const entries = await engine.ask("score", { image }).answer;
  const total = sumOf(entries);
  const cost = `${label} costs ${count(total, 1)} bits, ${count(total / entries.length, 4)} bits/dim`;
  if (MODEL.any_size) return say("archive-said", `${cost}.`);
  const bytes = await packed([image], [`${stem}.png`]);
  say("archive-said", `${cost}. Its archive takes ${count(bytes.length)} bytes, name and checksums included.`);
  showFiles([{ image, name: `${stem}.png` }], { bytes, name: stem + EXTENSION });
}

const packed = (images, names) => engine.ask("pack", { images, names }).answer;

async function packSheet() {
  const whole = sheet.pictures.filter((one) => one.position === PIXELS).map((one) => one.image);
  if (!whole.length) return say("archive-said", "No picture is drawn yet: draw some first.", "problem");
  const names = whole.map((_, k) => `${String(k + 1).padStart(3, "0")}.png`);
  try {
    const bytes = await packed(whole, names);
    const raw = whole.length * PIXELS * CHANNELS;
    say("archive-said", `${whole.length} pictures in ${count(bytes.length)} bytes (one byte a value: ${count(raw)}).`);
    showFiles(whole.map((image, k) => ({ image, name: names[k] })), { bytes, name: `seed-${sheet.seed}${EXTENSION}` });
  } catch (error) {
    tell("archive-said")(error);
  }
}

async function takeArchive(file) {
  if (MODEL.any_size) throw new Error(`${file.name} is an archive: unpack it with chainrule decompress, this page cannot`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const { images, names, note } = await engine.ask("unpack", { bytes }).answer;
  const what = images.length === 1 ? "1 picture" : `${count(images.length)} pictures`;
  say("archive-said", `${file.name} holds ${what} in ${count(bytes.length)} bytes.${note ? ` ${note}` : ""}`);
  showFiles(images.map((image, k) => ({ image, name: names?.[k] ?? `${k + 1}.png` })));
}

const MOST_SHOWN = 200;

function showFiles(pictures, archive) {
  const items = pictures.slice(0, MOST_SHOWN).map(({ image, name }) => {
    const item = document.createElement("li");
    const base = name.split("/").pop().replace(/\.[^.]*$/, "");
    const { button, canvas } = pictureButton(`${name}: complete it and see its bits`, () => choose(image, name, true));
    paint(canvas, image);
    button.classList.add("whole");
    item.append(button, action("Save PNG", `Save ${base}.png`, () => savePicture(image, `${base}.png`)));
    return item;
  });
  $("files").replaceChildren(...items);
  const rest = pictures.length - items.length;
  $("rest").textContent = rest > 0 ? `The first ${MOST_SHOWN} are shown; ${count(rest)} more are in the archive.` : "";
  $("archive").replaceChildren();
  if (!archive) return;
  const { bytes, name } = archive;
  const blob = new Blob([bytes], { type: "application/octet-stream" });
  const command = document.createElement("code");
  command.textContent = `chainrule decompress ${name.includes(" ") ? `'${name}'` : name} -m ${MODEL.quoted} -o pictures/`;
  $("archive").append(action(`Save ${name}`, `Save ${name}`, () => save(blob, name)), " unpacks with ", command);
}

function action(text, label, onClick) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.setAttribute("aria-label", label);
  button.addEventListener("click", onClick);
  return button;
}

function startArchives() {
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    if (file) take(file);
    $("file").value = "";
  });
  $("round").addEventListener("click", () => {
    $("round").hidden = true;
    opened.round().catch(tell("archive-said"));
  });
  $("pack-sheet")?.addEventListener("click", packSheet);
  // A file may be dropped anywhere on the page.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  addEventListener("dragleave", () => $("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (!file) return;
    $("archives").scrollIntoView();
    take(file);
  });
}

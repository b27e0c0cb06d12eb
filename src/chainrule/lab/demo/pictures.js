// Pictures: levels to colours and back, canvases, and boards with a cursor that pointer and arrow keys move.

const VALUES = MODEL.pixel_values;
const CHANNEL_NAMES =
  { 1: ["gray"], 2: ["gray", "alpha"], 3: ["red", "green", "blue"], 4: ["red", "green", "blue", "alpha"] }[CHANNELS] ??
  Array.from({ length: CHANNELS }, (_, c) => `channel ${c + 1}`);

// [r, g, b, a] of the levels of one pixel. Gray is shown as gray, and channels beyond the fourth are not shown.
function colour(levels) {
  const [a, b, c, d] = Array.from(levels, (level) => VALUES[level]);
  if (CHANNELS === 1) return [a, a, a, 255];
  if (CHANNELS === 2) return [a, a, a, b];
  return [a, b, c, CHANNELS === 4 ? d : 255];
}

const css = (levels) => {
  const [r, g, b, a] = colour(levels);
  return `rgb(${r} ${g} ${b} / ${a / 255})`;
};
const pixelOf = (image, pixel) => image.subarray(pixel * CHANNELS, (pixel + 1) * CHANNELS);
const inWords = (levels) => Array.from(levels, (level, c) => `${CHANNEL_NAMES[c]} ${level}`).join(", ");

function newCanvas() {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [WIDTH, HEIGHT];
  return canvas;
}

// Pixels for which `shown(pixel)` is 0 stay empty; between 0 and 1 they are faint.
function paint(canvas, image, shown = () => 1) {
  const context = canvas.getContext("2d");
  const data = context.createImageData(WIDTH, HEIGHT);
  for (let pixel = 0; pixel < PIXELS; pixel++) {
    const strength = shown(pixel);
    if (!strength) continue;
    const [r, g, b, a] = colour(pixelOf(image, pixel));
    data.data.set([r, g, b, Math.round(a * strength)], pixel * 4);
  }
  context.putImageData(data, 0, 0);
}

// The outline of all pixels of a mask, as an SVG path in units of pixels.
function outline(mask) {
  const inside = (row, column) =>
    row >= 0 && row < HEIGHT && column >= 0 && column < WIDTH && mask[row * WIDTH + column];
  let path = "";
  for (let row = 0; row < HEIGHT; row++) {
    for (let column = 0; column < WIDTH; column++) {
      if (!inside(row, column)) continue;
      if (!inside(row - 1, column)) path += `M${column} ${row}h1`;
      if (!inside(row + 1, column)) path += `M${column} ${row + 1}h1`;
      if (!inside(row, column - 1)) path += `M${column} ${row}v1`;
      if (!inside(row, column + 1)) path += `M${column + 1} ${row}v1`;
    }
  }
  return path;
}

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], PageUp: [-5, 0], PageDown: [5, 0] };

// A picture with a cursor. `onMove(pixel)` hears where it is; `onPress(pixel, first)` of a pointer that is down or of
// the space bar; `onRelease()` of the end of that.
class Board {
  constructor(element, { onMove, onPress, onRelease, hover = true }) {
    this.element = element;
    this.canvas = newCanvas();
    this.lines = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.lines.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.lines.setAttribute("aria-hidden", "true");
    element.style.aspectRatio = `${WIDTH} / ${HEIGHT}`;
    element.append(this.canvas, this.lines);
    this.paths = {};
    this.pixel = Math.floor(HEIGHT / 2) * WIDTH + Math.floor(WIDTH / 2);
    Object.assign(this, { onMove, onPress, onRelease });
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("keyup", (event) => event.key === " " && this.onRelease?.());
    element.addEventListener("focus", () => this.go(this.pixel));
    element.addEventListener("pointerdown", (event) => this.press(event));
    element.addEventListener("pointermove", (event) => {
      const pixel = this.at(event);
      if (this.held) this.through(pixel);
      else if (hover && event.pointerType === "mouse") this.go(pixel);
    });
    for (const kind of ["pointerup", "pointercancel"]) element.addEventListener(kind, () => this.release());
  }

  at(event) {
    const box = this.element.getBoundingClientRect();
    const within = (part, size) => Math.min(size - 1, Math.max(0, Math.floor(part * size)));
    const row = within((event.clientY - box.top) / box.height, HEIGHT);
    return row * WIDTH + within((event.clientX - box.left) / box.width, WIDTH);
  }

  press(event) {
    if (event.button) return;
    this.element.setPointerCapture(event.pointerId);
    this.held = true;
    this.go(this.at(event));
    this.onPress?.(this.pixel, true);
  }

  // All pixels on the way from the last one: a fast pointer leaves no gaps.
  through(pixel) {
    const [row, column] = [Math.floor(this.pixel / WIDTH), this.pixel % WIDTH];
    const [down, right] = [Math.floor(pixel / WIDTH) - row, (pixel % WIDTH) - column];
    const steps = Math.max(Math.abs(down), Math.abs(right));
    for (let k = 1; k <= steps; k++) {
      this.go((row + Math.round((down * k) / steps)) * WIDTH + column + Math.round((right * k) / steps));
      this.onPress?.(this.pixel, false);
    }
  }

  release() {
    if (this.held) this.onRelease?.();
    this.held = false;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = STEPS[event.key];
    if (step) {
      const row = Math.min(HEIGHT - 1, Math.max(0, Math.floor(this.pixel / WIDTH) + step[0]));
      const column = Math.min(WIDTH - 1, Math.max(0, (this.pixel % WIDTH) + step[1]));
      this.go(row * WIDTH + column);
    } else if (event.key === " " && this.onPress) {
      this.onPress(this.pixel, !event.repeat);
    } else return;
    event.preventDefault();
  }

  // Put the cursor somewhere; `go` also tells.
  mark(pixel) {
    this.pixel = pixel;
    this.draw("cursor", `M${pixel % WIDTH} ${Math.floor(pixel / WIDTH)}h1v1h-1z`);
  }

  go(pixel) {
    this.mark(pixel);
    this.onMove?.(pixel);
  }

  // Lines above the picture, by name; the name is their class.
  draw(name, path) {
    this.paths[name] ??= this.lines.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path"));
    this.paths[name].setAttribute("class", name);
    this.paths[name].setAttribute("d", path);
  }
}

// A picture that can be chosen: a button with a canvas.
function pictureButton(label, onChoose) {
  const button = document.createElement("button");
  const canvas = newCanvas();
  button.type = "button";
  button.className = "picture";
  button.setAttribute("aria-label", label);
  button.append(canvas);
  button.addEventListener("click", onChoose);
  return { button, canvas };
}

// The picture that is looked into and completed, and who wants to know of it.
const chosen = { image: null, name: "", byHand: false, listeners: [] };
function choose(image, name, byHand = false) {
  Object.assign(chosen, { image, name, byHand });
  for (const listener of chosen.listeners) listener(image, name);
}

// Do something when a section is in view or nearly so, again whenever it is asked for, and not before.
function whenSeen(section, action) {
  let seen = false;
  let wanted = false;
  const act = () => {
    if (seen && wanted) {
      wanted = false;
      action();
    }
  };
  new IntersectionObserver(([entry]) => { seen = entry.isIntersecting; act(); }, { rootMargin: "200px" }).observe(section);
  return () => { wanted = true; act(); };
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function savePicture(image, name) {
  const canvas = newCanvas();
  paint(canvas, image);
  canvas.toBlob((blob) => save(blob, name), "image/png");
}

// An exact model in WebAssembly: the C walk of the command line, the same numbers bit for bit.
//
// A classic script, since a page opened from a folder may not load modules. It defines one global, `Chainrule`, and touches
// no document, so that it also runs in a worker and in Node. Images are Uint8Arrays of levels, (height, width, channels).

"use strict";

const Chainrule = (() => {
  const TOTAL_BITS = 22; // frequencies sum to 2^22
  const GROUP = 24; // images that walk together
  const MOST_BYTES = 2 ** 31; // at a time
  const KEPT = 8; // images whose conditionals are remembered

  // What is wrong, in a sentence to show.
  class Problem extends Error {}

  // ------------------------------------------------------------------------------------------------- bytes

  function fromBase64(text) {
    const letters = atob(text);
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    return bytes;
  }

  // Raw deflate, given as base64 or bytes.
  async function inflated(given) {
    const bytes = typeof given === "string" ? fromBase64(given) : given;
    const opened = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return new Uint8Array(await new Response(opened).arrayBuffer());
  }

  // Four planes of bytes back to words of four, which are smaller apart.
  function woven(planes) {
    const words = planes.length / 4;
    const bytes = new Uint8Array(planes.length);
    for (let i = 0; i < words; i++) {
      for (let k = 0; k < 4; k++) bytes[4 * i + k] = planes[k * words + i];
    }
    return bytes;
  }

  // ------------------------------------------------------------------------------------------------- the model

  class Model {
    constructor(code, block, fields, meta) {
      this.code = code;
      this.meta = meta;
      this.fields = fields; // bits (pixels, pixels)
      this.pixels = meta.height * meta.width;
      this.entries = this.pixels * meta.channels;
      this.known = new Map(); // images, and the frequencies along them
      this.noted = null; // of one image: how its attention is shared out
      this.program = this.allocate(block.length);
      new Uint8Array(code.memory.buffer).set(block, this.program);
      const view = new DataView(code.memory.buffer);
      for (const at of meta.pointers) {
        const place = this.program + at;
        view.setUint32(place, view.getUint32(place, true) + this.program, true);
      }
    }

    allocate(bytes) {
      const place = bytes < MOST_BYTES ? this.code.malloc(bytes) >>> 0 : 0;
      if (!place) throw new Problem("There is too little memory for this in a page: use the command line.");
      return place;
    }

    // Room for arrays, {name: [type, length]}, in one piece, all zero; `free` gives it back. Views are made when asked for,
    // since memory that grows leaves old ones behind.
    room(arrays) {
      const places = {};
      let size = 0;
      for (const [name, [type, length]] of Object.entries(arrays)) {
        places[name] = size;
        size += Math.ceil((length * type.BYTES_PER_ELEMENT) / 16) * 16;
      }
      const start = this.allocate(size);
      new Uint8Array(this.code.memory.buffer, start, size).fill(0);
      return {
        at: (name) => (name in places ? start + places[name] : 0),
        view: (name) => new arrays[name][0](this.code.memory.buffer, start + places[name], arrays[name][1]),
        free: () => this.code.free(start),
      };
    }

    // Room for a walk over so many images, of which so many are `held` at a time, and what else it needs.
    walking(images, others, held = images) {
      const { memory, scratch, room } = this.meta.needs;
      const own = {
        memory: [Float32Array, held * memory],
        scratch: [Float32Array, Math.min(GROUP, held) * scratch],
        rooms: [Float64Array, held * room],
      };
      return this.room({ ...own, x: [BigInt64Array, images * this.entries], ...others });
    }

    places(space) {
      return [this.program, ...["memory", "scratch", "rooms"].map((name) => space.at(name))];
    }

    // Images go in and out entry by entry; the walk has them channel by channel, each entry in eight bytes.
    put(space, number, image) {
      const low = new Int32Array(this.code.memory.buffer, space.at("x"), 2 * this.entries * (number + 1));
      const { channels } = this.meta;
      const start = 2 * this.entries * number;
      for (let i = 0, e = 0; i < this.pixels; i++) {
        for (let c = 0; c < channels; c++, e++) low[start + 2 * (c * this.pixels + i)] = image[e];
      }
    }

    take(space, number, image = new Uint8Array(this.entries), first = 0, last = this.pixels) {
      const low = new Int32Array(this.code.memory.buffer, space.at("x"), 2 * this.entries * (number + 1));
      const { channels } = this.meta;
      const start = 2 * this.entries * number;
      for (let i = first, e = first * channels; i < last; i++) {
        for (let c = 0; c < channels; c++, e++) image[e] = low[start + 2 * (c * this.pixels + i)];
      }
      return image;
    }

    // A mask of pixels or of entries, as the walk has it.
    putMask(space, number, mask) {
      const view = space.view("known");
      const { channels } = this.meta;
      for (let i = 0; i < this.pixels; i++) {
        for (let c = 0; c < channels; c++) {
          const known = mask[mask.length === this.pixels ? i : i * channels + c];
          view[number * this.entries + c * this.pixels + i] = known ? 1 : 0;
        }
      }
    }

    checked(image) {
      const fine = image.length === this.entries && image.every((value) => value < this.meta.levels);
      if (!fine) throw new Problem(`This is no image of ${this.entries} entries with ${this.meta.levels} levels.`);
      return image;
    }

    // --------------------------------------------------------------------------------------------- drawing

    // The uniforms of some samples of a seed, one for each entry, as the command line draws them.
    uniforms(seed, first = 0, count = 1) {
      const twister = new Chainrule.Twister(seed);
      for (let i = 0; i < first * this.entries * 2; i++) twister.word();
      return Float64Array.from({ length: count * this.entries }, () => twister.uniform());
    }

    // A walk that can be watched.
    walk({ seed = 0, number = 0, uniforms, image, known } = {}) {
      return new Chainrule.Walk(this, uniforms ?? this.uniforms(seed, number), image, known);
    }

    // Whole images, those that `chainrule sample --exact` draws.
    sample({ seed = 0, first = 0, count = 1 } = {}) {
      return this.draw(count, this.uniforms(seed, first, count));
    }

    // The known pixels (or entries) of an image stay, the others are drawn: `chainrule complete --exact`.
    complete({ image, known, seed = 0, count = 1 }) {
      return this.draw(count, this.uniforms(seed, 0, count), this.checked(image), known);
    }

    draw(count, uniforms, image, known) {
      const found = [];
      for (let start = 0; start < count; start += GROUP) {
        const n = Math.min(GROUP, count - start);
        const given = image && known;
        const space = this.walking(n, {
          u: [Float64Array, n * this.entries],
          ...(given ? { known: [Uint8Array, n * this.entries] } : {}),
        });
        space.view("u").set(uniforms.subarray(start * this.entries, (start + n) * this.entries));
        for (let k = 0; k < n && given; k++) {
          this.put(space, k, image);
          this.putMask(space, k, known);
        }
        this.code.chainrule_draw(
          ...this.places(space), BigInt(n), BigInt(n), 1n, space.at("u"), space.at("known"), space.at("x"));
        for (let k = 0; k < n; k++) found.push(this.take(space, k));
        space.free();
      }
      return found;
    }

    // --------------------------------------------------------------------------------------------- where the bits go

    // How often each level would come out of 2^22 times, given all entries before: Int32Array (entries, levels).
    frequencies(image) {
      const key = this.checked(image).join();
      let found = this.known.get(key);
      this.known.delete(key);
      if (!found) {
        const space = this.walking(1, { table: [Int32Array, this.entries * this.meta.levels] });
        this.put(space, 0, image);
        this.code.chainrule_score(...this.places(space), 1n, 1n, 1n, space.at("x"), space.at("table"), 0);
        found = space.view("table").slice();
        space.free();
      }
      this.known.set(key, found); // the last used is the last
      if (this.known.size > KEPT) this.known.delete(this.known.keys().next().value);
      return found;
    }

    score(image) {
      const table = this.frequencies(image);
      const { levels } = this.meta;
      return Float64Array.from(image, (value, entry) => TOTAL_BITS - Math.log2(table[entry * levels + value]));
    }

    conditional(image, row, column, channel) {
      const { width, channels, levels } = this.meta;
      const start = ((row * width + column) * channels + channel) * levels;
      return Float64Array.from(this.frequencies(image).subarray(start, start + levels), (f) => f / 2 ** TOTAL_BITS);
    }

    // Which pixels this pixel's conditional can depend on.
    field(row, column) {
      const start = (row * this.meta.width + column) * this.pixels;
      return Uint8Array.from({ length: this.pixels }, (_, i) => (this.fields[(start + i) >> 3] >> ((start + i) & 7)) & 1);
    }

    // How attention at a pixel is shared out over the places up to it, averaged over heads: of one block, or over all.
    attention(image, row, column, block = null) {
      const { width, looks } = this.meta;
      const asked = block === null ? looks : [looks[block]];
      const key = [block, ...this.checked(image)].join();
      if (this.noted?.key !== key) this.noted = { key, shares: this.notes(image, asked) };
      const start = (row * width + column) * this.pixels;
      return Float64Array.from(this.noted.shares.subarray(start, start + this.pixels), (share) => share / asked.length);
    }

    // The shares at all pixels, summed over some looks: a walk over the image, in which these note them.
    notes(image, asked) {
      const space = this.walking(1, { noted: [Float32Array, this.pixels ** 2] });
      const point = (to) => {
        const view = new DataView(this.code.memory.buffer);
        for (const at of asked) view.setUint32(this.program + at, to, true);
      };
      this.put(space, 0, image);
      point(space.at("noted"));
      this.code.chainrule_score(...this.places(space), 1n, 1n, 1n, space.at("x"), 0, 0);
      point(0);
      const shares = space.view("noted").slice();
      space.free();
      return shares;
    }

    // --------------------------------------------------------------------------------------------- colours

    nearest(byte) {
      let best = 0;
      this.meta.pixel_values.forEach((value, level, all) => {
        if (Math.abs(value - byte) < Math.abs(all[best] - byte)) best = level;
      });
      return best;
    }

    rgba(image) {
      const { channels, pixel_values } = this.meta;
      const bytes = new Uint8ClampedArray(4 * this.pixels).fill(255);
      for (let i = 0; i < this.pixels; i++) {
        for (let k = 0; k < 3; k++) bytes[4 * i + k] = pixel_values[image[i * channels + (channels < 3 ? 0 : k)]];
      }
      return bytes;
    }

    from_rgba(rgba, width, height) {
      const { channels } = this.meta;
      if (width !== this.meta.width || height !== this.meta.height) {
        throw new Problem(`The picture is ${width}×${height}, this model's are ${this.meta.width}×${this.meta.height}.`);
      }
      return Uint8Array.from({ length: this.entries }, (_, e) => {
        const pixel = Math.floor(e / channels);
        return this.nearest(rgba[4 * pixel + (e % channels)]);
      });
    }
  }

  // ------------------------------------------------------------------------------------------------- opening

  async function open({ wasm, program, meta }) {
    let code;
    try {
      code = (await WebAssembly.instantiate(await inflated(wasm), {})).instance.exports;
    } catch (error) {
      throw new Problem(`This browser cannot run the model (${error.message}): use one of 2023 or later.`);
    }
    if (String(code.chainrule_layout()) !== meta.layout) {
      throw new Problem("The page's parts are of different versions: make it again with chainrule demo.");
    }
    const fields = meta.fields ? await inflated(meta.fields) : new Uint8Array();
    return new Model(code, woven(await inflated(program)), fields, meta);
  }

  return { open, Model, Problem, fromBase64, inflated, TOTAL_BITS, GROUP };
})();

globalThis.Chainrule = Chainrule;

"use strict";

// A walk over one image, pixel by pixel.
Chainrule.Walk = class {
  constructor(model, uniforms, image, known) {
    const { entries } = model;
    this.model = model;
    this.position = 0;
    this.image = new Uint8Array(entries);
    this.bits = new Float64Array(entries);
    this.space = model.walking(1, {
      u: [Float64Array, entries],
      known: [Uint8Array, entries],
      edges: [Int32Array, 2 * entries],
    });
    this.space.view("u").set(uniforms.subarray(0, entries));
    if (image && known) {
      model.put(this.space, 0, model.checked(image));
      model.putMask(this.space, 0, known);
      const mask = this.space.view("known");
      for (let e = 0; e < entries; e++) {
        const [pixel, channel] = [Math.floor(e / model.meta.channels), e % model.meta.channels];
        if (mask[channel * model.pixels + pixel]) this.image[e] = image[e];
      }
    }
  }

  get done() {
    return this.position === this.model.pixels;
  }

  // The next so many pixels; whether the image is whole.
  advance(count) {
    const { model, space, position } = this;
    const last = Math.min(model.pixels, position + count);
    if (position === last) return this.done;
    const [where, x] = [model.places(space), space.at("x")];
    model.code.chainrule_pixels(
      ...where, 1n, BigInt(position), BigInt(last), space.at("u"), space.at("known"), x, 0, space.at("edges"));
    model.take(space, 0, this.image, position, last);
    const edges = space.view("edges");
    for (let e = position * model.meta.channels; e < last * model.meta.channels; e++) {
      this.bits[e] = Chainrule.TOTAL_BITS - Math.log2(edges[2 * e + 1]);
    }
    this.position = last;
    if (this.done) this.free();
    return this.done;
  }

  next() {
    const { width, channels } = this.model.meta;
    const at = this.position;
    this.advance(1);
    const values = Array.from(this.image.subarray(at * channels, (at + 1) * channels));
    return { row: Math.floor(at / width), column: at % width, values, done: this.done };
  }

  finish() {
    this.advance(this.model.pixels);
    return this.image;
  }

  // Give its memory back; a walk that has come to its end does so by itself.
  free() {
    if (this.space) this.space.free();
    this.space = null;
    this.position = this.model.pixels;
  }
};

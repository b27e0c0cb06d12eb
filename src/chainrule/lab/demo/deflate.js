// Deflate for a few hundred bytes, as zlib writes them at its highest level: matches found lazily, codes that are fixed.
//
// For longer texts zlib may prefer codes of its own making. What is written here is then as valid, and a little longer.

"use strict";

Chainrule.deflated = (() => {
  const [SHORTEST, LONGEST, FARTHEST, TOO_FAR] = [3, 258, 32768 - 262, 4096];
  const LENGTHS = bases([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5], SHORTEST);
  const DISTANCES = bases(Array.from({ length: 30 }, (_, k) => Math.max(0, (k >> 1) - 1)), 1);
  LENGTHS.push([LONGEST, 0]);

  // RFC 1951, section 3.2.5: [smallest value, further bits] of each code.
  function bases(bits, first) {
    return bits.map((further) => [(first += 2 ** further) - 2 ** further, further]);
  }

  // The longest match for what stands at `at` that is longer than `best`; of equally long ones the nearest. Like zlib it
  // never looks at the very first place.
  function longest(text, at, best) {
    const most = Math.min(LONGEST, text.length - at);
    let [length, distance] = [best, 0];
    for (let from = at - 1; from > 0 && at - from <= FARTHEST && length < most; from--) {
      let n = 0;
      while (n < most && text[from + n] === text[at + n]) n++;
      if (n >= SHORTEST && n > length) [length, distance] = [n, at - from];
    }
    return [length, distance];
  }

  // A text after a preset dictionary, as [literal] and [length, distance].
  function symbols(dictionary, content) {
    const text = [...dictionary, ...content];
    const found = [];
    let [waiting, before, beforeDistance] = [false, 2, 0];
    for (let at = dictionary.length; at < text.length; ) {
      let [length, distance] = before < LONGEST ? longest(text, at, before) : [2, 0];
      if (!distance || (length === SHORTEST && distance > TOO_FAR)) [length, distance] = [2, 0];
      if (before >= SHORTEST && length <= before) {
        found.push([before, beforeDistance]);
        at += before - 1;
        [waiting, before] = [false, 2];
      } else {
        if (waiting) found.push([text[at - 1]]);
        [waiting, before, beforeDistance] = [true, length, distance];
        at++;
      }
    }
    if (waiting) found.push([text[text.length - 1]]);
    return found;
  }

  class Bits {
    constructor() {
      this.bytes = [];
      this.held = this.count = 0;
    }

    put(value, count) {
      this.held |= value << this.count;
      for (this.count += count; this.count >= 8; this.count -= 8) {
        this.bytes.push(this.held & 255);
        this.held >>>= 8;
      }
    }

    // A Huffman code, whose highest bit comes first.
    code(value, count) {
      for (let k = count - 1; k >= 0; k--) this.put((value >> k) & 1, 1);
    }

    // A literal or the code of a length.
    symbol(value) {
      if (value < 144) this.code(0x30 + value, 8);
      else if (value < 256) this.code(0x190 + value - 144, 9);
      else if (value < 280) this.code(value - 256, 7);
      else this.code(0xc0 + value - 280, 8);
    }

    done() {
      if (this.count) this.bytes.push(this.held & 255);
      return Uint8Array.from(this.bytes);
    }
  }

  const codeOf = (table, value) => table.findLastIndex(([first]) => first <= value);

  return (content, dictionary = []) => {
    const bits = new Bits();
    bits.put(1, 1); // the last block
    bits.put(1, 2); // of fixed codes
    for (const [value, distance] of symbols(dictionary, content)) {
      if (distance === undefined) {
        bits.symbol(value);
        continue;
      }
      const [length, far] = [codeOf(LENGTHS, value), codeOf(DISTANCES, distance)];
      bits.symbol(257 + length);
      bits.put(value - LENGTHS[length][0], LENGTHS[length][1]);
      bits.code(far, 5);
      bits.put(distance - DISTANCES[far][0], DISTANCES[far][1]);
    }
    bits.symbol(256); // the end
    return bits.done();
  };
})();

// Deflate for a few thousand bytes, byte for byte as zlib writes them at its highest level: matches are found lazily, and
// of the three kinds of blocks the shortest is taken. Beyond 16,383 symbols zlib would begin another block.

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

    done() {
      if (this.count) this.bytes.push(this.held & 255);
      return Uint8Array.from(this.bytes);
    }
  }

  const codeOf = (table, value) => table.findLastIndex(([first]) => first <= value);

  // Symbols as [literal or length, bits, how many, distance, bits, how many], the end among them.
  function coded(found) {
    const all = found.map(([value, distance]) => {
      if (distance === undefined) return [value, 0, 0];
      const [length, far] = [codeOf(LENGTHS, value), codeOf(DISTANCES, distance)];
      const [first, further] = LENGTHS[length];
      const [nearest, more] = DISTANCES[far];
      return [257 + length, value - first, further, far, distance - nearest, more];
    });
    return [...all, [256, 0, 0]];
  }

  const FIXED = Array.from({ length: 288 }, (_, n) => (n < 144 ? 8 : n < 256 ? 9 : n < 280 ? 7 : 8));
  const FIXED_FAR = new Array(30).fill(5);
  const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

  // How many bits symbols take.
  function size(all, near, far) {
    return all.reduce((sum, [n, , bits, d, , more]) => sum + near[n] + bits + (d === undefined ? 0 : far[d] + more), 0);
  }

  function frequencies(values, count) {
    const found = new Array(count).fill(0);
    for (const value of values) if (value !== undefined) found[value]++;
    return found;
  }

  return (content, dictionary = []) => {
    const { lengthsOf, codesOf, runs } = Chainrule.huffman;
    const all = coded(symbols(dictionary, content));
    const near = lengthsOf(frequencies(all.map(([n]) => n), 286), 15);
    const far = lengthsOf(frequencies(all.map((symbol) => symbol[3]), 30), 15);
    const sent = [...runs(near), ...runs(far)];
    const short = lengthsOf(frequencies(sent.map(([n]) => n), 19), 7);
    const shown = Math.max(4, ORDER.findLastIndex((n) => short[n]) + 1);
    const own = size(all, near, far) + sent.reduce((sum, [n, , bits]) => sum + short[n] + bits, 0) + 3 * shown + 14;
    const [ownBytes, fixedBytes] = [own, size(all, FIXED, FIXED_FAR)].map((count) => (count + 10) >> 3);
    const bits = new Bits();
    bits.put(1, 1); // the last block
    if (content.length + 4 <= Math.min(ownBytes, fixedBytes)) {
      const length = content.length;
      bits.put(0, 7); // as it is, from the next byte on
      for (const byte of [length & 255, length >> 8, ~length & 255, (~length >> 8) & 255, ...content]) bits.put(byte, 8);
      return bits.done();
    }
    const fixed = fixedBytes <= ownBytes;
    bits.put(fixed ? 1 : 2, 2);
    if (!fixed) {
      const last = (lengths) => lengths.findLastIndex((length) => length) + 1;
      bits.put(last(near) - 257, 5);
      bits.put(last(far) - 1, 5);
      bits.put(shown - 4, 4);
      for (const n of ORDER.slice(0, shown)) bits.put(short[n], 3);
      const codes = codesOf(short);
      for (const [n, value, count] of sent) {
        bits.code(codes[n], short[n]);
        bits.put(value, count);
      }
    }
    const [lengths, distances] = fixed ? [FIXED, FIXED_FAR] : [near, far];
    const [codes, farCodes] = [codesOf(lengths), codesOf(distances)];
    for (const [n, value, count, d, rest, more] of all) {
      bits.code(codes[n], lengths[n]);
      bits.put(value, count);
      if (d === undefined) continue;
      bits.code(farCodes[d], distances[d]);
      bits.put(rest, more);
    }
    return bits.done();
  };
})();

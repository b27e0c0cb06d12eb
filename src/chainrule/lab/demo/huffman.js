// Codes of deflate made to measure, exactly as zlib makes them: of two nodes of one frequency the shallower goes first.

"use strict";

Chainrule.huffman = (() => {
  // The lengths of codes for symbols that are this frequent, none longer than `most`; at least two symbols get one.
  function lengthsOf(given, most) {
    const frequency = [...given];
    const heap = [];
    for (let n = 0; n < given.length; n++) if (given[n]) heap.push(n);
    for (let last = heap.at(-1) ?? -1; heap.length < 2; ) {
      const forced = last < 2 ? ++last : 0;
      heap.push(forced);
      frequency[forced] = 1;
    }
    const leaves = [...heap];
    const [depth, parent] = [[], []];
    const before = (n, m) => {
      if (frequency[n] !== frequency[m]) return frequency[n] < frequency[m];
      return (depth[n] ?? 0) <= (depth[m] ?? 0);
    };
    const sink = (k) => {
      const moved = heap[k];
      for (let j = 2 * k + 1; j < heap.length; j = 2 * k + 1) {
        if (j + 1 < heap.length && before(heap[j + 1], heap[j])) j++;
        if (before(moved, heap[j])) break;
        heap[k] = heap[j];
        k = j;
      }
      heap[k] = moved;
    };
    for (let k = (heap.length >> 1) - 1; k >= 0; k--) sink(k);
    const order = []; // in which nodes are joined: the rarest first
    for (let node = given.length; heap.length > 1; node++) {
      const n = heap[0];
      const end = heap.pop();
      if (heap.length) heap[0] = end;
      sink(0);
      const m = heap[0];
      order.push(n, m);
      frequency[node] = frequency[n] + frequency[m];
      depth[node] = Math.max(depth[n] ?? 0, depth[m] ?? 0) + 1;
      parent[n] = parent[m] = node;
      heap[0] = node;
      sink(0);
    }
    return limited(order, parent, new Set(leaves), given.length, most);
  }

  function limited(order, parent, leaves, size, most) {
    const [lengths, counts] = [[], new Array(most + 1).fill(0)];
    let over = 0;
    for (const n of order.toReversed()) {
      lengths[n] = (lengths[parent[n]] ?? 0) + 1;
      if (lengths[n] > most) [lengths[n], over] = [most, over + 1];
      if (leaves.has(n)) counts[lengths[n]]++;
    }
    if (over) {
      for (; over > 0; over -= 2) {
        let bits = most - 1;
        while (!counts[bits]) bits--;
        counts[bits]--;
        counts[bits + 1] += 2;
        counts[most]--;
      }
      const rarest = order.filter((n) => leaves.has(n));
      for (let bits = most, k = 0; bits; bits--) {
        for (let n = counts[bits]; n; n--) lengths[rarest[k++]] = bits;
      }
    }
    return Array.from({ length: size }, (_, n) => (leaves.has(n) ? lengths[n] : 0));
  }

  // The codes of given lengths: RFC 1951, section 3.2.2.
  function codesOf(lengths) {
    const next = [];
    for (let bits = 1, code = 0; bits < 16; bits++) {
      code = (code + (bits > 1 ? lengths.filter((length) => length === bits - 1).length : 0)) << 1;
      next[bits] = code;
    }
    return lengths.map((length) => (length ? next[length]++ : 0));
  }

  // Lengths of codes as they are sent, up to the last that is not 0: [symbol, further bits, how many], 16 for repetitions.
  function runs(lengths) {
    const found = [];
    const end = lengths.findLastIndex((length) => length) + 1;
    let [before, count] = [-1, 0];
    for (let n = 0; n < end; n++) {
      const [length, same] = [lengths[n], n + 1 < end && lengths[n] === lengths[n + 1]];
      const [least, most] = length === 0 ? [3, 138] : length === before ? [3, 6] : [4, 7];
      if (++count < most && same) continue;
      if (count < least) for (let k = 0; k < count; k++) found.push([length, 0, 0]);
      else if (length) {
        if (length !== before) {
          found.push([length, 0, 0]);
          count--;
        }
        found.push([16, count - 3, 2]);
      } else found.push(count <= 10 ? [17, count - 3, 3] : [18, count - 11, 7]);
      [before, count] = [length, 0];
    }
    return found;
  }

  return { lengthsOf, codesOf, runs };
})();

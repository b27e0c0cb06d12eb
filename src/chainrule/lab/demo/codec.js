// Archives of a model's pictures: `unpack` and `pack` of a model, and the words of docs/format.md.

"use strict";

(() => {
  const { read, write, sha256, joined, same, varints, Cursor, damaged } = Chainrule.container;
  const { Problem, GROUP } = Chainrule;
  const [PNG, BY_MODEL] = [1, 8];
  const [GRAY, RGB, INDEX] = [0, 2, 3];
  const MOST_EVENTS = 2000;
  const MOST_SAMPLES = 2 ** 24;
  const UNPACK = "unpack the archive with chainrule decompress";
  const FORBIDDEN = /[\u0000-\u001f\u007f\\:*?"<>|]/;

  // ------------------------------------------------------------------------------------------------- words

  // Words to images.
  function decoded(model, words, count) {
    const group = Math.min(GROUP, count);
    const held = Math.ceil(count / group) * group;
    const space = model.walking(count, {
      words: [Uint32Array, Math.max(1, words.length / 4)],
      values: [BigInt64Array, count],
      rest: [BigUint64Array, 2],
    }, held);
    try {
      new Uint8Array(model.code.memory.buffer).set(words, space.at("words"));
      const [x, rest] = [space.at("x"), space.at("rest")];
      model.code.chainrule_decode(
        ...model.places(space), BigInt(group), BigInt(count), 1n,
        space.at("words"), BigInt(words.length / 4), space.at("values"), x, rest);
      if (space.view("rest").some((left) => left !== 0n)) throw damaged("a chunk holds other images than those encoded");
      return Array.from({ length: count }, (_, k) => model.take(space, k));
    } finally {
      space.free();
    }
  }

  // Images to words.
  function encoded(model, images) {
    const [count, group, { entries }] = [images.length, Math.min(GROUP, images.length), model];
    const space = model.walking(count, {
      symbols: [BigInt64Array, entries * count],
      edges: [Int32Array, 2 * entries * count],
      state: [BigUint64Array, 1],
      words: [Uint32Array, entries * count],
    }, group);
    try {
      images.forEach((image, k) => model.put(space, k, image));
      model.code.chainrule_score(
        ...model.places(space), BigInt(group), BigInt(count), 1n, space.at("x"), 0, space.at("edges"));
      const symbols = space.view("symbols");
      images.forEach((image, k) => image.forEach((value, entry) => (symbols[entry * count + k] = BigInt(value))));
      const [edges, state] = [space.at("edges"), space.at("state")];
      const written = model.code.chainrule_encode(
        BigInt(entries * count), BigInt(model.meta.levels), space.at("symbols"), edges, state, space.at("words"));
      const words = space.view("words").slice(0, Number(written));
      const left = space.view("state")[0];
      const last = [Number(left & 0xffffffffn), Number(left >> 32n)];
      const kept = last[1] ? last : last[0] ? [last[0]] : [];
      return new Uint8Array(Uint32Array.from([...words, ...kept]).buffer);
    } finally {
      space.free();
    }
  }

  // ------------------------------------------------------------------------------------------------- unpacking

  async function unpack(model, bytes) {
    const archive = await read(bytes);
    const own = archive.models.map((account) => account.fingerprint === model.meta.fingerprint);
    const found = { images: [], names: [], note: "" };
    for (const chunk of archive.chunks) {
      const { member } = chunk;
      const events = member.kind === "array" && member.values !== "pixels";
      const images = await (events ? eventsOf : picturesOf)(model, chunk, own, archive.models);
      images.forEach((image, k) => {
        found.images.push(image);
        const name = member.names?.[chunk.start + k];
        found.names.push(name ?? `${member.name || "image"} ${chunk.start + k + 1}`);
      });
    }
    return found;
  }

  function checkModel(number, own, accounts) {
    if (!(number in own)) throw damaged("it names a model that it does not have");
    if (!own[number]) {
      const { model, fingerprint } = accounts[number];
      throw new Problem(`The archive was made with another model (a ${model}, ${String(fingerprint).slice(0, 12)}): ${UNPACK}.`);
    }
  }

  async function eventsOf(model, chunk, own, accounts) {
    const cursor = new Cursor(chunk.payload);
    checkModel(cursor.varint(), own, accounts);
    const images = decoded(model, wordsOf(cursor, cursor.left), chunk.count);
    const digest = await sha256(joined(images.map((image) => byChannel(model, image))));
    if (!same(digest, chunk.digest)) throw damaged("a chunk's images are not those that were encoded");
    return images;
  }

  function wordsOf(cursor, length) {
    if (length % 4) throw damaged("a chunk claims an impossible size");
    return cursor.take(length);
  }

  function byChannel(model, image) {
    const { channels } = model.meta;
    return image.map((_, k) => image[(k % model.pixels) * channels + Math.floor(k / model.pixels)]);
  }

  async function picturesOf(model, { payload, count, digest }, own, accounts) {
    const cursor = new Cursor(payload);
    const stored = cursor.take(cursor.varint());
    const table = await Chainrule.inflated(stored).catch(() => {
      throw damaged("a picture cannot be decoded");
    });
    const rows = rowsOf(new Cursor(table), count);
    const others = rows.filter((row) => row.coder < BY_MODEL).length;
    if (others) {
      throw new Problem(`Usual codecs, and not the model, hold ${others} of the ${count} pictures: ${UNPACK}.`);
    }
    for (const row of rows) {
      checkModel(row.coder - BY_MODEL, own, accounts);
      if (row.payload) throw new Problem(`The archive holds pictures with an alpha channel: ${UNPACK}.`);
      if (row.width !== model.meta.width || row.height !== model.meta.height) throw damaged("a picture cannot be decoded");
    }
    const images = Array.from({ length: count });
    for (let batch = 1; batch <= Math.max(0, ...rows.map((row) => row.batch)); batch++) {
      const [events, orientation, size] = cursor.varints(3);
      if (orientation) throw new Problem(`The archive holds pictures that lie on their side or are mirrored: ${UNPACK}.`);
      const places = rows.flatMap((row, k) => (row.batch === batch ? [k] : []));
      const words = wordsOf(cursor, size);
      if (!events || events !== places.length) throw damaged("a picture cannot be decoded");
      decoded(model, words, events).forEach((image, k) => (images[places[k]] = image));
    }
    if (cursor.left || images.some((image) => !image)) throw damaged("a picture cannot be decoded");
    const digests = await Promise.all(rows.map((row, k) => sha256(samplesOf(model, row, images[k]))));
    if (!same(await sha256(joined([table, ...digests])), digest)) {
      throw damaged("a chunk's pictures are not those that were encoded");
    }
    return images;
  }

  function rowsOf(cursor, count) {
    const bytes = () => Array.from(cursor.take(count));
    const [forms, kinds, coders] = [bytes(), bytes(), bytes()];
    const names = ["width", "height", "payload", "batch", "palette", "transparency", "beside"];
    const columns = Object.fromEntries(names.map((name) => [name, cursor.varints(count)]));
    const rows = forms.map((form, k) => ({
      form,
      color: kinds[k] >> 4,
      depth: kinds[k] & 15,
      coder: coders[k],
      ...Object.fromEntries(names.map((name) => [name, columns[name][k]])),
    }));
    for (const name of ["palette", "transparency", "beside"]) {
      for (const row of rows) row[name] = cursor.take(row[name]);
    }
    return rows;
  }

  // The samples of a picture as PNG has them: bytes, grays of few bits, or indices of a palette.
  function samplesOf(model, { color, depth, palette }, image) {
    const { pixel_values, channels } = model.meta;
    const values = image.map((level) => pixel_values[level]);
    if (color === GRAY) return values.map((value) => value / (255 / (2 ** depth - 1)));
    if (color === RGB) return values;
    if (color !== INDEX) throw new Problem(`The archive holds pictures with an alpha channel: ${UNPACK}.`);
    const first = new Map(); // the first index of each colour
    for (let k = palette.length / 3 - 1; k >= 0; k--) first.set(palette.subarray(3 * k, 3 * k + channels).join(), k);
    return Uint8Array.from({ length: model.pixels }, (_, pixel) => {
      const index = first.get(values.subarray(pixel * channels, (pixel + 1) * channels).join());
      if (index === undefined) throw damaged("a picture cannot be decoded");
      return index;
    });
  }

  // ------------------------------------------------------------------------------------------------- packing

  // An archive of images as PNG files of eight bits without anything beside, as `chainrule compress -m MODEL` writes it
  // where no usual codec makes less of one of them.
  async function pack(model, images, names = images.map((_, k) => `${k + 1}.png`)) {
    const { channels, width, height, account } = model.meta;
    if (channels !== 1 && channels !== 3) throw new Problem(`There are no PNG pictures of ${channels} channels.`);
    if (!images.length || names.length !== images.length) throw new Problem("There is a name to be for each picture.");
    checkNames(names);
    images.forEach((image) => model.checked(image));
    const most = Math.max(1, Math.min(MOST_EVENTS, Math.floor(MOST_SAMPLES / model.entries)));
    const kind = 16 * (channels === 3 ? RGB : GRAY) + 8;
    const chunks = [];
    for (let start = 0; start < images.length; start += most) {
      const part = images.slice(start, start + most);
      const count = part.length;
      const column = (...values) => part.map(() => values).flat();
      const ofBytes = [PNG, kind, BY_MODEL].map((value) => Uint8Array.from(column(value)));
      const numbers = [width, height, 0, 1, 0, 0, 0].map((value) => varints(column(value)));
      const table = joined([...ofBytes, ...numbers]);
      const samples = part.map((image) => image.map((level) => model.meta.pixel_values[level]));
      const digest = await sha256(joined([table, ...(await Promise.all(samples.map(sha256)))]));
      const [stored, words] = [Chainrule.deflated(table), encoded(model, part)];
      const payload = joined([varints([stored.length]), stored, varints([count, 0, words.length]), words]);
      chunks.push({ count, digest, payload });
    }
    return write(names, Chainrule.fromBase64(account), chunks);
  }

  function checkNames(names) {
    for (const name of names) {
      const parts = name.split("/");
      const fine = parts.every((part) => part && !/[. ]$/.test(part) && new TextEncoder().encode(part).length <= 240);
      if (!fine || FORBIDDEN.test(name)) throw new Problem(`${JSON.stringify(name)} is no name for a picture in an archive.`);
    }
    if (new Set(names.map((name) => name.normalize("NFD").toLowerCase())).size < names.length) {
      throw new Problem("Two pictures have the same name.");
    }
  }

  Object.assign(Chainrule.Model.prototype, {
    unpack(bytes) {
      return unpack(this, bytes);
    },
    pack(images, names) {
      return pack(this, images, names);
    },
  });
})();

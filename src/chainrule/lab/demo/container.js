// The container of docs/format.md: bytes to members, models and chunks, and back. Every checksum is looked at.

"use strict";

Chainrule.container = (() => {
  const MAGIC = Uint8Array.of(0x89, 0x43, 0x52, 0x5a, 0x0d, 0x0a, 0x1a, 0x0a);
  const VERSION = 2;
  const [MODEL, CHUNK, END] = [0x4d, 0x43, 0x45];
  const USUAL =
    '[{"kind":"array","name":"","key":"","count":1,"dtype":"|u1","layout":"NHWC","shape":[3,28,28],"levels":256,' +
    '"values":"pixels"},{"kind":"kept"},{"kind":"list","count":1}{"kind":"pictures","names":["1.png","2.png"]}]';
  const USUAL_MODEL =
    '","model":"PixelCNNMADE","shape":[3,28,28],"levels":4}{"arithmetic":1,"fingerprint":"","probe":"","model":' +
    '"LogisticPixelCNN","shape":[3,null,null],"levels":256}';
  const [DICTIONARY, MODEL_DICTIONARY] = [USUAL, USUAL_MODEL].map((text) => new TextEncoder().encode(text));
  const damaged = (what) => new Chainrule.Problem(`The archive is damaged: ${what}.`);

  // ------------------------------------------------------------------------------------------------- numbers

  const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n >>> 0;
  });

  function crc(bytes) {
    let c = 0xffffffff;
    for (const byte of bytes) c = TABLE[(c ^ byte) & 255] ^ (c >>> 8);
    return (c ^ 0xffffffff) >>> 0;
  }

  async function sha256(bytes) {
    if (!globalThis.crypto?.subtle) {
      throw new Chainrule.Problem("The browser checks archives only in pages from a folder or over https: save the page.");
    }
    return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  }

  function joined(parts) {
    const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    parts.reduce((place, part) => (all.set(part, place), place + part.length), 0);
    return all;
  }

  const same = (a, b) => a.length === b.length && a.every((value, k) => value === b[k]);
  const u16 = (value) => Uint8Array.of(value & 255, value >>> 8);
  const u32 = (value) => Uint8Array.from(new Uint8Array(Uint32Array.of(value).buffer)); // browsers are little-endian

  // Numbers of seven bits a byte, the lowest first.
  function varints(values) {
    const bytes = [];
    for (let value of values) {
      for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
      bytes.push(value);
    }
    return Uint8Array.from(bytes);
  }

  // Bytes that are read front to back.
  class Cursor {
    constructor(bytes) {
      [this.bytes, this.place] = [bytes, 0];
    }

    take(length) {
      if (length > this.bytes.length - this.place) throw damaged("its end is missing");
      return this.bytes.subarray(this.place, (this.place += length));
    }

    number(length) {
      return this.take(length).reduceRight((sum, byte) => sum * 256 + byte, 0);
    }

    varint() {
      let [value, unit, byte] = [0, 1, 128];
      for (let k = 0; byte & 128; k++, unit *= 128) {
        if (k === 7) throw damaged("a number is too long");
        byte = this.take(1)[0];
        value += (byte & 127) * unit;
      }
      return value;
    }

    varints(count) {
      return Array.from({ length: count }, () => this.varint());
    }

    get left() {
      return this.bytes.length - this.place;
    }
  }

  // ------------------------------------------------------------------------------------------------- reading

  // Raw deflate after a preset dictionary: that stands in front as a block that is stored, and is cut off again.
  async function inflatedAfter(dictionary, stored) {
    const front = joined([Uint8Array.of(0), u16(dictionary.length), u16(dictionary.length ^ 0xffff), dictionary]);
    return (await Chainrule.inflated(joined([front, stored]))).subarray(dictionary.length);
  }

  // {members, models: [account, …], chunks: [{member, start, count, digest, payload}, …]}
  async function read(bytes) {
    const cursor = new Cursor(bytes);
    if (bytes.length < 14 || !same(bytes.subarray(0, 8), MAGIC)) {
      throw new Chainrule.Problem("This is no .crz archive, or its first bytes were damaged.");
    }
    const seal = [];
    const checked = (start) => {
      const content = bytes.subarray(start, cursor.place);
      const stored = cursor.take(4);
      if (!same(stored, u32(crc(content)))) throw damaged("a checksum is wrong");
      seal.push(stored);
    };
    cursor.take(8);
    const version = cursor.number(2);
    if (version !== VERSION) {
      throw new Chainrule.Problem(`The archive has format version ${version}, this page reads ${VERSION}.`);
    }
    const header = cursor.take(cursor.number(4));
    checked(0);
    const found = { members: await headerOf(header), models: [], chunks: [] };
    let [place, done] = [0, 0]; // the member at hand, and how much of it there was
    const settle = () => {
      while (place < found.members.length && done === countOf(found.members[place])) [place, done] = [place + 1, 0];
    };
    for (;;) {
      const start = cursor.place;
      const tag = cursor.number(1);
      if (tag === MODEL) {
        const [account, config, weights] = [cursor.number(4), cursor.number(4), cursor.number(4)];
        const stored = cursor.take(account);
        cursor.take(config + weights);
        checked(start);
        found.models.push(await textOf(stored, MODEL_DICTIONARY));
      } else if (tag === CHUNK) {
        const [length, count] = [cursor.number(4), cursor.number(4)];
        const digest = cursor.take(32);
        settle();
        const member = found.members[place];
        if (!member || !count || count > countOf(member) - done) throw damaged("a chunk claims an impossible size");
        const payload = cursor.take(length);
        checked(start);
        found.chunks.push({ member, start: done, count, digest, payload });
        done += count;
      } else if (tag === END) {
        settle();
        const last = u32(crc(joined([...seal, Uint8Array.of(END)])));
        if (!same(cursor.take(4), last)) throw damaged("its last checksum is wrong");
        if (place < found.members.length) throw damaged("it does not hold all that its header names");
        if (cursor.left) throw damaged("it is followed by bytes that are not its own");
        return found;
      } else {
        throw damaged("there is neither a chunk nor the end where one should be");
      }
    }
  }

  // What deflated JSON says.
  async function textOf(stored, dictionary) {
    try {
      return JSON.parse(new TextDecoder().decode(await inflatedAfter(dictionary, stored)));
    } catch {
      throw damaged("its header cannot be read");
    }
  }

  async function headerOf(stored) {
    const members = await textOf(stored, DICTIONARY);
    const isObject = (member) => member !== null && typeof member === "object";
    if (!Array.isArray(members) || !members.every(isObject)) throw damaged("its header cannot be read");
    if (members.some((member) => member.kind === "kept")) {
      throw new Chainrule.Problem("The archive also holds an array that is no picture: unpack it with chainrule decompress.");
    }
    if (!members.every((member) => Number.isInteger(countOf(member)))) throw damaged("its header cannot be read");
    return members;
  }

  // How many events or pictures a member has.
  const countOf = (member) => (member.kind === "pictures" ? member.names?.length : member.count);

  // ------------------------------------------------------------------------------------------------- writing

  // An archive of pictures with names, all coded by one model; chunks are {count, digest, payload}. The account is bytes.
  function write(names, account, chunks) {
    const members = new TextEncoder().encode(JSON.stringify([{ kind: "pictures", names }]));
    const header = Chainrule.deflated(members, DICTIONARY);
    const blocks = [
      [MAGIC, u16(VERSION), u32(header.length), header],
      [Uint8Array.of(MODEL), u32(account.length), u32(0), u32(0), account],
      ...chunks.map(({ count, digest, payload }) => [
        Uint8Array.of(CHUNK), u32(payload.length), u32(count), digest, payload,
      ]),
    ].map(joined);
    const seals = blocks.map((block) => u32(crc(block)));
    const end = Uint8Array.of(END);
    return joined([...blocks.flatMap((block, k) => [block, seals[k]]), end, u32(crc(joined([...seals, end])))]);
  }

  return { read, write, sha256, joined, same, varints, Cursor, damaged };
})();

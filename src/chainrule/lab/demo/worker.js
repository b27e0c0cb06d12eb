// Runs in a Web Worker, after the runtime: one model, and jobs that are done in slices, so that the page can stop them.
"use strict";

const SLICE = 12; // milliseconds of a job before others have their turn, and before the page hears how far it is
const STEP = 4; // pixels between two looks at the clock

let model = null;
let turning = false; // whether work() is about to be called
const jobs = new Map();
const turn = new MessageChannel();

// A job is a generator: it yields what the page shall hear meanwhile (or nothing) and returns the result.
const KINDS = {
  *draw({ seed, count, image, known }) {
    for (let number = 0; number < count; number++) {
      const walk = model.walk({ seed, number, image, known });
      try {
        let end = performance.now() + SLICE;
        while (!walk.done) {
          walk.advance(STEP);
          if (performance.now() >= end) {
            yield { number, position: walk.position, image: walk.image.slice() };
            end = performance.now() + SLICE;
          }
        }
        yield { number, position: walk.position, image: walk.image.slice() };
      } finally {
        walk.free();
      }
    }
    return count;
  },

  *score({ image }) {
    return model.score(image);
  },

  *look({ image, row, column, block }) {
    const { channels } = model.meta;
    const distributions = [];
    for (let channel = 0; channel < channels; channel++) {
      distributions.push(Float64Array.from(model.conditional(image, row, column, channel)));
    }
    const weights = model.meta.looks.length ? model.attention(image, row, column, block) : null;
    return { distributions, field: model.field(row, column), weights };
  },

  *read({ rgba, width, height }) {
    return model.from_rgba(rgba, width, height);
  },

  *pack({ images, names }) {
    return model.pack(images, names);
  },

  *unpack({ bytes }) {
    return model.unpack(bytes);
  },
};

async function open({ wasm, program, meta }) {
  model = await Chainrule.open({ wasm, program, meta });
}

function fail(id, error) {
  const expected = typeof Chainrule !== "undefined" && Chainrule.Problem && error instanceof Chainrule.Problem;
  postMessage({ id, error: error.message || String(error), expected });
}

function work() {
  turning = false;
  for (const [id, steps] of [...jobs]) {
    try {
      const { done, value } = steps.next();
      if (!done) {
        if (value) postMessage({ id, part: value });
        continue;
      }
      jobs.delete(id);
      Promise.resolve(value).then((result) => postMessage({ id, result }), (error) => fail(id, error));
    } catch (error) {
      jobs.delete(id);
      fail(id, error);
    }
  }
  keepWorking();
}

function keepWorking() {
  if (!turning && jobs.size) turn.port2.postMessage(null);
  turning = turning || jobs.size > 0;
}
turn.port1.onmessage = work;

onmessage = ({ data: { id, kind, args } }) => {
  if (kind === "open") {
    open(args).then((result) => postMessage({ id, result }), (error) => fail(id, error));
  } else if (kind === "stop") {
    jobs.get(args.job)?.return();
    jobs.delete(args.job);
  } else {
    jobs.set(id, KINDS[kind](args));
    keepWorking();
  }
};

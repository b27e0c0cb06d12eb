// The model is asked through messages: it computes in a worker, so that the page never waits.

const texts = (type) => [...document.querySelectorAll(`script[type="${type}"]`)].map((script) => script.textContent);
const given = (id) => document.getElementById(id).textContent.trim();

class Engine {
  constructor() {
    const url = URL.createObjectURL(new Blob([texts("text/x-worker").join("\n")], { type: "text/javascript" }));
    this.worker = new Worker(url);
    this.waiting = new Map();
    this.last = 0;
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of this.waiting.values()) reject(new Error(event.message || "The model has stopped"));
      this.waiting.clear();
    };
  }

  hear({ id, part, result, error, expected }) {
    const asked = this.waiting.get(id);
    if (!asked) return;
    if (part !== undefined) return asked.onPart?.(part);
    this.waiting.delete(id);
    if (error === undefined) asked.resolve(result);
    else asked.reject(Object.assign(new Error(error), { expected }));
  }

  // {answer: a promise, stop()}: a job that is stopped never answers.
  ask(kind, args, onPart) {
    const id = ++this.last;
    const answer = new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject, onPart }));
    this.worker.postMessage({ id, kind, args });
    const stop = () => {
      if (this.waiting.delete(id)) this.worker.postMessage({ kind: "stop", args: { job: id } });
    };
    return { answer, stop };
  }
}

// The last of several questions counts: `once(question)` stops the one before it.
function latest() {
  let running = null;
  return (question) => {
    running?.stop();
    return (running = question);
  };
}

const engine = new Engine();
const MODEL = JSON.parse(given("meta"));
const { channels: CHANNELS, height: HEIGHT, width: WIDTH, levels: LEVELS } = MODEL;
const PIXELS = HEIGHT * WIDTH;

const $ = (id) => document.getElementById(id);
const count = (number, digits = 0) =>
  number.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });

// Say something to everybody, also to those who do not see the page.
function say(id, sentence, kind = "") {
  const place = $(id);
  place.textContent = sentence;
  place.dataset.kind = kind;
}

const tell = (id) => (error) => say(id, error.message.replace(/\.?$/, "."), "problem");

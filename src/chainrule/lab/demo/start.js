// Opens the model, then starts the four parts of the page.

async function start() {
  const began = performance.now();
  try {
    await engine.ask("open", { wasm: given("wasm"), program: given("program"), meta: MODEL }).answer;
  } catch (error) {
    document.body.dataset.state = "failed";
    return say("state", `The model cannot run here. ${error.message.replace(/\.?$/, ".")}`, "problem");
  }
  document.body.dataset.state = "ready";
  say("state", `The model is ready: it took ${count(performance.now() - began)} ms to start.`);
  for (const part of document.querySelectorAll("fieldset[disabled]")) part.disabled = false;
  startBits();
  startCompleting();
  startArchives();
  startDrawing();
}

start();

// What the page holds, for the curious and for the tests.
globalThis.demo = { MODEL, engine, sheet, chosen, editing, completions, knownPixels, bits };

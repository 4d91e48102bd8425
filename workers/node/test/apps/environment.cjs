// Tells what a grandchild and a worker thread see of the preload.
"use strict";

const { execFileSync } = require("node:child_process");
const { Worker } = require("node:worker_threads");

const look = "JSON.stringify([process.env.STICKY_NODE, process.env.NODE_OPTIONS, Math.max(0, process.listenerCount('internalMessage'))])";
const grandchild = JSON.parse(execFileSync(process.execPath, ["-p", look]));
const thread = new Worker(`require("node:worker_threads").parentPort.postMessage(${look})`, { eval: true });
thread.once("message", (text) => {
  process.send({ self: [process.env.STICKY_NODE, process.env.NODE_OPTIONS], grandchild, thread: JSON.parse(text) });
});

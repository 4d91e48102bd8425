// Says what this worker, its children and its threads have of what the supervisor put into the environment.
"use strict";
const { execFileSync, fork } = require("node:child_process");
const http = require("node:http");
const { isMainThread, parentPort, Worker } = require("node:worker_threads");

/** Everything here that a supervisor may have left. */
const seen = () => ({
  options: process.env.NODE_OPTIONS ?? null,
  names: Object.keys(process.env).filter((name) => /^STICKY_(?!TEST_)|^NODE_(CHANNEL|UNIQUE)/.test(name)).sort(),
  preloaded: process.execArgv.concat(Object.keys(require.cache)).filter((path) => /sticky/i.test(path)),
});

if (!isMainThread) {
  parentPort.postMessage(seen());
} else if (process.argv[2] === "child") {
  if (process.send) process.send(seen(), () => process.disconnect());
  else console.log(JSON.stringify(seen()));
} else {
  serve();
}

function serve() {
  const { where, slot } = require("./who.js");
  http.createServer(async (request, response) => {
    const child = JSON.parse(execFileSync(process.execPath, [__filename, "child"]));
    const forked = await new Promise((done) => fork(__filename, ["child"]).on("message", done));
    const thread = await new Promise((done) => new Worker(__filename).on("message", done));
    response.setHeader("Connection", "close");
    response.end(JSON.stringify({ slot, worker: seen(), child, forked, thread }));
  }).listen(where);
}

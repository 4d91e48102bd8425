// @socket.io/sticky, primary and workers as in its README. `node socketio-sticky.js WORKERS`
"use strict";

const cluster = require("node:cluster");
const http = require("node:http");
const { setupPrimary, setupWorker } = require("@socket.io/sticky");

if (cluster.isPrimary) {
  const { WORKERS, sayWhenReady } = require("./workers");
  const httpServer = http.createServer();
  // "least-connection" counts sessions: all requests of a client that opens none would go to one worker.
  setupPrimary(httpServer, { loadBalancingMethod: "round-robin" });
  cluster.setupPrimary({ serialization: "advanced" });
  sayWhenReady(() => httpServer.address());
  httpServer.listen(0, "127.0.0.1", () => {
    for (let slot = 0; slot < WORKERS; slot++) cluster.fork();
  });
} else {
  setupWorker(require("./server"));
  process.send("ready");
}

// sticky-session: a client's address decides. `node sticky-session.js WORKERS`
"use strict";

const cluster = require("node:cluster");
const sticky = require("sticky-session");

if (cluster.isPrimary) {
  const { WORKERS, sayWhenReady } = require("./workers");
  // All that sticky.listen() does in the primary; but it does not say which port it got.
  const primary = new sticky.Master(WORKERS);
  sayWhenReady(() => primary.address());
  primary.listen(0, "127.0.0.1");
} else {
  sticky.listen(require("./server").httpServer);
  process.send("ready");
}

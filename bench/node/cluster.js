// Node's own cluster, round robin: no stickiness at all. `node cluster.js WORKERS`
"use strict";

const cluster = require("node:cluster");

if (cluster.isPrimary) {
  const { WORKERS, sayWhenReady } = require("./workers");
  let listening;
  cluster.schedulingPolicy = cluster.SCHED_RR;
  cluster.on("listening", (worker, address) => { listening = address; });
  sayWhenReady(() => listening);
  for (let slot = 0; slot < WORKERS; slot++) cluster.fork();
} else {
  require("./plain");
}

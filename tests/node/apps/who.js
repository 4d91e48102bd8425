// What the apps here answer, so that a test knows who it was: `name=value`, one a line.
"use strict";
const cluster = require("node:cluster");

/** The slot of this worker; -1 without a supervisor. */
const slot = cluster.isWorker ? cluster.worker.id - 1 : -1;
let served = 0;

/** The text of an answer, with more names if there are any. */
exports.who = (request, more = {}) => {
  const { remoteAddress, remotePort } = request.socket;
  const client = `${remoteAddress} ${remotePort}`;
  const names = { slot, pid: process.pid, client, served: ++served, node: process.version, ...more };
  return Object.entries(names).map(([name, value]) => `${name}=${value}\n`).join("");
};

/** Where an app listens: `PORT`, and `HOST` if it is there. */
exports.where = { port: Number(process.env.PORT ?? 3000), host: process.env.HOST };
exports.slot = slot;

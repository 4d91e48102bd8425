// A server that ends in the way that WAY says, at start or when `/WAY` is asked for. With LINGER, its process then takes so
// many ms to exit.
"use strict";
const cluster = require("node:cluster");
const http = require("node:http");
const { who, where, slot } = require("./who.js");

/** Only this slot ends at start; all do without it. */
const { WAY, SLOT, LINGER } = process.env;
const ways = {
  exit: () => process.exit(0),
  fail: () => process.exit(3),
  throw: () => { throw new Error("thrown on purpose"); },
  reject: () => { Promise.reject(new Error("rejected on purpose")); },
  disconnect: () => process.disconnect(),
  "worker-disconnect": () => cluster.worker.disconnect(),
  "worker-kill": () => cluster.worker.kill(),
  kill: () => process.kill(process.pid, "SIGKILL"),
  close: () => server.close(),
  late: () => setTimeout(() => server.listen(where), 1500),
  never: () => setInterval(() => {}, 1000),
};
const server = http.createServer((request, response) => {
  const way = ways[request.url.slice(1)];
  response.setHeader("Connection", "close");
  response.end(who(request), () => way?.());
});
server.on("error", (error) => { throw error; });
if (LINGER) process.on("exit", () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(LINGER)));

const mine = WAY && (SLOT === undefined || Number(SLOT) === slot);
if (!mine || ["close"].includes(WAY)) server.listen(where);
if (mine) ways[WAY]();

// Says what of its own runs at its end, on standard error. WAY is what it does on TERM; there is nothing in its loop but its
// server. `/stream` is never answered to its end.
"use strict";
const http = require("node:http");
const { setTimeout: sleep } = require("node:timers/promises");
const { who, where } = require("./who.js");

const say = (what) => process.stderr.write(`said: ${what} ${process.pid}\n`);
const server = http.createServer((request, response) => {
  if (request.url === "/stream") response.write("begun");
  else response.end(who(request));
});
const flush = async () => {
  await sleep(100);
  say("flushed");
};
const ways = {
  // As the documentation of Express has it.
  close: () => server.close(() => say("closed")),
  exit: () => void flush().then(() => process.exit()),
};
const way = ways[process.env.WAY];
if (way) {
  process.on("SIGTERM", () => {
    say("TERM");
    way();
  });
} else if (process.env.WAY !== "quiet") {
  process.on("disconnect", () => void say("disconnect") || flush());
}
// What signal-exit does: it is not the app's.
const passOn = (signal) => {
  if (process.listeners(signal).length === 1) process.kill(process.pid, signal);
};
if (process.env.WAY === "passed-on") process.on("SIGTERM", passOn);
if (process.env.POOL) setInterval(() => {}, 1000);
process.on("exit", () => say("exit"));
server.listen(where);

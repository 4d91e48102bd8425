// `/start` starts a process in a session of its own, and `/hang` never comes back from what it does, so that TERM is
// not heard.
"use strict";
const { spawn } = require("node:child_process");
const http = require("node:http");
const { who, where } = require("./who.js");

process.on("SIGTERM", () => process.exit());
const paths = {
  "/start": () => {
    const child = spawn("sleep", ["100"], { detached: true, stdio: "ignore" });
    child.unref();
    return child.pid;
  },
  "/hang": (response) => {
    response.flushHeaders();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  },
};
const server = http.createServer((request, response) => {
  response.setHeader("Connection", "close");
  response.end(who(request, { child: paths[request.url](response) }));
});
server.listen(where);

// The worker of `@socket.io/sticky`, as its README has it, without the branch of the primary. STICKY names the package, so
// that each version can be had; ADAPTER likewise; TWICE=1 sets up a second Socket.IO server as well.
"use strict";
const http = require("node:http");
const { Server } = require("socket.io");
const { serve } = require("./sessions.js");
const { who } = require("./who.js");

const { ADAPTER = "@socket.io/cluster-adapter", STICKY = "@socket.io/sticky", TWICE } = process.env;
const { setupWorker } = require(STICKY);
const server = http.createServer((request, response) => {
  if (request.method !== "POST") return response.end(who(request));
  const hash = require("node:crypto").createHash("sha256");
  request.on("data", (data) => hash.update(data));
  request.on("end", () => response.end(who(request, { digest: hash.digest("hex") })));
});

function start(path) {
  const io = new Server(server, { path, maxHttpBufferSize: 5e6 });
  io.adapter(require(ADAPTER).createAdapter());
  setupWorker(io);
  serve(io);
}
start("/socket.io/");
if (TWICE) start("/second/");

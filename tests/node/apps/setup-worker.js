// The worker of `@socket.io/sticky`, as its README has it, without the branch of the primary. STICKY names the package, so
// that each version can be had; ADAPTER likewise.
"use strict";
const http = require("node:http");
const net = require("node:net");
const { pipeline } = require("node:stream");
const { Server } = require("socket.io");
const { serve } = require("./sessions.js");
const { digest } = require("./digest.js");
const { who } = require("./who.js");

const { ADAPTER = "@socket.io/cluster-adapter", STICKY = "@socket.io/sticky" } = process.env;
const { setupWorker } = require(STICKY);
const server = http.createServer((request, response) => {
  if (request.url === "/mirror") return pipeline(request, response, () => {});
  if (request.url === "/socket") return describe(request, response);
  if (request.method === "POST") return digest(request, response);
  response.end(who(request));
});

/** What an app can see of its socket: its class, its addresses, and that its timeout works. */
function describe({ socket }, response) {
  const { family } = socket.address();
  response.setTimeout(50, () => response.end(who({ socket }, { real: socket instanceof net.Socket, family })));
}

// See socketio.js; one test wants Node's own five seconds.
if (process.env.KEEP_ALIVE) server.keepAliveTimeout = Number(process.env.KEEP_ALIVE);
const io = new Server(server, { maxHttpBufferSize: 5e6 });
io.adapter(require(ADAPTER).createAdapter());
setupWorker(io);
serve(io);

// The worker of every row: one tiny server, so that only the primaries differ. It answers like a worker of the bench that has
// announced nothing, "SLOT 0\n"; a GET of /handshake opens a session and is answered "SLOT SID\n".
"use strict";

const cluster = require("node:cluster");
const { EventEmitter } = require("node:events");
const http = require("node:http");
const { Server } = require("engine.io");

const slot = cluster.worker.id - 1;
const answer = `${slot} 0\n`;

/** Makes the ids and tells `@socket.io/sticky` of them. Its transports stay unused: a poll would wait for something to say. */
const engine = new Server();

const httpServer = http.createServer((request, response) => {
  response.end(request.url === "/handshake" ? `${slot} ${openSession(request)}\n` : answer);
});

function openSession(request) {
  const session = Object.assign(new EventEmitter(), { id: engine.generateId(request) });
  engine.emit("connection", session);
  return session.id;
}

module.exports = { engine, httpServer };

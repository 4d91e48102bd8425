// An ordinary Socket.IO server of one process. SOCKET_IO names the package; ADAPTER that of a cluster adapter; IDS how
// ids are made, if not by engine.io.
"use strict";
const { createServer } = require("node:http");
const { randomBytes, randomUUID } = require("node:crypto");
const { serve } = require("./sessions.js");
const { who, where } = require("./who.js");

const { IDS, ADAPTER, SOCKET_IO = "socket.io" } = process.env;
const ids = {
  uuid: () => randomUUID(),
  later: () => new Promise((done) => setImmediate(() => done(randomUUID()))),
  short: () => randomBytes(12).toString("base64url"),
  hex: () => randomBytes(16).toString("hex"),
};
const library = require(SOCKET_IO);
const server = createServer((request, response) => response.end(who(request)));
// A pool's idle connection must not end just when a slow machine's client takes it: Node gives it five seconds.
server.keepAliveTimeout = 60_000;
// Socket.IO 2 exports what makes a server, the later ones its class.
const io = library.Server && SOCKET_IO !== "socket.io-2"
  ? new library.Server(server, { maxHttpBufferSize: 5e6 })
  : library(server, { maxHttpBufferSize: 5e6 });
if (ADAPTER) io.adapter(require(ADAPTER).createAdapter());
if (IDS) io.engine.generateId = ids[IDS];
serve(io);
server.listen(where);

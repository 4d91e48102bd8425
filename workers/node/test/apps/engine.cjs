// A server with engine.io: `open` and `close` begin and end a session, with an id of engine.io's making.
"use strict";

const { EventEmitter } = require("node:events");
const http = require("node:http");
const engine = new (require("./engine.io.cjs").Server)();

const sessions = [];
process.on("message", (message) => {
  if (message === "close") return void sessions.pop().emit("close");
  const socket = Object.assign(new EventEmitter(), { id: engine.generateId() });
  sessions.push(socket);
  engine.emit("connection", socket);
});
http.createServer().listen(80);

// A worker of @socket.io/sticky: its server does not listen, connections come by message.
"use strict";

const http = require("node:http");

const events = [];
const server = http.createServer((request, response) => response.end("a package's answer"));
for (const event of ["connection", "close"]) server.on(event, () => events.push(event));
process.on("message", (message, socket) => {
  if (message === "ask") return void setImmediate(() => process.send(events));
  if (message.type !== "sticky:connection") return;
  server.emit("connection", socket);
  socket.unshift(message.data);
});
